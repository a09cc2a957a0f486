"""Card fraud day by day: customers and terminals by hash, which only sparse learners can take, find more of it.

The replay of ``pipelines/jobs/fraud_replay.toml``: 1,169,723 transactions of 122 days, one refresh a day, half-life two
weeks. Every day's transactions are scored by the model of the days before, all of them, and only then learned from
(test-then-train). `linear.Newton` and `linear.AdaGrad` learn from the job's six columns; `linear.AdaGrad` and `fm` also from
those and the hashed customer and terminal. Settings are the defaults; which packed variant scores is chosen by the losses of
the days before.
Run: ``python integration/bench/fraud_by_day.py [transactions.parquet]``.
"""

import itertools
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bench_support import last_line, machine, skipped_line
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from beam_ml import Batch, fm, linear
from beam_ml.algorithms import algorithm_of
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.batch import Origin
from beam_ml.core.refresh import Plan, refresh
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.core.threads import one_thread
from beam_ml.features import Features
from beam_ml.formats.block import Block

CLAIM = "on card fraud, sparse learners with hashed identifiers find more than linear.Newton without, day by day"
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "fraud" / "transactions.parquet"
IDENTIFIERS = ("CUSTOMER_ID", "TERMINAL_ID")
HALF_LIFE = "14d"
BATCH_ROWS = 4_096
DAYS_A_LINE = 10
_DAY_US = 86_400_000_000


def days(path: Path, plain: Features, wide: Features) -> Iterator[tuple[int, Batch, Batch]]:
    """Return each day's number, its rows with the job's columns, and those with identifiers too."""
    names = wide.columns()
    table = pq.read_table(path, columns=names).sort_by(str(plain.time)).combine_chunks()
    both = []
    for features in (plain, wide):
        rows, _ = features.to_batch(Block(table.to_batches()[0]))
        both.append(rows.replace(origin=Origin("bench", path.name), position=np.arange(len(rows))))
    assert both[0].time is not None
    day = both[0].time // _DAY_US
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(day)) + 1, [len(day)]])
    for begin, end in itertools.pairwise(bounds):
        yield int(day[begin]), *(rows.take(slice(begin, end)) for rows in both)


class Learning:
    """One learner on its way: what it says of a day before it learns from it."""

    def __init__(self, name: str, spec: Spec, model: ModelSpec, identifiers: bool) -> None:
        self.name, self.spec, self.identifiers = name, spec, identifiers
        self.algorithm = algorithm_of(spec)
        self.plan = Plan({"model": model})
        self.learner = learners.new(self.algorithm, spec)
        self.models: Any = None
        self.seconds = 0.0
        self.daily: list[dict[str, float]] = []
        self.scores: list[np.ndarray] = []

    def score(self, rows: Batch) -> None:
        if self.models is None:
            return
        model = self.models["model"]
        kind = next(kind for kind in self.algorithm.models.values() if kind.spec is type(self.plan.models["model"]))
        score = kind.predict(getattr(model, "arrays", model), rows)["score"]
        self.scores.append(score)
        self.daily.append(quality(rows.label, score))

    def learn(self, end: int, rows: Batch) -> None:
        began = time.perf_counter()
        anchor = self.algorithm.anchor(self.spec, self.learner.state)
        accumulator = Accumulator(self.algorithm, self.spec, self.learner.version, anchor)
        for i in range(0, len(rows), BATCH_ROWS):
            accumulator.add(rows.take(slice(i, i + BATCH_ROWS)))
        self.learner, done = refresh(self.algorithm, self.learner, end, accumulator.result(), self.plan)
        self.models = done.models
        self.seconds += time.perf_counter() - began


def quality(label: Any, score: np.ndarray) -> dict[str, float]:
    return {
        "average_precision": float(average_precision_score(label, score)),
        "auc": float(roc_auc_score(label, score)),
        "log_loss": float(log_loss(label, score)),
    }


def starters(n_features: int, wide: int) -> list[Learning]:
    common: dict[str, Any] = {"half_life": HALF_LIFE}
    return [
        Learning("linear.newton", linear.Newton(n_features=n_features, **common), linear.Classifier(), False),
        Learning("linear.adagrad", linear.AdaGrad(n_features=n_features, **common), linear.Variant(), False),
        Learning(
            "linear.adagrad + ids", linear.AdaGrad(n_features=wide, sparse=True, **common), linear.Variant(), True
        ),
        Learning("fm + ids", fm.Spec(n_features=wide, n_factors=8, **common), fm.Classifier(), True),
    ]


def main() -> None:
    """Run all and print one JSON line."""
    began = time.perf_counter()
    print(machine())
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    if not path.exists():
        print(skipped_line(CLAIM, f"{path.name} is absent"))
        return
    job = tomllib.loads((ROOT / "pipelines" / "jobs" / "fraud_replay.toml").read_text(encoding="utf-8"))
    plain = Features.parse(job["features"])
    wide = Features.parse({**job["features"], "hashed": IDENTIFIERS})
    learning = starters(plain.n_features, wide.n_features)
    print("average precision of each day, by the models of the days before\n" + " " * 12
          + "".join(f"{one.name:>22}" for one in learning))  # fmt: skip
    labels, rows = [], 0
    with one_thread():
        for day, narrow, sparse in days(path, plain, wide):
            for one in learning:
                one.score(sparse if one.identifiers else narrow)
                one.learn((day + 1) * _DAY_US, sparse if one.identifiers else narrow)
            rows += len(narrow)
            if learning[0].daily and len(learning[0].daily) > len(labels):
                labels.append(narrow.label)
                shown = "".join(f"{one.daily[-1]['average_precision']:22.3f}" for one in learning)
                print(f"{np.datetime64(day, 'D')}  {shown}", flush=True)
    found = {}
    for one in learning:
        mean = {name: float(np.mean([each[name] for each in one.daily])) for name in one.daily[0]}
        pooled = quality(np.concatenate(labels), np.concatenate(one.scores))
        by = [float(np.mean([d["average_precision"] for d in one.daily[i : i + DAYS_A_LINE]]))
              for i in range(0, len(one.daily), DAYS_A_LINE)]  # fmt: skip
        found[one.name] = {
            "mean of days": mean, "all days": pooled, f"average precision by {DAYS_A_LINE} days": by,
            "rows_per_s": rows / one.seconds,
        }  # fmt: skip
        print(
            f"{one.name:22s} mean of days: AP {mean['average_precision']:.3f}, AUC {mean['auc']:.3f}; all days: "
            f"AP {pooled['average_precision']:.3f}, AUC {pooled['auc']:.3f}, log loss {pooled['log_loss']:.4f}; "
            f"{rows / one.seconds:,.0f} rows/s"
        )
    ours, peer = (
        found[name]["mean of days"]["average_precision"] for name in ("linear.adagrad + ids", "linear.newton")
    )
    print(last_line(CLAIM, ours, peer, ours / peer, found, rows, time.perf_counter() - began))


if __name__ == "__main__":
    main()
