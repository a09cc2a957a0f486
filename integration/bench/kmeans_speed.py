"""Rows a second of kmeans (k_max=100) beside scikit-learn's MiniBatchKMeans (100 clusters) on 30 features.

Both read the same batches once, in one thread, in turns; the best of the repeats counts, in CPU seconds (the load of the
machine does not show) and in wall seconds. Ours ends with the coreset that gives any k up to 100, the peer with one model;
the sum of squares of both at k=100 stands beside the time, and the seconds that ours takes to derive.
Run: ``python integration/bench/kmeans_speed.py``.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_support import last_line, machine
from sklearn.cluster import MiniBatchKMeans

from beam_ml.algorithms import kmeans
from beam_ml.core.batch import Batch
from beam_ml.core.threads import one_thread

ROWS, D, K = 1_000_000, 30, 100
REPEATS = 3
KIND = kmeans.KMEANS.models["clusters"]
SPEC = kmeans.Spec(n_features=D, k_max=K)


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 3.0 * rng.normal(size=(K, D))
    return centres[rng.integers(0, K, ROWS)] + rng.normal(size=(ROWS, D)) * rng.lognormal(size=(ROWS, 1), sigma=0.5)


def ours(x: np.ndarray, size: int) -> kmeans.Partial:
    state = kmeans.KMEANS.empty(SPEC)
    for start in range(0, len(x), size):
        state = kmeans.KMEANS.accumulate(SPEC, state, Batch.dense(x[start : start + size]), None)
    return state


def peer(x: np.ndarray, size: int) -> MiniBatchKMeans:
    model = MiniBatchKMeans(K, n_init=1, random_state=0)
    for start in range(0, len(x), size):
        model.partial_fit(x[start : start + size])
    return model


def best(calls: dict[str, Callable[[], Any]]) -> tuple[dict[str, tuple[float, float]], dict[str, Any]]:
    """Run the calls in turns; give each one's least CPU and wall seconds, and its last result."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    results = {}
    for _ in range(REPEATS):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            results[name] = call()
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: (min(c for c, _ in t), min(w for _, w in t)) for name, t in times.items()}, results


def main() -> None:
    print(machine())
    began = time.perf_counter()
    table = rows()
    speeds: dict[str, dict[str, float]] = {"ours": {}, "peer": {}}
    ratios, quality = {}, {}
    with one_thread():
        ours(table[:50_000], 16_384)
        for dtype in (np.float64, np.float32):
            x = table.astype(dtype)
            for size in (4_096, 16_384, 65_536):
                took, found = best({"ours": lambda x=x, b=size: ours(x, b), "peer": lambda x=x, b=size: peer(x, b)})
                start = time.perf_counter()
                model = KIND.derive(SPEC, kmeans.Clusters(k=K), found["ours"], None)
                deriving = time.perf_counter() - start
                batch = Batch.dense(x)
                sse = {
                    "ours": float(KIND.measure(model, batch).squared),
                    "peer": -float(found["peer"].score(x)),
                }
                key = f"{np.dtype(dtype)} batch={size}"
                for name in ("ours", "peer"):
                    speeds[name][key] = round(ROWS / took[name][0])
                ratios[key] = took["peer"][0] / took["ours"][0]
                quality[key] = round(sse["ours"] / sse["peer"], 4)
                print(
                    f"{key:22} ours {speeds['ours'][key]:>9,} rows/s of CPU ({ROWS / took['ours'][1]:>9,.0f} wall), "
                    f"MiniBatchKMeans {speeds['peer'][key]:>9,} ({ROWS / took['peer'][1]:>9,.0f} wall): "
                    f"{ratios[key]:.2f}x; sse ours / peer {quality[key]:.4f}; derive {deriving:.2f} s",
                    flush=True,
                )
    claim = "rows a second of CPU at d=30, k_max=100 over MiniBatchKMeans.partial_fit; ratio: least of the batch sizes"
    seconds = round(time.perf_counter() - began, 1)
    print(last_line(claim, speeds["ours"], speeds["peer"], round(min(ratios.values()), 3), quality, ROWS, seconds))


if __name__ == "__main__":
    main()
