"""Card fraud, refreshed daily by a job over raw rows, against a logistic regression and a forest retrained every day.

1,169,723 transactions of 122 days; a fraud is reported a second less than seven days after its transaction, and what nobody
reports is genuine after seven. Ours is a job: `pipelines/jobs/fraud.toml` with the features and the learner below, in rounds
of a day. A round reads the day's transactions, rolls their features, scores each by the version that is served when the
round begins, reads reports, learns what has matured, and publishes the next version. The scores that it wrote are what is
measured: those of day d are of a version that has learned the days up to d − 8. Peers are scikit-learn's
`LogisticRegression` (standardised) and `RandomForestClassifier` (100 trees), trained for each day d on days d − 14 … d − 8,
the last seven whose labels are known, with the handbook's 14 features and the amount (`fraud_rolling.py`). Ours takes the
same in spans, and the card's means as ratios of the amount to them. What it is made of was chosen on the first half of the
days alone; the figures are of the second half.
Run: ``python integration/bench/fraud_loop.py [--keep FOLDER] [--forest-days 68,72,…] [folder of the data]``. The forests
take most of the time: with a folder, a run that was cut short goes on where it was; they may be trained for some of the days
only, and ours is then compared with them on those days.
"""

import argparse
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_support import last_line, machine, skipped_line
from fraud_rolling import DELAY_DAYS, TRAIN_DAYS, Transactions, figures, mismatches, read
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.cli.jobs import find_job
from beam_ml.registry import Registry

CLAIM = (
    "a job over raw rows, refreshed daily, finds more card fraud than a logistic regression or a forest retrained daily"
)
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "fraud"
WARM_UP_DAYS = DELAY_DAYS + TRAIN_DAYS
_DAY_US, _SECOND_US = 86_400_000_000, 1_000_000
AMOUNT_BOUNDS = (5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 300, 400)
RISK_BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
RATIO_BOUNDS = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.5, 4, 5, 6, 8)
COUNT_BOUNDS = (1, 2, 3, 5, 8, 13, 21, 34)
CARD_COUNT_BOUNDS = (2, 3, 4, 6, 10, 15, 25, 40, 80)
WINDOWS = ("1d", "7d", "30d")
SPANS: dict[str, tuple[float, ...]] = {
    "TX_AMOUNT": AMOUNT_BOUNDS,
    **{f"terminal_risk_{window}_delay_7d": RISK_BOUNDS for window in WINDOWS},
    **{f"card_ratio_{window}": RATIO_BOUNDS for window in WINDOWS[1:]},
    **{f"terminal_count_{window}_delay_7d": COUNT_BOUNDS for window in WINDOWS},
    **{f"card_count_{window}": CARD_COUNT_BOUNDS for window in WINDOWS},
}
"""Every number by the span it lies in."""
RATIO = {"name": "card_ratio", "key": "CUSTOMER_ID", "of": "ratio", "value": "TX_AMOUNT", "windows": WINDOWS[1:]}
SPEC = {"algorithm": "fm", "n_factors": 8}
OURS, LOGISTIC, FOREST = "the job, fm", "logistic regression", "random forest"
PEERS: dict[str, Callable[[], Any]] = {
    LOGISTIC: lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    FOREST: lambda: RandomForestClassifier(n_jobs=2, random_state=0),
}


Scored = dict[int, np.ndarray]  # day -> a score per row of it, NaN where there is none


def write_raw(data: Path, root: Path) -> None:
    """Write a file of raw transactions per day, and one of the reports that came on it."""
    table = pq.read_table(data / "transactions.parquet")
    table = table.sort_by([("TX_DATETIME", "ascending"), ("TRANSACTION_ID", "ascending")])
    at = table["TX_DATETIME"].cast(pa.int64()).to_numpy()
    first = at[0] // _DAY_US
    raw = table.select(["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"])
    fraud = table.filter(pa.array(table["TX_FRAUD"].to_numpy() == 1))
    said = fraud["TX_DATETIME"].cast(pa.int64()).to_numpy() + DELAY_DAYS * _DAY_US - _SECOND_US
    reports = pa.table(
        {
            "TRANSACTION_ID": fraud["TRANSACTION_ID"],
            "REPORTED_AT": pa.array(said, pa.timestamp("us", tz="UTC")),
            "TX_FRAUD": fraud["TX_FRAUD"],
        }
    )
    for name, rows, day in (
        ("transactions", raw, at // _DAY_US - first),
        ("reports", reports, said // _DAY_US - first),
    ):
        (root / name).mkdir(parents=True)
        for one in np.unique(day):
            begin, end = np.searchsorted(day, (one, one + 1))
            pq.write_table(rows.slice(begin, end - begin), root / name / f"{one:04d}.parquet")


def job_of(root: Path) -> Job:
    """Return the demo's job over these files, with the features and the learner of this bench."""
    settings = tomllib.loads(Path(find_job("jobs/fraud.toml")).read_text())
    settings |= {
        "registry": str(root / "registry"),
        "refresh": "round",
        "spec": SPEC,
        "models": {"m": {"kind": "classifier"}},
    }
    settings["source"]["path"] = str(root / "transactions")
    settings["labels"]["source"]["path"] = str(root / "reports")
    settings["predictions"]["path"] = str(root / "predictions")
    settings["rolling"]["aggregates"].append({**RATIO, "empty": 0.0})
    bucketed = [{"column": name, "bounds": list(bounds)} for name, bounds in SPANS.items()]
    settings["features"] = {"bucketed": bucketed, "sparse": True, "label": "TX_FRAUD", "time": "known_at"}
    return Job.parse(settings)


def ours(data: Path, rows: Transactions, kept: Path | None) -> tuple[Scored, float | None]:
    """Run the job over all days; return the scores that it wrote, and transactions/s, None where it had run before."""
    file, speed = kept / "ours.npz" if kept else None, None
    if file and file.exists():
        with np.load(file, allow_pickle=False) as one:
            score = one["score"]
    else:
        with tempfile.TemporaryDirectory() as where:
            root = Path(where)
            write_raw(data, root)
            job, began = job_of(root), time.perf_counter()
            for _ in train(job, Registry(job.registry), Mode("once")):
                pass
            speed = len(rows) / (time.perf_counter() - began)
            files = sorted((root / "predictions").glob("*.parquet"))
            table = pa.concat_tables([pq.read_table(one, columns=["TRANSACTION_ID", "score"]) for one in files])
        number = table["TRANSACTION_ID"].to_numpy()
        if len(np.unique(number)) != len(number):
            message = "each transaction must be scored once"
            raise ValueError(message)
        of_number = np.full(int(rows.number.max()) + 1, np.nan)
        of_number[number] = table["score"].to_numpy()
        score = of_number[rows.number]
        if file:
            np.savez(file, score=score)
    return {day: score[rows.of_days(day, day + 1)] for day in range(WARM_UP_DAYS, int(rows.day[-1]) + 1)}, speed


def peer(name: str, rows: Transactions, days: Iterable[int], kept: Path | None) -> Scored:
    """Score each day by a model trained on the last seven days whose labels were known at its start."""
    found: Scored = {}
    X = rows.matrix()
    for day in days:
        file = kept / f"{name.replace(' ', '_')}_{day}.npz" if kept else None
        if file and file.exists():
            with np.load(file, allow_pickle=False) as one:
                found[day] = one["score"]
            continue
        week = rows.of_days(day - DELAY_DAYS - TRAIN_DAYS, day - DELAY_DAYS)
        model = PEERS[name]().fit(X[week], rows.label[week])
        found[day] = model.predict_proba(X[rows.of_days(day, day + 1)])[:, 1]
        if file:
            np.savez(file, score=found[day])
    return found


def summary(rows: Transactions, scored: Scored, days: Iterable[int]) -> dict[str, Any]:
    """Return each figure's mean over days and its worst day."""
    daily = [figures(rows, day, scored[day]) for day in days]
    of = {name: np.array([each[name] for each in daily]) for name in daily[0]}
    return {
        "mean": {name: float(values.mean()) for name, values in of.items()},
        "worst": {name: float(values.min()) for name, values in of.items()},
        "days": {name: [round(float(value), 4) for value in values] for name, values in of.items()},
    }


def line(name: str, found: dict[str, Any]) -> str:
    """Return a row of the table."""
    both = ", ".join(f"{found['mean'][figure]:.3f} ({found['worst'][figure]:.3f})" for figure in ("ap", "auc", "cp100"))
    return f"{name:24s} AP, AUC, card precision@100, mean of days (worst): {both}"


def run(rows: Transactions, days: range, some: Sequence[int], kept: Path | None) -> Iterator[tuple[str, Scored]]:
    """Return the scores of the peers."""
    yield LOGISTIC, peer(LOGISTIC, rows, range(WARM_UP_DAYS, days.stop), kept)
    yield FOREST, peer(FOREST, rows, some, kept)


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", type=Path, default=DATA)
    parser.add_argument("--keep", type=Path, help="folder in which the peers' scores stay, for a run cut short")
    parser.add_argument(
        "--forest-days", help="the days of the second half that have a forest, by commas; all by default"
    )
    return parser.parse_args()


def main() -> None:
    """Run all and print one JSON line."""
    began, options = time.perf_counter(), arguments()
    print(machine())
    if not (options.data / "transactions.parquet").exists():
        print(skipped_line(CLAIM, "transactions.parquet is absent"))
        return
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    rows = read(options.data / "transactions.parquet")
    differ = mismatches(rows, options.data / "reference_features.parquet")
    print(f"{sum(differ.values())} values of {len(differ)} features differ from the reference")
    last = int(rows.day[-1]) + 1
    days = range((WARM_UP_DAYS + last) // 2, last)
    some = sorted({int(day) for day in options.forest_days.split(",")}) if options.forest_days else list(days)
    if not set(some) <= set(days):
        message = f"--forest-days must lie in {days.start} … {days.stop - 1}; got {some}"
        raise ValueError(message)
    mine, speed = ours(options.data, rows, options.keep)
    absent = int(sum(np.isnan(mine[day]).sum() for day in mine))
    print(f"{absent} transactions of the days from {WARM_UP_DAYS} on have no score of ours; {speed} transactions/s")
    found, chosen, sampled = {}, {}, {}
    for name, scored in ((OURS, mine), *run(rows, days, some, options.keep)):
        if name != FOREST:
            found[name] = summary(rows, scored, days)
            chosen[name] = summary(rows, scored, range(WARM_UP_DAYS, days.start))
            print(line(name, found[name]), flush=True)
        sampled[name] = summary(rows, scored, some)
    print("the first half of the days, on which ours was chosen")
    for name, each in chosen.items():
        print(line(name, each))
    print(f"the {len(some)} days of forests: {some}")
    for name, each in sampled.items():
        print(line(name, each))
    of_forest = {one: sampled[OURS]["mean"][one] / sampled[FOREST]["mean"][one] for one in ("ap", "cp100")}
    of_logistic = {one: found[OURS]["mean"][one] / found[LOGISTIC]["mean"][one] for one in ("ap", "cp100")}
    first, second = (found[name]["mean"]["ap"] for name in (OURS, LOGISTIC))
    print(
        last_line(
            CLAIM, first, second, first / second, found, len(rows), time.perf_counter() - began, of_forest=of_forest,
            of_logistic=of_logistic, days_of_forests=some, on_days_of_forests=sampled, first_half=chosen, rows_s=speed,
            days=[days.start, days.stop], mismatches=sum(differ.values()), without_a_score=absent,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
