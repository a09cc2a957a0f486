"""PCA by sketch beside scikit-learn's IncrementalPCA: seconds, memory, and the variance that 50 components explain.

Both see each row once, in batches of 1,000 float32 rows, and keep 200 directions; one thread. Wide: generated rows of 10,000
numbers, 100 correlated directions under noise, drawn batch by batch outside the clock. MNIST (784 pixels) where
``../shared/data`` has it, beside exact mode too. Explained is measured on the rows: the squares of their projections, as a
share of their variation (wide) or of what the exact components explain (MNIST; goal at least 0.999). Reported is what the
model says that its components explain, over what they do.
Run: ``python integration/bench/pca_sketch.py [wide rows, default 8000]``.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
from bench_support import last_line, machine, peak_bytes, reset_peak
from sklearn.decomposition import IncrementalPCA

from beam_ml.algorithms import pca
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.batch import Batch
from beam_ml.core.threads import one_thread

DATA = Path(__file__).parents[2].parent / "shared" / "data"
CLAIM = "processor seconds of IncrementalPCA over those of PCA by sketch, rows of 10,000 numbers (ratio: above 1)"
WIDE = 10_000
BATCH_ROWS = 1_000
KEEP = 200
TOP = 50

Batches = Callable[[], Iterator[np.ndarray]]


def wide(rows: int) -> Batches:
    """Return a function that draws the same batches each time."""
    world = np.random.default_rng(0)
    basis = (world.normal(size=(100, WIDE)) * (0.95 ** np.arange(100))[:, None]).astype(np.float32)
    shift = world.normal(size=WIDE).astype(np.float32)

    def draw() -> Iterator[np.ndarray]:
        for block in range(-(-rows // BATCH_ROWS)):
            rng = np.random.default_rng((1, block))
            n = min(BATCH_ROWS, rows - block * BATCH_ROWS)
            x = rng.standard_normal((n, 100), dtype=np.float32) @ basis
            yield x + shift + 2.0 * rng.standard_normal((n, WIDE), dtype=np.float32)

    return draw


def mnist() -> Batches:
    with np.load(DATA / "mnist" / "mnist.npz") as file:
        x = file["x_train"].reshape(-1, 784).astype(np.float32) / np.float32(255)

    def cut() -> Iterator[np.ndarray]:
        return (x[start : start + BATCH_ROWS] for start in range(0, len(x), BATCH_ROWS))

    return cut


def learn(take: Callable[[Any, np.ndarray], Any], start: Any, batches: Batches) -> tuple[Any, dict[str, float]]:
    """Return what comes of all batches, and seconds (elapsed and on the processor), rows a second and the peak of memory."""
    rows, elapsed, cpu = 0, 0.0, 0.0
    held = reset_peak()
    for x in batches():
        began, began_cpu = time.perf_counter(), time.process_time()
        start = take(start, x)
        elapsed += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
        rows += len(x)
    grown = (peak_bytes() - held) / 2**20
    return start, {"s": elapsed, "cpu_s": cpu, "rows_per_cpu_s": rows / cpu, "peak_mib": grown}


def ours(algorithm: Algorithm, spec: pca.Spec, batches: Batches) -> tuple[Any, dict[str, float]]:
    def take(state: Any, x: np.ndarray) -> Any:
        return algorithm.accumulate(spec, state, Batch.dense(x), None)

    return learn(take, algorithm.empty(spec), batches)


def peer(batches: Batches) -> tuple[Any, dict[str, float]]:
    return learn(lambda model, x: model.partial_fit(x), IncrementalPCA(KEEP), batches)


def explained(components: np.ndarray, mean: np.ndarray, batches: Batches) -> tuple[float, float]:
    """Return the rows' variation along the components, and in all."""
    along, whole = 0.0, 0.0
    for x in batches():
        z = x - mean
        along += float(np.square(z @ components.T).sum())
        whole += float(np.square(z).sum())
    return along, whole


def shares(name: str, batches: Batches, d: int, shards: int = 4) -> dict[str, dict[str, float]]:
    """Print and give the figures of ours and of the peer."""
    spec = pca.Spec(n_features=d, mode="sketch", sketch_rows=KEEP)
    state, found = ours(pca.PCA_SKETCH, spec, batches)
    began = time.process_time()
    model = pca.PCA_SKETCH.models["components"].derive(spec, pca.Components(n_components=TOP), state, None)
    found["derive_cpu_s"] = time.process_time() - began
    along, whole = explained(model.components, model.mean, batches)
    found |= {"explained": along / whole, "reported": float(np.sum(model.singular_values**2)) / along}
    other, compared = peer(batches)
    along, whole = explained(other.components_[:TOP], other.mean_, batches)
    said = float(np.sum(np.square(other.singular_values_[:TOP])))
    compared |= {"explained": along / whole, "reported": said / along}
    table = {"sketch": found, "IncrementalPCA": compared}
    if d < WIDE:
        exact_spec = pca.Spec(n_features=d)
        moments, exact = ours(pca.PCA, exact_spec, batches)
        best = pca.PCA.models["components"].derive(exact_spec, pca.Components(n_components=TOP), moments, None)
        top = float(np.sum(best.singular_values**2))
        exact |= {"explained": top / whole, "reported": 1.0}
        parts = [list(batches())[i::shards] for i in range(shards)]
        states = [ours(pca.PCA_SKETCH, spec, partial(iter, part))[0] for part in parts]
        merged = reduce(partial(pca.PCA_SKETCH.merge, spec), states)
        joint = pca.PCA_SKETCH.models["components"].derive(spec, pca.Components(n_components=TOP), merged, None)
        table["exact"] = exact
        for row in table.values():
            row["of_exact"] = row["explained"] * whole / top
        found[f"of_exact_{shards}_shards"] = explained(joint.components, joint.mean, batches)[0] / top
    for who, row in table.items():
        print(f"{name:6} {who:14} " + ", ".join(f"{key} {value:.6g}" for key, value in row.items()), flush=True)
    return table


def main(rows: int) -> None:
    print(machine())
    began = time.perf_counter()
    with one_thread():
        found = shares("wide", wide(rows), WIDE)
        quality: dict[str, Any] = {"wide": found["sketch"]["explained"] / found["IncrementalPCA"]["explained"]}
        if (DATA / "mnist" / "mnist.npz").exists():
            table = shares("mnist", mnist(), 784)
            quality["mnist_of_exact"] = table["sketch"]["of_exact"]
        else:
            print(f"mnist: not measured, {DATA / 'mnist'} is absent")
    seconds = {who: round(row["cpu_s"], 2) for who, row in found.items()}
    ratio = round(seconds["IncrementalPCA"] / seconds["sketch"], 2)
    elapsed = round(time.perf_counter() - began, 1)
    print(last_line(CLAIM, seconds["sketch"], seconds["IncrementalPCA"], ratio, quality, rows, elapsed))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8_000)
