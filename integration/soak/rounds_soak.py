"""Rounds on Kafka for ten minutes: does anything grow? Memory, processor, threads, files, learner, manifests, lag.

The set-up is that of `integration/bench/refresh_lag.py`: a steady producer of 20,000 rows/s, windows of 5 s, the trainer as
a process of its own. Memory is flat when the last third's mean is within 5 % of the middle third's. Beside it stands the
slope of a straight line through the second half of the looks, as the share of the mean that an hour would add, with its
standard error: ten minutes show no more than that. What must be exact is compared at the end; a difference is an error.

Run: ``PYTHONPATH=integration:integration/bench python integration/soak/rounds_soak.py [--seconds 600]``.
The last line is one JSON object.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_support import last_line, machine, skipped_line
from refresh_lag import NAME, SLACK_S, WINDOW_S, Look, Watched, lags, report, run
from services.kafka import kafka
from services.support import Unavailable

from beam_ml.registry import Registry

CLAIM = "rounds on Kafka run steadily: the trainer's memory in the last third is within 5 % of the middle third's"
GOAL = 1.05


def slope(at_s: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Fit a line through the second half; give the mean, and how much of it is gained in an hour, with its error.

    Args:
        at_s: (n,) s.
        values: (n,) of anything.
    """
    late = at_s >= (at_s[0] + at_s[-1]) / 2
    x, y = at_s[late] - at_s[late].mean(), values[late].astype(np.float64)
    per_s = float(x @ (y - y.mean()) / (x @ x))
    left = y - y.mean() - per_s * x
    error = float(np.sqrt(left @ left / max(len(y) - 2, 1) / (x @ x)))
    mean = float(y.mean())
    scale = 3600.0 / mean if mean else 0.0
    return {"mean": mean, "per_hour": 3600.0 * per_s, "per_hour_share": per_s * scale, "error_share": error * scale}


def growth(registry: Path, watched: Watched) -> dict[str, dict[str, float]]:
    """Return the slopes of all that could grow while the producer ran."""
    began, ended = watched.produced["began_us"] / 1e6, watched.produced["ended_us"] / 1e6
    looks = [one for one in watched.looks if began <= one.at_s <= ended]
    at_s = np.array([one.at_s for one in looks])
    of: dict[str, Callable[[Look], float]] = {
        "rss_bytes": lambda one: one.rss_bytes, "threads": lambda one: one.threads, "files": lambda one: one.files,
    }  # fmt: skip
    found = {name: slope(at_s, np.array([value(one) for one in looks])) for name, value in of.items()}
    tens = [looks[i] for i in range(0, len(looks), 10)]
    cores = [(b.cpu_s - a.cpu_s) / (b.at_s - a.at_s) for a, b in itertools.pairwise(tens)]
    found["cores"] = slope(np.array([one.at_s for one in tens[1:]]), np.array(cores))
    store = Registry(registry)
    versions = [(at, number) for number, at in sorted(watched.found.items()) if began <= at <= ended]
    learners, manifests = [], []
    for _, number in versions:
        learners.append(store.manifest(NAME, number).files["learner"].bytes)
        manifests.append((registry / NAME / f"v{number}" / "manifest.json").stat().st_size)
    version_at = np.array([at for at, _ in versions])
    found["learner_bytes"] = slope(version_at, np.array(learners))
    found["manifest_bytes"] = slope(version_at, np.array(manifests))
    return found


def main() -> None:
    """Run and print one JSON line."""
    parser = argparse.ArgumentParser(description=CLAIM)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rows-per-second", type=float, default=20_000)
    options = parser.parse_args()
    began = time.perf_counter()
    print(machine())
    try:
        with tempfile.TemporaryDirectory() as scratch, kafka(Path(scratch) / "kafka") as cluster:
            watched = run(cluster, Path(scratch), options.seconds, options.rows_per_second)
            found = report(Path(scratch), watched)
            found["growth"] = growth(Path(scratch) / "registry", watched)
            ends, _ = lags(Path(scratch) / "registry", watched)
    except Unavailable as why:
        print(f"skipped: {why}")
        print(skipped_line(CLAIM, str(why)))
        return
    for name, one in found["growth"].items():
        share, error = one["per_hour_share"], one["error_share"]
        print(f"{name:15s} mean {one['mean']:>14,.1f}, {share:+8.2%} an hour (standard error {error:.2%})")
    third = max(1, len(ends) // 3)
    early, late = float(np.median(ends[:third])), float(np.median(ends[-third:]))
    found["version_behind_window_end_thirds_s"] = [early, late]
    print(f"versions come {early:.2f} s after their window's end in the first third, {late:.2f} s in the last")
    memory, before = found["rss_mib_last"], found["rss_mib_middle"]
    found["within"] = {"memory": memory / before <= GOAL, "lag": found["lag_p95_s"] <= WINDOW_S + SLACK_S}
    rows = found["exact"]["rows"]
    print(last_line(CLAIM, memory, before, memory / before, found, rows, time.perf_counter() - began))


if __name__ == "__main__":
    main()
