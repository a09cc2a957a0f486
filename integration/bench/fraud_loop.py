"""Card fraud, refreshed daily: a learner that resumes, against a logistic regression and a forest retrained every day.

1,169,723 transactions of 122 days; labels are known seven days late. At the start of day d ≥ 14 the peers, scikit-learn's
`LogisticRegression` (standardised) and `RandomForestClassifier` (100 trees), are trained on days d − 14 … d − 8, the last
seven whose labels are known; ours resumes with day d − 8 alone. All then score day d. All have the handbook's 14 features
and the amount (`fraud_rolling.py`); ours takes them in spans, as a linear learner needs. What ours is made of was chosen on
the first half of the days alone; the figures are of the second half.
Run: ``python integration/bench/fraud_loop.py [--keep FOLDER] [--forest-days 68,72,…] [folder of the data]``. The forests
take most of the time: with a folder, a run that was cut short goes on where it was; they may be trained for some of the days
only, and ours is then compared with them on those days. No time is measured.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bench_support import last_line, machine, skipped_line
from fraud_rolling import DELAY_DAYS, TRAIN_DAYS, Transactions, figures, mismatches, read
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from beam_ml import Batch, derive, fit, fm, predict
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.features import Features
from beam_ml.formats.block import Block

CLAIM = (
    "a learner refreshed daily finds more card fraud than a logistic regression retrained daily; a forest stands beside"
)
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "fraud"
WARM_UP_DAYS = DELAY_DAYS + TRAIN_DAYS
_DAY_S = 86_400
_BEGIN_S = 1_522_540_800  # 2018-04-01
RISKS = tuple(f"TERMINAL_ID_RISK_{days}DAY_WINDOW" for days in (1, 7, 30))
RATIOS = tuple(f"TX_AMOUNT/CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW" for days in (7, 30))
COUNTS = tuple(f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW" for days in (1, 7, 30))
CARD_COUNTS = tuple(f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW" for days in (1, 7, 30))
AMOUNT_BOUNDS = (5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 300, 400)
RISK_BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
RATIO_BOUNDS = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.5, 4, 5, 6, 8)
COUNT_BOUNDS = (1, 2, 3, 5, 8, 13, 21, 34)
CARD_COUNT_BOUNDS = (2, 3, 4, 6, 10, 15, 25, 40, 80)
LOGISTIC, FOREST = "logistic regression", "random forest"
PEERS: dict[str, Callable[[], Any]] = {
    LOGISTIC: lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    FOREST: lambda: RandomForestClassifier(n_jobs=2, random_state=0),
}


Scored = dict[int, np.ndarray]  # day -> a score per row of it
PASSES = 2


def columns_of(rows: Transactions) -> pa.RecordBatch:
    """Return the handbook's columns, what is computed from them alone, the label and the time (the day's start)."""
    columns = dict(rows.columns)
    for ratio, days in zip(RATIOS, (7, 30), strict=True):
        columns[ratio] = columns["TX_AMOUNT"] / np.maximum(columns[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"], 0.01)
    at = (_BEGIN_S + rows.day * _DAY_S).astype("datetime64[s]")
    return pa.record_batch({**columns, "label": rows.label, "time": at})


def spans() -> Features:
    """Return the terms that did best on the first half of the days: every number by the span it lies in."""
    bounds: dict[str, tuple[float, ...]] = {"TX_AMOUNT": AMOUNT_BOUNDS}
    for names, of_names in (
        (RISKS, RISK_BOUNDS),
        (RATIOS, RATIO_BOUNDS),
        (COUNTS, COUNT_BOUNDS),
        (CARD_COUNTS, CARD_COUNT_BOUNDS),
    ):
        bounds |= dict.fromkeys(names, of_names)
    bucketed = [{"column": name, "bounds": list(of_name)} for name, of_name in bounds.items()]
    return Features.parse({"bucketed": bucketed, "sparse": True, "label": "label", "time": "time"})


OURS: dict[str, tuple[Callable[[], Features], Callable[[int], Spec], ModelSpec]] = {
    "fm, spans": (spans, lambda d: fm.Spec(n_features=d, n_factors=8), fm.Classifier()),
}


def ours(spec: Spec, model: ModelSpec, batch: Batch, rows: Transactions, days: Iterable[int]) -> Scored:
    """Score each day by what was learned of all rows whose labels were known at its start, then go on to the next day."""
    found: Scored = {}
    learner, begin = None, 0
    for day in days:
        known = [batch.take(rows.of_days(begin, day - DELAY_DAYS))]
        learner, begin = fit(spec, known, learner=learner, passes=PASSES), day - DELAY_DAYS
        found[day] = predict(derive(learner, model), batch.take(rows.of_days(day, day + 1)))["score"]
    return found


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
    }


def line(name: str, found: dict[str, Any]) -> str:
    """Return a row of the table."""
    both = ", ".join(f"{found['mean'][figure]:.3f} ({found['worst'][figure]:.3f})" for figure in ("ap", "auc", "cp100"))
    return f"{name:24s} AP, AUC, card precision@100, mean of days (worst): {both}"


def run(rows: Transactions, days: range, some: Sequence[int], kept: Path | None) -> Iterator[tuple[str, Scored]]:
    """Return the scores of each learner: of ours, which resume from day to day, and of the peers."""
    table = columns_of(rows)
    for name, (features, spec, model) in OURS.items():
        batch, rejected = features().to_batch(Block(table))
        if rejected:
            message = f"no row may be rejected; got {rejected}"
            raise ValueError(message)
        yield name, ours(spec(batch.n_features), model, batch, rows, range(WARM_UP_DAYS, days.stop))
        del batch
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
    found, chosen, sampled = {}, {}, {}
    for name, scored in run(rows, days, some, options.keep):
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
    best = max(OURS, key=lambda name: found[name]["mean"]["ap"])
    shares = {figure: sampled[best]["mean"][figure] / sampled[FOREST]["mean"][figure] for figure in ("ap", "cp100")}
    mine, theirs = (found[name]["mean"]["ap"] for name in (best, LOGISTIC))
    print(
        last_line(
            CLAIM, mine, theirs, mine / theirs, found, len(rows), time.perf_counter() - began, of_forest=shares,
            days_of_forests=some, on_days_of_forests=sampled, first_half=chosen, best=best, days=[days.start, days.stop],
            mismatches=sum(differ.values()),
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
