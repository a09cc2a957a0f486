"""`JoinLabels` in pipelines: what it releases is what the pure join releases, however rows come."""

import datetime

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.coders import TupleCoder, VarIntCoder
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing import test_stream as streams
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from beam_ml.beam import JoinLabels, new_pipeline, run
from beam_ml.beam.telemetry import NAMESPACE
from beam_ml.beam.transforms import join_labels
from beam_ml.beam.wire import coders
from beam_ml.core.rejects import Reject
from beam_ml.errors import EngineRefused, InvalidValue
from beam_ml.formats.arrow_bytes import to_stream
from beam_ml.formats.block import Block
from beam_ml.late_labels import State, join, shards_of
from tests.beam.support import RUNNERS, Seen, create
from tests.late_labels.support import BASE, SECOND, reports_block, rows_block, seen, spec, times, us

OURS = "late labels: "


def log(n=60, seed=0):
    """Rows, a second apart, and reports of a third of them, at times before and after maturity, some of no row."""
    rng = np.random.default_rng(seed)
    rows = [(f"t{i}", i, i) for i in range(n)]
    some = rng.choice(n, n // 3, replace=False)
    reports = [(f"t{i}", int(i) + int(rng.integers(0, 18)), float(rng.integers(0, 2))) for i in some]
    return rows, [*reports, ("stranger", 5, 1.0)]


def by_shard(blocks):
    """What was released of each shard, in order of place, with the places."""
    found = {}
    for block in sorted(blocks, key=lambda one: int(one.start)):
        found.setdefault(block.origin.partition, []).append(block)
    for parts in found.values():
        assert [one.start for one in parts] == [0, *(one.stop for one in parts[:-1])]
    return {shard: pa.concat_batches([one.batch for one in parts]) for shard, parts in found.items()}


def shard_by_shard(of, rows, reports, n_shards):
    """The same by the pure join."""
    found = {}
    for shard in range(n_shards):
        mine = []
        for blocks, column in ((rows, of.id), (reports, of.report_id)):
            picked = []
            for block in blocks:
                at = np.flatnonzero(shards_of(block.batch, column, "id", n_shards) == shard)
                picked.append(block.replace(batch=block.batch.take(pa.array(at)), position=block.position[at]))
            mine.append(picked)
        released = join(of, State.empty(shard), *mine).released
        if len(released):
            found[str(shard)] = released.batch
    return found


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for shard, rows in wanted.items():
        assert to_stream(found[shard]).tobytes() == to_stream(rows).tobytes()


def counters(result):
    every = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))["counters"]
    found = {one.key.metric.name: one.committed for one in every}
    return {name.removeprefix(OURS): n for name, n in found.items() if name.startswith(OURS)}


def named(rejected):
    return sorted(
        (one.reason, detail, int(at)) for one in rejected for detail, at in zip(one.detail, one.position, strict=True)
    )


def cut(make, log, size):
    return [make(log[at : at + size], first=at) for at in range(0, len(log), size)]


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("every", [0.5, 7, 3600])
def test_a_bounded_pipeline_releases_what_the_join_does(tmp_path, runner, n_shards, every):
    of = spec(corrected_within=6, corrections="pair")
    rows, reports = log()
    blocks, said = cut(rows_block, rows, 7), cut(reports_block, reports, 4)
    kept, bad = Seen(tmp_path / "released", coders.BlockCoder()), Seen(tmp_path / "bad", coders.RejectCoder())
    pipeline = beam.Pipeline(runner=RUNNERS[runner]())
    out = (
        create(pipeline, blocks, Block, coders.BlockCoder(), label="Rows"),
        create(pipeline, said, Block, coders.BlockCoder(), label="Reports"),
    ) | JoinLabels(of, every=every, n_shards=n_shards)
    out.released | kept.sink()
    out.rejected | bad.sink("Bad")
    result = pipeline.run()
    result.wait_until_finish()
    same(by_shard(kept.values()), shard_by_shard(of, blocks, said, n_shards))
    pure = join(of, State.empty(), blocks, said)
    assert named(bad.values()) == named(pure.rejected)
    if runner == "FnApiRunner":  # the other one counts nothing of what a timer does
        assert counters(result) == pure.counts


def test_a_step_per_shard_releases_the_same(tmp_path, monkeypatch):
    """As on engines: the runner of bundles in Python keeps the timers of several steps apart."""
    monkeypatch.setattr(join_labels, "is_local", lambda pipeline: False)
    of, (rows, reports) = spec(), log(seed=1)
    blocks, said = cut(rows_block, rows, 9), cut(reports_block, reports, 5)
    kept = Seen(tmp_path / "released", coders.BlockCoder())
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner())
    out = {
        "reports": create(pipeline, said, Block, coders.BlockCoder(), label="Reports"),
        "rows": create(pipeline, blocks, Block, coders.BlockCoder(), label="Rows"),
    } | JoinLabels(of, every=4, n_shards=3)
    out.released | kept.sink()
    pipeline.run().wait_until_finish()
    same(by_shard(kept.values()), shard_by_shard(of, blocks, said, 3))


@pytest.mark.parametrize(("least", "refused"), [(5, range(30, 51)), (1 << 16, range(1))])
def test_what_is_put_aside_is_joined_before_there_is_too_much_of_it(tmp_path, monkeypatch, least, refused):
    """A shard has room for 10 rows: of 60 put aside all find their end at the first timer, of those joined before it few."""
    monkeypatch.setattr(join_labels, "_LEAST_ASIDE", least)
    of, (rows, reports) = spec(most_rows=10), log(seed=2)
    blocks, said = cut(rows_block, rows, 9), cut(reports_block, reports, 5)
    bad = Seen(tmp_path / "bad", coders.RejectCoder())
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner())
    pair = (
        create(pipeline, blocks, Block, coders.BlockCoder(), label="Rows"),
        create(pipeline, said, Block, coders.BlockCoder(), label="Reports"),
    )
    (pair | JoinLabels(of)).rejected | bad.sink("Bad")
    pipeline.run().wait_until_finish()
    assert sum(len(one) for one in bad.values() if one.reason == "no room to wait for a label") in refused


class Script:
    """A TestStream of rows and reports, driven by lines."""

    def __init__(self):
        self._now = -1
        self._stream = streams.TestStream(coder=TupleCoder((VarIntCoder(), coders.BlockCoder())))

    def send(self, seconds, *elements):
        self._stream.add_elements([TimestampedValue(one, Timestamp(micros=us(seconds))) for one in elements])
        return self

    def reach(self, seconds):
        if seconds > self._now:
            self._stream.advance_watermark_to(Timestamp(micros=us(seconds)))
            self._now = seconds
        return self

    def run(self, tmp_path, of, **given):
        self._stream.advance_watermark_to_infinity()
        kept, bad = Seen(tmp_path / "released", coders.BlockCoder()), Seen(tmp_path / "bad", coders.RejectCoder())
        pipeline = beam.Pipeline(runner=BundleBasedDirectRunner())
        both = pipeline | self._stream
        rows, reports = (both | f"Only{kind}" >> beam.ParDo(Only(kind)).with_output_types(Block) for kind in (0, 1))
        out = (rows, reports) | JoinLabels(of, **given)
        out.released | "Timed" >> beam.ParDo(Timed()).with_output_types(Block) | kept.sink()
        out.rejected | bad.sink("Bad")
        pipeline.run().wait_until_finish()
        return sorted(kept.values(), key=lambda one: one.start), bad.values()


class Only(beam.DoFn):
    """Rows (0) or reports (1)."""

    def __init__(self, kind):
        self._kind = kind

    def process(self, element):
        if element[0] == self._kind:
            yield element[1]


class Timed(beam.DoFn):
    """Notes when a block was released, as the record time of its rows."""

    def process(self, element, timestamp=beam.DoFn.TimestampParam):
        yield element.replace(recorded=np.full(len(element), timestamp.micros))


def test_rows_leave_as_the_watermark_passes_their_label(tmp_path):
    script = Script().send(0, (0, rows_block([("a", 0, 1), ("b", 1, 2)]))).reach(3)
    script.send(4, (1, reports_block([("a", 4, 1.0)]))).reach(6).reach(20)
    released, rejected = script.run(tmp_path, spec(), every=1)
    assert [seen(one) for one in released] == [[(4, 0, "a", 1, 1.0, 1.0, 0)], [(11, 1, "b", 2, 0.0, 1.0, 0)]]
    assert [one.recorded.tolist() for one in released] == [[us(5)], [us(12)]]
    assert rejected == []


def test_late_data_is_joined_within_lateness_and_refused_beyond(tmp_path):
    of = spec(lateness=5, maturity=20)
    script = Script().send(0, (0, rows_block([("a", 0, 1), ("b", 1, 2)]))).reach(30)
    script.send(25, (1, reports_block([("b", 4, 1.0)], first=1)))  # 26 s behind
    script.send(26, (0, rows_block([("c", 26, 3)]))).send(27, (1, reports_block([("c", 27, 1.0)]))).reach(60)
    released, rejected = script.run(tmp_path, of, every=1)
    rows = [row for one in released for row in seen(one)]
    assert rows == [(20, 0, "a", 1, 0.0, 1.0, 0), (21, 1, "b", 2, 0.0, 1.0, 0), (27, 26, "c", 3, 1.0, 1.0, 0)]
    assert named(rejected) == [("late report", "b", 1)]


def test_rows_in_any_order_within_lateness_are_one_result(tmp_path):
    of, (rows, reports) = spec(lateness=10, corrected_within=6, reports_ahead=3), log(40, seed=3)
    rng = np.random.default_rng(5)
    events = [(0, rows_block([one], first=i), one[1]) for i, one in enumerate(rows)]
    events += [(1, reports_block([one], first=i), one[1]) for i, one in enumerate(reports)]
    events.sort(key=lambda one: one[2] + rng.integers(0, 10))
    script, newest = Script(), 0
    for i, (kind, block, at) in enumerate(events):
        script.send(max(at, newest), (kind, block))
        newest = max(newest, min(one[2] for one in events[i:]))
        if i % 5 == 4:
            script.reach(newest)
    released, rejected = script.run(tmp_path, of, every=2)
    pure = join(of, State.empty(), [one[1] for one in events if one[0] == 0], [one[1] for one in events if one[0] == 1])
    same(by_shard([one.replace(recorded=None) for one in released]), {"0": pure.released.batch})
    assert named(rejected) == named(pure.rejected)
    assert len(released) > 5


def test_rows_that_are_dicts_in_windows_are_joined(tmp_path):
    at = datetime.datetime.fromtimestamp(BASE // SECOND, datetime.UTC)
    kept = Seen(tmp_path / "released", coders.BlockCoder())
    pipeline = new_pipeline()
    rows = pipeline | "Rows" >> beam.Create([{"tx": 1, "at": at}, {"tx": 2, "at": at}]).with_output_types(dict)
    reports = pipeline | "Reports" >> beam.Create([{"tx": "2", "said_at": at, "fraud": True}]).with_output_types(dict)
    windowed = [one | f"Window{i}" >> beam.WindowInto(FixedWindows(60)) for i, one in enumerate((rows, reports))]
    (tuple(windowed) | JoinLabels(spec())).released | kept.sink()
    run(pipeline)
    found = {row["tx"]: row["fraud"] for one in kept.values() for row in one.to_dicts()}
    assert found == {1: 0.0, 2: 1.0}


def test_rejects_of_the_input_and_rows_without_a_time_leave_as_rejects(tmp_path):
    block = Block(
        pa.record_batch({"tx": [1], "at": pa.nulls(1)}),
        None,
        None,
        None,
        rejected=(Reject("malformed", np.array([3])),),
    )
    reports = Block(pa.record_batch({"tx": [1], "said_at": times([1]), "fraud": [1]}))
    bad = Seen(tmp_path / "bad", coders.RejectCoder())
    pipeline = new_pipeline()
    pair = (
        create(pipeline, [block], Block, coders.BlockCoder(), label="Rows"),
        create(pipeline, [reports], Block, coders.BlockCoder(), label="Reports"),
    )
    (pair | JoinLabels(spec(), n_shards=2)).rejected | bad.sink("Bad")
    run(pipeline)
    assert sorted(one.reason for one in bad.values()) == ["malformed", "missing event time", "report without a row"]


def test_arguments_are_refused_in_a_sentence():
    pipeline = new_pipeline()
    rows, reports = (create(pipeline, [], Block, coders.BlockCoder(), label=name) for name in ("Rows", "Reports"))
    with pytest.raises(InvalidValue, match=r"JoinLabels.n_shards must be >= 1; got 0"):
        JoinLabels(spec(), n_shards=0)
    with pytest.raises(InvalidValue, match=r"JoinLabels.every must be whole ms, .* got 0.0005 s"):
        JoinLabels(spec(), every=0.0005)
    with pytest.raises(InvalidValue, match=r"a dict of 'rows' and 'reports'; got \['labels', 'rows'\]"):
        {"rows": rows, "labels": reports} | "Odd" >> JoinLabels(spec())
    out = (rows, reports) | JoinLabels(spec())
    with pytest.raises(EngineRefused, match=r"must have one JoinLabels"):
        (out.released, reports) | "Again" >> JoinLabels(spec())
