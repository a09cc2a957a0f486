"""What a user sets of a learner by Newton steps: `Newton` shapes the state."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from beam_ml.algorithms.linear.newton.losses import LOSSES
from beam_ml.algorithms.linear.positive import PositiveWeight
from beam_ml.core.spec import Spec as BaseSpec

__all__ = ["MAX_FEATURES", "Newton"]

MAX_FEATURES = 2000
_WITHOUT_CURVATURE = (
    "hinge",
    "absolute",
    "huber",
    "quantile",
    "eps_insensitive_squared",
    "eps_insensitive_absolute",
)
"""Losses of linear.AdaGrad whose second derivative is 0 for some rows, or all: W would not grow with the rows."""


class Newton(BaseSpec):
    """What shapes the state of a linear model learned by additive Newton steps: dense features, one output.

    >>> Newton(n_features=3).loss
    'logistic'
    """

    called = "linear.Newton"
    takes_sparse = False

    algorithm: Literal["linear.newton"] = "linear.newton"
    loss: Annotated[
        Literal["logistic", "squared"],
        Field(description="logistic: label 0 or 1, score a probability; squared: ½(label − score)²"),
    ] = "logistic"
    positive_weight: Annotated[
        PositiveWeight,
        Field(
            description="logistic: factor on the weight of rows of class 1; balanced: mass of class 0 / mass of class 1"
        ),
    ] = 1.0
    pending_bytes: Annotated[
        int, Field(ge=1 << 16, le=1 << 34, description="most bytes of rows kept until a block of them can be solved")
    ] = 64 << 20

    @pydantic.field_validator("loss", mode="before")
    @classmethod
    def _curved(cls, value: object) -> object:
        if value in _WITHOUT_CURVATURE:
            message = (
                "must be one of logistic, squared: rows add only where the loss curves; linear.AdaGrad takes the others"
            )
            raise ValueError(message)
        return value

    @pydantic.field_validator("n_features")
    @classmethod
    def _narrow(cls, value: int) -> int:
        if value > MAX_FEATURES:
            message = f"must be <= {MAX_FEATURES}, since the state holds n_features² numbers"
            raise ValueError(message)
        return value

    @pydantic.field_validator("positive_weight")
    @classmethod
    def _classes_only(cls, value: float | str, info: pydantic.ValidationInfo) -> float | str:
        loss = info.data.get("loss")
        if value != 1.0 and loss is not None and LOSSES[loss].target != "class":
            message = f"must be 1 with loss {loss!r}, which has no classes"
            raise ValueError(message)
        return value

    @property
    def label_target(self) -> Literal["none", "real", "class"]:
        """What a row's label must be: class 0 or 1 (logistic) or a finite number (squared)."""
        return LOSSES[self.loss].target

    @property
    def n_label_classes(self) -> int:
        """Number of label classes the sample keeps apart."""
        return 2 if LOSSES[self.loss].target == "class" else 1

    @property
    def aims_at_mean(self) -> bool:
        """Whether scores are meant as probabilities or means: not where one class counts for more than it weighs."""
        return self.positive_weight == 1.0
