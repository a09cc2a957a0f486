"""Rounds whose windows the trainer learns one after the other: the rows that workers gather are all there, once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_info

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, driver, gather, handover, train
from beam_ml.beam.rounds.gather import rows_of
from beam_ml.beam.rounds.handover import hand_over
from beam_ml.beam.wire.elements import Slice
from beam_ml.core import learner as learners
from beam_ml.core.arrays import array_fields
from beam_ml.core.batch import Batch
from beam_ml.core.in_order import learn_in_order
from beam_ml.core.learner import Learner
from beam_ml.errors import InvalidValue, PublishFailed, RoundAbandoned
from beam_ml.formats.block import Block
from beam_ml.registry import Registry, round_files

DAY_US = 86_400_000_000
CLOSE = Mode("once", close=True)
ADAGRAD = {"algorithm": "linear.adagrad", "learning_rates": [0.1, 0.5], "l1": 0.0, "l2": 0.0, "halve_at": []}
FM = {"algorithm": "fm", "n_factors": 2}


def days(n: int, rows: int = 250) -> pa.Table:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n * rows, 2))
    time = np.repeat(np.arange(n), rows) * DAY_US + np.tile(np.arange(rows), n)
    label = (rng.random(n * rows) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float)
    return pa.table({"a": x[:, 0], "b": x[:, 1], "y": label, "t": pa.array(time, pa.timestamp("us", tz="UTC"))})


def job(folder: Path, table: pa.Table, **changes: Any) -> Job:
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, data / "0.parquet", row_group_size=100)
    whole = {
        "name": "test",
        "registry": str(folder / "registry"),
        "refresh": "1d",
        "source": {"path": str(data), "round_rows": 100_000},
        "features": {"numeric": ["a", "b"], "label": "y", "time": "t"},
        "spec": ADAGRAD,
        "models": {"best": {"kind": "variant"}},
    }
    return Job.parse(whole | changes)


def learner(one: Job) -> Learner:
    found = Registry(one.registry).latest(one.name)
    assert found is not None
    return decode_learner(found.data, find)


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, list[Slice]]]:
    """Watch the rows of each round, which are gone after it."""
    seen: list[dict[int, list[Slice]]] = []

    def watched(*given: Any) -> dict[int, list[Slice]]:
        seen.append(rows_of(*given))
        return seen[-1]

    monkeypatch.setattr(driver, "rows_of", watched)
    return seen


def test_a_round_of_many_windows_is_learned_as_a_stream_would(
    tmp_path: Path, gathered: list[dict[int, list[Slice]]]
) -> None:
    one = job(tmp_path, days(6))
    done = list(train(one, Registry(one.registry), CLOSE))
    assert [len(r.refreshes) for r in done] == [5, 1]
    found = learner(one)
    expected = learners.new(one.algorithm(), one.algorithm_spec())
    windows = {end: [(piece.rows, piece.late) for piece in slices] for end, slices in gathered[0].items()}
    batch = one.features.to_batch(Block(days(6).combine_chunks().to_batches()[0]))[0]
    for end, pieces in windows.items():
        whole = Batch.concat(rows for rows, _ in pieces)
        day = end // DAY_US - 1
        np.testing.assert_array_equal(whole.position, np.arange(250 * day, 250 * (day + 1)))
        np.testing.assert_array_equal(whole.X, batch.take(slice(250 * day, 250 * (day + 1))).X)
    for some in ([end for end in windows if end < 6 * DAY_US], [6 * DAY_US]):
        given = {end: windows[end] for end in some}
        *_, (expected, _) = learn_in_order(one.algorithm(), expected, given, one.plan())
    for field in array_fields(found.state):
        np.testing.assert_allclose(
            getattr(found.state, field.name),
            getattr(expected.state, field.name),
            rtol=1e-9,
            atol=1e-12,
            err_msg=field.name,
        )
    assert found.progress.rows == found.progress.scanned == 1_500


@pytest.mark.parametrize("spec", [ADAGRAD, FM], ids=["adagrad", "fm"])
def test_rounds_end_anywhere_and_every_row_is_in_once(tmp_path: Path, spec: dict[str, Any]) -> None:
    models = {"m": {"kind": "variant" if spec is ADAGRAD else "classifier"}}
    data = str(tmp_path / "data")
    one = job(tmp_path, days(6), spec=spec, models=models, source={"path": data, "round_rows": 400})
    done = list(train(one, Registry(one.registry), CLOSE))
    assert len(done) > 3
    found = learner(one)
    assert (found.progress.rows, found.progress.rejected, found.refresh) == (1_500, {}, 6)
    assert float(one.algorithm().weight(found.state)) == pytest.approx(1_500)
    assert [r.manifest.number for r in done] == list(range(1, len(done) + 1))


def test_stopped_and_resumed_equals_one_run(tmp_path: Path) -> None:
    calm, halting = (
        job(tmp_path / name, days(6), source={"path": str(tmp_path / "calm" / "data"), "round_rows": 400})
        for name in ("calm", "halting")
    )
    list(train(calm, Registry(calm.registry), CLOSE))
    for _ in range(10):
        stops = iter([False, True])
        list(train(halting, Registry(halting.registry), CLOSE, stopping=lambda stops=stops: next(stops, True)))
    list(train(halting, Registry(halting.registry), CLOSE))
    a, b = learner(calm), learner(halting)
    assert a.progress.summary() == b.progress.summary()
    for field in array_fields(a.state):
        np.testing.assert_array_equal(getattr(a.state, field.name), getattr(b.state, field.name), err_msg=field.name)


def test_rejected_rows_are_counted_and_written(tmp_path: Path, gathered: list[dict[int, list[Slice]]]) -> None:
    table = days(3)
    bad = table["y"].to_numpy().copy()
    bad[[5, 260]] = 7.0
    x = table["a"].to_numpy().copy()
    x[400] = np.inf
    names = table.column_names
    table = pa.table([pa.array(x), table["b"], pa.array(bad), table["t"]], names=names)
    one = job(tmp_path, table)
    done = list(train(one, Registry(one.registry), CLOSE))
    found = learner(one)
    assert found.progress.rejected == {"label outside {0, 1}": 2, "non-finite feature a": 1}
    assert (found.progress.rows, found.progress.scanned) == (747, 750)
    registry = Registry(one.registry)
    round_id = done[0].manifest.round_id
    files = [f for f in round_files(registry, "test", round_id) if f.endswith(".jsonl")]
    lines = [
        json.loads(line)
        for f in files
        for line in (Path(one.registry) / "test" / "rounds" / round_id / f).read_text().splitlines()
    ]
    assert sorted(line["position"] for line in lines) == [5, 260, 400]
    assert {end: sum(len(s.rows) for s in slices) for end, slices in gathered[0].items()} == {
        DAY_US: 249, 2 * DAY_US: 248, 3 * DAY_US: 250
    }  # fmt: skip
    assert round_files(registry, "test", round_id) == files, "a registry keeps the rejects, neither rows nor sums"


def test_who_learns_in_order(tmp_path: Path) -> None:
    one = job(tmp_path, days(1))
    assert one.in_order(in_process=True)
    assert not one.in_order(in_process=False)
    assert job(tmp_path, days(1), order="in_order").in_order(in_process=False)
    assert not job(tmp_path, days(1), order="together").in_order(in_process=True)
    assert not job(tmp_path, days(1), refresh="round").in_order(in_process=True)
    newton = {"spec": {"algorithm": "linear.newton"}, "models": {"plain": {"kind": "classifier"}}}
    assert not job(tmp_path, days(1), **newton).in_order(in_process=True)
    with pytest.raises(InvalidValue, match=r"order must not be 'in_order' where refresh is 'round'"):
        job(tmp_path, days(1), order="in_order", refresh="round")
    with pytest.raises(InvalidValue, match=r"job\.order must be"):
        job(tmp_path, days(1), order="backwards")


def test_newton_may_be_learned_in_order_too(tmp_path: Path) -> None:
    newton = {"spec": {"algorithm": "linear.newton"}, "models": {"plain": {"kind": "classifier"}}}
    one = job(tmp_path, days(4), order="in_order", **newton)
    done = list(train(one, Registry(one.registry), CLOSE))
    assert [len(r.refreshes) for r in done] == [3, 1]
    assert learner(one).progress.rows == 1_000


def test_a_row_that_is_lost_on_the_way_abandons_the_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = job(tmp_path, days(2))
    real = driver.rows_of

    def losing(*given: Any) -> Any:
        found = real(*given)
        first = min(found)
        return {**found, first: found[first][1:]}

    monkeypatch.setattr(driver, "rows_of", losing)
    with pytest.raises(RoundAbandoned, match="must cover exactly its plan"):
        list(train(one, Registry(one.registry), CLOSE))
    assert Registry(one.registry).latest("test") is None


@pytest.mark.parametrize("source", [{}, {"round_rows": 400}], ids=["one round", "rounds"])
def test_rows_handed_over_in_memory_and_rows_through_files_give_the_same_learner(
    tmp_path: Path, source: dict[str, Any], gathered: list[dict[int, list[Slice]]]
) -> None:
    data = str(tmp_path / "data")
    here, there = (
        job(tmp_path, days(6), order="in_order", name=name, source={"path": data, **source})
        for name in ("here", "there")
    )
    list(train(here, Registry(here.registry), CLOSE))
    rounds = len(gathered)
    list(train(there, Registry(there.registry), CLOSE, options=["--direct_num_workers=2"]))
    assert len(gathered) == 2 * rounds
    for ours, others in zip(gathered[:rounds], gathered[rounds:], strict=True):
        assert {end: [piece.rows.position.tolist() for piece in slices] for end, slices in ours.items()} == {
            end: [piece.rows.position.tolist() for piece in slices] for end, slices in others.items()
        }
    a, b = learner(here), learner(there)
    assert a.progress.summary() == b.progress.summary()
    for field in array_fields(a.state):
        np.testing.assert_array_equal(getattr(a.state, field.name), getattr(b.state, field.name), err_msg=field.name)


def test_a_pipeline_that_fails_leaves_no_rows_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = job(tmp_path, days(2))
    held: list[int] = []

    def failing(*given: Any) -> None:
        hand_over(*given)
        held.append(len(handover._takers))
        message = "no more"
        raise PublishFailed(message)

    monkeypatch.setattr(gather, "hand_over", failing)
    with pytest.raises(PublishFailed, match="no more"):
        list(train(one, Registry(one.registry), CLOSE))
    assert held[0] == 1
    assert not handover._takers
    assert Registry(one.registry).latest("test") is None


def test_rows_are_admitted_with_one_thread_of_blas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, used, real = job(tmp_path, days(2)), [], gather.admit

    def watched(*given: Any) -> Any:
        used.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return real(*given)

    monkeypatch.setattr(gather, "admit", watched)
    list(train(one, Registry(one.registry), CLOSE))
    assert used
    assert set(used) == {1}
