"""What a user sets of factorization machines, and of the models derived from them."""

from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field

from beam_ml.algorithms.shared.thresholds import Cut
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec

__all__ = ["LOGISTIC", "SQUARED", "Classifier", "Group", "Regressor", "Spec"]

LOGISTIC, SQUARED = 0, 1
"""Losses as models store them and `beam_ml.kernels.shared.losses` numbers them."""
Method = Literal["normal", "uniform", "constant"]
Group = Literal["bias", "linear", "factors"]

_MAX_ENTRIES = 1 << 28
_RATE = Field(gt=0)
_PENALTY = Field(ge=0, description="strength of ½·θ², counted at every row for the features that it has")
_ADAPTS = Field(ge=0, description="strength of ½·θ², counted at every row for the features that it has; None: adapts")
_SIGMA = Field(ge=0, description="normal: standard deviation")
_SCALE = Field(ge=0, description="uniform: in [−scale, scale]")
_VALUE = Field(description="constant: where all start")


class Spec(BaseSpec):
    """What shapes the state of a second-order factorization machine: sparse features, one output.

    Rates, penalties and starts are given for each of three groups, under the names that Amazon SageMaker has for them: the
    bias, the linear weights and the factors. Penalties of linear weights and factors that are not given adapt to the data
    (`beam_ml.algorithms.fm.adapt`), so that more passes do not over-fit; numbers mean what they say.

    Rates are AdaGrad's: the first step of an entry is as long as the rate, later ones are shorter by the root of the squared
    gradients it has met. Where the penalty adapts, steps are up to 1.7 times as long (numbers: twice) while
    little is known of a feature (`beam_ml.algorithms.fm.steps`). Rates act on features divided by the root mean square of
    their values other than 0, which leaves indicators alone, and on labels of mean 0 and standard deviation 1.

    The state has a fixed shape: features are numbered 0 … n_features − 1, declared or hashed.

    >>> spec = Spec(n_features=1_000_000, n_factors=16, task="regression", factors_lr=0.05)
    >>> spec.label_target, spec.columns
    ('real', 17)
    """

    called = "fm.Spec"
    max_staleness: ClassVar[int | None] = 64

    algorithm: Literal["fm"] = "fm"
    n_factors: Annotated[int, Field(ge=2, le=256, description="factors of a feature")] = 16
    task: Annotated[
        Literal["binary", "regression"], Field(description="label 0 or 1, log loss; or a number, squared loss")
    ] = "binary"
    bias_lr: Annotated[float, _RATE] = 0.1
    linear_lr: Annotated[float, _RATE] = 0.1
    factors_lr: Annotated[float, _RATE] = 0.1
    bias_wd: Annotated[float, _PENALTY] = 0.0
    linear_wd: Annotated[float | None, _ADAPTS] = None
    factors_wd: Annotated[float | None, _ADAPTS] = None
    bias_init_method: Method = "constant"
    bias_init_sigma: Annotated[float, _SIGMA] = 0.01
    bias_init_scale: Annotated[float, _SCALE] = 0.01
    bias_init_value: Annotated[float, _VALUE] = 0.0
    linear_init_method: Method = "constant"
    linear_init_sigma: Annotated[float, _SIGMA] = 0.01
    linear_init_scale: Annotated[float, _SCALE] = 0.01
    linear_init_value: Annotated[float, _VALUE] = 0.0
    factors_init_method: Method = "normal"
    factors_init_sigma: Annotated[float, _SIGMA] = 0.1
    factors_init_scale: Annotated[float, _SCALE] = 0.1
    factors_init_value: Annotated[float, _VALUE] = 0.01
    use_bias: Annotated[bool, Field(description="False: the bias is 0, and labels are scaled but not centred")] = True
    use_linear: Annotated[bool, Field(description="False: the linear weights are 0")] = True
    clip_gradient: Annotated[
        float | None, Field(gt=0, description="largest magnitude of an entry's gradient, before its penalty; None: any")
    ] = None
    normalize: Annotated[bool, Field(description="divide features by their running root mean square, zeros aside")] = (
        True
    )
    normalize_label: Annotated[bool, Field(description="regression: scale and centre labels by running moments")] = True

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> "Spec":
        if self.factors_init_method == "constant" and self.factors_init_value == 0.0:
            message = "factors_init_value must not be 0 with factors_init_method 'constant': factors of 0 never move"
            raise ValueError(message)
        for method, name in (("normal", "factors_init_sigma"), ("uniform", "factors_init_scale")):
            if self.factors_init_method == method and getattr(self, name) == 0.0:
                message = f"{name} must be > 0 with factors_init_method {method!r}: factors of 0 never move"
                raise ValueError(message)
        if self.n_features * self.columns > _MAX_ENTRIES:
            message = (
                f"n_features × (n_factors + 1) must be at most {_MAX_ENTRIES:,}; got "
                f"{self.n_features:,} × {self.columns}"
            )
            raise ValueError(message)
        return self

    @property
    def label_target(self) -> Literal["none", "real", "class"]:
        """What a row's label must be: 0 or 1, or a finite number."""
        return "real" if self.task == "regression" else "class"

    @property
    def n_label_classes(self) -> int:
        """Number of label classes the sample keeps apart."""
        return 1 if self.task == "regression" else 2

    @property
    def loss_code(self) -> int:
        """Number of the loss: that of the task."""
        return SQUARED if self.task == "regression" else LOGISTIC

    @property
    def columns(self) -> int:
        """Entries of a feature: its linear weight, then its factors."""
        return self.n_factors + 1


class Classifier(ModelSpec):
    """A model of class 0 or 1.

    >>> Classifier(threshold={"by": "f_beta", "beta": 2.0}).threshold.beta
    2.0
    """

    called = "fm.Classifier"

    kind: Literal["classifier"] = "classifier"
    threshold: Cut = 0.5


class Regressor(ModelSpec):
    """A model of a real label.

    >>> Regressor().to_dict()
    {'kind': 'regressor'}
    """

    called = "fm.Regressor"

    kind: Literal["regressor"] = "regressor"
