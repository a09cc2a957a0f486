"""linear.Newton in a world that changes, beside scikit-learn refitted on the rows as weighted, and River at the same delay.

Inputs move by 2, 5 and 20 deviations, the share of positives jumps by 3 and 6 in the logit, a slope turns over at once and
slowly; refreshed every 48 to 65,536 rows, without a half-life and with short and long ones, in 1, 8 and 64 shards. After
every refresh the log loss on 20,000 new rows of the world as it then is is divided by that of the batch fit of all rows so
far, each at its decayed weight. River's LogisticRegression learns row by row with steps of one length, which forget by
themselves, and is measured after the last refresh; its loss is divided by that of the same batch fit, so that the columns
"last" and "River" of a line compare. It has no half-life: the same run stands beside all of them.
Run: ``python integration/bench/changing_world.py [--quick]``; River: ``pip install river`` into an environment of the
bench's own; it is no dependency.
"""

import argparse
import dataclasses
import functools
import importlib.util
import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_support import last_line, machine
from scipy.special import entr, expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from beam_ml import Batch, derive, linear, predict
from beam_ml.algorithms.linear import NEWTON
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator, merge_all
from beam_ml.core.batch import Origin
from beam_ml.core.refresh import Plan, refresh
from beam_ml.core.threads import one_thread

CLAIM = "linear.Newton follows a changing world: its log loss stays by the batch fit's on the rows as weighted"
BOUND = 1.08
D = 6
HELD_OUT = 20_000
RIVER_ROWS = 30_000
_SLOPES = np.array([1.0, -1.0, 0.5, 0.0, 2.0, -0.3])


@dataclass(frozen=True)
class World:
    """Where inputs lie, how the label follows them, and how common it is."""

    mean: np.ndarray
    slopes: np.ndarray
    offset: float

    def rows(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows and their labels."""
        z = rng.normal(size=(n, D))
        y = (rng.random(n) < expit(z @ self.slopes + self.offset)).astype(np.float64)
        return z + self.mean, y


def _moved(by: float) -> Callable[[int], World]:
    return lambda age: World(np.array([by, -by, 0, 0, by, 0]) * (age > 0), _SLOPES, -1.0)


def _jumped(before: float, after: float) -> Callable[[int], World]:
    return lambda age: World(np.zeros(D), _SLOPES, after if age > 0 else before)


def _turned(windows: int) -> Callable[[int], World]:
    def at(age: int) -> World:
        share = min(max(age, 0) / windows, 1.0)
        slopes = _SLOPES.copy()
        slopes[[0, 4]] *= 1.0 - 2.0 * share
        return World(np.zeros(D), slopes, -1.0)

    return at


CHANGES: dict[str, Callable[[int], World]] = {
    "none": _moved(0.0),
    "inputs move by 2": _moved(2.0),
    "inputs move by 5": _moved(5.0),
    "inputs move by 20": _moved(20.0),
    "logit + 3": _jumped(-4.0, -1.0),
    "logit - 3": _jumped(-1.0, -4.0),
    "logit + 6": _jumped(-5.0, 1.0),
    "logit - 6": _jumped(1.0, -5.0),
    "slopes turn at once": _turned(1),
    "slopes turn slowly": _turned(8),
}
"""Name → the world by windows since the change, 0 and less: before it."""


@dataclass(frozen=True)
class Setting:
    """How often, how forgetful, how parallel; windows before and after the change."""

    rows: int
    half_life: float | None
    shards: int
    before: int
    after: int

    @property
    def name(self) -> str:
        """What tables call it."""
        memory = "no half-life" if self.half_life is None else f"half-life {self.half_life:g} windows"
        return f"{self.rows} rows, {memory}, {self.shards} shards"


SETTINGS = tuple(
    Setting(rows, half_life, shards, before, after)
    for (rows, before, after), half_life, shards in itertools.product(
        ((48, 100, 12), (1_000, 10, 12), (8_192, 4, 10), (65_536, 2, 4)), (None, 1.0, 6.0), (1, 8, 64)
    )
)


def window(world: World, rng: np.random.Generator, setting: Setting, number: int) -> Batch:
    """Draw a window: a row per second, numbered through."""
    x, y = world.rows(rng, setting.rows)
    place = np.arange(number * setting.rows, (number + 1) * setting.rows)
    return Batch.dense(x, label=y, time=place * 1_000_000, origin=Origin("bench", "0"), position=place)


def folded(learner: Any, rows: Batch, shards: int) -> Any:
    """Accumulate a window in shards from one anchor, merge and fold."""
    anchor = NEWTON.anchor(learner.spec, learner.state)
    parts = []
    for cut in np.array_split(np.arange(len(rows)), min(shards, len(rows))):
        one = Accumulator(NEWTON, learner.spec, learner.version, anchor)
        one.add(rows.take(slice(int(cut[0]), int(cut[-1]) + 1)))
        parts.append(one.result())
    return refresh(NEWTON, learner, None, merge_all(NEWTON, learner.spec, parts), Plan(models={}))[0]


def batch_fit(seen: list[Batch], half_life_s: float | None) -> Any:
    """Refit on all rows so far at their decayed weights."""
    x = np.concatenate([one.dense_x for one in seen])
    y = np.concatenate([one.label for one in seen])
    weight = np.ones(y.size) if half_life_s is None else np.exp2(-(np.arange(y.size)[::-1]) / half_life_s)
    kept = weight > 1e-9
    x, y, weight = x[kept], y[kept], weight[kept]
    scaler = StandardScaler().fit(x, sample_weight=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=1e8, solver="newton-cholesky", tol=1e-8, max_iter=200)
        model.fit(scaler.transform(x), y, sample_weight=weight)
    return lambda rows: model.predict_proba(scaler.transform(rows))[:, 1], float(weight @ y / weight.sum())


def run(change: str, setting: Setting, seed: int) -> list[dict[str, float]]:
    """Return our loss, the batch fit's and the prior's after the last window before the change and each after it."""
    rng, worlds = np.random.default_rng(seed), CHANGES[change]
    half_life_s = None if setting.half_life is None else setting.half_life * setting.rows
    learner = learners.new(NEWTON, linear.Newton(n_features=D, half_life=half_life_s))
    seen, found = [], []
    for number in range(setting.before + setting.after):
        age = number - setting.before + 1
        world = worlds(age)
        seen.append(window(world, rng, setting, number))
        learner = folded(learner, seen[-1], setting.shards)
        if age < 0:
            continue
        x, y = world.rows(rng, HELD_OUT)
        best, rate = batch_fit(seen, half_life_s)
        score, right = predict(derive(learner, linear.Classifier()), Batch.dense(x))["score"], best(x)
        prior = -float(np.mean(np.log(np.where(y > 0, rate, 1 - rate))))
        found.append(
            {
                "age": age, "ours": log_loss(y, score), "batch": log_loss(y, right), "prior": prior,
                "known": float(entr(y.mean()) + entr(1 - y.mean())),
                "auc": roc_auc_score(y, score), "batch_auc": roc_auc_score(y, right),
            }
        )  # fmt: skip
    return found


@functools.cache
def river_run(change: str, setting: Setting, seed: int) -> float:
    """Return River's loss after the last window, on the rows that ours is measured on; a half-life means nothing to it."""
    from river import linear_model, optim, preprocessing  # type: ignore[import-not-found]

    rng, worlds = np.random.default_rng(seed), CHANGES[change]
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.03))
    x, y = np.empty((0, D)), np.empty(0)
    for number in range(setting.before + setting.after):
        age = number - setting.before + 1
        rows = window(worlds(age), rng, setting, number)
        for row, label in zip(rows.dense_x, rows.label > 0.5, strict=True):
            model.learn_one(dict(enumerate(row)), bool(label))
        if age >= 0:
            x, y = worlds(age).rows(rng, HELD_OUT)
    score = [model.predict_proba_one(dict(enumerate(row)))[True] for row in x]
    return float(log_loss(y, np.clip(score, 1e-15, 1 - 1e-15), labels=[0, 1]))


def main() -> None:
    """Print a table per setting, and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one shard and refreshes of up to 8,192 rows only")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(machine())
    has_river = importlib.util.find_spec("river") is not None
    began, rows, quality = time.perf_counter(), 0, {}
    worst, worst_name, over, below_prior = 0.0, "", 0, 0
    for setting in SETTINGS:
        if options.quick and (setting.shards > 1 or setting.rows > 8_192):
            continue
        columns = " ".join(f"{name:>7s}" for name in ("before", "1st", "2nd", "last", "worst"))
        print(f"\n{setting.name}\n  {'change':22s}  {columns}  auc − batch's   River")
        for change in CHANGES:
            found = run(change, setting, options.seed)
            rows += setting.rows * (setting.before + setting.after)
            ratios = [one["ours"] / one["batch"] for one in found]
            after = ratios[1:]
            # A batch fit of rows of two worlds may itself be worse than knowing nothing; worse than that fit as well counts.
            bad = sum(ratio > BOUND for ratio in after)
            beaten = [one["ours"] > one["prior"] and one["ours"] > 1.02 * one["batch"] for one in found[1:]]
            lost = sum(a and b for a, b in itertools.pairwise(beaten))
            over, below_prior = over + bad, below_prior + lost
            if max(after) > worst:
                worst, worst_name = max(after), f"{change}; {setting.name}"
            peer = None
            if has_river and setting.shards == 1 and setting.rows * (setting.before + setting.after) <= RIVER_ROWS:
                alike = dataclasses.replace(setting, half_life=None)
                peer = river_run(change, alike, options.seed) / found[-1]["batch"]
            gap = min(one["auc"] - one["batch_auc"] for one in found[1:])
            print(
                f"  {change:22s} {ratios[0]:8.4f} {after[0]:7.4f} {after[1]:7.4f} {after[-1]:7.4f} {max(after):7.4f}"
                f"  {gap:+.4f}  {'' if peer is None else f'{peer:8.3f}'}{'  OVER' if bad else ''}{'  PRIOR' if lost else ''}"
            )
            quality[f"{change}; {setting.name}"] = {"worst": max(after), "last": after[-1], "river_last": peer}
    print(f"\nworst {worst:.4f} ({worst_name})")
    print(f"{over} of the refreshes over {BOUND}; {below_prior} twice in a row worse than the prior and the batch fit")
    print(
        last_line(
            CLAIM, worst, 1.0, worst, {"ratios": quality, "refreshes_over_bound": over, "below_prior_twice": below_prior},
            rows, time.perf_counter() - began, bound=BOUND,
        )
    )  # fmt: skip


if __name__ == "__main__":
    with one_thread():
        main()
