"""What a learner is compared with: the best constant, and a linear model refitted to all rows as they are weighted.

Both minimise the measure's own loss over the weighted rows, with nothing forgotten but by weight: log loss by Newton's
method, damped and backtracked, to convergence; squared error by least squares. Letters: ``n`` rows, ``d`` features,
``p`` = d + 1 coefficients, ``k`` classes.
"""

from collections.abc import Callable

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.testing.drifts.rows import Task

__all__ = ["Predictor", "constant", "dense", "loss_of", "refit"]

Predictor = Callable[[Batch], np.ndarray]
"""Rows → probabilities (n, k), values (n, 1), or what stands for each row (n, d)."""

_EPSILON = 1e-15
_RIDGE = 1e-9  # of a coefficient per deviation, times the rows' weight: a plane that parts the classes has no optimum
_MOST_STEPS = 60
_SETTLED = 1e-10  # Newton decrement per unit of weight


def dense(batch: Batch) -> np.ndarray:
    """Return the features as an (n, d) float64 matrix."""
    if batch.X is not None:
        return batch.X.astype(np.float64)
    assert batch.indptr is not None  # noqa: S101
    assert batch.indices is not None  # noqa: S101
    assert batch.values is not None  # noqa: S101
    x = np.zeros((len(batch), batch.n_features))
    x[np.repeat(np.arange(len(batch)), np.diff(batch.indptr)), batch.indices] = batch.values
    return x


def loss_of(task: Task, predicted: np.ndarray, batch: Batch) -> float:
    """Return the mean log loss (nats), of counts per count, squared error or squared distance of predictions."""
    share = batch.weights / batch.weights.sum()
    if task.counts:
        x = dense(batch)
        return float(-(share @ np.sum(x * np.log(predicted), axis=1)) / (share @ x.sum(axis=1)))
    if task.target == "none":
        return float(share @ np.sum((dense(batch) - predicted) ** 2, axis=1))
    assert batch.label is not None  # noqa: S101
    if task.target == "real":
        return float(share @ (predicted[:, 0] - batch.label) ** 2)
    mine = np.take_along_axis(predicted, batch.label.astype(np.intp)[:, None], axis=1)[:, 0]
    return float(-(share @ np.log(np.clip(mine, _EPSILON, 1.0 - _EPSILON))))


def constant(task: Task, rows: Batch) -> Predictor:
    """Return the best constant: shares of the classes, or of all counts, the label's mean, or the rows' mean."""
    share = rows.weights / rows.weights.sum()
    if task.target == "none":
        value = share @ dense(rows)
        value = (value + _EPSILON) / (value + _EPSILON).sum() if task.counts else value
    else:
        assert rows.label is not None  # noqa: S101
        if task.target == "real":
            value = np.array([share @ rows.label])
        else:
            value = np.bincount(rows.label.astype(np.intp), weights=share, minlength=task.n_classes)
    return lambda batch: np.broadcast_to(value, (len(batch), value.size))


def refit(task: Task, rows: Batch) -> Predictor:
    """Return a linear model with an intercept, fitted to all of the weighted rows; the target must not be none."""
    assert rows.label is not None  # noqa: S101
    kept = rows.weights > 0
    x, label, weight = dense(rows)[kept], rows.label[kept], rows.weights[kept]
    middle, scale = _robust(x)
    design = np.hstack([(x - middle) / scale, np.ones((len(x), 1))])
    weight = weight / weight.sum()
    if task.target == "real":
        coefficients = _least_squares(design, label, weight)[:, None]
    else:
        coefficients = _multinomial(design, label.astype(np.intp), weight, task.n_classes)

    def predict(batch: Batch) -> np.ndarray:
        at = np.hstack([(dense(batch) - middle) / scale, np.ones((len(batch), 1))])
        return at @ coefficients if task.target == "real" else _probabilities(at @ coefficients)

    return predict


def _robust(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the median, and a scale that one far row does not move: half the range of the middle half, or deviation."""
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    deviation = x.std(axis=0)
    scale = np.where(high > low, (high - low) / 2.0, deviation)
    return middle, np.where(scale > 1e-12 * (1.0 + np.abs(middle)), scale, 1.0)


def _least_squares(design: np.ndarray, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    root = np.sqrt(weight)[:, None]
    found: np.ndarray = np.linalg.lstsq(design * root, label * root[:, 0], rcond=1e-13)[0]
    return found


def _probabilities(score: np.ndarray) -> np.ndarray:
    """Return the softmax of scores (n, k − 1); the last class has the score 0."""
    full = np.hstack([score, np.zeros((len(score), 1))])
    raised = np.exp(full - full.max(axis=1, keepdims=True))
    p: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return p


def _multinomial(design: np.ndarray, label: np.ndarray, weight: np.ndarray, k: int) -> np.ndarray:
    """Return coefficients (p, k − 1) by Newton's method: full Hessian, backtracked on the objective."""
    n, p = design.shape
    truth = (label[:, None] == np.arange(k - 1)).astype(np.float64)
    ridge = np.append(np.full(p - 1, _RIDGE), 0.0)[:, None]

    def objective(b: np.ndarray) -> tuple[float, np.ndarray]:
        score = np.hstack([design @ b, np.zeros((n, 1))])
        top = score.max(axis=1)
        log_sum = top + np.log(np.exp(score - top[:, None]).sum(axis=1))
        return float(weight @ (log_sum - score[np.arange(n), label]) + 0.5 * np.sum(ridge * b * b)), log_sum

    b = np.zeros((p, k - 1))
    value, _ = objective(b)
    for _ in range(_MOST_STEPS):
        mine = _probabilities(design @ b)[:, : k - 1]
        gradient = design.T @ (weight[:, None] * (mine - truth)) + ridge * b
        hessian = np.empty((k - 1, p, k - 1, p))
        for i in range(k - 1):
            for j in range(k - 1):
                w = weight * mine[:, i] * ((i == j) - mine[:, j])
                hessian[i, :, j, :] = design.T @ (design * w[:, None]) + np.diag(ridge[:, 0]) * (i == j)
        flat = hessian.reshape((k - 1) * p, (k - 1) * p)
        damping = 1e-12 * float(np.trace(flat)) / len(flat)
        step = np.linalg.lstsq(flat + damping * np.eye(len(flat)), gradient.T.ravel(), rcond=1e-15)[0]
        decrement = float(step @ gradient.T.ravel())
        if decrement < _SETTLED:
            break
        move = step.reshape(k - 1, p).T
        length = 1.0
        while length > 1e-6:
            tried, _ = objective(b - length * move)
            if tried <= value - 1e-4 * length * decrement:
                break
            length /= 2.0
        else:
            break
        b, value = b - length * move, tried
    return b
