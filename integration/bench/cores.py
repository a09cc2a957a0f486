"""Claim: a trainer of files uses the cores that it has: two over one, from Parquet to a published model.

K-means, Newton, PCA, AdaGrad and FM learn the same rows with `train(threads=1)` and with as many cores as there are (2 at
most unless told otherwise), in turns, each from the files to versions. K-means, Newton and PCA take all rows in one round;
the gradient learners learn windows of a day in order, in rounds of all rows. The first run of several cores is reported by
itself: no process of the pool is there then, and threads share the round. The later ones have the processes, which a trainer
keeps from round to round; their processor time is counted, their start is not. The measure of quality of both models stands
beside the seconds: it differs by what the law allows, since rows are shared out differently.

Run: ``python integration/bench/cores.py [--rows 6000000] [--threads 2] [--repeats 3]``.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bench_support import N_FEATURES, Clock, draw, features, last_line, machine, write_files
from sklearn.metrics import log_loss

from beam_ml import Batch, fm, kmeans, linear, pca, predict
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.beam.rounds.pool.processes import pool
from beam_ml.beam.rounds.pool.sharing import START_AFTER_S
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.core.threads import cores
from beam_ml.kernels.kmeans.nearest import nearest
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry

CLAIM = "two cores over one, from Parquet to a model: at least 1.7 times as fast"
HELD_OUT = 50_000
CASES: dict[str, tuple[Spec, ModelSpec, str, float]] = {
    # spec, model, refresh, share of the rows
    "k-means, k_max=100": (kmeans.Spec(n_features=N_FEATURES, k_max=100), kmeans.Clusters(k=10), "round", 1.0),
    "newton": (linear.Newton(n_features=N_FEATURES), linear.Classifier(), "round", 1.0),
    "pca": (pca.Spec(n_features=N_FEATURES), pca.Components(n_components=5), "round", 1.0),
    "adagrad": (linear.AdaGrad(n_features=N_FEATURES), linear.Classifier(), "1d", 0.5),
    "fm": (fm.Spec(n_features=N_FEATURES), fm.Classifier(), "1d", 0.25),
}


def job_of(spec: Spec, model: ModelSpec, refresh: str, data: Path, rows: int, registry: Path) -> Job:
    """Return the job that learns the rows of a folder, as many per round at most."""
    settings = {key: value for key, value in spec.to_dict().items() if key != "n_features"}
    return Job.parse(
        {
            "name": "bench",
            "registry": str(registry),
            "refresh": refresh,
            "source": {"path": str(data), "round_rows": rows},
            "features": {"numeric": features(), "label": "label", "time": "time"},
            "spec": settings,
            "models": {"model": model.to_dict()},
        }
    )


def learned(spec: Spec, model: ModelSpec, refresh: str, data: Path, rows: int, registry: Path, threads: int) -> Any:
    """Train into a new registry; return the newest model."""
    shutil.rmtree(registry, ignore_errors=True)
    job, store = job_of(spec, model, refresh, data, rows, registry), Registry(str(registry))
    for _ in train(job, store, Mode("once", close=True), threads=threads):
        pass
    return Predictor(store, "bench").model


def pool_cpu_s() -> float:
    """Return the processor seconds that the processes of the pool have taken."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids)


def quality(name: str, model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Return the mean square to the closest centre, the share of variance lost, or the log loss, on held-out rows."""
    if name.startswith("k-means"):
        centres = np.ascontiguousarray(model.arrays.centres, dtype=np.float64)
        return float(nearest(X.astype(np.float64), centres)[1].mean())
    if name == "pca":
        centred = X - X.mean(axis=0)
        return float(1 - np.sum((centred @ model.arrays.components.T) ** 2) / np.sum(centred**2))
    return float(log_loss(y, predict(model, Batch.dense(X))["score"]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=6_000_000)
    parser.add_argument("--threads", type=int, default=min(2, cores()))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=sorted(CASES))
    given = parser.parse_args()
    print(machine())
    began = time.perf_counter()
    ratios, found, seconds = {}, {}, {}
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        few = folder / "few"
        few.mkdir()
        write_files(few, 0, 20_000, 10_000)
        X, y = draw(0, given.rows, HELD_OUT)
        for name, (spec, model, refresh, share) in CASES.items():
            if given.only not in (None, name):
                continue
            rows = max(8, int(given.rows * share))
            data = folder / f"data {rows}"
            if not data.exists():
                data.mkdir()
                write_files(data, 0, rows, rows // 8)
            counts = (1, given.threads)
            for threads in counts:
                learned(spec, model, refresh, few, 20_000, folder / "registry", threads)
            pool.end()
            pool.shared_s, first = 0.0, Clock()
            with first.running():
                learned(spec, model, refresh, data, rows, folder / "registry", given.threads)
            pool.start(given.threads)
            pool.wait(120.0)
            pool.shared_s = START_AFTER_S
            learned(spec, model, refresh, data, rows, folder / "registry", given.threads)  # its processes load kernels
            clocks: dict[int, list[Clock]] = {threads: [] for threads in counts}
            for _ in range(given.repeats):
                for threads in counts:
                    clock, before = Clock(), pool_cpu_s()
                    with clock.running():
                        got = learned(spec, model, refresh, data, rows, folder / "registry", threads)
                    clock.cpu += pool_cpu_s() - before
                    clocks[threads].append(clock)
                    found[f"{name}, {threads}"] = quality(name, got, X, y)
            walls = {threads: float(np.median([one.wall for one in some])) for threads, some in clocks.items()}
            ratios[name], seconds[name] = walls[1] / walls[given.threads], walls
            cpu = {threads: float(np.median([one.cpu for one in some])) for threads, some in clocks.items()}
            losses = [found[f"{name}, {threads}"] for threads in counts]
            print(
                f"{name:20s} {rows:,} rows: 1 core {walls[1]:.2f} s (CPU {cpu[1]:.2f}), {given.threads} cores "
                f"{walls[given.threads]:.2f} s (CPU {cpu[given.threads]:.2f}): {ratios[name]:.2f} times as fast, the first "
                f"run {walls[1] / first.wall:.2f}; "
                f"loss {losses[0]:.5f} and {losses[1]:.5f}",
                flush=True,
            )
    worst = min(ratios, key=ratios.__getitem__)
    print(
        last_line(
            CLAIM, seconds[worst][given.threads], seconds[worst][1], round(ratios[worst], 3),
            {"faster": ratios, "loss": found}, given.rows, time.perf_counter() - began,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
