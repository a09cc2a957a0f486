"""What Beam costs: seconds of the in-process pipeline over seconds of the bare `accumulate` loop on the same batches.

Both get decoded batches of 65,536 × 30 float32 (made before the clock starts, each sent through several times under its
own positions). The pipeline cuts them by window, admits, accumulates, counts progress, samples and merges, its start
included; the loop only calls the algorithm. The same chain fed with column blocks stands beside it, over a loop that makes
the batches with the same features.
Run: ``python integration/bench/beam_tax.py [millions of rows]``.
"""

import functools
import json
import logging
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
from apache_beam import DoFn, Impulse, ParDo
from apache_beam.typehints import with_output_types

from beam_ml import Registry, fit, kmeans, linear, pca
from beam_ml.algorithms import algorithm_of
from beam_ml.artefact.records import encode_learner
from beam_ml.beam import Accumulate, AnchorRef, Merge, SliceByWindow, ToBatches, engine
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.spec import Spec
from beam_ml.core.threads import one_thread
from beam_ml.core.windows import Windows
from beam_ml.features import Features
from beam_ml.formats import Block
from beam_ml.registry import new_round_id

ROWS, D, DISTINCT = 65_536, 30, 8
GOAL = 1.2
HOUR_US = 3_600_000_000
NAMES = [f"x{j}" for j in range(D)]
FEATURES = Features(numeric=NAMES, label="y", time={"column": "t", "unit": "us"})


@functools.cache
def arrays(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one batch: clustered, correlated features, a binary label, event times within the hour."""
    rng = np.random.default_rng(i)
    centres = np.random.default_rng(99).normal(size=(20, D)) * 2.0
    x = (rng.normal(size=(ROWS, D)) + centres[rng.integers(0, 20, ROWS)]).astype(np.float32)
    y = (rng.random(ROWS) < 1.0 / (1.0 + np.exp(-x[:, :5].sum(axis=1) * 0.3))).astype(np.float64)
    return x, y, np.sort(rng.integers(0, HOUR_US, ROWS))


@functools.cache
def block(i: int) -> pa.RecordBatch:
    x, y, t = arrays(i)
    columns = {name: np.ascontiguousarray(x[:, j]) for j, name in enumerate(NAMES)}
    return pa.record_batch(columns | {"y": y, "t": t})


@functools.cache
def place() -> np.ndarray:
    return np.arange(ROWS, dtype=np.int64)


def batch_of(i: int) -> Batch:
    x, y, t = arrays(i % DISTINCT)
    return Batch.dense(x, y, None, t, Origin("bench", str(i)), place())


def block_of(i: int) -> Block:
    return Block(block(i % DISTINCT), Origin("bench", str(i)), place(), None, 0, ROWS)


@with_output_types(Batch)
class Batches(DoFn):
    def __init__(self, n: int) -> None:
        self._n = n

    def process(self, element):
        for i in range(self._n):
            yield batch_of(i)


@with_output_types(Block)
class Blocks(DoFn):
    def __init__(self, n: int) -> None:
        self._n = n

    def process(self, element):
        for i in range(self._n):
            yield block_of(i)


class Keep(DoFn):
    def process(self, element: tuple[int, Accumulation]):
        found.append(element[1])


found: list[Accumulation] = []


def clock() -> np.ndarray:
    """Wall and CPU seconds: on a machine that others use, the second tells more."""
    return np.array([time.perf_counter(), time.process_time()])


def pipeline_s(spec: Spec, n: int, anchor: AnchorRef | None, from_blocks: bool) -> np.ndarray:
    """Run the chain; give its seconds (wall, CPU) and check that it saw every row."""
    found.clear()
    began = clock()
    pipeline = engine.new_pipeline()
    start = pipeline | Impulse()
    batches = (start | ParDo(Blocks(n)) | ToBatches(FEATURES)) if from_blocks else start | ParDo(Batches(n))
    merged = batches | SliceByWindow(Windows(HOUR_US)) | Accumulate(spec, anchor) | Merge(spec)
    merged | ParDo(Keep())
    ran = engine.run(pipeline)
    seconds = clock() - began
    assert ran.runner == "FnApiRunner"
    assert sum(one.progress.rows for one in found) == n * ROWS
    return seconds


def loop_s(spec: Spec, n: int, anchor: object, from_blocks: bool) -> np.ndarray:
    """Run the bare kernel loop; give its seconds (wall, CPU)."""
    algorithm = algorithm_of(spec)
    began = clock()
    partial = algorithm.empty(spec)
    for i in range(n):
        batch = FEATURES.to_batch(block_of(i))[0] if from_blocks else batch_of(i)
        partial = algorithm.accumulate(spec, partial, batch, anchor)
    return clock() - began


def anchored(spec: Spec, where: str) -> tuple[AnchorRef | None, object]:
    """Store a learner to start from, where the algorithm wants an anchor."""
    algorithm = algorithm_of(spec)
    if algorithm.anchor_type is None:
        return None, None
    learner = fit(spec, [batch_of(0)])
    name = spec.algorithm.replace(".", "-")
    data = {"learner": encode_learner(algorithm, learner)}
    version = Registry(where).publish(name, data, parent=None, round_id=new_round_id(0)).number
    return AnchorRef(where, name, version), algorithm.anchor(spec, learner.state)


def main() -> None:
    logging.disable(logging.WARNING)
    n = max(1, int(float(sys.argv[1] if len(sys.argv) > 1 else 32) * 1e6) // ROWS)
    specs = {
        "linear.newton": linear.Newton(n_features=D),
        "kmeans": kmeans.Spec(n_features=D, k_max=100),
        "pca": pca.Spec(n_features=D),
    }
    for i in range(DISTINCT):
        arrays(i), block(i)
    print(f"{n} batches of {ROWS:,} × {D} float32, one thread; median of 3, alternating, Beam's start included")
    ratios, seconds = {}, {}
    with tempfile.TemporaryDirectory() as where, one_thread():
        for name, spec in specs.items():
            reference, anchor = anchored(spec, where)
            for from_blocks in (False, True):
                pipeline_s(spec, 1, reference, from_blocks)
                loop_s(spec, 1, anchor, from_blocks)
                pairs = np.array(
                    [
                        (pipeline_s(spec, n, reference, from_blocks), loop_s(spec, n, anchor, from_blocks))
                        for _ in range(3)
                    ]
                )
                (ours, our_cpu), (bare, bare_cpu) = np.median(pairs, axis=0)
                label = f"{name} from {'blocks' if from_blocks else 'batches'}"
                ratios[label], seconds[label] = our_cpu / bare_cpu, (ours, bare)
                print(
                    f"{label:27s} pipeline {ours:6.2f} s ({n * ROWS / ours / 1e6:5.2f} M rows/s), loop {bare:6.2f} s, "
                    f"ratio {ours / bare:.3f}; of CPU seconds {our_cpu / bare_cpu:.3f}",
                    flush=True,
                )
    worst = max((label for label in ratios if label.endswith("batches")), key=ratios.__getitem__)
    ours, bare = seconds[worst]
    print(
        json.dumps(
            {
                "claim": f"the in-process pipeline takes at most {GOAL} × the CPU seconds of the bare kernel loop",
                "ours": round(float(ours), 3),
                "peer": round(float(bare), 3),
                "ratio": round(float(ratios[worst]), 3),
                "quality": {label: round(float(value), 3) for label, value in ratios.items()},
                "rows": n * ROWS,
                "seconds": round(float(sum(a + b for a, b in seconds.values())), 1),
            }
        )
    )


if __name__ == "__main__":
    # Beam pickles what lives in __main__ by value, arrays included; from here it is imported by name.
    import beam_tax

    beam_tax.main()
