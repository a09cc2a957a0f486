"""Laws of gathered rows: any order is the same to the bit, only what fits is kept, it stands for all, and folds learn."""

import dataclasses
import itertools
import statistics
from functools import reduce
from typing import Any

import numpy as np

from beam_ml.core import decay as clock
from beam_ml.core import gathered
from beam_ml.core.arrays import identical, nbytes
from beam_ml.core.batch import Batch
from beam_ml.core.gathered import Gathered, GatheredSpec
from beam_ml.core.spec import Spec
from beam_ml.testing.subject import Scenario, Subject, difference, require

__all__ = ["capacity", "learns", "order_free", "thinned"]

_HALF_LIFE_S = 6 * 3600.0
_BYTES = 8192
_BATCHES, _BATCH_ROWS = 12, 150
_SEEDS, _ERRORS = 40, 4.0
_WINDOWS, _WINDOW_ROWS = 3, 400
_GAIN = 0.05


def order_free(subject: Subject) -> None:
    """Any order and grouping of merges yields the same bytes, with a half-life too, and so does the fold."""
    aging = dataclasses.replace(subject, spec=_with(subject, half_life=_HALF_LIFE_S))

    def check(case: Scenario) -> None:
        _any_order(subject, case)
        _any_order(aging, case)

    subject.examine(subject.scenarios(count=3), check, examples=max(5, subject.examples // 2))


def _any_order(subject: Subject, case: Scenario) -> None:
    algorithm, spec = subject.algorithm, subject.spec
    none = clock.empty(algorithm, spec)
    parts = [clock.accumulate(algorithm, spec, none, batch, case.anchor) for batch in case.batches]

    def merged(a: clock.AsOf, b: clock.AsOf) -> clock.AsOf:
        return clock.merge(algorithm, spec, a, b)

    def folded(part: clock.AsOf) -> Any:
        return subject.fold(case.state, clock.due(algorithm, spec, part, part.time).summary, case.batches)

    first = reduce(merged, parts)
    state = folded(first)
    for order in itertools.permutations(parts):
        for found in (reduce(merged, order), reduce(lambda a, b: merged(b, a), order[::-1])):
            gap = difference(found.summary, first.summary)
            require(identical(found.summary, first.summary), f"another order of merges: {gap}")
            require(found.time == first.time, f"another order of merges: as of {found.time}, not {first.time}")
            again = folded(found)
            require(identical(again, state), f"fold after another order: {difference(again, state)}")
    together = none
    for batch in case.batches:
        together = clock.accumulate(algorithm, spec, together, batch, case.anchor)
    gap = difference(together.summary, first.summary)
    require(identical(together.summary, first.summary), f"one shard: {gap}")
    due = clock.due(algorithm, spec, first, first.time)
    subject.same_weight(algorithm.weight(due.summary), _weight(spec, case.rows), "weight as of the newest row")


def _weight(spec: Spec, rows: Batch) -> float:
    if spec.half_life is None or rows.time is None or len(rows) == 0:
        return float(rows.weights.sum())
    age_s = (rows.time.max() - rows.time) * 1e-6
    return float(rows.weights @ np.exp2(-age_s / spec.half_life))


def capacity(subject: Subject) -> None:
    """However many rows are gathered and merged, those kept fit `gather_bytes`, which they fill; all are counted."""
    require(subject.algorithm.partial is Gathered, "the partial of law GATHERED is beam_ml.core.gathered.Gathered")
    require(isinstance(subject.spec, GatheredSpec), "the spec of law GATHERED is a beam_ml.core.gathered.GatheredSpec")
    subject = dataclasses.replace(subject, spec=_with(subject, gather_bytes=_BYTES))
    world = subject.world()
    batches = [world.batch(subject.spec, _BATCH_ROWS, 7 * i, weights="uniform") for i in range(_BATCHES)]
    shards = [subject.accumulate([batch]) for batch in batches]
    grown = clock.Growth(subject.algorithm, subject.spec, clock.empty(subject.algorithm, subject.spec), None)
    for batch in batches:
        grown.add(batch)
    for what, found in {
        "merged": reduce(subject.merge, shards),
        "one after another": subject.accumulate(batches),
        "grown": grown.dated().summary,
    }.items():
        size = nbytes(found) - found.era.nbytes - found.octave.nbytes - found.mass.nbytes - 16
        require(size <= _BYTES, f"{what}: the rows have {size} bytes, more than {_BYTES}")
        require(size >= 0.75 * _BYTES, f"{what}: the rows have {size} bytes, though {_BYTES} are there for them")
        kept, given = found.order.size, _BATCHES * _BATCH_ROWS
        counted = kept + gathered.thinned(found)
        require(counted == given, f"{what}: {kept} rows kept and {counted - kept} thinned, of {given}")


def thinned(subject: Subject) -> None:
    """Over many seeds, the rows kept say on average what all rows say, heavy rows and new ones by what they weigh."""
    for half_life in (None, _HALF_LIFE_S):
        spec = _with(subject, gather_bytes=_BYTES, half_life=half_life)
        batch = subject.world().batch(spec, 4 * _BATCH_ROWS, weights="uniform")
        rows = batch.replace(weight=np.where(np.arange(len(batch)) % 3 == 0, 9.0, 1.0) * batch.weights)
        assert rows.time is not None  # noqa: S101
        newest, shown = int(rows.time.max()), dataclasses.replace(subject, spec=spec)
        roomy = _with(shown, gather_bytes=1 << 24)
        all_rows = gathered.accumulate(roomy, gathered.empty(roomy), rows)
        wanted = _figures(gathered.rows(spec, gathered.aged(spec, all_rows, newest)))
        found = []
        for seed in range(_SEEDS):
            seeded = dataclasses.replace(shown, spec=_with(shown, seed=seed))
            partial = gathered.aged(spec, seeded.accumulate([rows]), newest)
            require(gathered.thinned(partial) > 0, "nothing was left out")
            found.append(_figures(gathered.rows(spec, partial)))
        for name, value in wanted.items():
            values = [one[name] for one in found]
            error = statistics.stdev(values) / _SEEDS**0.5
            off = abs(statistics.fmean(values) - value)
            require(
                off <= _ERRORS * error + 1e-6 * abs(value),
                f"{name} of the rows kept is {statistics.fmean(values):.4g} ± {error:.2g} on average, of all {value:.4g}",
            )


def _figures(rows: Batch | None) -> dict[str, float]:
    """Return statistics of weighted rows: their weight, and means of what weights and times go with."""
    require(rows is not None, "no rows are kept")
    assert rows is not None  # noqa: S101
    assert rows.indptr is not None  # noqa: S101
    assert rows.values is not None  # noqa: S101
    assert rows.time is not None  # noqa: S101
    w = rows.weights
    stored = np.repeat(w, np.diff(rows.indptr))
    hour = rows.time % 86_400_000_000 / 3.6e9
    return {
        "weight": float(w.sum()),
        "mean of the stored values": float(stored @ rows.values / w.sum()),
        "mean of the hour": float(w @ hour / w.sum()),
    }


def learns(subject: Subject) -> None:
    """Folds learn: after some windows a model's loss on other rows is at most 95 % of what it was after two rows."""
    spec, gains = subject.spec, []
    for seed in range(3):
        world = subject.world(seed=seed)
        test = world.batch(spec, _WINDOW_ROWS, 99)
        state = subject.algorithm.init(spec)
        losses = []
        for window in range(_WINDOWS + 1):
            rows = world.batch(spec, _WINDOW_ROWS if window else 2, 3 * window)
            state = subject.fold(state, subject.accumulate([rows]), [rows])
            losses.append(subject.loss_of_state(state, rows, test))
        gains.append(1.0 - losses[-1] / losses[0])
    found = statistics.median(gains)
    require(found >= _GAIN, f"the loss falls by {found:.4f} of what it was after two rows; at least {_GAIN} is learned")


def _with(subject: Subject, **changes: Any) -> Any:
    return subject.algorithm.spec.parse({**subject.spec.to_dict(), **changes})
