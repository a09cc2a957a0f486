"""Folding a window into the state of factorization machines. Letters as in `machine`; ``n`` sampled rows."""

import dataclasses
from collections.abc import Callable

import numpy as np

from beam_ml.algorithms import anchored
from beam_ml.algorithms.anchored import Rule, Step
from beam_ml.algorithms.fm.machine import Partial, State, fading, moves_of, weight
from beam_ml.algorithms.fm.rows import Rows, feature_scales, joined_labels, label_scale, present
from beam_ml.algorithms.fm.search import COMMON, GROUPS, choose
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.core.batch import Batch

__all__ = ["fold", "linear_scores", "merge_states", "row_losses"]


def fold(spec: Spec, state: State, partial: Partial, sample: Batch | None, rule: Rule = "search") -> State:
    """Learn a window: the parameters that it touched take their step; sums of gradients, features and labels add.

    Args:
        spec: the spec.
        state: before.
        partial: the window's.
        sample: rows of the window, weighted to stand for all of them; None: runs are averaged.
        rule: how runs are put together; all but ``search`` are there to be measured against it.

    Raises:
        FloatingPointError: the parameters would not be finite any more.
    """
    if int(partial.runs) == 0:
        return state
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _fold(spec, state, partial, sample, rule)


def _fold(spec: Spec, state: State, partial: Partial, sample: Batch | None, rule: Rule) -> State:
    moves, gathered = moves_of(partial)
    runs, stale = int(partial.runs), int(partial.folds) != int(state.folds)
    sums = state.sums.copy()
    sums[moves.rows] += gathered
    label = joined_labels(state.label, partial.label)
    # Runs started from squares that had not faded yet.
    faded = fading(state)

    def ways(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return anchored.directions(moves, rows, state.squares[rows] / faded, runs, rule, stale)

    common = np.zeros(sums.shape[0], dtype=bool)
    common[moves.rows] = gathered[:, 0] >= COMMON * partial.mass.sum()
    tested = None if sample is None else _Tested.of(spec, sample, sums, label, common)
    n = 0 if tested is None else tested.data.weight.size
    loss = _no_loss if tested is None else tested.losses(state.theta, ways(tested.rows))
    step = choose(loss, runs, n, rule, stale)
    theta, squares = state.theta.copy(), state.squares.copy()
    moved = _stepped(theta[moves.rows], ways(moves.rows), step, common[moves.rows])
    if not (np.isfinite(moved).all() and np.isfinite(moves.squares).all()):
        message = "fm.Spec diverged: a parameter is not finite"
        raise FloatingPointError(message)
    theta[moves.rows] = moved
    squares[moves.rows] += moves.squares
    return State(
        theta=theta, squares=squares, sums=sums, label=label, mass=state.mass + partial.mass, faded=np.ones(()),
        length=np.where(step.mean, -step.length, step.length), folds=np.asarray(state.folds + 1, dtype=np.int64),
    )  # fmt: skip


def _stepped(theta: np.ndarray, ways: tuple[np.ndarray, np.ndarray], step: Step, common: np.ndarray) -> np.ndarray:
    """Give parameters (r, m), the bias last, after a step along the summed direction or the mean of the moves.

    Args:
        theta: (r, m) before.
        ways: the summed direction and the mean of the moves, (r, m) each.
        step: lengths and directions (g,).
        common: (r,) bool: whether the feature is.
    """
    after = theta.copy()
    features = np.arange(theta.shape[0] - 1)
    for band, of_band in enumerate((features[common[:-1]], features[~common[:-1]])):
        for part, group in ((np.s_[:1], 1 + 2 * band), (np.s_[1:], 2 + 2 * band)):
            after[of_band, part] += step.length[group] * ways[int(step.mean[group])][of_band, part]
    after[-1] += step.length[0] * ways[int(step.mean[0])][-1]
    return after


def _no_loss(step: Step) -> float:
    """Give the loss where there is no sample: nothing is known of a step."""
    del step
    return np.inf


@dataclasses.dataclass(frozen=True, slots=True)
class _Tested:
    """Sampled rows, and the parameter rows that they touch.

    Attributes:
        spec: the spec.
        data: the rows, labels normalised.
        rows: (r,) parameter rows, the bias last.
        place: (z,) of each value among them.
        scale: (r − 1,) of the features.
        met: (r,) weight of the sampled rows that have each feature: how often its penalty counts.
        common: (r,) bool: whether the feature is.
    """

    spec: Spec
    data: Rows
    rows: np.ndarray
    place: np.ndarray
    scale: np.ndarray
    met: np.ndarray
    common: np.ndarray

    @staticmethod
    def of(spec: Spec, sample: Batch, sums: np.ndarray, label: np.ndarray, common: np.ndarray) -> "_Tested | None":
        data = present(sample)
        if data.label.size == 0:
            return None
        centre, unit = label_scale(label)
        rows, place = data.placed(spec.n_features)
        each = np.repeat(data.weight, np.diff(data.indptr)) * (data.values != 0)
        met = np.bincount(place, weights=each, minlength=rows.size)
        met[-1] = data.weight.sum()
        normalised = dataclasses.replace(data, label=(data.label - centre) / unit)
        scale = feature_scales(spec, sums[rows[:-1]])
        return _Tested(spec, normalised, rows, place, scale, met, common[rows])

    def losses(self, theta: np.ndarray, ways: tuple[np.ndarray, np.ndarray]) -> Callable[[Step], float]:
        """Give what tells a step's mean loss, penalties included.

        Args:
            theta: (p, m) before.
            ways: the summed direction and the mean of the moves (r, m), at `rows`.
        """
        spec, data = self.spec, self.data
        before = theta[self.rows]
        met = self.met[:-1] * np.square(self.scale)
        total = float(data.weight.sum())

        def loss(step: Step) -> float:
            after = _stepped(before, ways, step, self.common)
            real = after[:-1] / self.scale[:, None]  # per unit of unscaled features
            bias, linear, factors = float(after[-1, 0]), real[:, 0], real[:, 1:]
            score = linear_scores(data.indptr, self.place, data.values, bias, linear, factors)
            found = float(data.weight @ row_losses(spec, score, data.label))
            if spec.linear_wd > 0.0:
                found += 0.5 * spec.linear_wd * float(met @ np.square(linear))
            if spec.factors_wd > 0.0:
                found += 0.5 * spec.factors_wd * float(met @ np.einsum("rk,rk->r", factors, factors))
            return found / total + 0.5 * spec.bias_wd * bias**2

        return loss


def row_losses(spec: Spec, score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Give each row's loss (n,): ``log(1 + e^η) − yη`` or ``½(η − y)²``."""
    if spec.task == "regression":
        return np.asarray(0.5 * np.square(score - label))
    return np.asarray(np.maximum(score, 0.0) - label * score + np.log1p(np.exp(-np.abs(score))))


def linear_scores(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    intercept: float,
    linear: np.ndarray,
    factors: np.ndarray,
) -> np.ndarray:
    """Give η (n,) of CSR rows whose values lie at `place` among the parameters linear (r,) and factors (r, k)."""
    from beam_ml.kernels import fm

    out = np.empty(indptr.size - 1)
    fm.scores(indptr, place, values, intercept, np.ascontiguousarray(linear), np.ascontiguousarray(factors), out)
    return out


def merge_states(spec: Spec, a: State, b: State, sample_a: Batch | None = None, sample_b: Batch | None = None) -> State:
    """Add two learners' states: parameters by their mean weighted by Σ gradient², which is approximate; sums add.

    Both are first told per features and labels of the joined scales. Factors have no axes of their own, so
    the mean is only good between learners of one seed that have not drifted far apart, such as those grown from one learner.
    """
    if weight(a) <= 0.0 or weight(b) <= 0.0:
        return b if weight(a) <= 0.0 else a
    sums, label = a.sums + b.sums, joined_labels(a.label, b.label)
    first, second = (_in_units(spec, one, sums, label) for one in (a, b))
    squares = a.squares + b.squares
    share = np.divide(a.squares, squares, out=np.full_like(squares, 0.5), where=squares > 0)
    return State(
        theta=share * first + (1.0 - share) * second, squares=squares, sums=sums, label=label, mass=a.mass + b.mass,
        faded=np.ones(()), length=np.zeros(GROUPS), folds=np.asarray(a.folds + b.folds),
    )  # fmt: skip


def _in_units(spec: Spec, state: State, sums: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Give parameters (p, m) per features and labels of other scales: the scores of rows stay as they are."""
    (centre, unit), (new_centre, new_unit) = label_scale(state.label), label_scale(label)
    share = unit / new_unit
    # The scale of labels is shared out between the two factors of a product.
    columns = np.full(spec.columns, np.sqrt(share))
    columns[0] = share
    theta = state.theta * columns * (feature_scales(spec, sums) / feature_scales(spec, state.sums))[:, None]
    theta[-1, 0] += (centre - new_centre) / new_unit
    return theta
