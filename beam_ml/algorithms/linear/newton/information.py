"""What a state's rows say of its coefficients: the information matrix, whose inverse is their covariance.

With the scatter S = Σ w(x − m)(x − m)ᵀ of the sums, the intercept profiled out::

    logistic: I = S      squared: I = S / σ²,  σ² = Σ s(y − η)² / Σ s · n / (n − d − 1) over n sampled rows

Both take a row of weight k for k rows; weights that only say how much a row matters, such as those of forgetting, leave
fewer rows than they add up to, and the errors too small by the root of that share.
"""

import numpy as np

from beam_ml.algorithms.linear.newton import blocks, learning
from beam_ml.algorithms.linear.newton.losses import LOSSES
from beam_ml.algorithms.linear.newton.solve import solve
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import Partial, Point, groups, linear_score
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused

__all__ = ["information"]


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
        scatter = total.scatter
        if LOSSES[spec.loss].constant:
            scatter = scatter / _noise(point, sample)
    return point.coefficients, scatter


def _noise(point: Point, sample: Batch | None) -> float:
    """Return the variance of labels around the linear score, of sampled rows."""
    n = 0 if sample is None else len(sample)
    left = n - point.coefficients.size - 1
    if sample is None or left < 1 or sample.label is None:
        message = f"The errors of squared loss need more sampled rows than coefficients; got {n}."
        raise DeriveRefused(message)
    residual = sample.label - linear_score(sample.dense_x, point)
    found = float(sample.weights @ residual**2) / float(sample.weights.sum()) * (n / left)
    return max(found, float(np.finfo(np.float64).tiny))
