"""What a state's rows say of its coefficients: the information matrix, whose inverse is their covariance.

With the scatter S = Σ w(x − m)(x − m)ᵀ of the sums, the intercept profiled out::

    logistic: I = S      squared: I = S / σ²,  σ² = Σ s(y − η)² / Σ s · n / (n − d − 1) over n sampled rows

Both take a row of weight k for k rows. Where weights s only say how much a row matters, the errors are off by the factor
√(Σs / Σs²): too large by forgetting, whose newest row weighs 1 (by √2 where many half-lives are behind it), too small by
weights above 1.
"""

import dataclasses

import numpy as np

from beam_ml.algorithms.linear.newton import blocks, learning
from beam_ml.algorithms.linear.newton.losses import LOSSES
from beam_ml.algorithms.linear.newton.solve import solve
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import Partial, Point, Sums, groups, linear_score
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused

__all__ = ["UNKNOWN", "Informed", "information", "informed"]

UNKNOWN = -1
"""The degrees of freedom where too few rows are sampled to take the noise from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Informed:
    """What a state's rows determine, and how well.

    Attributes:
        total: the rows' sums; the intercept at their mean does not depend on the coefficients, and has information W.
        point: the coefficients, and the intercept at the state's origin.
        noise: σ², by which the information of squared loss is divided; 1 of logistic.
        freedom: n − d − 1 of the sampled rows that σ² is taken from; 0: the loss states it; `UNKNOWN`: they are too few.
    """

    total: Sums
    point: Point
    noise: float
    freedom: int


def informed(spec: Newton, state: Partial, sample: Batch | None) -> Informed:
    """Return sums, parameters and noise of a state.

    Raises:
        DeriveRefused: no rows, or classes that count for more than they weigh.
    """
    if spec.positive_weight != 1.0:
        message = (
            "Coefficients have known errors where classes count as they weigh: linear.Newton.positive_weight must be 1."
        )
        raise DeriveRefused(message)
    if learning.weight(state) <= 0.0:
        message = "Coefficients need rows of positive weight; the state has none yet."
        raise DeriveRefused(message)
    with np.errstate(over="ignore", invalid="ignore"):
        if state.pending_key.size:
            state, _ = learning.settle_all(spec, state)
        total = blocks.combine(spec, groups(state), state.mass)
        point = solve(total).at(state.origin)
        noise, freedom = _noise(point, sample) if LOSSES[spec.loss].constant else (1.0, 0)
    return Informed(total, point, noise, freedom)


def information(spec: Newton, state: Partial, sample: Batch | None) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients (d,) and their information (d, d); columns that do not vary have none.

    Raises:
        DeriveRefused: no rows, classes that count for more than they weigh, or squared loss without enough sampled rows.

    >>> from beam_ml import fit
    >>> rows = Batch.dense([[0.0], [1.0], [2.0], [3.0]] * 500, label=[0.1, 0.9, 2.1, 2.9] * 500)
    >>> learner = fit(Newton(n_features=1, loss="squared"), [rows])
    >>> coefficients, matrix = information(learner.spec, learner.state, learner.sample.estimate(learner.spec))
    >>> coefficients.round(2).tolist(), (1.0 / np.sqrt(matrix[0])).round(4).tolist()
    ([0.96], [0.0018])
    """
    found = informed(spec, state, sample)
    if found.freedom == UNKNOWN:
        n = 0 if sample is None else len(sample)
        message = f"The errors of squared loss need more sampled rows than coefficients; got {n}."
        raise DeriveRefused(message)
    with np.errstate(over="ignore", invalid="ignore"):
        return found.point.coefficients, found.total.scatter / found.noise


def _noise(point: Point, sample: Batch | None) -> tuple[float, int]:
    """Return the variance of labels around the linear score, of sampled rows, and how many these are beyond d + 1."""
    n = 0 if sample is None else len(sample)
    left = n - point.coefficients.size - 1
    if sample is None or left < 1 or sample.label is None:
        return 1.0, UNKNOWN
    residual = sample.label - linear_score(sample.dense_x, point)
    found = float(sample.weights @ residual**2) / float(sample.weights.sum()) * (n / left)
    return max(found, float(np.finfo(np.float64).tiny)), left
