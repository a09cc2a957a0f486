"""What the streaming tests share: rows of a topic with distinct ids, as blocks with places, and a stream of them."""

import json

import numpy as np
import pyarrow as pa
from apache_beam import Impulse, ParDo, Pipeline, PTransform
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam import engine
from beam_ml.beam.job import Job
from beam_ml.beam.stream import build
from beam_ml.beam.transforms.decode import Decode
from beam_ml.beam.wire import coders
from beam_ml.core.batch import Origin
from beam_ml.formats.block import Block
from beam_ml.formats.messages import Decoded, Refused, place, with_seen
from beam_ml.registry import Registry
from tests.beam.support import Emit

SECOND = 1_000_000
SIZE = 5 * SECOND
KINDS = {"id": pa.float64(), "x": pa.float64(), "time": pa.int64(), "y": pa.int64()}
SOURCE = "kafka://cluster/topic"


def job(tmp_path, name="stream", **more):
    given = {
        "name": name,
        "registry": str(tmp_path / "registry"),
        "refresh": "5s",
        "source": {"kind": "kafka", "brokers": "none:1", "topic": "topic"} | more.pop("source", {}),
        "features": {"numeric": ["id", "x"], "time": {"column": "time", "unit": "us"}},
        "spec": {"algorithm": "pca"},
        "models": {"one": {"kind": "components", "n_components": 1}},
    }
    return Job.parse(given | more)


def block(messages, partition=0, offset=0, seen=None, label=None):
    """A poll: messages of rows (id, event time in s), from an offset on; text stands for itself."""
    values, newest = [], []
    for message in messages:
        if isinstance(message, str):
            values.append(message.encode())
            newest.append(0)
        else:
            values.append("\n".join(json.dumps(row(*one, label)) for one in message).encode())
            newest.append(int(max(seconds for _, seconds in message) * 1000))
    n = len(values)
    columns = {
        "value": pa.array(values, pa.binary()),
        "key": pa.nulls(n, pa.binary()),
        "timestamp": pa.array(newest, pa.timestamp("ms")),
    }
    where = place(offset + np.arange(n, dtype=np.int64))
    raw = Block(pa.record_batch(columns), Origin(SOURCE, str(partition)), where, None, place(offset), place(offset + n))
    return raw if seen is None else with_seen(raw, np.array(seen, dtype=np.int64).reshape(-1, 2))


def row(number, seconds, label=None):
    x = float(np.sin(number))
    y = 0 if label is None else int(label.random() < 1 / (1 + np.exp(-2 * x)))
    return {"id": float(number), "x": x, "y": y, "time": int(seconds * SECOND)}


def lines(options):
    """A format of one's own: a JSON object a line."""

    def decode(values, columns=None):
        rows, message, number, bad = [], [], [], []
        for i, value in enumerate(values.to_pylist()):
            try:
                found = [json.loads(line) for line in value.decode().splitlines()]
                assert all(isinstance(one, dict) for one in found)
            except (ValueError, AssertionError):
                bad.append(i)
                continue
            rows += found
            message += [i] * len(found)
            number += range(len(found))
        columns = {name: pa.array([one[name] for one in rows], kind) for name, kind in KINDS.items()}
        refused = (Refused("malformed", np.array(bad, np.int64)),) if bad else ()
        return Decoded(pa.record_batch(columns), np.array(message, np.int64), np.array(number, np.int64), refused)

    return decode


class Script(PTransform):
    """A TestStream told in lines: polls at a time (s), and how far the watermark has come (s).

    A timer of this runner does not hold back the time of the step behind it, as it does on engines: so time comes on
    window by window, first to the ms before an end.
    """

    def __init__(self):
        super().__init__()
        self._now = 0
        self._stream = TestStream(coder=coders.BlockCoder())

    def expand(self, pbegin):
        return pbegin | self._stream | Decode("tests.beam.stream.support:lines", {}, ["id", "x", "y", "time"])

    def send(self, seconds, *blocks):
        self._stream.add_elements([TimestampedValue(one, Timestamp(seconds)) for one in blocks])
        return self

    def reach(self, seconds):
        size = SIZE // SECOND
        for end in range((self._now // size + 1) * size, seconds + 1, size):
            for moment in (end * SECOND - 1000, end * SECOND):
                self._stream.advance_watermark_to(Timestamp(micros=moment))
        if seconds % size:
            self._stream.advance_watermark_to(Timestamp(seconds))
        self._now = seconds
        return self

    def end(self, seconds=100):
        self.reach(seconds)
        self._stream.advance_watermark_to_infinity()
        return self


def backlog(polls, a_job):
    """All polls at once and then the end of time, on the in-process runner, whose timers hold back time.

    With one shard: the runner fuses shards, and of fused steps it sends one's timers to another.
    """
    registry = Registry(a_job.registry)
    pipeline = engine.new_pipeline()
    build(pipeline, a_job, registry, read=_Given(polls))
    assert engine.run(pipeline).runner == "FnApiRunner"
    return registry


class _Given(PTransform):
    def __init__(self, polls):
        super().__init__()
        self._emit = Emit([one for _, one in polls], coders.BlockCoder(), [seconds for seconds, _ in polls])

    def expand(self, pbegin):
        raw = pbegin | Impulse() | ParDo(self._emit).with_output_types(Block)
        return raw | Decode("tests.beam.stream.support:lines", {}, ["id", "x", "y", "time"])


def stream(script, a_job, start=None, n_shards=1, registry=None):
    """Run it; give the registry."""
    registry = registry or Registry(a_job.registry)
    pipeline = Pipeline(runner=BundleBasedDirectRunner())
    build(pipeline, a_job, registry, read=script, start=start, n_shards=n_shards)
    assert engine.run(pipeline).runner == "BundleBasedDirectRunner"
    return registry


def versions(registry, name="stream"):
    return [registry.manifest(name, number) for number in registry.versions(name)]


def newest(registry, name="stream"):
    return decode_learner(registry.latest(name).data, find)


def check_ids(learner, ids):
    """Distinct ids: a row lost and another counted twice would shift the sums."""
    ids = np.asarray(ids, dtype=np.float64)
    assert learner.progress.rows == ids.size
    mean = float(learner.state.origin[0] + learner.state.mean[0])
    np.testing.assert_allclose(mean * ids.size, ids.sum(), rtol=1e-12)
    if ids.size > 1:
        np.testing.assert_allclose(float(learner.state.scatter[0, 0]), ((ids - ids.mean()) ** 2).sum(), rtol=1e-9)


def ends(manifest):
    return [one["window_end"] // SECOND for one in manifest.refreshes]


def rejected_records(registry, name="stream"):
    found = registry.objects.walk(f"{name}/rejects")
    return [json.loads(line) for one in found for line in registry.objects.get(one.path).decode().splitlines()]
