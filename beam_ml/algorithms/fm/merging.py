"""Merging two learners' states. Letters as in `machine`; ``n`` sampled rows.

Factors have no axes of their own: the mean of two machines that were learned apart is often worse than either. So the
merged machine is chosen by its loss on the rows that both have sampled: one of the two with what the other knows of
features of its own, weighted means of both, and the best of these after a pass over the sampled rows. That pass is judged
by rows it did not learn from, and must gain more than chance. Where labels of numbers lie far apart, the level outweighs
all that slopes explain: machines are tried at the joint level too, and of those whose loss differs by chance alone the
one is taken that tells the rows within a region apart best. Where no machine fits both, as when the same inputs mean
something else to each, scores are drawn towards the constant rate as far as the rows ask for, and until on neither
learner's own rows the loss is above that of the joint constant: a machine that fits one region well and is far off in the
other has the least loss on both, and yet is of no use in the other.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from beam_ml.algorithms.fm.again import half, passed
from beam_ml.algorithms.fm.calibrate import damp, trusted
from beam_ml.algorithms.fm.fold import spread_out
from beam_ml.algorithms.fm.frames import added, frames, held_by, reframed, spread_of
from beam_ml.algorithms.fm.known import holding, numbered
from beam_ml.algorithms.fm.machine import State, now, weight, widened
from beam_ml.algorithms.fm.rows import Rows, joined_labels, label_scale, present
from beam_ml.algorithms.fm.sampled import SURE, Sampled, row_losses
from beam_ml.algorithms.fm.search import GROUPS
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.core.batch import Batch

__all__ = ["in_units", "merge_states"]

_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
_LEAST = 1e-4
"""Smallest factor on scores: two regions may contradict each other wholly."""
_FEWEST = 64
"""Sampled rows below which no pass is made over them."""
_SLACK = 1e-3
"""Of the constant's loss: far from the joint level, a level that is off by rounding outweighs all that slopes explain."""
_HALVINGS = 30
"""Steps of the search for a factor on scores: it is found to 2⁻³⁰."""

_HEAVIEST = 12.0
"""Doublings of the weight of a region's rows, at most."""
_WEIGHTS = 10
"""Weights that are tried."""


def merge_states(spec: Spec, a: State, b: State, sample_a: Batch | None = None, sample_b: Batch | None = None) -> State:
    """Merge two learners' states: the machine with the least loss on the rows that both have sampled; sums add.

    Both are first told in frames of features and per label of the joined moments. The order of the two does not matter.

    Args:
        spec: of both.
        a: a learner's state.
        b: the other's.
        sample_a: rows of the first, weighted to stand for all of its own; None: there is nothing to choose by, and the mean
            weighted by Σ gradient² is taken.
        sample_b: rows of the other.
    """
    if weight(a) <= 0.0 or weight(b) <= 0.0:
        return b if weight(a) <= 0.0 else a
    a, b = now(a), now(b)
    if _key(b) < _key(a):
        a, b, sample_a, sample_b = b, a, sample_b, sample_a
    data = [present(one) for one in (sample_a, sample_b) if one is not None and len(one)]
    held = holding(spec, [a.rows, b.rows], data)
    a, b = widened(spec, a, held), widened(spec, b, held)
    label = joined_labels(a.label, b.label)
    sums, before = added(a.sums, b.sums), added(a.before, b.before)
    known = added(sums, before)
    nothing, widest = np.zeros(known.shape[0] - 1), np.maximum(a.widest, b.widest)
    centre, scale = (
        np.append(one, 0.0) for one in frames(spec, known[:-1], float(known[-1, 0]), nothing, nothing, widest[:-1])
    )
    spread = spread_of(spec, held_by(known[:-1], float(known[-1, 0]), scale[:-1]))
    first, second = (in_units(spec, one, (centre, scale, spread), label) for one in (a, b))
    squares = first[1] + second[1]
    share = np.divide(first[1], squares, out=np.full_like(squares, 0.5), where=squares > 0)
    merged = State(
        rows=held, theta=share * first[0] + (1.0 - share) * second[0], squares=squares, centre=centre, scale=scale,
        widest=widest, spread=np.asarray(spread), sums=sums, before=before, label=label, mass=a.mass + b.mass,
        fresh=np.asarray(a.fresh + b.fresh),
        noise=_joined_noise(a.noise, b.noise), prior=0.5 * (a.prior + b.prior), faded=np.ones(2),
        length=np.zeros(GROUPS), folds=np.maximum(a.folds, b.folds),
    )  # fmt: skip
    rows = [numbered(held, one) for one in data if one.weight.size]
    if not rows:
        return merged
    with np.errstate(over="ignore", invalid="ignore"):
        return _best(spec, merged, first, second, rows)


def _joined_noise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return weights and means (2, 2) of both."""
    total = a[:, 0] + b[:, 0]
    mean = np.divide(a[:, 0] * a[:, 1] + b[:, 0] * b[:, 1], total, out=np.zeros(2), where=total > 0)
    return np.stack([total, mean], axis=1)


def _key(state: State) -> tuple[float, int, bytes, bytes, bytes]:
    """Return what puts two states in one order, whichever was named first: a pass over rows goes by their order."""
    return weight(state), int(state.folds), state.rows.tobytes(), state.theta.tobytes(), state.squares.tobytes()


def _joined(parts: list[Rows]) -> Rows:
    """Return the rows of all parts."""
    counts = [np.diff(one.indptr) for one in parts]
    return Rows(
        np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64),
        *(np.concatenate([getattr(one, name) for one in parts]) for name in ("indices", "values", "label", "weight")),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Judge:
    """Rows by which machines are judged.

    Attributes:
        tested: the rows of all learners.
        regions: slices of each learner's own.
        constant: η of the joint constant: the rate or mean of all rows; without a bias 0, the only one there is.
        most: each region's summed loss at that η, and `_SLACK` of it.
    """

    tested: Sampled
    regions: tuple[slice, ...]
    constant: float
    most: tuple[float, ...]

    @staticmethod
    def of(spec: Spec, merged: State, parts: list[Rows]) -> "_Judge":
        """Return the judge of a merged state's parameters by learners' rows, some of each."""
        common = np.zeros(merged.theta.shape[0], dtype=bool)
        frame = merged.centre, merged.scale, float(merged.spread)
        tested = Sampled.of(spec, _joined(parts), frame, merged.label, common)
        assert tested is not None  # noqa: S101 parts hold rows
        bounds = np.concatenate([[0], np.cumsum([one.weight.size for one in parts])])
        regions = tuple(slice(*at) for at in itertools.pairwise(bounds.tolist()))
        score = np.zeros(tested.weight.size)
        constant = trusted(spec.task == "binary", score, tested.label, tested.weight)[1] if spec.use_bias else 0.0
        at_constant = row_losses(spec, score + constant, tested.label)
        most = tuple((1.0 + _SLACK) * float(tested.weight[one] @ at_constant[one]) for one in regions)
        return _Judge(tested, regions, constant, most)

    def loss(self, theta: np.ndarray) -> float:
        """Return the summed loss of all rows with parameters (p, m); not finite: infinite."""
        found = float(sum(self._losses(self.tested.scores(theta[self.tested.rows]))))
        return found if np.isfinite(found) else np.inf

    def held(self, theta: np.ndarray) -> tuple[np.ndarray, float]:
        """Return parameters (p, m) that in no region are worse than the constant, and what they cost.

        Scores are drawn towards it by the largest factor at which that holds: each region's loss is convex in the factor
        and that of the constant at 0, so it holds at all smaller factors. Or they get the factor and level that are best for
        rows of which the worst region's weigh more, if that is better. The cost is the loss of all rows, and of drawn
        scores `SURE` units of log likelihood more: of scores that explain next to nothing, chance tells the factor.
        """
        score = self.tested.scores(theta[self.tested.rows])
        if self._holds(score):
            return theta, self.loss(theta)
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            drawn = middle * score + (1.0 - middle) * self.constant
            low, high = (middle, high) if self._holds(drawn) else (low, middle)
        factor = max(low, _LEAST)
        drawn_to = [(factor, (1.0 - factor) * self.constant)]
        if self.tested.spec.use_bias:
            drawn_to += self._weighed(score)
        theta = min((damp(theta, *one) for one in drawn_to), key=self.loss)
        found = self.loss(theta)
        return theta, found + self.chance(found)

    def chance(self, found: float) -> float:
        """Return `SURE` units of log likelihood in units of the summed loss, where that is `found`."""
        weight = self.tested.weight
        mean = float(np.square(weight).sum() / weight.sum())
        return SURE * (2.0 * found * mean / float(weight.sum()) if self.tested.spec.task == "regression" else mean)

    def _weighed(self, score: np.ndarray) -> list[tuple[float, float]]:
        """Return the factor and level that hold and are best if the worst region's rows count as much more as it takes.

        What is best for rows so weighed is best for all rows of what is as good in that region; nothing: none holds.
        """
        over = [found / most for found, most in zip(self._losses(score), self.most, strict=True)]
        worst = self.regions[int(np.argmax(over))]
        low, high, best = 0.0, _HEAVIEST, []
        for _ in range(_WEIGHTS):
            middle = 0.5 * (low + high)
            weight = self.tested.weight.copy()
            weight[worst] *= np.exp2(middle)
            alpha, beta = trusted(self.tested.spec.task == "binary", score, self.tested.label, weight)
            alpha = max(alpha, _LEAST)
            if self._holds(alpha * score + beta):
                best, high = [(alpha, beta)], middle
            else:
                low = middle
        return best

    def levelled(self, theta: np.ndarray) -> np.ndarray:
        """Return parameters of numbers' scores whose mean over these rows is that of the labels."""
        rows = self.tested
        return damp(theta, 1.0, float(rows.weight @ (rows.label - rows.scores(theta[rows.rows])) / rows.weight.sum()))

    def sharpest(self, held: list[tuple[np.ndarray, float]], most: float) -> tuple[np.ndarray, float]:
        """Return the parameters and cost that tell rows of a region apart best, of those as good as the best but for chance.

        Where regions' labels lie far apart, what slopes explain is nothing beside what chance makes of levels.

        Args:
            held: parameters and what they cost.
            most: the better learner's loss alone, which nothing but the best may exceed.
        """
        least = min(cost for _, cost in held)
        enough = max(least, min(least + self.chance(least), most))
        return min((one for one in held if one[1] <= enough), key=lambda one: self._apart(one[0]))

    def _apart(self, theta: np.ndarray) -> float:
        """Return the summed loss where each region's scores get the factor and the level that are best for it."""
        rows, logistic = self.tested, self.tested.spec.task == "binary"
        score = rows.scores(theta[rows.rows])
        out = score.copy()
        for one in self.regions:
            alpha, beta = trusted(logistic, score[one], rows.label[one], rows.weight[one])
            out[one] = alpha * score[one] + beta
        return sum(self._losses(out))

    def corrected(self, theta: np.ndarray) -> np.ndarray | None:
        """Return parameters whose scores are corrected by these rows; None: they do not ask for it."""
        asked = self.tested.corrected(theta, _LEAST) if self.tested.spec.use_bias else None
        return None if asked is None else damp(theta, *asked)

    def _losses(self, score: np.ndarray) -> list[float]:
        each = row_losses(self.tested.spec, score, self.tested.label)
        return [float(self.tested.weight[one] @ each[one]) for one in self.regions]

    def _holds(self, score: np.ndarray) -> bool:
        return all(found <= most for found, most in zip(self._losses(score), self.most, strict=True))


def _best(
    spec: Spec,
    merged: State,
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    rows: list[Rows],
) -> State:
    """Return the merged state with the parameters that have the least loss on sampled rows, of those that hold in all."""
    judge = _Judge.of(spec, merged, rows)
    candidates = list(_candidates(merged, first, second))
    if spec.task == "regression" and spec.use_bias:
        candidates += [judge.levelled(one) for one in candidates]
    alone = min(judge.loss(one) for one, _ in (first, second))
    theta, cost = judge.sharpest([judge.held(one) for one in candidates], alone)
    halves = [[half(one, at) for one in rows] for at in (0, 1)]
    if sum(one.weight.size for one in rows) >= _FEWEST and all(one.weight.size for half in halves for one in half):
        unseen = _Judge.of(spec, merged, halves[1])
        for begin in (theta, min(candidates, key=judge.loss)):
            tried = passed(spec, dataclasses.replace(merged, theta=begin), _mixed(halves[0]))
            learned, found = judge.held(unseen.held(tried)[0])
            before = unseen.held(theta)[1]
            if unseen.held(learned)[1] < before - unseen.chance(before) and found <= cost:
                theta, cost = learned, found
    asked = judge.corrected(theta)
    if asked is not None:
        theta, cost = min((theta, cost), judge.held(asked), key=_cost)
    return dataclasses.replace(merged, theta=theta)


def _cost(held: tuple[np.ndarray, float]) -> float:
    return held[1]


def _mixed(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, evenly mixed: a pass ends nearer to the rows that come last."""
    rows = _joined(parts)
    at = np.concatenate([(np.arange(one.weight.size) + 0.5) / one.weight.size for one in parts])
    order, count = np.argsort(at, kind="stable"), np.diff(rows.indptr)
    bounds = np.concatenate([[0], np.cumsum(count[order])])
    of = np.arange(bounds[-1]) + np.repeat(rows.indptr[:-1][order] - bounds[:-1], count[order])
    return Rows(bounds, rows.indices[of], rows.values[of], rows.label[order], rows.weight[order])


def _candidates(
    merged: State, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield parameters (p, m) to choose from; what only one has met is that one's in all."""
    yield merged.theta
    mine, other = first[1].any(axis=1), second[1].any(axis=1)
    only = mine.astype(np.float64) - other
    for share in _SHARES:
        of = np.where(only != 0, only > 0, share)[:, None]
        yield of * first[0] + (1.0 - of) * second[0]


def in_units(
    spec: Spec, state: State, frame: tuple[np.ndarray, np.ndarray, float], label: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters and Σ gradient² (p, m) in other frames and per other labels: scores of rows stay as they are."""
    (level, unit), (new_level, new_unit) = label_scale(state.label), label_scale(label)
    share = unit / new_unit
    # The scale of labels is shared out between the two factors of a product.
    columns = np.full(spec.columns, np.sqrt(share))
    columns[0] = share
    theta, squares = state.theta * columns, state.squares.copy()
    theta[-1, 0] += (level - new_level) / new_unit
    every, (centre, scale, spread) = np.arange(state.rows.size - 1), frame
    reframed(theta, squares, every, (state.centre[:-1], state.scale[:-1]), (centre[:-1], scale[:-1]))
    spread_out(theta, squares, spread / float(state.spread))
    return theta, squares
