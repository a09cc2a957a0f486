"""Ranges → accumulations: every row and place in exactly one accumulation, whatever happens to it."""

import json
from functools import reduce

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from beam_ml import Registry, api, fit, formats, pca
from beam_ml.algorithms import find, linear
from beam_ml.artefact.records import encode_learner
from beam_ml.beam import (
    Accumulate,
    AnchorRef,
    FileRanges,
    Merge,
    ReadRanges,
    SliceByWindow,
    ToBatches,
    engine,
    reject_records,
)
from beam_ml.beam.telemetry import NAMESPACE
from beam_ml.beam.transforms.merge import MergeFn
from beam_ml.beam.wire import coders, references
from beam_ml.core import accumulation as accumulations
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.progress import Progress
from beam_ml.core.threads import using
from beam_ml.core.windows import ROUND, Windows
from beam_ml.errors import EngineRefused, InvalidValue, MergeRefused, MissingColumn, UnreadableInput
from beam_ml.features import Features
from tests.beam.support import MINUTE, Seen, batches, create, make_batch, ran

SPEC = pca.Spec(n_features=2)
PCA = find("pca")
FEATURES = Features(numeric=["a", "b"], time={"column": "t", "unit": "us"})


@pytest.fixture(params=["parquet", "csv", "avro"])
def folder(request, tmp_path):
    """600 rows, one a second, in two files; row 5 has no `a`, row 400 no time."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600))
    t = np.arange(600) * 1_000_000
    for i in range(2):
        rows = slice(300 * i, 300 * i + 300)
        missing = np.arange(600)[rows] == 400
        columns = {"a": np.where(np.arange(600)[rows] == 5, np.nan, a[rows]), "b": b[rows]}
        batch = pa.record_batch(columns | {"t": pa.array(t[rows], mask=missing)})
        (tmp_path / "in").mkdir(exist_ok=True)
        formats.write(str(tmp_path / "in" / f"{i}.{request.param}"), [batch])
    return tmp_path / "in"


def ranges_of(folder, target):
    return [r for file in formats.list_files(str(folder)) for r in formats.ranges(file, target)]


def run_chain(tmp_path, start, windows, spec=SPEC, fanout=1, through=None, max_bytes=1 << 26, anchor=None, now=None):
    """Run the chain; give {window end: accumulation}, the rejected records, and the counters."""
    pipeline = engine.new_pipeline()
    seen = Seen(tmp_path / "out", coders.AccumulationCoder())
    rejects = Seen(tmp_path / "rejected", coders.RejectCoder())
    out = start(pipeline) | SliceByWindow(windows, through, now) | Accumulate(spec, anchor, max_bundle_bytes=max_bytes)
    out | Merge(spec, fanout) | seen.sink("Out")
    out.rejected | rejects.sink("Rejects")
    done = engine.run(pipeline)
    assert done.runner == "FnApiRunner"
    counters = {}
    for one in done.result.metrics().query()["counters"]:
        if one.key.metric.namespace == NAMESPACE:
            counters[one.key.metric.name] = counters.get(one.key.metric.name, 0) + one.result
    records = [record for one in rejects.values() for record in reject_records(one)]
    return {end: value for end, _, value in seen.items()}, records, counters


def from_files(folder, target):
    def start(pipeline):
        return pipeline | FileRanges(ranges_of(folder, target)) | ReadRanges(FEATURES.columns()) | ToBatches(FEATURES)

    return start


def from_batches(values):
    return lambda pipeline: create(pipeline, values)


def total(found):
    return reduce(Progress.merge, (one.progress for one in found.values()), Progress())


@pytest.mark.parametrize(("target", "fanout"), [(100, 1), (10_000, 3)])
def test_every_place_of_every_range_is_covered_once(folder, tmp_path, target, fanout):
    ranges = ranges_of(folder, target)
    found, rejected, counters = run_chain(tmp_path, from_files(folder, target), Windows(MINUTE), fanout=fanout)
    assert sorted(found) == [ROUND, *(MINUTE * (i + 1) for i in range(10))]
    progress = total(found)
    assert (progress.rows, sum(progress.rejected.values()), progress.scanned) == (598, 2, 600)
    wanted = {}
    for one in ranges:
        wanted.setdefault(one.path, []).append([one.start, one.stop])
    for path, spans in wanted.items():
        covered = progress.covered[Origin("files", path)].tolist()
        assert covered == [[spans[0][0], spans[-1][1]]]
    assert sorted(r["reason"] for r in rejected) == ["missing event time", "non-finite feature a"]
    places = [[r["position"], r["position"] + 1] for r in rejected]
    if ranges[0].format != "csv":
        assert sorted(places) == [[5, 6], [100, 101]]
    assert not found[ROUND].parts
    assert {key: counters[key] for key in ("rows", "rejected")} == {"rows": 598, "rejected": 2}


def test_windows_hold_what_a_direct_accumulate_gives(folder, tmp_path):
    found, _, _ = run_chain(tmp_path, from_files(folder, 70), Windows(MINUTE))
    blocks = [block for r in ranges_of(folder, 10**6) for block in formats.read(r, source="files")]
    rows = [FEATURES.to_batch(block)[0] for block in blocks]
    for end, one in found.items():
        if end == ROUND:
            continue
        accumulator = Accumulator(PCA, SPEC)
        for batch in rows:
            accumulator.add(batch.take((batch.time >= end - MINUTE) & (batch.time < end)))
        wanted = accumulator.result()
        assert close(one.parts[0].dated.summary, wanted.parts[0].dated.summary, rtol=1e-9)
        np.testing.assert_array_equal(one.sample.identity, wanted.sample.identity)


def test_a_range_without_a_good_row_goes_on_as_progress_only(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.csv").write_text("a,b,t\n" + "nan,1,2\n" * 10 + "\n\n")
    found, rejected, counters = run_chain(tmp_path, from_files(tmp_path / "in", 1000), Windows(MINUTE))
    (one,) = found.values()
    assert list(found) == [ROUND]
    assert (one.progress.rows, one.progress.scanned) == (0, len(rejected))
    assert counters.get("rows", 0) == 0
    (covered,) = one.progress.covered.values()
    (piece,) = ranges_of(tmp_path / "in", 1000)
    assert covered.tolist() == [[piece.start, piece.stop]]


def test_late_rows_join_the_open_window_or_are_rejected(tmp_path):
    rows = batches(300, d=2)
    found, rejected, counters = run_chain(
        tmp_path, from_batches(rows), Windows(MINUTE, allowed_lateness_us=MINUTE), through=2 * MINUTE
    )
    assert sorted(found) == [ROUND, 3 * MINUTE, 4 * MINUTE, 5 * MINUTE]
    assert (found[3 * MINUTE].progress.rows, found[3 * MINUTE].progress.late) == (120, 60)
    assert dict(found[ROUND].progress.rejected) == {"late": 60}
    assert {r["reason"] for r in rejected} == {"late"}
    assert sorted(r["position"] for r in rejected) == list(range(60))
    assert total(found).covered[Origin("s", "0")].tolist() == [[0, 300]]
    assert (counters["late"], counters["rejected"], counters["rows"]) == (60, 60, 240)


def test_rows_too_far_ahead_are_rejected(tmp_path):
    windows = Windows(MINUTE, max_ahead_us=0)
    found, rejected, _ = run_chain(tmp_path, from_batches(batches(120, d=2)), windows, now=MINUTE)
    assert dict(found[ROUND].progress.rejected) == {"event time too far ahead": 59}
    assert total(found).scanned == 120
    assert {r["reason"] for r in rejected} == {"event time too far ahead"}


def test_rows_that_admission_refuses_are_counted_in_their_window(tmp_path):
    spec = linear.Newton(n_features=2)
    rows = make_batch(0, 50, d=2, label=True)
    label = rows.label.copy()
    label[[3, 7]] = [5.0, np.nan]
    found, rejected, _ = run_chain(tmp_path, from_batches([rows.replace(label=label)]), Windows(MINUTE), spec)
    assert list(found) == [MINUTE]
    progress = found[MINUTE].progress
    assert dict(progress.rejected) == {"label outside {0, 1}": 1, "missing label": 1}
    assert progress.covered[Origin("s", "0")].tolist() == [[0, 50]]
    assert {(r["position"], r["reason"]) for r in rejected} == {(3, "label outside {0, 1}"), (7, "missing label")}
    json.dumps(rejected)


def test_a_round_is_one_window(tmp_path):
    rows = [make_batch(0, 30, d=2).replace(time=None)]
    found, _, _ = run_chain(tmp_path, from_batches(rows), Windows(None))
    assert list(found) == [ROUND]
    assert found[ROUND].progress.rows == 30
    assert close(api.fit(SPEC, rows).state, found[ROUND].parts[0].dated.summary)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_full_bundle_sends_its_largest_on(tmp_path, monkeypatch, number):
    rows = batches(600, size=5, d=2)
    whole, _, _ = run_chain(tmp_path / "whole", from_batches(rows), Windows(MINUTE))
    seen = []
    count = accumulations.Accumulator.result
    monkeypatch.setattr(accumulations.Accumulator, "result", lambda self: seen.append(1) or count(self))
    with using(number):
        parts, _, _ = run_chain(tmp_path / "parts", from_batches(rows), Windows(MINUTE), max_bytes=1024)
    assert len(seen) > len(whole) * max(1, number - 1), "more than one per window and thread beside"
    assert parts.keys() == whole.keys()
    for end, one in parts.items():
        assert one.progress.summary() == whole[end].progress.summary()
        assert close(one.parts[0].dated.summary, whole[end].parts[0].dated.summary, rtol=1e-9)


def test_workers_start_from_the_stored_anchor(tmp_path):
    spec = linear.Newton(n_features=3)
    learner = fit(spec, batches(20_000, size=5000, label=True, source="before"))
    registry = Registry(str(tmp_path / "registry"))
    data = {"learner": encode_learner(find("linear.newton"), learner)}
    version = registry.publish("job", data, parent=None, round_id="1-a").number
    anchor = AnchorRef(str(tmp_path / "registry"), "job", version)
    rows = batches(600, label=True)
    found, _, counters = run_chain(tmp_path, from_batches(rows), Windows(None), spec, anchor=anchor)
    assert counters["anchors_read"] == 1, "once per process, however many bundles there are"
    algorithm = find("linear.newton")
    direct = Accumulator(algorithm, spec, learner.version, algorithm.anchor(spec, learner.state))
    for batch in rows:
        direct.add(batch)
    assert list(found[ROUND].parts) == [learner.refresh]
    assert learner.refresh > 0
    mine, wanted = found[ROUND].parts[learner.refresh], direct.result().parts[learner.refresh]
    assert close(mine.dated.summary, wanted.dated.summary, rtol=1e-9)


def test_an_anchor_of_another_spec_is_refused(tmp_path):
    spec = linear.Newton(n_features=3)
    learner = fit(spec, batches(100, label=True))
    data = {"learner": encode_learner(find("linear.newton"), learner)}
    version = Registry(str(tmp_path / "registry")).publish("job", data, parent=None, round_id="1-a").number
    anchor = AnchorRef(str(tmp_path / "registry"), "job", version)
    other = linear.Newton(n_features=3, seed=1)
    with pytest.raises(MergeRefused, match="resumes from a learner of its own spec"):
        run_chain(tmp_path, from_batches(batches(80, label=True)), Windows(None), other, anchor=anchor)


def test_beam_windows_play_no_part(tmp_path):
    def start(pipeline):
        pcoll = create(pipeline, batches(120, d=2), timestamps=[0, 40, 80])
        return pcoll | beam.WindowInto(beam.window.FixedWindows(30))

    found, _, _ = run_chain(tmp_path, start, Windows(None))
    assert found[ROUND].progress.rows == 120


def test_a_workers_error_keeps_its_type_and_sentence(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "x.parquet"
    formats.write(str(path), [pa.record_batch({"a": [1.0], "t": [1]})])
    with pytest.raises(MissingColumn, match=r"must have one column 'b'; got \['a', 't'\]\.$"):
        run_chain(tmp_path, from_files(tmp_path / "in", 10), Windows(None))
    (piece,) = ranges_of(tmp_path / "in", 10)
    path.unlink()
    pipeline = engine.new_pipeline()
    pipeline | FileRanges([piece]) | ReadRanges()
    with pytest.raises(UnreadableInput, match="No such file or directory"):
        engine.run(pipeline)


def test_an_error_that_is_not_ours_is_left_alone():
    pipeline = engine.new_pipeline()

    def fail(batch: Batch) -> int:
        return 1 // 0

    create(pipeline, [make_batch(0, 2)]) | beam.Map(fail)
    with pytest.raises(Exception, match="division") as caught:
        engine.run(pipeline)
    assert type(caught.value).__module__ != "beam_ml.errors"


def test_time_is_needed_for_windows_by_time(tmp_path):
    rows = [make_batch(0, 30, d=2).replace(time=None)]
    with pytest.raises(Exception, match="refresh by event time needs event times"):
        run_chain(tmp_path, from_batches(rows), Windows(MINUTE))


def test_the_size_budget(caplog):
    references.check_size(SPEC, 16 << 20)
    assert not caplog.records
    references.check_size(SPEC, 17 << 20)
    assert "17 MiB with n_features 2" in caplog.text
    with pytest.raises(InvalidValue, match=r"at most 256 MiB; got 300 MiB with n_features 2: lower n_features\.$"):
        references.check_size(SPEC, 300 << 20)


def test_an_oversized_accumulation_stops_the_pipeline(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "WARN_BYTES", 10)
    monkeypatch.setattr(references, "REFUSE_BYTES", 20)
    with pytest.raises(InvalidValue, match="An accumulation of pca must be at most"):
        run_chain(tmp_path, from_batches(batches(40, d=2)), Windows(None))


def test_merge_is_pure_and_takes_any_iterable():
    fn = MergeFn(SPEC)
    parts = [accumulations.add(PCA, SPEC, accumulations.empty(SPEC), batch) for batch in batches(160, d=2)]
    code = coders.AccumulationCoder().encode
    before = [code(part) for part in parts]
    whole = fn.merge_accumulators(iter(parts))
    tree = fn.add_input(fn.add_input(parts[0], parts[1]), fn.merge_accumulators(parts[2:]))
    assert close(tree.parts[0].dated.summary, whole.parts[0].dated.summary, rtol=1e-12)
    assert tree.progress.summary() == whole.progress.summary()
    np.testing.assert_array_equal(tree.sample.identity, whole.sample.identity)
    assert code(fn.merge_accumulators(())) == code(fn.create_accumulator())
    assert [code(part) for part in parts] == before
    assert fn.extract_output(whole) is whole


def test_fanout_must_be_positive():
    with pytest.raises(InvalidValue, match=r"Merge\.fanout must be >= 1; got 0\."):
        Merge(SPEC, fanout=0)


def test_an_unbounded_input_is_refused_on_local_runners():
    from apache_beam.transforms.periodicsequence import PeriodicImpulse

    for runner in ("DirectRunner", "FnApiRunner"):
        pipeline = engine.new_pipeline([f"--runner={runner}"])
        pipeline | PeriodicImpulse()
        with pytest.raises(EngineRefused) as caught:
            engine.run(pipeline)
        text = str(caught.value)
        assert text.startswith(f"{runner} never emits from an unbounded source")
        assert all(word in text for word in ("rounds", "PrismRunner", "FlinkRunner"))
        assert text.count(".") - text.count("beam_ml.beam.rounds") * 2 == 1  # one sentence


@pytest.mark.parametrize("options", [[], ["--runner=FnApiRunner"], ["--runner=BundleBasedDirectRunner"]])
def test_the_runner_that_ran_is_told(options):
    pipeline = engine.new_pipeline(options)
    create(pipeline, [make_batch(0, 2)])
    wanted = options[0].removeprefix("--runner=") if options else "FnApiRunner"
    assert ran(pipeline) == wanted
