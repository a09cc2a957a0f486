"""What a user sets of `linear.AdaGrad`, and which of its packed variants a model is made of."""

import itertools
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from beam_ml.algorithms.linear.positive import PositiveWeight
from beam_ml.algorithms.shared.thresholds import Cut
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec

__all__ = ["MAX_VARIANTS", "AdaGrad", "Variant"]

MAX_VARIANTS = 64
_MAX_ENTRIES = 1 << 28
_LOSSES = {
    "binary": ("logistic", "hinge"),
    "multiclass": ("softmax", "hinge"),
    "regression": (
        "squared",
        "absolute",
        "huber",
        "quantile",
        "eps_insensitive_squared",
        "eps_insensitive_absolute",
    ),
}
_LISTS = ("learning_rates", "l1", "l2", "halve_at", "class_weights")


class AdaGrad(BaseSpec):
    """What shapes the state of linear models learned by AdaGrad: sparse or wide features, one or many outputs, packed.

    Every combination of ``learning_rates``, ``l1`` and ``l2`` is one variant, in that order, the last list fastest; all
    learn in one pass, each is measured on every row before it learns from it, and after ``halve_at`` rows of even classes
    the worse half is dropped. A model is made of the best one, or of any, by `Variant`; `beam_ml.linear.variants` says how
    they do. ``averaging`` keeps the mean of each one's parameters over the folds besides the last ones, one more table of
    the parameters' size, and predicts with whichever did better.

    The penalties act on coefficients times their feature's scale: ``loss/n + l1·Σ s_j|β_j| +
    l2/2·Σ s_j²β_j²``, bias free. The scale s_j of a feature is √(Σz⁴/Σz²) of its values (dense, with a bias: around their
    mean), which is 1 for an indicator however rare, and √3 standard deviations for normal values.

    >>> spec = AdaGrad(n_features=100, learning_rates=(0.05, 0.1), l1=0.0, l2=(0.0, 1e-4))
    >>> spec.loss, spec.variants[1]
    ('logistic', (0.05, 0.0, 0.0001))
    """

    called = "linear.AdaGrad"
    max_staleness: ClassVar[int | None] = 64

    algorithm: Literal["linear.adagrad"] = "linear.adagrad"
    task: Annotated[
        Literal["binary", "multiclass", "regression"],
        Field(description="label 0 or 1; class 0 … n_classes − 1; number"),
    ] = "binary"
    n_classes: Annotated[int, Field(ge=2, le=1_000_000, description="multiclass: 3 or more")] = 2
    loss: Annotated[
        Literal[
            "auto",
            "logistic",
            "hinge",
            "softmax",
            "squared",
            "absolute",
            "huber",
            "quantile",
            "eps_insensitive_squared",
            "eps_insensitive_absolute",
        ],
        Field(description="'auto': logistic, softmax or squared, by task; multiclass hinge is the multinomial one"),
    ] = "auto"
    margin: Annotated[float, Field(gt=0, description="hinge: distance from the boundary that costs nothing")] = 1.0
    quantile: Annotated[float, Field(gt=0, lt=1, description="quantile: which one")] = 0.5
    loss_insensitivity: Annotated[
        float,
        Field(ge=0, description="ε-insensitive: residual that costs nothing, in standard deviations of the label"),
    ] = 0.01
    huber_delta: Annotated[
        float, Field(gt=0, description="huber: residual from which it is linear, in standard deviations of the label")
    ] = 1.0
    learning_rates: Annotated[
        tuple[float, ...], Field(description="steps, in 1 / scale of the feature, for rows of norm 1")
    ] = (
        0.1,
        0.3,
        1.0,
        3.0,
    )
    l1: Annotated[tuple[float, ...], Field(description="strengths of Σ s_j|β_j|")] = (0.0, 1e-5)
    l2: Annotated[tuple[float, ...], Field(description="strengths of ½ Σ s_j²β_j²")] = (0.0, 1e-5)
    halve_at: Annotated[
        tuple[int, ...],
        Field(
            description="weight of rows of even classes after which the worse half of the variants is dropped; rows of "
            "uneven classes count by their labels' entropy; (): never"
        ),
    ] = (16_384, 65_536)
    # Losses of two variants differ by some 0.3 a row, so that by 16,384 rows their means are known to about 0.002: what
    # is nearer than that does not matter. A quarter is left: in a stream that changes, another may be the best one later.
    use_bias: Annotated[
        bool, Field(description="False: the intercept is 0, and features and labels are scaled but not centred")
    ] = True
    bias_rate: Annotated[float, Field(gt=0, description="factor on the learning rate of the bias")] = 1.0
    normalize: Annotated[
        bool,
        Field(
            description="scale features by running moments, and centre dense ones and sparse ones that every row so far has"
        ),
    ] = True
    normalize_label: Annotated[bool, Field(description="regression: scale and centre labels by running moments")] = True
    sparse: Annotated[bool, Field(description="learn from CSR rows; False: from dense ones. Others are converted")] = (
        False
    )
    averaging: Annotated[
        bool,
        Field(description="keep the mean of the parameters over folds too, and predict with the better of the two"),
    ] = True
    mini_batch_rows: Annotated[int, Field(ge=1, le=65_536, description="rows of one step")] = 16
    positive_weight: Annotated[
        PositiveWeight,
        Field(description="binary: factor on the weight of rows of class 1; balanced: mass of class 0 / class 1"),
    ] = 1.0
    class_weights: Annotated[
        tuple[float, ...], Field(description="multiclass: factor on the weight of rows, by class; (): all 1")
    ] = ()
    balance_multiclass_weights: Annotated[
        bool, Field(description="multiclass: factors in inverse proportion to the classes' masses, averaging 1")
    ] = False

    @pydantic.field_validator("loss", mode="before")
    @classmethod
    def _of_task(cls, value: object, info: pydantic.ValidationInfo) -> object:
        known = _LOSSES.get(info.data.get("task", ""), ())
        if value == "auto" and known:
            return known[0]
        if known and isinstance(value, str) and value not in known:
            message = f"must be one of {', '.join(known)} with task {info.data['task']!r}"
            raise ValueError(message)
        return value

    @pydantic.field_validator("n_classes")
    @classmethod
    def _classes_of_task(cls, value: int, info: pydantic.ValidationInfo) -> int:
        task = info.data.get("task")
        if task == "multiclass" and value < 3:
            message = "must be >= 3 with task 'multiclass'"
            raise ValueError(message)
        if task in ("binary", "regression") and value != 2:
            message = f"must not be given with task {task!r}"
            raise ValueError(message)
        return value

    @pydantic.field_validator(*_LISTS, mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """Read one number, or numbers in one text, as a list."""
        if isinstance(value, str):
            return tuple(part for part in value.replace(",", " ").split())
        return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @pydantic.field_validator(*_LISTS)
    @classmethod
    def _in_range(cls, value: tuple[Any, ...], info: pydantic.ValidationInfo) -> tuple[Any, ...]:
        name = info.field_name
        least_one = name in ("learning_rates", "l1", "l2")
        if least_one and (not value or len(set(value)) != len(value)):
            message = "must hold at least one number, each once"
            raise ValueError(message)
        positive = name in ("learning_rates", "halve_at", "class_weights")
        if any(x < 0 or (positive and x == 0) for x in value):
            message = f"must hold numbers {'>' if positive else '>='} 0"
            raise ValueError(message)
        return tuple(sorted(set(value))) if name == "halve_at" else value

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> "AdaGrad":
        for name, task in (
            ("positive_weight", "binary"),
            ("class_weights", "multiclass"),
            ("balance_multiclass_weights", "multiclass"),
        ):
            if self.task != task and getattr(self, name) != type(self).model_fields[name].default:
                message = f"{name} must not be given with task {self.task!r}"
                raise ValueError(message)
        if self.class_weights and len(self.class_weights) != self.n_classes:
            message = f"class_weights must hold one number per class, {self.n_classes}; got {len(self.class_weights)}"
            raise ValueError(message)
        if self.class_weights and self.balance_multiclass_weights:
            message = "class_weights must not be given with balance_multiclass_weights"
            raise ValueError(message)
        if self.n_variants > MAX_VARIANTS:
            message = f"learning_rates × l1 × l2 must be at most {MAX_VARIANTS} variants; got {self.n_variants}"
            raise ValueError(message)
        if (self.n_features + 1) * self.n_variants * self.n_outputs > _MAX_ENTRIES:
            message = (
                f"n_features × variants × outputs must be at most {_MAX_ENTRIES:,}; got "
                f"{self.n_features:,} × {self.n_variants} × {self.n_outputs:,}"
            )
            raise ValueError(message)
        return self

    @property
    def label_target(self) -> Literal["none", "real", "class"]:
        """What a row's label must be: a class or a finite number."""
        return "real" if self.task == "regression" else "class"

    @property
    def n_label_classes(self) -> int:
        """Number of label classes the sample keeps apart."""
        return 1 if self.task == "regression" else self.n_classes

    @property
    def aims_at_mean(self) -> bool:
        """Whether scores are meant as probabilities or means: not with hinge losses, quantiles, or reweighted classes."""
        plain = self.positive_weight == 1.0 and not self.class_weights and not self.balance_multiclass_weights
        return plain and self.loss in ("logistic", "softmax", "squared")

    @property
    def n_outputs(self) -> int:
        """Number of linear scores of a variant."""
        return self.n_classes if self.task == "multiclass" else 1

    @property
    def n_variants(self) -> int:
        """Number of variants packed side by side."""
        return len(self.learning_rates) * len(self.l1) * len(self.l2)

    @property
    def variants(self) -> tuple[tuple[float, float, float], ...]:
        """Learning rate, L1 and L2 of each variant."""
        return tuple(itertools.product(self.learning_rates, self.l1, self.l2))

    @property
    def penalised(self) -> bool:
        """Return whether any variant has a penalty."""
        return any(self.l1) or any(self.l2)


class Variant(ModelSpec):
    """One of the packed variants as a model: by index, or the one with the best progressive loss.

    >>> Variant(index=3).threshold
    0.5
    """

    called = "linear.Variant"

    kind: Literal["variant"] = "variant"
    index: Annotated[
        Annotated[int, Field(ge=0, lt=MAX_VARIANTS)] | Literal["best"],
        Field(description="place among the spec's variants, or 'best'"),
    ] = "best"
    threshold: Annotated[Cut, Field(description="binary: score from which a row is predicted positive, or a rule")] = (
        0.5
    )
    top_k: Annotated[int, Field(ge=1, description="multiclass: best scores among which the label must be")] = 3

    @pydantic.field_validator("index", mode="before")
    @classmethod
    def _number_or_best(cls, value: object) -> object:
        text = str(value).strip()
        if text == "best":
            return text
        if isinstance(value, bool) or not text.isdigit() or int(text) >= MAX_VARIANTS:
            message = f"must be a number in [0, {MAX_VARIANTS}) or 'best'"
            raise ValueError(message)
        return int(text)
