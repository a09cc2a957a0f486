"""The streaming pipeline as it is built: coders, times, what is shipped, what is refused."""

import json

import numpy as np
import pytest
from apache_beam import Pipeline
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.utils.timestamp import Timestamp

from beam_ml.algorithms import pca
from beam_ml.beam.engine import streaming_options
from beam_ml.beam.kafka import write
from beam_ml.beam.stream import build, close_windows, run_stream
from beam_ml.beam.stream import pipeline as stream_module
from beam_ml.beam.stream import state as stream_state
from beam_ml.beam.stream.fold import FoldJob, Reach, as_late
from beam_ml.beam.stream.start import Start
from beam_ml.beam.stream.state import Held, OpenWindows
from beam_ml.beam.transforms import accumulate
from beam_ml.beam.transforms.merge import shard_of
from beam_ml.beam.versions.lineage import Standing
from beam_ml.beam.wire.elements import Slice
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.gate import Verdict
from beam_ml.core.windows import ROUND
from beam_ml.errors import CorruptArtefact, EngineRefused, HeadMoved, InvalidValue, SourceUnavailable
from beam_ml.registry import Registry
from tests.beam.stream.support import SIZE, SOURCE, Script, block, job, newest, stream
from tests.beam.wire.test_coders import pickled

SPEC = pca.Spec(n_features=2)


def some(first=0, n=4, partition="0"):
    place = np.arange(first, first + n)
    rows = Batch.dense(
        np.stack([place, place**2], axis=1) * 1.0,
        time=place,
        origin=Origin(SOURCE, partition),
        position=place,
    )
    one = Accumulator(pca.PCA, SPEC)
    one.add(rows)
    return one.result()


def test_nothing_that_travels_or_is_kept_is_pickled(tmp_path):
    a_job = job(tmp_path)
    pipeline = Pipeline(runner=BundleBasedDirectRunner())
    build(pipeline, a_job, Registry(a_job.registry), read=Script().send(0, block([[(0, 1)]])), n_shards=2)
    assert [name for name in pickled(pipeline) if "TestStream" not in name] == []  # Beam's own
    proto, _ = pipeline.to_runner_api(return_context=True)
    states = [
        proto.components.coders[state.read_modify_write_spec.coder_id].spec.urn
        for one in proto.components.transforms.values()
        if one.spec.urn == "beam:transform:pardo:v1"
        for state in _par_do(one.spec.payload).state_specs.values()
    ]
    assert states == ["beam:coder:bytes:v1"] * 6
    timers = [
        name
        for one in proto.components.transforms.values()
        if one.spec.urn == "beam:transform:pardo:v1"
        for name in _par_do(one.spec.payload).timer_family_specs
    ]
    # Of steps that are fused, the in-process runner sends one's timers to the other where they have the same name.
    assert sorted(timers) == ["ts-fold_closed", "ts-shard_closed", "ts-shard_closed"]


def _par_do(payload):
    from apache_beam.portability.api import beam_runner_api_pb2

    return beam_runner_api_pb2.ParDoPayload.FromString(payload)


def test_the_fold_ships_names_and_json(tmp_path):
    a_job = job(tmp_path, source={"client": {"sasl_plain_password": "$PASSWORD", "sasl_mechanism": "PLAIN"}})
    shipped = FoldJob.of(a_job, "somewhere", Start(Standing("run", 1)))
    assert all(isinstance(getattr(shipped, name), str | int | float) for name in shipped.__dataclass_fields__)
    assert "PASSWORD" not in repr(shipped)


@pytest.mark.parametrize("ahead_s", [-30, 0, 4.9995, 60])
def test_an_accumulation_bears_a_time_before_the_last_ms_of_its_window(ahead_s):
    """However late its block's records are: an engine's time waits for what is on its way, and not for later things."""
    fn = accumulate._Accumulate(SPEC.to_json(), None, 1 << 26, None)
    fn.setup()
    fn.start_bundle()
    place = np.arange(3)
    rows = Batch.dense(np.ones((3, 2)), time=place, origin=Origin(SOURCE, "0"), position=place)
    seconds = 100 + ahead_s
    assert list(fn.process((105_000_000, Slice(rows)), Timestamp(seconds))) == []
    (out,) = fn.finish_bundle()
    assert out.timestamp <= Timestamp(104.998)
    assert out.timestamp <= Timestamp(seconds)


def test_rows_of_one_place_always_share_a_shard():
    shards = [shard_of(some(first), 4) for first in range(40)]
    assert shards == [shard_of(some(first), 4) for first in range(40)]
    assert set(shards) == {0, 1, 2, 3}
    assert {shard_of(some(first), 1) for first in range(5)} == {0}


def test_open_windows_come_back_as_they_were_and_damage_is_seen():
    codec, held = OpenWindows(SPEC.to_json(), 1 << 20), {}
    codec.add(b"k", held, 5, 5, some(0))
    codec.add(b"k", held, ROUND, 10, some(9))
    codec.add(b"k", held, ROUND, 5, some(20))
    data = codec.store(held)
    again = OpenWindows(SPEC.to_json(), 1 << 20).load(data)
    assert again == held
    assert again[ROUND].due == 5
    assert OpenWindows(SPEC.to_json(), 1 << 20).get(b"k", ROUND, again[ROUND]).progress.rows == 8
    assert codec.load(None) == {}
    for damaged in (data[:-1], data + b"x", data[:7]):
        with pytest.raises(CorruptArtefact, match="state of open windows is damaged"):
            codec.load(damaged)


def test_what_was_decoded_is_dropped_when_the_stored_form_is_another():
    codec, held = OpenWindows(SPEC.to_json(), 1 << 20), {}
    codec.add(b"k", held, 5, 5, some(0, 4))
    older = dict(held)
    codec.add(b"k", held, 5, 5, some(9, 3))
    assert codec.get(b"k", 5, held[5]).progress.rows == 7
    assert codec.get(b"k", 5, older[5]).progress.rows == 4  # an engine gave back an older state
    assert isinstance(held[5], Held)


def test_a_state_too_large_for_an_engine_is_refused(monkeypatch):
    codec, held = OpenWindows(SPEC.to_json(), 1000), {}
    monkeypatch.setattr("beam_ml.beam.wire.references.WARN_BYTES", 0)
    with pytest.raises(InvalidValue, match="must be at most"):
        codec.add(b"k", held, 5, 5, some(0, 400))


def test_rows_that_come_too_late_are_counted_and_move_nothing():
    late, taken = as_late(some(3, 4), False), as_late(some(3, 4), True)
    assert (late.parts, late.sample.rows, late.rest.rejected, late.rest.latest) == ({}, None, {"late": 4}, {})
    assert late.rest.covered[Origin(SOURCE, "0")].tolist() == [[3, 7]]
    assert (taken.progress.rows, taken.progress.late, taken.progress.rejected) == (4, 4, {})


def test_due_at_is_the_end_of_the_window():
    assert stream_state.due_at(-1, SIZE) == 0
    assert stream_state.due_at(0, SIZE) == SIZE
    assert stream_state.due_at(SIZE - 1, SIZE) == SIZE


def test_the_ledger_comes_back():
    covered = {Origin(SOURCE, "0"): np.array([[0, 5], [8, 9]]), Origin("other", "1"): np.zeros((0, 2), np.int64)}
    ledger = Reach(Standing("run", 2, 3, 4, "ab", Verdict(False, ("why",))), None, covered)
    again = Reach.decode(ledger.encode())
    assert again.encode() == ledger.encode()
    assert again.covered[Origin(SOURCE, "0")].tolist() == [[0, 5], [8, 9]]
    assert again.standing == ledger.standing


def test_the_gate_is_asked_and_the_features_are_stored(tmp_path):
    a_job = job(tmp_path, gate=("rows >= 3",))
    script = Script().send(0, block([[(0, 1)], [(1, 6), (2, 7)]])).reach(20).end()
    registry = stream(script, a_job)
    found = [registry.manifest("stream", n) for n in registry.versions("stream")]
    assert [one.verdict.accepted for one in found] == [False, True]
    assert registry.served("stream").number == 2
    assert found[1].extra["features"] == a_job.features.to_dict()
    assert set(found[1].files) == {"learner", "models/one"}
    assert json.dumps(found[1].refreshes[0]["seconds"])
    assert newest(registry).champion == found[1].champion


def test_each_version_is_announced_and_nobody_need_hear_of_it(tmp_path, monkeypatch, caplog):
    told = []

    def announce(connection, topic, manifest):
        told.append((connection.brokers, dict(connection.client), topic, manifest.number))
        if manifest.number == 2:
            message = "Nobody is there."
            raise SourceUnavailable(message)

    monkeypatch.setattr(write, "announce", announce)
    given = {"brokers": "b:1", "topic": "told", "client": {"sasl_plain_password": "$PASSWORD"}}
    script = Script().send(0, block([[(0, 1)], [(1, 6), (2, 11)]])).reach(20).end()
    stream(script, job(tmp_path, announce=given))
    assert told == [("b:1", given["client"], "told", number) for number in (1, 2, 3)]
    assert "stream v2 could not be announced: Nobody is there." in caplog.text


def test_windows_are_closed_though_the_stream_was_still_publishing(tmp_path, monkeypatch):
    """The engine was told to end, and a last version came while the rounds that close its windows had begun."""
    a_job, begun = job(tmp_path), []

    def moved(*given):
        begun.append(given)
        if len(begun) <= late:
            message = "Somebody else published."
            raise HeadMoved(message)
        return iter(())

    monkeypatch.setattr(stream_module, "train", moved)
    late = 1
    assert close_windows(a_job, Registry(a_job.registry)) == 0
    assert len(begun) == 2
    late = 4
    with pytest.raises(HeadMoved):
        close_windows(a_job, Registry(a_job.registry))


WHOLE = "--experiments=prism_disable_sdf_split"


def test_prism_is_told_to_cut_no_bundle():
    """It goes on with the rest of a key's rows before what the first of them left is stored."""
    assert streaming_options(["--runner=PrismRunner"]) == ["--runner=PrismRunner", "--streaming", WHOLE]
    given = ["--runner=PrismRunner", "--streaming", "--experiments=other", WHOLE]
    assert streaming_options(given) == given


@pytest.mark.parametrize(("runner", "whole"), [("FlinkRunner", []), ("PortableRunner", [WHOLE])])
def test_flink_is_told_to_hold_nothing_back_at_checkpoints(runner, whole):
    given, flush = [f"--runner={runner}", "--parallelism=2"], "--finish_bundle_before_checkpointing"
    assert streaming_options(given) == [*given, "--streaming", *whole, flush]
    assert streaming_options(["--streaming", *given, flush]) == ["--streaming", *given, flush, *whole]
    for no in ([f"{flush}=false"], [flush, "False"]):
        with pytest.raises(EngineRefused, match=r"finish_bundle_before_checkpointing must be true.* got [fF]alse\.$"):
            streaming_options([*given, *no])


def test_a_stream_runs_with_the_options_of_a_stream(tmp_path, monkeypatch):
    made = []

    def pipeline_of(options):
        made.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(stream_module, "new_pipeline", pipeline_of)
    a_job = job(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_stream(a_job, Registry(a_job.registry), ["--runner=FlinkRunner"])
    assert made == [streaming_options(["--runner=FlinkRunner"])]


def test_runners_that_never_emit_are_refused(tmp_path):
    from beam_ml.beam.kafka.stream.source import ReadKafkaStream

    a_job = job(tmp_path)
    for options in ((), ("--runner=DirectRunner",)):
        with pytest.raises(EngineRefused, match=r"never emits from an unbounded source.*PrismRunner"):
            run_stream(a_job, Registry(a_job.registry), options, read=ReadKafkaStream(a_job.source))
