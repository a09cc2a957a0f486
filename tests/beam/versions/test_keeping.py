"""Rounds and streams keep what their windows were learned from, with the version that it went into."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.cli import main
from beam_ml.core.arrays import close
from beam_ml.errors import InvalidValue
from beam_ml.ledger import Ledger
from beam_ml.registry import Registry
from tests.beam.stream.support import SECOND, Script, block, job, newest, stream

DAY = 86_400_000_000


def settings(folder, **changes):
    whole = {
        "name": "fraud",
        "registry": str(folder / "registry"),
        "refresh": "1d",
        "source": {"path": str(folder / "data"), "round_files": 1},
        "features": {"numeric": ["a", "b"], "label": "y", "time": "t"},
        "spec": {"algorithm": "linear.newton"},
        "models": {"plain": {"kind": "classifier"}},
        "ledger": {},
    }
    return whole | changes


def days(folder, day, slope=2.0):
    """Write the rows of a day."""
    rng = np.random.default_rng(day)
    x = rng.normal(size=(5_000, 2))
    label = (rng.random(5_000) < 1 / (1 + np.exp(-slope * x[:, 0]))).astype(np.int64)
    time = pa.array(day * DAY + np.sort(rng.integers(0, DAY, 5_000)), pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "y": label, "t": time}), folder / f"{day}.parquet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four days, a round each."""
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "data").mkdir()
    for day in range(4):
        days(folder / "data", day)
    one = Job.parse(settings(folder))
    done = [*train(one, Registry(one.registry), Mode(close=True))]
    return one.registry, done


def test_each_window_of_a_round_is_in_the_ledger_of_its_version(trained):
    where, done = trained
    registry = Registry(where)
    through = [max(one.end for one in Ledger(registry, "fraud", n.manifest.number).index.windows) for n in done[1:]]
    assert through == sorted(through)
    assert through[-1] == 4 * DAY
    ledger = Ledger(registry, "fraud")
    assert {(one.start // DAY, one.end // DAY) for one in ledger.index.windows} >= {
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (0, 2),
    }
    whole = ledger.compose()
    assert whole.learner.progress.rows == 20_000
    anchors = {number for one in ledger.index.windows if one.windows == 1 for number in ledger.accumulation(one).parts}
    assert len(anchors) > 1  # each at the anchor of its own refresh


def test_the_command_publishes_the_model_of_a_range(trained):
    where, _ = trained
    call = ["ledger", "compose", where, "fraud", "--from", "1970-01-02", "--until", "1970-01-04", "--out"]
    done = CliRunner().invoke(main, [*call, "days", "--json"], catch_exceptions=False)
    assert json.loads(done.output) == {"name": "days", "version": 1, "served": True}
    made = Registry(where).manifest("days", 1)
    assert sorted(made.files) == ["learner", "models/plain"]
    assert made.extra["from"].endswith("1970-01-02T00:00:00 to 1970-01-04T00:00:00")
    assert made.progress["rows"] == 10_000
    again = CliRunner().invoke(main, [*call, "days"])
    assert again.exit_code != 0
    assert "days has versions already" in again.output
    listed = CliRunner().invoke(main, ["ledger", "show", where, "fraud", "--json"], catch_exceptions=False)
    assert sum(one["windows"] == 1 for one in json.loads(listed.output)) == 4


def test_training_continues_from_what_is_left(trained, tmp_path):
    where, done = trained
    shutil.copytree(Path(where).parent, tmp_path / "copy")
    folder = tmp_path / "copy"
    registry = Registry(folder / "registry")
    call = ["ledger", "remove", str(folder / "registry"), "fraud", "--window", "1970-01-03", "--json"]
    found = CliRunner().invoke(main, call, catch_exceptions=False)
    number = done[-1].manifest.number + 1
    assert json.loads(found.output) == {"name": "fraud", "version": number, "rows": 5_000, "windows": 1}
    one = Job.parse(
        settings(Path(where).parent, registry=str(folder / "registry"))
    )  # the files as the trainer knows them
    assert list(train(one, registry, Mode(close=True))) == []  # the rows are not read again
    assert registry.served("fraud").number == number
    left = Ledger(registry, "fraud").compose().learner
    assert left.progress.rows == 15_000
    days(Path(where).parent / "data", 4)
    (more, last) = train(one, registry, Mode(close=True))
    assert (more.manifest.parent, last.manifest.progress["rows"]) == (number, 20_000)
    assert last.manifest.progress["rejected"] == {"removed": 5_000}


def test_rows_of_a_file_are_removed_with_the_features_that_learned_them(trained, tmp_path):
    where, done = trained
    shutil.copytree(where, tmp_path / "registry")
    table = pq.read_table(Path(where).parent / "data" / "3.parquet")
    pq.write_table(table.slice(100, 250), tmp_path / "customer.parquet")
    call = ["ledger", "remove", str(tmp_path / "registry"), "fraud", "--rows", str(tmp_path / "customer.parquet")]
    found = CliRunner().invoke(main, [*call, "--json"], catch_exceptions=False)
    number = done[-1].manifest.number + 1
    assert json.loads(found.output) == {"name": "fraud", "version": number, "rows": 250, "windows": 1}
    left = Ledger(Registry(tmp_path / "registry"), "fraud").learner
    assert left.progress.rejected == {"removed": 250}
    assert left.state.mass.sum() == pytest.approx(left.progress.rows)
    again = CliRunner().invoke(main, call)
    assert "have been removed from fraud before" in again.output


def test_rows_of_text_are_removed_as_the_job_read_them(tmp_path):
    rng = np.random.default_rng(0)
    shop, x = rng.choice(["12e3", "13e3"], 2_000), rng.normal(size=2_000).round(3)
    label = x + (shop == "12e3") + rng.normal(size=2_000).round(3)
    rows = [f"{i * 86};{a};{b};{c:.3f}" for i, (a, b, c) in enumerate(zip(shop, x, label, strict=True))]
    (tmp_path / "data").mkdir()
    for file, lines in (("data/a", rows), ("customer", rows[100:150]), ("none", [])):
        (tmp_path / f"{file}.csv").write_text("\n".join(["t;shop;x;y", *lines]) + "\n")
    source = {"path": str(tmp_path / "data"), "format": "csv", "options": {"delimiter": ";"}}
    features = {"numeric": ["x"], "label": "y", "time": {"column": "t", "unit": "s"}}
    features |= {"one_hot": [{"column": "shop", "vocabulary": ["12e3", "13e3"]}]}
    changes = {"spec": {"algorithm": "linear.newton", "loss": "squared"}, "models": {"plain": {"kind": "regressor"}}}
    one = Job.parse(settings(tmp_path, source=source, features=features, **changes))
    assert [*train(one, Registry(one.registry), Mode(close=True))]
    call = ["ledger", "remove", one.registry, "fraud", "--file-options", '{"delimiter": ";"}', "--rows"]
    CliRunner().invoke(main, [*call, str(tmp_path / "customer.csv")], catch_exceptions=False)
    assert Ledger(Registry(one.registry), "fraud").learner.progress.rows == 2_000 - 50
    empty = CliRunner().invoke(main, [*call, str(tmp_path / "none.csv")])
    assert "must hold rows to remove; it has none" in empty.output


def test_a_refresh_says_how_likely_its_concept_is_that_of_before(trained, tmp_path, caplog):
    where, done = trained
    told = [one for n in done for one in n.manifest.extra.get("concepts", ())]
    assert [one["window_end"] // DAY for one in told] == [3, 4]  # the first two were learned without an anchor
    assert all(1e-4 < one["p_value"] <= 1.0 and one["directions"] == 2 for one in told)
    shutil.copytree(where, tmp_path / "registry")
    shutil.copytree(Path(where).parent / "data", tmp_path / "data")
    days(tmp_path / "data", 4)
    days(tmp_path / "data", 5, slope=1.0)
    one = Job.parse(settings(tmp_path, source={"path": str(tmp_path / "data"), "round_files": 1}, name="other"))
    more = [*train(one, Registry(one.registry), Mode(close=True))]
    told = [one for n in more for one in n.manifest.extra.get("concepts", ())]
    assert [one["window_end"] // DAY for one in told] == [3, 4, 5, 6]
    assert min(one["p_value"] for one in told[:-1]) > 1e-4
    assert told[-1]["p_value"] < 1e-10
    warned = [record.message for record in caplog.records if "Concept of the window" in record.message]
    assert [text.split(": ")[0] for text in warned] == ["Concept of the window from 1970-01-06T00:00:00"]


def test_each_window_of_a_stream_is_in_the_ledger_of_its_version(tmp_path):
    script = Script()
    for at in range(0, 20, 5):
        script.reach(at).send(at, block([[(i, i)] for i in range(at, at + 5)], offset=at))
    registry = stream(script.end(), job(tmp_path, ledger={"roll_up": ["10s"]}))
    ledger = Ledger(registry, "stream")
    spans = [(one.start // SECOND, one.end // SECOND) for one in ledger.index.windows]
    assert spans == [(0, 10), (0, 5), (5, 10), (10, 20), (10, 15), (15, 20)]
    assert close(ledger.compose().learner.state, newest(registry).state)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"refresh": "round"}, "ledger needs refresh to be a duration"),
        ({"order": "in_order"}, "order not to be 'in_order'"),
        ({"spec": {"algorithm": "linear.adagrad"}}, "must be left out with linear.adagrad; the partials"),
        ({"ledger": {"roll_up": ["36h"]}}, "must begin with a multiple of refresh, 86400 s; got 129600 s"),
        ({"ledger": {"roll_up": ["2d", "3d"]}}, "ledger.roll_up must rise, each a multiple of the one before"),
    ],
)
def test_a_ledger_that_cannot_be_kept_is_refused_before_anything_starts(tmp_path, changes, sentence):
    with pytest.raises(InvalidValue) as caught:
        Job.parse(settings(tmp_path, **changes))
    assert sentence in str(caught.value)
