"""Rounds over files: what a user sees when all is well, and when it is not."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy_lines

from beam_ml import formats
from beam_ml.algorithms import find, linear, pca
from beam_ml.artefact.records import decode_learner, decode_model, encode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.client import TopicState
from beam_ml.beam.rounds import Mode, Round, driver, files, pipeline, train
from beam_ml.beam.rounds.topic_plan import plan_offsets
from beam_ml.beam.versions import life
from beam_ml.beam.versions.lineage import Standing
from beam_ml.core import learner as learners
from beam_ml.core.cursors import Cursors, TopicCursor
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.errors import (
    BeamMLError,
    HeadMoved,
    InputChanged,
    InvalidValue,
    MissingColumn,
    NoInput,
    PublishFailed,
    RoundAbandoned,
    TrainingFailed,
    UnreadableInput,
)
from beam_ml.registry import Registry, new_round_id, put_round, read_round

DAY_US = 86_400_000_000
CLOSE = Mode("once", close=True)


def table(day: int, rows: int = 300, **columns: Any) -> pa.Table:
    rng = np.random.default_rng(day)
    X = rng.normal(size=(rows, 2))
    time = day * DAY_US + np.sort(rng.integers(0, DAY_US, rows))
    whole = {
        "a": X[:, 0],
        "b": X[:, 1],
        "y": (rng.random(rows) < 1 / (1 + np.exp(-2 * X[:, 0]))).astype(np.int64),
        "t": pa.array(time, type=pa.timestamp("us", tz="UTC")),
    }
    return pa.table(whole | columns)


def write(folder: Path, day: int, **columns: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{day:03}.parquet"
    pq.write_table(table(day, **columns), path, write_page_checksum=True)
    return path


def job(tmp_path: Path, **changes: Any) -> Job:
    source = {"path": str(tmp_path / "data"), "round_files": 1} | changes.pop("source", {})
    whole = {
        "name": "test",
        "registry": str(tmp_path / "registry"),
        "refresh": "1d",
        "source": source,
        "features": {"numeric": ["a", "b"], "label": "y", "time": "t"},
        "spec": {"algorithm": "linear.newton"},
        "models": {"plain": {"kind": "classifier"}},
    }
    return Job.parse(whole | changes)


def run(one: Job, mode: Mode = CLOSE, **options: Any) -> list[Round]:
    return list(train(one, Registry(one.registry), mode, **options))


def learner(one: Job) -> Learner:
    found = Registry(one.registry).latest(one.name)
    assert found is not None
    return decode_learner(found.data, find)


def test_three_days(tmp_path: Path) -> None:
    for day in range(3):
        write(tmp_path / "data", day)
    one = job(tmp_path)
    done = run(one)
    assert [r.manifest.number for r in done] == [1, 2, 3, 4]
    assert [len(r.refreshes) for r in done] == [0, 1, 1, 1]
    assert [r.open_windows for r in done] == [1, 1, 1, 0]
    after = learner(one)
    assert after.progress.rows == 900
    assert after.folded_through == 3 * DAY_US
    assert after.refresh == 3
    last = done[-1].manifest
    assert last.verdict.accepted
    assert sorted(last.files) == ["learner", "models/plain"]
    served = Registry(one.registry).served("test")
    assert served is not None
    assert served.number == 4
    model = decode_model(Registry(one.registry).read("test", what="models/plain"), find)
    assert [term["column"] for term in model.facts["features"]["numeric"]] == ["a", "b"]
    assert last.refreshes[0]["measured"]["plain"]["auc"] > 0.8


@pytest.mark.parametrize(
    ("settings", "builds"),
    [({"order": "in_order"}, 1), ({"order": "together"}, 1), ({"refresh": "round", "passes": 2}, 2)],
)
def test_rounds_of_one_built_pipeline_equal_rounds_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], builds: int
) -> None:
    """Days with late rows and bad ones: windows, anchors, rejects and read positions differ from round to round."""
    for day in range(4):
        t = np.array(table(day)["t"].cast(pa.int64())).copy()
        t[:5] -= DAY_US * min(day, 2)
        a = np.array(table(day)["a"]).copy()
        a[10 + day] = np.nan
        write(tmp_path / "data", day, t=pa.array(t, type=pa.timestamp("us", tz="UTC")), a=a)
    real, build, times = driver.run_round_pipeline, pipeline._built, []

    def counted(*args: Any) -> Any:
        times.append(args)
        return build(*args)

    monkeypatch.setattr(pipeline, "_built", counted)
    settings = settings | {"spec": {"algorithm": "linear.adagrad"}}
    kept, anew = (job(tmp_path, name=name, **settings) for name in ("kept", "anew"))
    rounds = len(run(kept))
    assert len(times) == builds, "one for each pass, which names its rows"
    monkeypatch.setattr(driver, "run_round_pipeline", lambda *args: real(*args[:8]))
    assert len(run(anew)) == rounds
    assert len(times) > builds + 3
    assert learner(kept).progress.rejected
    for what in ("learner", "models/plain"):
        data = {one.name: Registry(one.registry).read(one.name, what=what) for one in (kept, anew)}
        assert data["kept"] == data["anew"]
    rejects = {one.name: sorted((tmp_path / "registry" / one.name).glob("rounds/*/rejects-*")) for one in (kept, anew)}
    assert [f.read_bytes() for f in rejects["kept"]] == [f.read_bytes() for f in rejects["anew"]]


def test_nothing_new_publishes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "data", 0)
    one = job(tmp_path)
    assert len(run(one, Mode("once"))) == 1
    assert run(one, Mode("once")) == []
    assert [len(r.refreshes) for r in run(one)] == [1]
    assert run(one) == []


def test_going_on_after_a_stop_equals_one_run(tmp_path: Path) -> None:
    for day in range(4):
        write(tmp_path / "data", day)
    calm, halting = (job(tmp_path, registry=str(tmp_path / name)) for name in ("calm", "halting"))
    run(calm)
    for _ in range(10):
        stops = iter([False, True])
        run(halting, stopping=lambda stops=stops: next(stops, True))
    run(halting)
    a, b = learner(calm), learner(halting)
    assert a.progress.summary() == b.progress.summary()
    assert np.array_equal(a.state.cross, b.state.cross)


def test_late_rows_join_the_earliest_open_window_or_are_rejected(tmp_path: Path) -> None:
    for day in range(3):
        write(tmp_path / "data", day)
    one = job(tmp_path, source={"allowed_lateness": "1d"})
    run(one)
    late = table(2)
    very_late = table(0, rows=50)
    pq.write_table(pa.concat_tables([late, very_late]), tmp_path / "data" / "900.parquet")
    run(one)
    after = learner(one)
    assert after.progress.rows == 1200
    assert after.progress.late == 300
    assert after.progress.rejected == {"late": 50}
    assert after.folded_through == 4 * DAY_US


def test_events_dated_too_far_ahead_move_no_watermark(tmp_path: Path) -> None:
    ahead = pa.array(np.full(300, 4_000_000_000_000_000), type=pa.timestamp("us", tz="UTC"))
    write(tmp_path / "data", 0)
    write(tmp_path / "data", 1, t=ahead)
    one = job(tmp_path)
    run(one, Mode("once"))
    after = learner(one)
    assert after.progress.rejected == {"event time too far ahead": 300}
    assert list(after.pending) == [DAY_US]


@pytest.mark.parametrize("spec", [{}, {"half_life": "1d"}])
def test_one_row_dated_months_ahead_makes_nothing_late(tmp_path: Path, spec: dict[str, Any]) -> None:
    """It is before now, so that only the data themselves can say that it is far."""
    for day in range(4):
        time = table(day)["t"].to_numpy().copy()
        if day == 1:
            time[50] = np.datetime64(270 * DAY_US, "us")
        write(tmp_path / "data", day, t=pa.array(time, type=pa.timestamp("us", tz="UTC")))
    one = job(tmp_path, spec={"algorithm": "linear.newton"} | spec)
    done = run(one)
    after = learner(one)
    assert after.progress.rejected == {"event time far ahead of the data": 1}
    assert after.progress.rows == 1199
    assert after.folded_through == 4 * DAY_US
    assert [len(r.refreshes) for r in done] == [0, 1, 1, 1, 1]
    assert done[1].manifest.progress["rejected"] == {"event time far ahead of the data": 1}


def test_how_far_ahead_rows_may_be_dated_is_settable(tmp_path: Path) -> None:
    time = table(0)["t"].to_numpy().copy()
    time[50] = np.datetime64(9 * DAY_US, "us")
    write(tmp_path / "data", 0, t=pa.array(time, type=pa.timestamp("us", tz="UTC")))
    one = job(tmp_path, source={"max_leap": "10d"})
    run(one)
    assert learner(one).progress.rejected == {}
    assert one.windows().max_leap_us == 10 * DAY_US
    assert job(tmp_path).windows().max_leap_us == 3 * DAY_US


@pytest.mark.parametrize("order", ["in_order", "together"])
@pytest.mark.parametrize(("value", "reason"), [(1e200, "beyond 1e+30"), (1e10, "far beyond what was seen")])
def test_an_absurd_value_in_every_window_stops_no_job(tmp_path: Path, value: float, reason: str, order: str) -> None:
    for day in range(4):
        a = table(day)["a"].to_numpy().copy()
        a[20] = value
        write(tmp_path / "data", day, a=a)
    one = job(tmp_path, order=order)
    done = run(one)
    after = learner(one)
    assert after.progress.rejected == {f"feature a {reason}": 4}
    assert after.discarded == 0
    assert done[-1].manifest.progress["rejected"] == {f"feature a {reason}": 4}
    assert done[-1].manifest.refreshes[-1]["measured"]["plain"]["auc"] > 0.8


@pytest.mark.parametrize("order", ["in_order", "together"])
def test_values_far_beyond_are_clipped_where_the_job_says_so(tmp_path: Path, order: str) -> None:
    for day in range(3):
        a = table(day)["a"].to_numpy().copy()
        a[20] = 1e10
        write(tmp_path / "data", day, a=a)
    one = job(tmp_path, order=order, limits={"far_values": "clip"})
    done = run(one)
    after, what = learner(one), "feature a clipped to what was seen"
    assert (after.progress.rejected, after.progress.adjusted) == ({}, {what: 3})
    assert done[-1].manifest.progress["adjusted"] == {what: 3}
    assert sum(round.progress.adjusted.get(what, 0) for round in done) == 3
    assert done[-1].manifest.refreshes[-1]["measured"]["plain"]["auc"] > 0.8


def test_limits_are_settable(tmp_path: Path) -> None:
    a = table(0)["a"].to_numpy().copy()
    a[20], a[21] = 1e10, 1e7
    write(tmp_path / "data", 0, a=a)
    one = job(tmp_path, limits={"feature": 1e9, "deviations": "any"})
    run(one)
    assert learner(one).progress.rejected == {"feature a beyond 1e+09": 1}


def test_a_row_on_its_own_is_judged_by_earlier_windows(tmp_path: Path) -> None:
    write(tmp_path / "data", 0)
    pq.write_table(table(1, rows=1, a=np.array([1e9])), tmp_path / "data" / "001.parquet")
    one = job(tmp_path)
    run(one)
    assert learner(one).progress.rejected == {"feature a far beyond what was seen": 1}


def test_rejects_are_counted_and_written_with_place_and_reason(tmp_path: Path) -> None:
    good = table(0)
    a = good["a"].to_numpy().copy()
    a[[3, 4]] = np.nan
    labels = good["y"].to_numpy().astype(object)
    labels[[7, 8]] = 2
    labels[9] = None
    write(tmp_path / "data", 0, a=a, y=pa.array(labels, type=pa.int64()))
    one = job(tmp_path)
    first = run(one)[0]
    after = learner(one)
    assert after.progress.rows == 295
    assert after.progress.scanned == 300
    assert after.progress.rejected == {
        "non-finite feature a": 2,
        "label outside {0, 1}": 2,
        "missing label": 1,
    }
    store = Registry(one.registry)
    lines = [
        json.loads(line)
        for file in first.manifest.rejects
        for line in read_round(store, "test", first.manifest.round_id, file).decode().splitlines()
    ]
    assert sorted((line["position"], line["reason"]) for line in lines) == [
        (3, "non-finite feature a"),
        (4, "non-finite feature a"),
        (7, "label outside {0, 1}"),
        (8, "label outside {0, 1}"),
        (9, "missing label"),
    ]
    assert {line["source"] for line in lines} == {"files"}


def test_a_file_of_nothing_but_rejects_moves_the_source_on(tmp_path: Path) -> None:
    write(tmp_path / "data", 0, a=np.full(300, np.nan))
    one = job(tmp_path)
    assert len(run(one, Mode("once"))) == 1
    assert run(one, Mode("once")) == []
    assert learner(one).progress.rejected == {"non-finite feature a": 300}


def drop_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["b"]), path)


def wrong_type(path: Path) -> None:
    whole = pq.read_table(path)
    pq.write_table(whole.set_column(0, "a", pa.array([[1.0]] * whole.num_rows)), path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def garble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[30:400] = bytes(370)
    path.write_bytes(bytes(data))


def rubbish(path: Path) -> None:
    path.write_bytes(b"this is no parquet file")


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (drop_column, MissingColumn, "'b'"),
        (wrong_type, MissingColumn, "a"),
        (truncate, UnreadableInput, "002.parquet cannot be read as Parquet"),
        (garble, UnreadableInput, "002.parquet cannot be read as Parquet"),
        (rubbish, UnreadableInput, "002.parquet cannot be read as Parquet"),
    ],
)
def test_a_bad_file_fails_its_round_and_nothing_else(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[BeamMLError], sentence: str
) -> None:
    for day in range(2):
        write(tmp_path / "data", day)
    one = job(tmp_path)
    run(one, Mode("once"))
    before = learner(one)
    path = write(tmp_path / "data", 2)
    spoil(path)
    with pytest.raises(error, match=sentence):
        run(one)
    assert Registry(one.registry).versions("test") == [1, 2]
    assert learner(one).progress.summary() == before.progress.summary()
    write(tmp_path / "data", 2)
    run(one)
    assert learner(one).progress.rows == 900


@pytest.mark.parametrize("spoil", [truncate, garble, rubbish, lambda path: path.write_bytes(b"")])
def test_a_bad_file_is_set_aside_where_the_job_wants_that(
    tmp_path: Path, spoil: Callable[[Path], Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(driver, "_pause", lambda seconds, stopping: pauses.append(seconds))
    for day in range(4):
        write(tmp_path / "data", day)
    spoil(tmp_path / "data" / "001.parquet")
    one = job(tmp_path, source={"on_bad_file": "skip"})
    done = run(one)
    after = learner(one)
    assert after.progress.rows == 900
    assert after.progress.rejected == {"file set aside": 1}
    assert done[-1].manifest.progress["rejected"] == {"file set aside": 1}
    assert "001.parquet is set aside (source.on_bad_file): " in caplog.text
    assert not any(pauses), "a file is no broker that comes back"
    assert run(one) == []  # it is remembered


def test_files_that_are_touched_or_gone_are_set_aside_once(tmp_path: Path) -> None:
    for day in range(3):
        write(tmp_path / "data", day)
    one = job(tmp_path, source={"on_bad_file": "skip"})
    run(one)
    assert learner(one).progress.rows == 900
    write(tmp_path / "data", 0, rows=310)
    os.utime(tmp_path / "data" / "001.parquet", ns=(1, 1))
    write(tmp_path / "data", 3)
    run(one)
    assert learner(one).progress.rows == 1200
    assert learner(one).progress.rejected == {"file set aside": 2}
    assert run(one) == []


def test_a_run_whose_only_file_is_bad_says_so(tmp_path: Path) -> None:
    rubbish(write(tmp_path / "data", 0))
    one = job(tmp_path, source={"on_bad_file": "skip"})
    (only,) = run(one)
    assert only.manifest.progress["rejected"] == {"file set aside": 1}


@pytest.mark.parametrize("order", ["in_order", "together"])
def test_a_round_that_fails_leaves_nothing_and_what_a_kill_left_goes_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    write(tmp_path / "data", 0, a=np.where(np.arange(300) == 7, np.nan, 1.0))
    one = job(tmp_path, retention={"grace": 1.0}, order=order)
    registry, real = Registry(one.registry), driver.run_round_pipeline
    written: list[int] = []

    def interrupt(*arguments: Any) -> None:
        real(*arguments)
        written.append(len(registry.objects.walk("test")))
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "run_round_pipeline", interrupt)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(one)
    assert written == [written[0]] * 3
    assert written[0] > 0
    assert registry.objects.walk("test") == []
    for age_s in (100.0, 0.0):
        left = new_round_id(0)
        put_round(registry, "test", left, "5.safetensors", b"left by a kill")
        path = Path(one.registry) / "test" / "rounds" / left / "5.safetensors"
        os.utime(path, (time.time() - age_s,) * 2)
    with pytest.raises(KeyboardInterrupt):
        run(one)
    assert [Path(stat.path).parent.name for stat in registry.objects.walk("test")] == [left]  # that may be under way


def test_a_file_that_changed_after_it_was_read(tmp_path: Path) -> None:
    path = write(tmp_path / "data", 0)
    one = job(tmp_path)
    run(one, Mode("once"))
    write(tmp_path / "data", 0, rows=310)
    with pytest.raises(InputChanged, match=r"000\.parquet must not change after it was read"):
        run(one)
    assert path.exists()
    assert Registry(one.registry).versions("test") == [1]


def test_a_file_that_changes_while_the_round_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "data", 0)
    one = job(tmp_path)
    real = driver.run_round_pipeline

    def change_first(*arguments: Any) -> None:
        os.utime(path, ns=(1, 1))
        real(*arguments)

    monkeypatch.setattr(driver, "run_round_pipeline", change_first)
    with pytest.raises(InputChanged, match="must not change once planned"):
        run(one)
    assert Registry(one.registry).versions("test") == []


def test_no_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(NoInput, match="must name input files"):
        run(job(tmp_path))


def test_a_round_that_does_not_add_up_to_its_plan_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(2):
        write(tmp_path / "data", day)
    one = job(tmp_path, source={"round_files": 2})
    real = driver.run_round_pipeline

    def lose_a_file(job_: Any, registry: Any, round_id: str, plan: Any, *rest: Any) -> None:
        real(job_, registry, round_id, dataclasses.replace(plan, ranges=plan.ranges[:1]), *rest)

    monkeypatch.setattr(driver, "run_round_pipeline", lose_a_file)
    with pytest.raises(RoundAbandoned, match=r"must cover exactly its plan.*001\.parquet"):
        run(one)
    assert Registry(one.registry).versions("test") == []


def test_a_round_that_reads_a_range_twice_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from beam_ml import formats

    (tmp_path / "data").mkdir()
    formats.write(str(tmp_path / "data" / "0.csv"), table(0).to_batches())
    real = driver.run_round_pipeline

    def twice(job_: Any, registry: Any, round_id: str, plan: Any, *rest: Any) -> None:
        real(job_, registry, round_id, dataclasses.replace(plan, ranges=[*plan.ranges, *plan.ranges]), *rest)

    monkeypatch.setattr(driver, "run_round_pipeline", twice)
    one = job(tmp_path, source={"format": "csv"})
    with pytest.raises(RoundAbandoned, match=r"must read nothing twice; it read [0-9,]+ places more than once"):
        run(one)
    assert Registry(one.registry).versions("test") == []


def test_another_spec_under_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "data", 0)
    run(job(tmp_path))
    other = job(tmp_path, spec={"algorithm": "linear.newton", "seed": 7})
    with pytest.raises(InvalidValue, match=r"job.spec must be that of test v2 in the registry"):
        run(other)


def test_another_trainer_got_there_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data", 0)
    one = job(tmp_path)
    real = driver.run_round_pipeline

    def overtake(*arguments: Any) -> None:
        Registry(one.registry).publish("test", {}, parent=None, round_id=new_round_id(0))
        real(*arguments)

    monkeypatch.setattr(driver, "run_round_pipeline", overtake)
    with pytest.raises(HeadMoved, match="test version 1 was published first"):
        run(one)
    assert Registry(one.registry).versions("test") == [1]


def test_a_store_that_refuses_the_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(2):
        write(tmp_path / "data", day)
    one = job(tmp_path)
    store = Registry(one.registry)
    steps = train(one, store, CLOSE)
    next(steps)

    def full(*arguments: Any) -> bool:
        message = "No space left on device"
        raise OSError(message)

    monkeypatch.setattr(type(store.objects), "create", full)
    with pytest.raises(PublishFailed, match="No space left on device"):
        next(steps)
    monkeypatch.undo()
    assert Registry(one.registry).versions("test") == [1]
    run(one)
    assert learner(one).progress.rows == 600


def test_a_registry_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path / "data", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(BeamMLError, match="file"):
        run(job(tmp_path, registry=str(tmp_path / "file" / "registry")))


def explode(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
    return dataclasses.replace(partial, scatter=partial.scatter * np.nan)


def test_what_a_job_needs_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"source.path must be given"):
        run(job(tmp_path, source={"path": ""}))
    write(tmp_path / "data", 0)
    with pytest.raises(InvalidValue, match=r"registry must be a place that workers reach"):
        list(train(job(tmp_path), Registry("memory://")))


def test_the_watermark_waits_for_stragglers(tmp_path: Path) -> None:
    for day in range(3):
        write(tmp_path / "data", day)
    one = job(tmp_path, source={"out_of_orderness": "1d"})
    run(one, Mode("once"))
    assert learner(one).folded_through == DAY_US
    assert list(learner(one).pending) == [2 * DAY_US, 3 * DAY_US]


def test_other_features_under_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "data", 0)
    run(job(tmp_path))
    other = job(tmp_path, features={"numeric": ["b", "a"], "label": "y", "time": "t"})
    with pytest.raises(InvalidValue, match=r"job.features must be those that test v2 in the registry was trained on"):
        run(other)


def test_settings_that_features_got_later_have_their_defaults_in_older_versions(tmp_path: Path) -> None:
    write(tmp_path / "data", 0)
    features = {"numeric": ["a", {"column": "t", "transform": "hour"}], "label": "y", "time": "t"}
    one = job(tmp_path, features=features)
    run(one)
    older = one.features.to_dict()
    del older["numeric"][1]["unit"]
    store, payload = Registry(one.registry), encode_learner(linear.NEWTON, learner(one))
    store.publish("test", {"learner": payload}, parent=2, round_id=new_round_id(2), facts={"features": older})
    write(tmp_path / "data", 1)
    assert [r.manifest.number for r in run(one)] == [4, 5]
    other = job(tmp_path, features={**features, "numeric": ["a", {**features["numeric"][1], "unit": "s"}]})  # type: ignore[dict-item]
    with pytest.raises(InvalidValue, match=r"job.features must be those that test v5"):
        run(other)


def test_a_job_does_not_resume_with_another_mapping_of_labels(tmp_path: Path) -> None:
    write(tmp_path / "data", 0, y=["paid", "fraud", "odd"] * 100)
    label = {"column": "y", "positive": ["fraud"], "negative": ["paid"]}

    def with_label(**changes: Any) -> Job:
        return job(tmp_path, features={"numeric": ["a", "b"], "label": {**label, **changes}, "time": "t"})

    run(with_label())
    assert (learner(with_label()).progress.rows, dict(learner(with_label()).progress.rejected)) == (
        200, {"label is neither positive nor negative": 100},
    )  # fmt: skip
    assert Registry(str(tmp_path / "registry")).manifest("test", 2).extra["features"]["label"] == {
        **label,
        "classes": None,
        "positive": ["fraud"],
    }
    write(tmp_path / "data", 1, y=["paid", "fraud", "odd"] * 100)
    for changes in ({"negative": "others"}, {"positive": ["odd"]}):
        with pytest.raises(
            InvalidValue, match=r"job.features must be those that test v2 in the registry was trained on"
        ):
            run(with_label(**changes))
    run(with_label())
    assert learner(with_label()).progress.rows == 400


def test_a_job_does_not_resume_from_a_learner_of_other_labels(tmp_path: Path) -> None:
    """It would take the 1 of (1, 2) for the class that was 0."""
    write(tmp_path / "data", 0)
    one = job(tmp_path)
    run(one)
    store = Registry(one.registry)
    other = learner(one).replace(labels=(1.0, 2.0))
    store.publish("test", {"learner": encode_learner(linear.NEWTON, other)}, parent=2, round_id=new_round_id(2))
    with pytest.raises(
        InvalidValue, match=r"written as test v3 in the registry learned it, labels 1 → 0, 2 → 1, which"
    ):
        run(one)


def test_a_job_does_not_resume_from_a_learner_of_features_in_another_order(tmp_path: Path) -> None:
    write(tmp_path / "data", 0)
    one = job(tmp_path)
    run(one)
    store, names = Registry(one.registry), one.features.names
    for number, order in ((2, names), (3, names[::-1])):
        other = learner(one).replace(names=order)
        store.publish(
            "test", {"learner": encode_learner(linear.NEWTON, other)}, parent=number, round_id=new_round_id(number)
        )
        if order == names:
            assert run(one) == []
    with pytest.raises(
        InvalidValue, match=r"features.numeric must be the features that test v4 in the registry learned"
    ):
        run(one)


def test_a_learner_that_knows_more_than_its_plan_reads_nothing_twice(tmp_path: Path) -> None:
    write(tmp_path / "data", 0)
    one = job(tmp_path)
    run(one)
    store = Registry(one.registry)
    forgetful = learner(one).replace(cursors=Cursors())
    store.publish("test", {"learner": encode_learner(linear.NEWTON, forgetful)}, parent=2, round_id=new_round_id(2))
    with pytest.raises(RoundAbandoned, match=r"must read nothing twice; .*000\.parquet \[\[0, 300\]\]"):
        run(one)
    assert store.versions("test") == [1, 2, 3]


def test_workers_start_from_the_parents_anchor(tmp_path: Path) -> None:
    for day in range(4):
        write(tmp_path / "data", day, rows=6_000)
    one = job(tmp_path)
    steps = train(one, Registry(one.registry), CLOSE)
    seen = []
    for _ in range(4):
        next(steps)
        seen += [sorted(value.parts) for value in learner(one).pending.values()]
    assert seen[0] == [0]
    # Rounds 2, 3, 4 start from the anchor of the version before; the first version has folded nothing and has none.
    assert seen[1:] == [[0], [1], [2]]


def test_a_version_without_a_refresh_keeps_the_verdict_of_its_parent(tmp_path: Path) -> None:
    for day in range(2):
        write(tmp_path / "data", day)
    one = job(tmp_path, source={"round_rows": 100, "round_files": None}, gate=["rows >= 1000"])
    pq.write_table(table(0), tmp_path / "data" / "000.parquet", row_group_size=100)
    pq.write_table(table(1), tmp_path / "data" / "001.parquet", row_group_size=100)
    done = run(one)
    assert [len(r.refreshes) for r in done] == [0, 0, 0, 1, 0, 0, 1]
    assert done[0].manifest.verdict.reasons == ("no window has closed yet",)
    assert not any(r.manifest.verdict.accepted for r in done)
    assert done[4].manifest.verdict.reasons == done[3].manifest.verdict.reasons == ("rows is 300, must be >= 1000",)


def test_a_version_is_judged_by_its_last_refresh(tmp_path: Path) -> None:
    for day in range(4):
        write(tmp_path / "data", day)
    one = job(tmp_path, source={"round_files": 4}, gate=["rows <= 700"])
    first, last = run(one)
    assert [r.verdict.accepted for r, _ in first.refreshes] == [True, True, False]
    assert not first.manifest.verdict.accepted
    assert not last.manifest.verdict.accepted
    assert Registry(one.registry).served("test") is None


def test_old_payloads_and_dead_rounds_are_tidied_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "_TIDY_EVERY", 2)
    for day in range(6):
        write(tmp_path / "data", day)
    one = job(tmp_path, retention={"keep": 1, "grace": 0.001})
    store = Registry(one.registry)
    for done in train(one, store, Mode("once", close=True)):
        if done.manifest.number == 2:
            put_round(store, "test", new_round_id(1), "5.safetensors", b"left by another's kill")
    assert store.versions("test") == list(range(1, 8))
    kept = [n for n in store.versions("test") if (tmp_path / "registry" / "test" / f"v{n}" / "models").exists()]
    assert 7 in kept
    assert 1 not in kept
    assert not list((tmp_path / "registry").rglob("5.safetensors"))


def test_folds_that_turn_non_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(5):
        write(tmp_path / "data", day)
    one = job(tmp_path, spec={"algorithm": "pca"}, models={"m": {"kind": "components", "n_components": 1}})
    steps = train(one, Registry(one.registry), CLOSE)
    first, second = next(steps), next(steps)
    assert [len(r.refreshes) for r in (first, second)] == [0, 1]
    broken = dataclasses.replace(pca.PCA, fold=explode)
    monkeypatch.setattr(Job, "algorithm", lambda self: broken)
    monkeypatch.setattr(pca, "PCA", broken)
    seen = []
    with pytest.raises(TrainingFailed, match="3 folds in a row"):
        seen += list(train(one, Registry(one.registry), CLOSE))
    monkeypatch.undo()
    served = Registry(one.registry).served("test")
    assert served is not None
    assert served.number == 2
    after = learner(one)
    assert after.discarded == 2
    assert after.progress.rows == 300
    assert after.progress.rejected == {"fold discarded": 600}


def test_rounds_as_windows_need_no_time(tmp_path: Path) -> None:
    for day in range(2):
        write(tmp_path / "data", day)
    one = job(tmp_path, refresh="round", features={"numeric": ["a", "b"], "label": "y"})
    done = run(one)
    assert [len(r.refreshes) for r in done] == [1, 1]
    assert done[0].refreshes[0][0].window_end is None
    assert learner(one).progress.rows == 600


@pytest.mark.parametrize("format", ["csv", "avro"])
def test_other_formats(tmp_path: Path, format: str) -> None:
    from beam_ml import formats

    (tmp_path / "data").mkdir()
    for day in range(2):
        formats.write(str(tmp_path / "data" / f"{day}.{format}"), table(day).to_batches())
    one = job(tmp_path, source={"format": format, "round_files": None, "round_rows": 100})
    done = run(one)
    assert len(done) >= 2
    after = learner(one)
    assert after.progress.rows == 600
    parquet = tmp_path / "p"
    for day in range(2):
        write(parquet, day)
    same = job(tmp_path, source={"path": str(parquet)}, name="other")
    run(same)
    assert np.allclose(after.state.feature_mean, learner(same).state.feature_mean, rtol=1e-9)


def test_malformed_csv_lines_are_rejected_with_their_place(tmp_path: Path) -> None:
    from beam_ml import formats

    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "0.csv"
    formats.write(str(path), table(0).to_batches())
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(5, b"one,two\n")
    path.write_bytes(b"".join(lines))
    one = job(tmp_path, source={"format": "csv"})
    first = run(one)[0]
    assert learner(one).progress.rejected == {"malformed line": 1}
    store = Registry(one.registry)
    record = json.loads(read_round(store, "test", first.manifest.round_id, first.manifest.rejects[0]))
    assert record["position"] == sum(map(len, lines[:5]))
    assert record["partition"] == str(path)


def test_cold_rounds_of_an_anchored_learner_are_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = []
    real = files.plan_files

    def spy(source: Any, taken: Any, rows: int, **options: Any) -> Any:
        wanted.append(rows)
        return real(source, taken, rows, **options)

    monkeypatch.setattr(files, "plan_files", spy)
    for day in range(3):
        write(tmp_path / "data", day)
    run(job(tmp_path, source={"round_rows": 2_000_000}))
    assert wanted == [65_536, 1_048_576, 2_000_000, 2_000_000]
    assert find("linear.newton") is linear.NEWTON


def test_cold_rounds_of_a_gradient_learner_are_half_of_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All windows of a round are grown from one anchor, so it is small against what that anchor has learned."""
    (tmp_path / "data").mkdir()
    x = np.random.default_rng(0).normal(size=12_000)
    time = pa.array(np.arange(12_000) // 500 * 1_000_000, pa.timestamp("us", "UTC"))
    whole = pa.table({"a": x, "b": x, "y": x, "t": time})
    pq.write_table(whole, tmp_path / "data" / "0.parquet", row_group_size=256)
    anchors = []
    real = driver.run_round_pipeline

    def spy(job: Any, registry: Any, round_id: str, plan: Any, before: Learner, *rest: Any) -> None:
        anchors.append((before.version, before.progress.rows, plan.rows()))
        real(job, registry, round_id, plan, before, *rest)

    monkeypatch.setattr(driver, "run_round_pipeline", spy)
    spec = {"spec": {"algorithm": "toy_sgd:TOY_SGD"}, "models": {"line": {"kind": "line"}}, "refresh": "1s"}
    one = job(tmp_path, source={"round_rows": 4_096, "round_files": None}, order="together", **spec)
    done = run(one)
    assert [rows for _, _, rows in anchors] == [2_048, 2_048, 2_048, 2_048, 3_808]
    assert [version for version, _, _ in anchors] == [0, 1, 2, 3, 4], "each round starts from a fresh anchor"
    assert all(rows <= max(2_048, learned) for _, learned, rows in anchors)
    assert learner(one).progress.rejected == {}
    assert len(done) == 6


@pytest.mark.parametrize("learned", [0, 10_000, 10_000_000])
@pytest.mark.parametrize("kind", ["files", "kafka"])
def test_the_growth_goes_by_what_was_read_from_any_source(tmp_path: Path, kind: str, learned: int) -> None:
    sources = {"files": {}, "kafka": {"kind": "kafka", "brokers": "b:1", "topic": "t"}}
    spec = {"spec": {"algorithm": "toy_sgd:TOY_SGD"}, "models": {"line": {"kind": "line"}}}
    settings = job(tmp_path, **spec).to_dict() | {"source": sources[kind]}
    one = Job.parse(settings)
    grown = learners.new(one.algorithm(), one.algorithm_spec()).replace(progress=Progress(rows=learned))
    state: Any = driver._Run(one, None, None, one.algorithm(), (), Standing("run", 1), grown, {})  # type: ignore[arg-type]
    wanted = driver._rows_wanted(state)
    assert wanted == {0: 2_048, 10_000: 4_096, 10_000_000: one.source.round_rows}[learned]
    if isinstance(one.source, KafkaSource):
        topic = TopicState("c", {0: 0}, {0: 1_000_000})
        assert plan_offsets(one.source, "kafka://c/t", topic, TopicCursor(), wanted).ranges == {
            0: (0, min(wanted, 1_000_000))
        }


def test_small_rounds_that_were_full_follow_each_other_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come is not left lying until the next round is due."""
    (tmp_path / "data").mkdir()
    x = np.random.default_rng(0).normal(size=8_000)
    pq.write_table(pa.table({"a": x, "b": x, "y": x}), tmp_path / "data" / "0.parquet", row_group_size=256)
    steps: list[str] = []
    monkeypatch.setattr(files.FileRounds, "wait", lambda self, learner, stopping: steps.append("wait"))
    spec = {"spec": {"algorithm": "toy_sgd:TOY_SGD"}, "models": {"line": {"kind": "line"}}, "refresh": "round"}
    features = {"numeric": ["a", "b"], "label": "y"}
    one = job(tmp_path, source={"round_files": None, "settle": 0}, features=features, **spec)
    follow = train(one, Registry(one.registry), Mode("follow"), stopping=lambda: "wait" in steps)
    steps += [f"{done.progress.rows}" for done in follow]
    assert steps == ["wait", "2048", "2048", "2048", "1856"]
    assert len(Registry(one.registry).versions("test")) == 4


@pytest.mark.parametrize("algorithm", ["linear.newton", "linear.adagrad", "pca", "kmeans"])
def test_a_job_in_several_threads_counts_the_same_and_learns_the_same_again(tmp_path: Path, algorithm: str) -> None:
    for day in range(2):
        write(tmp_path / "data", day, a=np.where(np.arange(300) == 7, np.nan, np.array(table(day)["a"])))
    models = {
        "linear": {"kind": "classifier"},
        "pca": {"kind": "components", "n_components": 1},
        "kmeans": {"kind": "clusters", "k": 3},
    }
    features = {"numeric": ["a", "b"], "time": "t"} | ({"label": "y"} if algorithm.startswith("linear") else {})
    spec = {"algorithm": algorithm} | ({"k_max": 5} if algorithm == "kmeans" else {})
    settings = {"spec": spec, "features": features, "models": {"plain": models[algorithm.split(".")[0]]}}
    jobs = {name: job(tmp_path, name=name, **settings) for name in ("one", "three", "again")}
    for name, number in {"one": 1, "three": 3, "again": 3}.items():
        run(jobs[name], threads=number)
    learned = {name: learner(one) for name, one in jobs.items()}
    assert {one.progress.rows for one in learned.values()} == {598}
    assert {tuple(one.progress.rejected.items()) for one in learned.values()} == {(("non-finite feature a", 2),)}
    data = {name: Registry(one.registry).read(name, what="models/plain") for name, one in jobs.items()}
    assert data["three"] == data["again"]


@pytest.mark.parametrize(
    ("threads", "options", "told"),
    [
        (0, [], r"threads must be a whole number >= 1; got '0'"),
        (2, ["--direct_num_workers=2"], "threads must be left out where another engine learns.*BEAM_ML_THREADS; got 2"),
    ],
)
def test_a_number_of_threads_that_cannot_be_used(tmp_path: Path, threads: int, options: list[str], told: str) -> None:
    write(tmp_path / "data", 0)
    with pytest.raises(InvalidValue, match=told):
        run(job(tmp_path), threads=threads, options=options)


@pytest.mark.parametrize("separator", [" ", ";"])
def test_files_of_a_format_from_outside_the_package(tmp_path: Path, separator: str) -> None:
    """Rounds cut, read and count them by the record that the job names."""
    path = write(tmp_path / "data", 0)
    rows = pq.read_table(path, columns=["a", "b", "y"]).to_batches()
    where, name = tmp_path / "lines", toy_lines.FORMAT.name
    where.mkdir()
    formats.write(str(where / "000.lines"), rows, name, toy_lines.Options(separator=separator))
    given = {"path": str(where), "format": name, "options": {"separator": separator}, "round_rows": 70}
    features = {"numeric": ["a", "b"], "label": "y"}
    by_lines = job(tmp_path, name="lines", source=given, features=features, refresh="round")
    by_table = job(tmp_path, features=features, refresh="round")
    assert [one.progress.scanned for one in run(by_lines)] == [70, 70, 70, 70, 20]
    run(by_table)
    assert learner(by_lines).progress.rows == learner(by_table).progress.rows == 300
    assert list(learner(by_lines).cursors.files.done) == [str(where / "000.lines")]
