"""Claim: rounds on Flink use the cores that they are given: parallelism 2 over 1, from Parquet to a published model.

Each case of `cores.py` whose partials merge (k-means, Newton, PCA) learns the same files in rounds that are jobs of an
embedded Flink, with one worker process of one thread per parallel copy. A job costs seconds whatever it reads: its worker
starts, Flink plans. So the same is done with few rows, and both are reported: the whole time, and what the rows took beyond
the few. The quality of both models stands beside the seconds.

Run: ``PYTHONPATH=integration python integration/bench/flink_cores.py [--rows 4000000] [--repeats 2]``. It skips where Flink
cannot be had.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_support import draw, last_line, machine, skipped_line, write_files
from cores import CASES, HELD_OUT, job_of, quality
from services.flink import Flink, flink, worker_pool
from services.support import Unavailable

from beam_ml.beam.rounds import Mode, train
from beam_ml.core.threads import VARIABLE
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry

CLAIM = "rounds on Flink, parallelism 2 over 1 on two cores, from Parquet to a model: at least 1.7 times as fast"
COPIES = (1, 2)
FEW = 20_000


def learned(name: str, data: Path, rows: int, folder: Path, engine: Flink, pool: Any, copies: int) -> tuple[float, Any]:
    """Train on Flink into a new registry; return the seconds and the newest model."""
    spec, model, refresh, _ = CASES[name]
    registry = folder / "registry"
    shutil.rmtree(registry, ignore_errors=True)
    job, store = job_of(spec, model, refresh, data, rows, registry), Registry(str(registry))
    options = engine.options(parallelism=copies, workers=pool, sdk_worker_parallelism=copies)
    begun = time.perf_counter()
    for _ in train(job, store, Mode("once", close=True), options):
        pass
    return time.perf_counter() - begun, Predictor(store, "bench").model


def measured(given: argparse.Namespace, folder: Path, engine: Flink, pool: Any) -> dict[str, dict[str, Any]]:
    """Return seconds and losses by case."""
    few, data, found = folder / "few", folder / "data", {}
    for where, rows, file_rows in ((few, FEW, FEW // 2), (data, given.rows, given.rows // 8)):
        where.mkdir()
        write_files(where, 0, rows, file_rows)
    X, y = draw(0, given.rows, HELD_OUT)
    for name in ("k-means, k_max=100", "newton", "pca"):
        whole: dict[int, list[float]] = {copies: [] for copies in COPIES}
        fixed: dict[int, list[float]] = {copies: [] for copies in COPIES}
        losses = {}
        for _ in range(given.repeats):
            for copies in COPIES:
                fixed[copies].append(learned(name, few, FEW, folder, engine, pool, copies)[0])
                seconds, model = learned(name, data, given.rows, folder, engine, pool, copies)
                whole[copies].append(seconds)
                losses[copies] = quality(name, model, X, y)
        one, two = (float(np.median(whole[copies])) for copies in COPIES)
        few_one, few_two = (float(np.median(fixed[copies])) for copies in COPIES)
        ratio, beyond = one / two, (one - few_one) / (two - few_two)
        print(
            f"{name:20s} {given.rows:,} rows: parallelism 1 {one:.2f} s ({few_one:.2f} s for {FEW:,} rows), 2 {two:.2f} s "
            f"({few_two:.2f} s): {ratio:.2f} times as fast, {beyond:.2f} beyond the few; "
            f"loss {losses[1]:.5f} and {losses[2]:.5f}",
            flush=True,
        )
        found[name] = {
            "seconds": [one, two],
            "few": [few_one, few_two],
            "faster": ratio,
            "beyond": beyond,
            "loss": losses,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    print(machine())
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        try:
            with flink(folder / "flink") as engine, worker_pool(folder / "pool", **{VARIABLE: "1"}) as pool:
                found = measured(given, folder, engine, pool)
        except Unavailable as why:
            print(skipped_line(CLAIM, str(why)))
            return
    worst = min(found, key=lambda name: found[name]["beyond"])
    one, two = found[worst]["seconds"]
    print(last_line(CLAIM, two, one, round(found[worst]["beyond"], 3), found, given.rows, time.perf_counter() - began))


if __name__ == "__main__":
    main()
