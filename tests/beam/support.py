"""What the pipeline tests share: rows, runners, and a way to see what came out."""

import json
import uuid
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_ml.beam import engine
from beam_ml.beam.wire import coders
from beam_ml.core.batch import Batch, Origin

RUNNERS = {"FnApiRunner": FnApiRunner, "BundleBasedDirectRunner": BundleBasedDirectRunner}
MINUTE = 60_000_000


def make_batch(first: int, n: int, d: int = 3, seed: int = 0, label: bool = False, source: str = "s") -> Batch:
    """Rows `first` … of one endless sequence: the same row has the same values however it is batched; one a second."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d))
    place = np.arange(first, first + n)
    x = np.stack([np.sin(place * (j + 1.3) + seed) for j in range(d)], axis=1) @ mix
    y = (np.cos(place * 0.7) + x[:, 0] > 0).astype(float) if label else None
    return Batch.dense(x, y, None, place * 1_000_000, Origin(source, "0"), place)


def batches(n_rows: int, size: int = 40, **kwargs) -> list[Batch]:
    return [make_batch(at, min(size, n_rows - at), **kwargs) for at in range(0, n_rows, size)]


class Emit(beam.DoFn):
    """Impulse → elements decoded from bytes: nothing pickled on the way in."""

    def __init__(self, values, coder, timestamps=None):
        self._data = [coder.encode(value) for value in values]
        self._coder, self._timestamps = type(coder), timestamps

    def process(self, element):
        coder = self._coder()
        for i, data in enumerate(self._data):
            value = coder.decode(data)
            if self._timestamps is None:
                yield value
            else:
                yield beam.window.TimestampedValue(value, self._timestamps[i])


def create(pipeline, values, kind=Batch, coder=None, timestamps=None, label="Emit"):
    """A typed PCollection of these elements."""
    fn = Emit(values, coder or coders.BatchCoder(), timestamps)
    return pipeline | f"{label}Impulse" >> beam.Impulse() | label >> beam.ParDo(fn).with_output_types(kind)


class Store(beam.DoFn):
    """Writes each element to a file of its own: what a test sees must have left the pipeline."""

    def __init__(self, folder, coder):
        self._folder, self._coder = folder, type(coder)

    def process(self, element, window=beam.DoFn.WindowParam):
        key, value = element if isinstance(element, tuple) else ("", element)
        end = None if isinstance(window, beam.window.GlobalWindow) else window.end.micros
        start = None if isinstance(window, beam.window.GlobalWindow) else window.start.micros
        stem = Path(self._folder) / uuid.uuid4().hex
        stem.with_suffix(".bin").write_bytes(self._coder().encode(value))
        note = {"key": key if not isinstance(key, bytes) else key.decode("latin1"), "window": [start, end]}
        stem.with_suffix(".json").write_text(json.dumps(note))


class Seen:
    """A folder of stored elements."""

    def __init__(self, folder, coder):
        self.folder, self.coder = Path(folder), coder
        self.folder.mkdir(parents=True, exist_ok=True)

    def sink(self, label="Store"):
        return label >> beam.ParDo(Store(str(self.folder), self.coder))

    def items(self):
        """(key, window [start, end], element), in order of key and window."""
        found = []
        for note in self.folder.glob("*.json"):
            told = json.loads(note.read_text())
            found.append((told["key"], tuple(told["window"]), self.coder.decode(note.with_suffix(".bin").read_bytes())))
        return sorted(found, key=lambda item: (str(item[0]), str(item[1])))

    def values(self):
        return [value for _, _, value in self.items()]

    def one(self):
        (value,) = self.values()
        return value


def ran(pipeline) -> str:
    """Run; give the name of the runner that did."""
    return engine.run(pipeline).runner
