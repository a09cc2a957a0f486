"""What is chosen after training: `Classifier` and `Regressor` for both learners, and, of `Newton`, those with errors."""

from typing import Annotated, Literal

from pydantic import Field

from beam_ml.algorithms.shared.thresholds import Cut
from beam_ml.core.spec import ModelSpec

__all__ = ["Classifier", "ClassifierWithErrors", "Penalty", "Regressor", "RegressorWithErrors"]


Penalty = Annotated[float, Field(ge=0)]


class Classifier(ModelSpec):
    """A classifier: penalties on the coefficients and the threshold of ``predicted_label``.

    The fit minimises ``loss/n + l1·Σ s_j|β_j| + l2/2·Σ s_j²β_j²``, bias free, with s_j the standard deviation of
    feature j (1 when ``standardize`` is False) and n the (decayed, class-weighted) weight of the rows.

    >>> Classifier(l2=0.01, threshold="f_beta(2)").threshold.beta
    2.0
    """

    called = "linear.Classifier"

    kind: Literal["classifier"] = "classifier"
    l1: Annotated[Penalty, Field(description="strength of Σ s_j|β_j|")] = 0.0
    l2: Annotated[Penalty, Field(description="strength of ½ Σ s_j²β_j²")] = 0.0
    standardize: Annotated[bool, Field(description="penalise coefficients of standardised features")] = True
    threshold: Cut = 0.5


class Regressor(ModelSpec):
    """A regressor: penalties on the coefficients, as for `Classifier`, with loss ½(label − score)².

    >>> Regressor(l1=0.1).standardize
    True
    """

    called = "linear.Regressor"

    kind: Literal["regressor"] = "regressor"
    l1: Annotated[Penalty, Field(description="strength of Σ s_j|β_j|")] = 0.0
    l2: Annotated[Penalty, Field(description="strength of ½ Σ s_j²β_j²")] = 0.0
    standardize: Annotated[bool, Field(description="penalise coefficients of standardised features")] = True


class ClassifierWithErrors(ModelSpec):
    """The classifier of `linear.Newton` with its standard errors: d² numbers more, without penalties.

    ``predict(model, rows, interval=0.95)`` bounds the scores, and ``model.coefficients`` have `errors`. A rule for the
    threshold decides on ``predicted_label`` alone. A penalty is none of its settings: it biases what it shrinks, and no
    standard error knows by how much.

    >>> ClassifierWithErrors().threshold
    0.5
    """

    called = "linear.ClassifierWithErrors"

    kind: Literal["classifier_with_errors"] = "classifier_with_errors"
    threshold: Cut = 0.5


class RegressorWithErrors(ModelSpec):
    """The regressor of `linear.Newton` with its standard errors, as `ClassifierWithErrors`.

    >>> RegressorWithErrors().kind
    'regressor_with_errors'
    """

    called = "linear.RegressorWithErrors"

    kind: Literal["regressor_with_errors"] = "regressor_with_errors"
