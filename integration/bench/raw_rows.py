"""Claim: the whole loop over raw rows keeps up with 30,000 transactions/s in rounds of two days or more, on two cores.

The job of the demo (`pipelines/jobs/fraud.toml`): rolling features per card and terminal, a score for every transaction as
it comes, the wait for reports, learning, and a version with all that is kept, over simulated transactions. Rounds take one
file of a day, two, or four. There is no peer: the ratio is rows/s over the goal, of rounds of two days. Quality is how good
the scores were when they were made.

Run: ``python integration/bench/raw_rows.py [--days 40] [--customers 5000]``.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_support import last_line, machine

from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import Mode, train
from beam_ml.cli.jobs import find_job
from beam_ml.cli.served import served
from beam_ml.cli.simulate import simulate_days, write_days, write_reports
from beam_ml.registry import Registry

CLAIM = "the whole loop over raw rows in rounds of two days: transactions/s over the goal of 30,000, on two cores"
GOAL = 30_000
TERMINALS = 2_000


def run(root: Path, days_per_round: int) -> tuple[int, float, float, dict[str, Any]]:
    """Train into a new registry; return rows, seconds, those of them before the fold, and how good the scores were."""
    out = root / f"rounds of {days_per_round}"
    places = {"source.path": root / "data", "labels.source.path": root / "reports", "registry": out / "registry"}
    places["predictions.path"] = out / "predictions"
    given = {name: str(path) for name, path in places.items()} | {"source.round_files": days_per_round}
    job = load_job(find_job("jobs/fraud.toml"), **given)
    began, pipelines, rows = time.perf_counter(), 0.0, 0
    for one in train(job, Registry(job.registry), Mode("once")):
        pipelines += one.pipeline_s
        rows = one.manifest.extra["prepared"]["labels"]["rows"]
    seconds = time.perf_counter() - began
    found = served(out / "predictions", root / "data")
    return rows, seconds, pipelines, {} if found is None else found._asdict()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--customers", type=int, default=5_000)
    given = parser.parse_args()
    print(machine())
    began, speeds, quality = time.perf_counter(), {}, {}
    with tempfile.TemporaryDirectory() as where:
        root, few = Path(where), Path(where) / "few"
        for folder, days in ((few, 9), (root, given.days)):
            list(write_days(str(folder / "data"), days, given.customers, TERMINALS))
            write_reports(str(folder / "reports"), simulate_days(days, given.customers, TERMINALS))
        run(few, 3)  # compiles
        for days in (1, 2, 4):
            rows, seconds, pipelines, found = run(root, days)
            speeds[days], quality[days] = rows / seconds, found
            scores = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            print(
                f"rounds of {days} days: {rows:,} rows in {seconds:.1f} s ({pipelines:.1f} s up to the folds), "
                f"{speeds[days]:,.0f} rows/s; {scores}",
                flush=True,
            )
    print(
        last_line(
            CLAIM, speeds[2], GOAL, round(speeds[2] / GOAL, 3), {"rows_s": speeds, "scores": quality}, rows,
            time.perf_counter() - began,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
