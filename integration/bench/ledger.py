"""The ledger on card fraud: any range of days composed beside fits of its rows, days and customers removed, drift, cost.

122 daily windows of the handbook's 15 features, and of 12 of them (without the terminals' shares of frauds, which begin at 0
and rise for five weeks), `linear.Newton` without penalty, each window at its own refresh's anchor, as rounds make them. A
composed model is compared with the maximum likelihood fit of exactly the range's rows (scikit-learn, newton-cholesky): log
loss on these rows, and the time both take. Removed are a day, 50 customers, and 1 and 20 % of the customers: the sums less
theirs beside sums that never saw them. Drift is simulated: 5,000 rows of 10 features, about 8 % of them positive. Training,
without reading and engine, is timed with and without a ledger, three times in turn.
Run: ``python integration/bench/ledger.py [transactions.parquet]``.
"""

import shutil
import sys
import tempfile
import time
import warnings
from functools import partial, reduce
from pathlib import Path
from typing import Any

import fraud_rolling
import numpy as np
from bench_support import last_line, machine, skipped_line, timed
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from beam_ml import Batch, api, linear, pca
from beam_ml.algorithms import algorithm_of
from beam_ml.artefact.records import encode_learner, encode_model
from beam_ml.beam.versions.keeping import Keeper
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.batch import Origin
from beam_ml.core.decay import AsOf
from beam_ml.core.model import Model
from beam_ml.core.refresh import Plan, fold_open
from beam_ml.core.threads import one_thread
from beam_ml.ledger import Ledger, Rules
from beam_ml.ledger.drift import changed
from beam_ml.ledger.removing import removed
from beam_ml.registry import Registry, new_round_id

CLAIM = "models of any range of days composed from the ledger are those of a refit of its rows, in milliseconds"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "fraud" / "transactions.parquet"
DAY_US = 86_400_000_000
COLD_DAYS = 30
RANGES = ((30, 61), (61, 91), (91, 122), (30, 122), (40, 47), (70, 77), (100, 107), (115, 122), (45, 46), (80, 81),
          (110, 111), (0, 30), (0, 122))  # fmt: skip
TRIALS = 1_000
NEWTON = linear.NEWTON


def day_batches(rows: fraud_rolling.Transactions, used: list[int]) -> list[Batch]:
    """Return one batch per day, of some of the features."""
    x, days = np.ascontiguousarray(rows.matrix()[:, used]), []
    for day in range(int(rows.day[-1]) + 1):
        part = rows.of_days(day, day + 1)
        n = part.stop - part.start
        days.append(
            Batch.dense(
                x[part],
                label=rows.label[part],
                time=day * DAY_US + np.arange(n),
                origin=Origin("files", str(day)),
                position=np.arange(n),
            )
        )
    return days


def train(
    days: list[Batch], algorithm: Any, spec: Any, model: Any, where: str, rules: Rules | None
) -> tuple[float, list[Any]]:
    """Learn a day per version, as rounds do; return the seconds and each day's anchor."""
    registry, plan = Registry(where), Plan({"plain": model})
    keeper = None if rules is None else Keeper(registry, "fraud", algorithm, rules, DAY_US)
    learner, version, models, anchors = learners.new(algorithm, spec), None, None, []
    began = time.perf_counter()
    for day, batch in enumerate(days):
        anchors.append(algorithm.anchor(spec, learner.state))
        accumulator = Accumulator(algorithm, spec, learner.version, anchors[-1])
        accumulator.add(batch)
        before = learners.add_pending(algorithm, learner, (day + 1) * DAY_US, accumulator.result())
        folds = [*fold_open(algorithm, before, plan, previous=models, published=True)]
        learner, models = folds[-1][0], folds[-1][1].models
        kept = None if keeper is None else keeper.kept(version, before, learner, [(one, 0.0) for _, one in folds])
        payloads = {"learner": encode_learner(algorithm, learner)}
        payloads |= {
            f"models/{key}": stored(learner, plan.models[key], arrays) for key, arrays in models.items()
        }  # fmt: skip
        made = registry.publish("fraud", payloads, parent=version, round_id=new_round_id(version or 0), ledger=kept)
        version = made.number
        if keeper is not None:
            keeper.published(made)
    return time.perf_counter() - began, anchors


def stored(learner: Any, spec: Any, arrays: Any) -> bytes:
    """Return a model's bytes."""
    return encode_model(algorithm_of(learner.spec), Model(learner.spec, spec, arrays, {}))


def refit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the maximum likelihood fit's probabilities of its own rows."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / np.where(scale > 0, scale, 1.0)
    model = LogisticRegression(penalty=None, solver="newton-cholesky", tol=1e-8, max_iter=200)
    return np.asarray(model.fit(z, y).predict_proba(z)[:, 1])


def ranges(ledger: Ledger, days: list[Batch]) -> dict[str, Any]:
    """Compare composed models with refitted ones, on the rows of each range."""
    found = {}
    for start, stop in RANGES:
        rows = Batch.concat(days[start:stop])
        x, y = np.asarray(rows.dense_x, np.float64), rows.label
        seconds, model = timed(
            lambda a=start, b=stop: api.derive(ledger.compose(a * DAY_US, b * DAY_US).learner, "classifier")
        )
        again, probability = timed(lambda x=x, y=y: refit(x, y))
        ours, peer = log_loss(y, api.predict(model, rows)["score"]), log_loss(y, probability)
        found[f"{start}-{stop}"] = {"ratio": ours / peer, "compose_ms": seconds * 1e3, "refit_s": again}
        print(
            f"days {start:3d} to {stop:3d}: log loss {ours / peer:.6f} of the refit's, {seconds * 1e3:6.1f} ms against "
            f"{again:.2f} s", flush=True,
        )  # fmt: skip
    return found


def summed(spec: Any, batches: list[Batch], anchors: list[Any]) -> list[Any]:
    """Return a partial per day, each at its own anchor."""
    empty = NEWTON.empty(spec)
    return [NEWTON.accumulate(spec, empty, batch, anchor) for batch, anchor in zip(batches, anchors, strict=True)]


def removals(spec: Any, rows: fraud_rolling.Transactions, days: list[Batch], anchors: list[Any]) -> dict[str, float]:
    """Return the largest difference of scores between sums less some rows and sums that never saw them.

    From the first day that has an anchor: rows before it are kept as they are until enough of them are there.
    """
    first = next(day for day, anchor in enumerate(anchors) if anchor is not None)
    days, anchors = days[first:], anchors[first:]
    card = [rows.card[rows.of_days(day, day + 1)] for day in range(first, first + len(days))]
    cards = np.unique(rows.card)
    rng = np.random.default_rng(0)
    gone = {"50 customers": rng.choice(cards, 50, replace=False)}
    gone |= {
        f"{share:.0%} of customers": rng.choice(cards, int(share * cards.size), replace=False) for share in (0.01, 0.2)
    }
    masks = {name: [np.isin(one, some) for one in card] for name, some in gone.items()}
    masks["a day"] = [np.full(one.size, i == 60) for i, one in enumerate(card)]
    test = Batch.concat(days[::10])
    merge = partial(NEWTON.merge, spec)
    whole = reduce(merge, summed(spec, days, anchors))
    found = {}
    for name, mask in masks.items():
        parts = [
            reduce(merge, summed(spec, [b.take(m == keep) for b, m in zip(days, mask, strict=True)], anchors))
            for keep in (True, False)
        ]
        rest = NEWTON.remove(spec, whole, parts[0])
        scores = [
            NEWTON.models["classifier"].predict(
                NEWTON.models["classifier"].derive(
                    spec, linear.Classifier(), NEWTON.fold(spec, NEWTON.empty(spec), one, None), None
                ), test
            )["score"]
            for one in (rest, parts[1])
        ]  # fmt: skip
        found[name] = float(np.abs(scores[0] - scores[1]).max())
        print(f"without {name}: scores differ by at most {found[name]:.1e}", flush=True)
    return found


def customers(folder: str, spec: Any, rows: fraud_rolling.Transactions, days: list[Batch]) -> dict[str, Any]:
    """Remove customers' rows from a trained ledger; compare scores with sums, at the same anchors, that never saw them."""
    test, rng, cards = Batch.concat(days[::10]), np.random.default_rng(2), np.unique(rows.card)
    card = [rows.card[rows.of_days(day, day + 1)] for day in range(len(days))]
    found: dict[str, Any] = {}
    for name, n in (("50 customers", 50), ("1%", cards.size // 100), ("20%", cards.size // 5)):
        where = f"{folder}/customers-{n}"
        shutil.copytree(f"{folder}/0-True", where)
        ledger, gone = Ledger(Registry(where), "fraud", 122), rng.choice(cards, n, replace=False)
        masks = [np.isin(one, gone) for one in card]
        less = Batch.concat([day.take(mask) for day, mask in zip(days, masks, strict=True)])
        parts = []
        for window in (one for one in ledger.index.windows if one.windows == 1):
            ((_, part),) = ledger.accumulation(window).parts.items()
            day, anchor = window.start // DAY_US, NEWTON.grown_from(spec, part.dated.summary)
            parts.append(NEWTON.accumulate(spec, NEWTON.empty(spec), days[day].take(~masks[day]), anchor))
        never = NEWTON.fold(spec, NEWTON.empty(spec), reduce(partial(NEWTON.merge, spec), parts), None)
        seconds, done = timed(lambda ledger=ledger, less=less: removed(ledger, rows=less))
        after = Ledger(Registry(where), "fraud", done.manifest.number).learner
        scores = [
            api.predict(api.derive(one, "classifier"), test)["score"]
            for one in (after, after.replace(dated=AsOf(never)))
        ]  # fmt: skip
        gap = float(np.abs(scores[0] - scores[1]).max())
        found[name] = {"rows": done.rows, "seconds": seconds, "scores differ by": gap}
        print(f"{name}, {done.rows:,} rows removed in {seconds:.2f} s; scores differ by at most {gap:.1e}", flush=True)
    return found


def exact(days: list[Batch]) -> dict[str, float]:
    """Return by how much exact algorithms differ from never having seen a day, relative to the largest number."""
    found = {}
    squared = linear.Newton(n_features=days[0].n_features, loss="squared")
    for algorithm, spec, field in (
        (pca.PCA, pca.Spec(n_features=days[0].n_features), "scatter"),
        (NEWTON, squared, "cross"),
    ):
        parts = [algorithm.accumulate(spec, algorithm.empty(spec), batch, None) for batch in days]
        whole = reduce(partial(algorithm.merge, spec), parts)
        never = reduce(partial(algorithm.merge, spec), parts[:60] + parts[61:])
        rest = algorithm.remove(spec, whole, parts[60])
        a, b = (np.asarray(getattr(one, field)) for one in (rest, never))
        found[algorithm.name] = float(np.abs(a - b).max() / np.abs(b).max())
        if field == "cross":
            kind = algorithm.models["regressor"]
            a, b = (kind.derive(spec, linear.Regressor(), one, None).coefficients for one in (rest, never))
            found["squared, coefficients"] = float(np.abs(a - b).max() / np.abs(b).max())
    print(f"a day taken off exact sums: {', '.join(f'{name} {gap:.1e}' for name, gap in found.items())}")
    return found


class _Simulated:
    algorithm = NEWTON


def drift(spread: float) -> dict[str, float]:
    """Return how often a change is found at 5 %, of simulated pairs of 5,000 rows; `spread` is that of the coefficients."""
    rng, n, d = np.random.default_rng(101), 5_000, 10
    spec = linear.Newton(n_features=d)
    truth = rng.normal(size=d) * spread
    anchor = linear.Anchor(truth, np.asarray(-2.5), np.zeros(d))

    def learned(shift: float = 0.0, change: float = 0.0) -> Any:
        x = rng.normal(shift, 1.0, size=(n, d))
        beta = truth + change * (np.arange(d) == 3)
        label = (rng.random(n) < expit(x @ beta - 2.5)).astype(float)
        part = NEWTON.accumulate(spec, NEWTON.empty(spec), Batch.dense(x, label=label), anchor)
        return learners.new(NEWTON, spec).replace(dated=AsOf(part))

    found = {}
    for name, how in {"nothing": {}, "inputs by 0.5": {"shift": 0.5}, "a coefficient by 0.3": {"change": 0.3}}.items():
        ledger: Any = _Simulated()
        p = np.array([changed(ledger, learned(), learned(**how)).p_value for _ in range(TRIALS)])
        found[name] = float(np.mean(p < 0.05))
        print(
            f"coefficients of deviation {spread}; {name} changed: found in {found[name]:.1%} of {TRIALS:,} pairs",
            flush=True,
        )
    return found


def main() -> None:
    """Run all and print one JSON line."""
    began = time.perf_counter()
    print(machine())
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    if not path.exists():
        print(skipped_line(CLAIM, f"{path.name} is absent"))
        return
    warnings.simplefilter("ignore")  # of the refits: a day may have a constant column
    rows = fraud_rolling.read(path)
    all_of_them = list(range(len(fraud_rolling.FEATURES)))
    steady = [j for j in all_of_them if "RISK" not in fraud_rolling.FEATURES[j]]
    days, fewer = day_batches(rows, all_of_them), day_batches(rows, steady)
    spec = linear.Newton(n_features=days[0].n_features)
    quality: dict[str, Any] = {}
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        times: dict[bool, list[float]] = {True: [], False: []}
        anchors: list[Any] = []
        for turn in range(3):
            for kept in (True, False):
                where = f"{folder}/{turn}-{kept}"
                seconds, anchors = train(days, NEWTON, spec, linear.Classifier(), where, Rules() if kept else None)
                times[kept].append(seconds)
        with_it, without = min(times[True]), min(times[False])
        ledger = Ledger(Registry(f"{folder}/0-True"), "fraud")
        single = [one for one in ledger.index.windows if one.windows == 1]
        quality["cost"] = {"with_s": times[True], "without_s": times[False], "ratio": with_it / without}
        quality["bytes"] = {
            "ledger": ledger.index.bytes, "files": len(ledger.index.windows), "data": path.stat().st_size,
            "median window": int(np.median([one.file.bytes for one in single])),
        }  # fmt: skip
        print(f"training: {with_it:.2f} s with a ledger, {without:.2f} s without: {with_it / without:.3f}")
        print(f"ledger: {quality['bytes']}", flush=True)
        quality["ranges, 15 features"] = ranges(ledger, days)
        narrow = linear.Newton(n_features=len(steady))
        train(fewer, NEWTON, narrow, linear.Classifier(), f"{folder}/fewer", Rules())
        print("without the terminals' shares of frauds:")
        quality["ranges, 12 features"] = ranges(Ledger(Registry(f"{folder}/fewer"), "fraud"), fewer)
        quality["customers"] = customers(folder, spec, rows, days)
        seconds, done = timed(lambda: removed(ledger, [60 * DAY_US]))
        quality["remove_s"] = seconds
        print(f"a day removed in {seconds:.2f} s: version {done.manifest.number}, {done.rows:,} rows less")
        quality["removed"] = removals(spec, rows, days, anchors)
        quality["exact"] = exact(days)
        quality["drift"] = {str(spread): drift(spread) for spread in (0.1, 0.3)}
    late = {key: one for key, one in quality["ranges, 12 features"].items() if int(key.split("-")[0]) >= COLD_DAYS}
    slowest, fastest = max(one["compose_ms"] for one in late.values()), min(one["refit_s"] for one in late.values())
    worst = max(one["ratio"] for one in late.values())
    print(last_line(CLAIM, worst, 1.0, worst, quality, len(rows), time.perf_counter() - began,
                    compose_ms=slowest, refit_s=fastest))  # fmt: skip


if __name__ == "__main__":
    main()
