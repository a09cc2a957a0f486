"""Linear models with their standard errors, and the bounds of scores that follow from them.

Letters: ``n`` rows, ``d`` features. With the sums' weight W, mean m and centred scatter S (`newton.sums`) and the noise
σ² of `newton.information` (1 for logistic loss), the linear score η at features x has the standard error::

    e(x)² = σ²/W + ‖R(x − o − m)‖²      RᵀR = σ²·S⁻¹

since the score at the mean does not depend on the coefficients. The score lies within ``mean(η ± q·e)`` at the level asked
for, q the quantile of the normal distribution, or of Student's t with the degrees of freedom that σ² has (Wald's interval;
McCullagh & Nelder 1989, 4.4).

What they mean:

- They bound the score, the mean of the label, and not the label of one row, which varies around it besides.
- They take the model for the right one: a score that is not linear is bounded around its linear approximation.
- A row of weight k counts for k rows. Under a half-life, the errors are too large, by √2 at most.
- Logistic sums are taken at the anchors of their refreshes; the errors are then those of the anchors' curvature.
- A column that does not vary is left out of the model: its coefficient is 0, has no error, and adds nothing to a score's.
- Of columns that add up to others, coefficients are the shortest ones; errors of scores hold for rows that add up so, too.
"""

import functools

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtri, stdtrit

from beam_ml.algorithms.linear.models import Classifier, ClassifierWithErrors, Regressor, RegressorWithErrors
from beam_ml.algorithms.linear.newton.derive import Model, linear_scores, predict_classifier, predict_regressor
from beam_ml.algorithms.linear.newton.derive import derive as derive_plain
from beam_ml.algorithms.linear.newton.information import UNKNOWN, informed
from beam_ml.algorithms.linear.newton.losses import LOSSES, loss_of_code
from beam_ml.algorithms.linear.newton.solve import column_scale, inverse_or_zero, root_of_inverse
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import Partial, cuts
from beam_ml.core.algorithm import Predictions
from beam_ml.core.arrays import array_dataclass, check_code, to_arrays
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

__all__ = ["ModelWithErrors", "bounded_classifier", "bounded_regressor", "derive"]


@array_dataclass
class ModelWithErrors(Model):
    """A linear model, and what its parameters' errors are: d² + d + 2 numbers more.

    >>> from beam_ml import derive, fit, linear
    >>> rows = Batch.dense([[0.0], [1.0], [2.0], [3.0]] * 500, label=[0.1, 0.9, 2.1, 2.9] * 500)
    >>> model = derive(fit(linear.Newton(n_features=1, loss="squared"), [rows]), linear.RegressorWithErrors()).arrays
    >>> model.errors.round(4).tolist(), model.intercept_error.round(4).tolist(), int(model.freedom)
    ([0.0018], 0.0033, 1998)
    """

    centre: Float64[np.ndarray, "d"]  # m, relative to the origin, feature units
    centre_error: Float64[np.ndarray, ""]  # σ/√W, standard error of the linear score at the centre
    root: Float64[np.ndarray, "d d"]  # R, RᵀR is the covariance of the coefficients; a column of 0: it has none
    freedom: Int64[np.ndarray, ""]  # degrees of freedom of the noise; 0: the loss states it; -1: it is not known

    def __post_init__(self) -> None:
        check_code("ModelWithErrors.loss", self.loss, {loss.code for loss in LOSSES.values()})
        if int(self.freedom) < UNKNOWN:
            message = f"ModelWithErrors.freedom must be >= -1; got {int(self.freedom)}."
            raise InvalidBatch(message)

    @functools.cached_property
    def errors(self) -> np.ndarray | None:
        """The standard errors (d,) of the coefficients; NaN of columns that have not varied; None: they are not known."""
        if int(self.freedom) == UNKNOWN:
            return None
        return np.where(self.root.any(axis=0), np.linalg.norm(self.root, axis=0), np.nan)

    @functools.cached_property
    def intercept_error(self) -> np.ndarray | None:
        """The standard error () of the linear score where all features are 0; None: the noise is not known."""
        if int(self.freedom) == UNKNOWN:
            return None
        return np.asarray(self.error_at(np.zeros((1, self.origin.size)))[0])

    def error_at(self, x: np.ndarray) -> np.ndarray:
        """Return the standard error (n,) of the linear score of rows (n, d), a cache-sized block at a time."""
        out = np.empty(x.shape[0])
        for part in cuts(*x.shape):
            z = np.subtract(x[part], self.origin, dtype=np.float64) - self.centre
            out[part] = np.hypot(float(self.centre_error), np.linalg.norm(z @ self.root.T, axis=1))
        return out


def derive(
    spec: Newton, model_spec: ClassifierWithErrors | RegressorWithErrors, state: Partial, sample: Batch | None
) -> ModelWithErrors:
    """Derive the model without penalties, and its errors.

    Of squared loss without more sampled rows than parameters these are not known, and the model refuses an interval.

    Raises:
        DeriveRefused: as of the plain model; classes that count for more than they weigh.
    """
    classes = isinstance(model_spec, ClassifierWithErrors)
    if classes != (LOSSES[spec.loss].target == "class"):
        wanted = RegressorWithErrors if classes else ClassifierWithErrors
        message = f"linear.Newton with loss {spec.loss!r} derives {wanted.called}; got {type(model_spec).called}."
        raise DeriveRefused(message)
    plain = Classifier(threshold=model_spec.threshold) if isinstance(model_spec, ClassifierWithErrors) else Regressor()
    model = derive_plain(spec, plain, state, sample)
    found = informed(spec, state, sample)
    inverse = inverse_or_zero(column_scale(found.total))
    gram = found.total.scatter * inverse[:, None] * inverse
    deviation = float(np.sqrt(found.noise))
    return ModelWithErrors(
        **to_arrays(model),
        centre=found.total.mean + (found.total.origin - model.origin),
        centre_error=np.asarray(deviation / np.sqrt(found.total.information)),
        root=root_of_inverse(gram) * (inverse * deviation),
        freedom=np.asarray(found.freedom),
    )


def bounded_classifier(model: ModelWithErrors, batch: Batch, level: float) -> Predictions:
    """Return what `predict_classifier` does, and `_bounds`."""
    return {**predict_classifier(model, batch), **_bounds(model, batch, level)}


def bounded_regressor(model: ModelWithErrors, batch: Batch, level: float) -> Predictions:
    """Return what `predict_regressor` does, and `_bounds`."""
    return {**predict_regressor(model, batch), **_bounds(model, batch, level)}


def _bounds(model: ModelWithErrors, batch: Batch, level: float) -> Predictions:
    """Return ``standard_error`` (n,) of the linear score, and ``lower`` and ``upper`` (n,), bounds of the score.

    Raises:
        InvalidValue: the noise is not known.
    """
    if int(model.freedom) == UNKNOWN:
        message = (
            "predict.interval must be asked of a model whose errors are known; of squared loss, more rows must have been "
            "sampled than there are coefficients when it is derived."
        )
        raise InvalidValue(message)
    eta, error = linear_scores(model, batch), model.error_at(batch.dense_x)
    above, mean = 0.5 + 0.5 * level, loss_of_code(int(model.loss)).mean
    q = stdtrit(float(model.freedom), above) if int(model.freedom) else ndtri(above)
    return {"standard_error": error, "lower": mean(eta - q * error), "upper": mean(eta + q * error)}
