"""Claim: state and peak memory do not grow with the rows, and time grows in proportion to them.

K-means (k_max = 100), `linear.Newton` and PCA, each in a fresh process at N and at 10 N generated rows of 30 numbers:

- fit: `fit` over batches that are drawn as they are needed and not kept; drawing is not counted in the time.
- rounds: the rounds driver over Parquet files of 50,000 rows into a new registry, a refresh a round of 100,000 rows.

Peak memory is the process's, interpreter and libraries included; beside it what it rose by while learning. Before that
each process learns from few rows, so that libraries and compiled kernels are loaded. K-means' state breathes: its
centres are halved when there are 20 k_max, so up to 512,000 bytes here. The saved learner also names the files it has
read, some hundred bytes for each unless `source.remember` drops them; the state within it knows nothing of them.

Seconds are the smallest of the repeats, memory the largest. A busy machine stretches the wall time of some runs more
than of others; processor time is steadier, and the last line's ratio is of processor time.

Run: ``python integration/bench/growth.py [--rows 200000] [--repeats 2]``.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench_support import (
    N_FEATURES,
    features,
    generate,
    last_line,
    machine,
    peak_bytes,
    reset_peak,
    write_files,
)

from beam_ml import Batch, fit, kmeans, linear, pca
from beam_ml.algorithms import algorithm_of, find
from beam_ml.artefact.records import decode_learner, encode_learner
from beam_ml.core.arrays import nbytes
from beam_ml.core.learner import Learner
from beam_ml.core.spec import Spec
from beam_ml.registry import Registry

CLAIM = (
    "state and peak memory do not grow with the rows, time grows in proportion (ratio: processor time at 10 N over N)"
)
FACTOR = 10
SEED = 0
BATCH_ROWS, FILE_ROWS, ROUND_ROWS = 16_384, 50_000, 100_000
FEW = 20_000
CASES: dict[str, tuple[Spec, dict[str, Any]]] = {
    "k-means": (kmeans.Spec(n_features=N_FEATURES, k_max=100), {"kind": "clusters", "k": 10}),
    "linear.Newton": (linear.Newton(n_features=N_FEATURES), {"kind": "classifier"}),
    "PCA": (pca.Spec(n_features=N_FEATURES), {"kind": "components", "n_components": 5}),
}


class Clock:
    """Wall and processor seconds since it was made, less what `pause` spans."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Return both."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu

    def pause(self, draw: Callable[[], Any]) -> Any:
        """Call without counting."""
        wall, cpu = time.perf_counter(), time.process_time()
        value = draw()
        self._wall += time.perf_counter() - wall
        self._cpu += time.process_time() - cpu
        return value


def drawn(clock: Clock, rows: int) -> Iterator[Batch]:
    """Draw batches outside the clock."""
    blocks = generate(SEED, rows, BATCH_ROWS)
    while True:
        block = clock.pause(lambda: next(blocks, None))
        if block is None:
            return
        _, X, y = block
        yield Batch.dense(X, label=y)


def by_fit(case: str, rows: int, clock: Clock) -> Learner:
    """Learn through `fit`."""
    return fit(CASES[case][0], drawn(clock, rows))


def by_rounds(case: str, data: Path, registry: Path) -> Learner:
    """Learn through the rounds driver; give the learner that it published."""
    from beam_ml.beam.job import Job
    from beam_ml.beam.rounds import Mode, train

    spec, model = CASES[case]
    job = Job.parse(
        {
            "name": "growth",
            "registry": str(registry),
            "refresh": "round",
            "source": {"path": str(data), "round_rows": ROUND_ROWS},
            "features": {"numeric": features(), "label": "label", "time": "time"},
            "spec": {key: value for key, value in spec.to_dict().items() if key != "n_features"},
            "models": {"model": model},
        }
    )
    store = Registry(str(registry))
    for _ in train(job, store, Mode("once", close=True)):
        pass
    found = store.latest("growth")
    assert found is not None
    return decode_learner(found.data, find)


def child(way: str, case: str, rows: int, folder: Path) -> dict[str, Any]:
    """Measure one run in this process; `folder` holds the files of few rows and of these."""
    with tempfile.TemporaryDirectory() as scratch:
        if way == "fit":
            by_fit(case, FEW, Clock())
        else:
            by_rounds(case, folder / str(FEW), Path(scratch) / "few")
        before = reset_peak()
        clock = Clock()
        learner = (
            by_fit(case, rows, clock) if way == "fit" else by_rounds(case, folder / str(rows), Path(scratch) / "all")
        )
        wall, cpu = clock.read()
        peak = peak_bytes()
    if learner.progress.rows != rows:
        message = f"The learner must have learned from {rows} rows; it has from {learner.progress.rows}."
        raise RuntimeError(message)
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_bytes": peak,
        "rise_bytes": peak - before,
        "state_bytes": nbytes(learner.state),
        "learner_bytes": len(encode_learner(algorithm_of(learner.spec), learner)),
    }


def spawn(way: str, case: str, rows: int, folder: Path) -> dict[str, Any]:
    """Measure one run in a fresh process."""
    command = [sys.executable, __file__, "--child", way, case, str(rows), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(way: str, case: str, rows: int, folder: Path, repeats: int) -> dict[str, Any]:
    """Return the smallest seconds and the largest bytes of the repeats."""
    runs = [spawn(way, case, rows, folder) for _ in range(repeats)]
    return {key: (min if key.endswith("_s") else max)(run[key] for run in runs) for key in runs[0]}


def compare(way: str, case: str, rows: int, folder: Path, repeats: int) -> dict[str, Any]:
    """Print and give the figures at N and at 10 N, and their ratios."""
    sizes = {n: measured(way, case, n, folder, repeats) for n in (rows, FACTOR * rows)}
    print(f"{way}, {case}:")
    for n, one in sizes.items():
        peak, rise = one["peak_bytes"] / 2**20, one["rise_bytes"] / 2**20
        print(
            f"  {n:>10,} rows  {one['wall_s']:7.2f} s  processor {one['cpu_s']:7.2f} s  "
            f"{n / one['wall_s']:>10,.0f} rows/s  peak {peak:6.0f} MiB (rise {rise:5.1f})  "
            f"state {one['state_bytes']:>9,} B  saved learner {one['learner_bytes']:>9,} B"
        )
    at, ten = sizes[rows], sizes[FACTOR * rows]
    ratios = {key: ten[key] / at[key] if at[key] else None for key in at}
    print(
        f"  10 N over N: wall ×{ratios['wall_s']:.1f}, processor ×{ratios['cpu_s']:.1f}, "
        f"peak ×{ratios['peak_bytes']:.2f}, state ×{ratios['state_bytes']:.2f}, "
        f"saved learner ×{ratios['learner_bytes']:.2f}",
        flush=True,
    )
    return {"n": at, "10n": ten, "ratios": ratios}


def main() -> None:
    """Run all and print one JSON line."""
    parser = argparse.ArgumentParser(description=CLAIM)
    parser.add_argument("--rows", type=int, default=200_000, help="N")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each")
    parser.add_argument("--child", nargs=4, metavar=("WAY", "CASE", "ROWS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.child is not None:
        way, case, rows, folder = options.child
        print(json.dumps(child(way, case, int(rows), Path(folder))))
        return
    began = time.perf_counter()
    print(machine())
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for n in {FEW, options.rows, FACTOR * options.rows}:
            (folder / str(n)).mkdir()
            write_files(folder / str(n), SEED, n, FILE_ROWS)
        for way in ("fit", "rounds"):
            for case in CASES:
                results[f"{way}, {case}"] = compare(way, case, options.rows, folder, options.repeats)
    worst = max(results, key=lambda name: results[name]["ratios"]["cpu_s"])
    memory = max(one["ratios"]["peak_bytes"] for one in results.values())
    state = max(one["ratios"]["state_bytes"] for one in results.values())
    print(f"at most: processor time ×{results[worst]['ratios']['cpu_s']:.1f}, peak ×{memory:.2f}, state ×{state:.2f}")
    print(
        last_line(
            CLAIM,
            results[worst]["10n"]["cpu_s"],
            results[worst]["n"]["cpu_s"],
            results[worst]["ratios"]["cpu_s"],
            {"case": worst, "peak_ratio": memory, "state_ratio": state, "cases": results},
            FACTOR * options.rows,
            time.perf_counter() - began,
        )
    )


if __name__ == "__main__":
    main()
