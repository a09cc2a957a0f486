"""Rows a second of kmeans (k_max=100) beside scikit-learn's MiniBatchKMeans (100 clusters) on 30 features.

Both read the same batches in one thread, in turns: a million rows from nothing ("first"), and the same rows once more on
top ("going on"), which is what a long stream costs. The best of the repeats counts, in CPU seconds (the load of the machine
hardly shows) and in wall seconds. Ours ends with the coreset that gives any k up to 100, the peer with one model; the sum
of squares of both at k=100 after the first million stands beside the time, and the seconds that ours takes to derive.
Run: ``python integration/bench/kmeans_speed.py``.
"""

import time
from typing import Any

import numpy as np
from bench_support import last_line, machine
from sklearn.cluster import MiniBatchKMeans

from beam_ml.algorithms import kmeans
from beam_ml.core.batch import Batch
from beam_ml.core.threads import one_thread

ROWS, D, K = 1_000_000, 30, 100
REPEATS = 3
SIZES = (4_096, 16_384, 65_536)
PHASES = ("first", "going on")
KIND = kmeans.KMEANS.models["clusters"]
SPEC = kmeans.Spec(n_features=D, k_max=K)


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 3.0 * rng.normal(size=(K, D))
    return centres[rng.integers(0, K, ROWS)] + rng.normal(size=(ROWS, D)) * rng.lognormal(size=(ROWS, 1), sigma=0.5)


def ours(x: np.ndarray, size: int, state: kmeans.Partial | None) -> kmeans.Partial:
    state = kmeans.KMEANS.empty(SPEC) if state is None else state
    for start in range(0, len(x), size):
        state = kmeans.KMEANS.accumulate(SPEC, state, Batch.dense(x[start : start + size]), None)
    return state


def peer(x: np.ndarray, size: int, model: MiniBatchKMeans | None) -> MiniBatchKMeans:
    model = MiniBatchKMeans(K, n_init=1, random_state=0) if model is None else model
    for start in range(0, len(x), size):
        model.partial_fit(x[start : start + size])
    return model


def sse_ours(x: np.ndarray, state: kmeans.Partial) -> tuple[float, float]:
    start = time.perf_counter()
    model = KIND.derive(SPEC, kmeans.Clusters(k=K), state, None)
    return float(KIND.measure(model, Batch.dense(x)).squared), time.perf_counter() - start


def compared(x: np.ndarray, size: int) -> tuple[dict[tuple[str, str], tuple[float, float]], float, float]:
    """Return the least CPU and wall seconds by learner and phase, the ratio of the sums of squares, seconds to derive."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    ratio = deriving = 0.0
    for _ in range(REPEATS):
        learned: dict[str, Any] = {"ours": None, "peer": None}
        for phase in PHASES:
            for name, learn in (("ours", ours), ("peer", peer)):
                cpu, wall = time.process_time(), time.perf_counter()
                learned[name] = learn(x, size, learned[name])
                taken = time.process_time() - cpu, time.perf_counter() - wall
                times.setdefault((name, phase), []).append(taken)
            if phase == "first":
                sse, deriving = sse_ours(x, learned["ours"])
                ratio = sse / -float(learned["peer"].score(x))
    best = {key: (min(cpu for cpu, _ in t), min(wall for _, wall in t)) for key, t in times.items()}
    return best, ratio, deriving


def main() -> None:
    print(machine())
    began = time.perf_counter()
    table = rows()
    speeds: dict[str, dict[str, int]] = {"ours": {}, "peer": {}}
    ratios: dict[str, float] = {}
    quality: dict[str, float] = {}
    with one_thread():
        for dtype in (np.float64, np.float32):
            x = table.astype(dtype)
            for size in SIZES:
                best, sse_ratio, deriving = compared(x, size)
                for phase in PHASES:
                    key = f"{np.dtype(dtype)} batch={size} {phase}"
                    (cpu, wall), (peer_cpu, peer_wall) = best["ours", phase], best["peer", phase]
                    speeds["ours"][key], speeds["peer"][key] = round(ROWS / cpu), round(ROWS / peer_cpu)
                    ratios[key] = round(peer_cpu / cpu, 3)
                    print(
                        f"{key:31} ours {ROWS / cpu:>9,.0f} rows/s of CPU ({ROWS / wall:>9,.0f} wall), MiniBatchKMeans "
                        f"{ROWS / peer_cpu:>9,.0f} ({ROWS / peer_wall:>9,.0f} wall): {ratios[key]:.2f}x",
                        flush=True,
                    )
                quality[f"{np.dtype(dtype)} batch={size}"] = round(sse_ratio, 4)
                print(f"{'':31} sse ours / peer {sse_ratio:.4f}; derive and measure {deriving:.2f} s")
    claim = (
        "rows a second of CPU at d=30, k_max=100 over MiniBatchKMeans.partial_fit; ratio: the least; quality: sse ratio"
    )
    seconds = round(time.perf_counter() - began, 1)
    least = min(ratios.values())
    print(last_line(claim, speeds["ours"], speeds["peer"], least, quality, ROWS, seconds, ratios=ratios))


if __name__ == "__main__":
    main()
