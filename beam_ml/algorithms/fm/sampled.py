"""Sampled rows, by which folds and merges judge parameters. Letters as in `machine`; ``n`` sampled rows."""

import dataclasses
from collections.abc import Callable

import numpy as np

from beam_ml.algorithms.fm.calibrate import trusted
from beam_ml.algorithms.fm.frames import FARTHEST
from beam_ml.algorithms.fm.rows import Rows, in_frames, label_scale
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.shared.moves import Step

__all__ = ["FEWEST", "SURE", "Sampled", "linear_scores", "row_losses"]

SURE = 4.0
"""Gain in log likelihood, of the rows sampled, from which scores are corrected."""
FEWEST = 64.0
"""Rows, as their weights count, without which scores are not corrected."""
_MOVED = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """Sampled rows in their features' frames, and the parameter rows that they touch.

    Attributes:
        spec: the spec.
        indptr, place, values: CSR rows, columns numbered by `rows`.
        label: (n,) normalised.
        weight: (n,).
        rows: (r,) parameter rows, the bias last.
        met: (r,) weight of the sampled rows that have each feature over ρ²: how often its penalty counts.
        common: (r,) bool: whether the feature is.
    """

    spec: Spec
    indptr: np.ndarray
    place: np.ndarray
    values: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    rows: np.ndarray
    met: np.ndarray
    common: np.ndarray

    @staticmethod
    def of(
        spec: Spec,
        data: Rows,
        frame: tuple[np.ndarray, np.ndarray, float],
        label: np.ndarray,
        common: np.ndarray,
    ) -> "Sampled | None":
        """Return the rows in a frame (centre, scale, ρ) and in units of the label's moments; None: there are none.

        Features are numbered by their places in the frame's tables, (p,).
        """
        if data.label.size == 0:
            return None
        level, unit = label_scale(label)
        centre, scale, spread = frame
        rows, place = data.placed(centre.size - 1, np.flatnonzero(centre[:-1] != 0))
        bounds, place, values = in_frames(data.indptr, place, data.values, centre[rows[:-1]], scale[rows[:-1]], np.inf)
        if spec.normalize:
            # Outliers count no further than workers let them; where many rows are far off, the inputs have moved.
            far = np.zeros(data.weight.size, dtype=bool)
            far[np.repeat(np.arange(far.size), np.diff(bounds))[np.abs(values) > FARTHEST]] = True
            if data.weight[far].sum() <= _MOVED * data.weight.sum():
                values = values.clip(-FARTHEST, FARTHEST)
        framed = bounds, place, values / spread
        each = np.repeat(data.weight, np.diff(bounds)) / spread**2
        met = np.bincount(place, weights=each, minlength=rows.size).astype(np.float64)
        met[-1] = data.weight.sum()
        return Sampled(spec, *framed, (data.label - level) / unit, data.weight, rows, met, common[rows])

    def scores(self, theta: np.ndarray) -> np.ndarray:
        """Return η (n,) with the parameters (r, m) of the touched rows."""
        return linear_scores(self.indptr, self.place, self.values, float(theta[-1, 0]), theta[:-1, 0], theta[:-1, 1:])

    def corrected(self, theta: np.ndarray, least: float = 0.01) -> tuple[float, float] | None:
        """Return the factor and the level that these rows ask of the scores; None: they may be chance.

        Steps follow a change of the label's rate or of what features mean in many rows; this does at once, where the rows
        are sure of it by `SURE` units of log likelihood. No factor is 0: factors of 0 would never move again.

        Args:
            theta: (p, m).
            least: smallest factor.
        """
        score = self.scores(theta[self.rows])
        alpha, beta = trusted(self.spec.task == "binary", score, self.label, self.weight)
        alpha = max(alpha, least)
        total = float(self.weight.sum())
        now, then = (
            float(self.weight @ row_losses(self.spec, one, self.label)) / total for one in (score, alpha * score + beta)
        )
        gained = now - then
        if self.spec.task == "regression":  # in units of what is left
            gained /= max(2.0 * then, 1e-12)
        rows = total**2 / float(np.square(self.weight).sum())
        return (alpha, beta) if rows >= FEWEST and gained * rows > SURE else None

    def losses(self, theta: np.ndarray, ways: tuple[np.ndarray, np.ndarray]) -> Callable[[Step], float]:
        """Return what tells a step's mean loss, penalties included, from what does not change from step to step.

        Args:
            theta: (p, m) before.
            ways: the summed direction and the mean of the moves (r, m), at `rows`.
        """
        from beam_ml.kernels.fm import fold

        spec, n = self.spec, self.weight.size
        before = theta[self.rows]
        total = float(self.weight.sum())
        linear, pairs = np.empty((n, 5)), np.empty((n, 5, 5))
        fold.along(
            self.indptr, self.place, self.values, before, np.ascontiguousarray(ways[0]), np.ascontiguousarray(ways[1]),
            self.common, linear, pairs,
        )  # fmt: skip
        grown = [self._grown(before, ways, part) for part in (np.s_[:, :1], np.s_[:, 1:])]

        def loss(step: Step) -> float:
            along = [np.concatenate([[1.0], _lengths(step, group)]) for group in (1, 2)]
            bias = float(before[-1, 0] + step.length[0] * ways[int(step.mean[0])][-1, 0])
            found = float(fold.loss_after(linear, pairs, bias, *along, self.label, self.weight, spec.loss_code))
            for strength, squares, at in zip((spec.linear_wd, spec.factors_wd), grown, along, strict=True):
                if strength:
                    found += 0.5 * strength * float(at @ squares @ at)
            return found / total + 0.5 * spec.bias_wd * bias**2

        return loss

    def _grown(self, before: np.ndarray, ways: tuple[np.ndarray, np.ndarray], part: tuple[slice, slice]) -> np.ndarray:
        """Return the matrix (5, 5) of Σ met·θ² of some columns, as a form of the lengths along each way."""
        out = np.zeros((5, 5))
        for band, of_band in ((1, self.common[:-1]), (3, ~self.common[:-1])):
            met = np.sqrt(self.met[:-1][of_band])[:, None]
            three = np.stack([(met * one[:-1][of_band][part]).ravel() for one in (before, *ways)])
            at = np.array([0, band, band + 1])
            out[np.ix_(at, at)] += three @ three.T
        return out


def _lengths(step: Step, group: int) -> np.ndarray:
    """Return the lengths (4,) along the sum and the mean of common, then of rare features, of one kind of column."""
    out = np.zeros(4)
    for band in (0, 1):
        out[2 * band + int(step.mean[group + 2 * band])] = step.length[group + 2 * band]
    return out


def row_losses(spec: Spec, score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return each row's loss (n,): ``log(1 + e^η) − yη`` or ``½(η − y)²``."""
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
    """Return η (n,) of CSR rows whose values lie at `place` among the parameters linear (r,) and factors (r, k)."""
    from beam_ml.kernels.fm import run

    out = np.empty(indptr.size - 1)
    run.scores(indptr, place, values, intercept, np.ascontiguousarray(linear), np.ascontiguousarray(factors), out)
    return out
