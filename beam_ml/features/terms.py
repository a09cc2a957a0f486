"""Terms that are numbers: what features are computed from. A term names one column and what is done to it.

Letters: ``n`` rows.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from beam_ml.core.meant import did_you_mean
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue
from beam_ml.features.calendar import PARTS, Clock
from beam_ml.features.coded import Coded, Spelled, Targeted
from beam_ml.features.columns import Name, name_of

__all__ = ["Plain", "Standardised", "Term"]

_Indicator = Annotated[
    bool, Field(description="one more feature: 1 where the value was missing, else 0; `fill` must be given with it")
]


class _Filled(Settings):
    """What stands for missing numbers."""

    column: Name
    indicator: _Indicator = False

    @model_validator(mode="after")
    def _has_both(self) -> "_Filled":
        if self.indicator and getattr(self, "fill", None) is None:
            message = "fill must be given where indicator is true: rows with missing values are rejected without it"
            raise ValueError(message)
        return self

    @property
    def name(self) -> str:
        """What the number is called."""
        transform: str = getattr(self, "transform", "identity")
        return self.column if transform == "identity" else f"{transform}({self.column})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features."""
        return (self.name, f"missing({self.column})") if self.indicator else (self.name,)


class Plain(_Filled):
    """A number as it is, or the logarithm of 1 + it.

    A missing number rejects its row, unless `fill` says what stands for it: a text that spells no number, and what is
    infinite, always rejects it.

    >>> Plain(column="amount", transform="log1p").name
    'log1p(amount)'
    >>> Plain(column="amount", fill=0.0, indicator=True).names
    ('amount', 'missing(amount)')
    """

    transform: Literal["identity", "log1p"] = "identity"
    fill: Annotated[
        float | None, Field(description="stands for a missing number, before `transform`; none: its row is rejected")
    ] = None

    def write(self, X: np.ndarray, values: np.ndarray) -> None:
        """Write the features of n numbers into their columns of a matrix, (n, 1 or 2).

        >>> X = np.empty((2, 2))
        >>> Plain(column="amount", fill=3.0, indicator=True).write(X, np.array([1.0, np.nan]))
        >>> X.tolist()
        [[1.0, 0.0], [3.0, 1.0]]
        """
        values = _filled(X, values, self.fill, self.indicator)
        X[:, 0] = np.log1p(values, dtype=np.float64) if self.transform == "log1p" else values


class Standardised(_Filled):
    """(value − mean) / scale, with numbers known beforehand; learners that need moments of the data keep their own.

    >>> Standardised(column="amount", mean=20.0, scale=5.0).name
    'standardise(amount)'
    """

    transform: Literal["standardise"] = "standardise"
    mean: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0
    fill: Annotated[
        float | Literal["mean"] | None,
        Field(
            description="stands for a missing number, before it is standardised: a number, or 'mean', the one given; none: "
            "its row is rejected"
        ),
    ] = None

    def write(self, X: np.ndarray, values: np.ndarray) -> None:
        """Write the features of n numbers into their columns of a matrix, (n, 1 or 2)."""
        values = _filled(X, values, self.mean if self.fill == "mean" else self.fill, self.indicator)
        X[:, 0] = (values - self.mean) / self.scale


def _filled(X: np.ndarray, values: np.ndarray, fill: float | str | None, indicator: bool) -> np.ndarray:
    if fill is None:
        return values
    missing = np.isnan(values)
    if indicator:
        X[:, 1] = missing
    filled: np.ndarray = np.where(missing, values.dtype.type(fill), values)
    return filled


def _spelled_out(value: Any) -> Any:
    """Let a bare column name, or a mapping without `transform`, mean identity."""
    name = name_of(value)
    if isinstance(name, str):
        return {"column": name, "transform": "identity"}
    if isinstance(value, dict):
        whole = value if "transform" in value else {**value, "transform": "identity"}
        if _kind(whole) is None:
            transform = whole["transform"]
            known = [one for each in _KINDS.values() for one in each]
            message = (
                f"Features.numeric.transform must be one of {', '.join(known)}; got {transform!r}."
                f"{did_you_mean(transform, known)}"
            )
            raise InvalidValue(message)
        return whole
    return value


def _kind(value: Any) -> str | None:
    """Return which class a term is of, by its transform; None: of none."""
    transform = value.get("transform") if isinstance(value, dict) else getattr(value, "transform", None)
    for kind, transforms in _KINDS.items():
        if transform in transforms:
            return kind
    return None


_KINDS = {
    "plain": ("identity", "log1p"),
    "standardised": ("standardise",),
    "clock": PARTS,
    "coded": ("code",),
    "spelled": ("spell",),
    "targeted": ("target",),
}

Term = Annotated[
    Annotated[Plain, Tag("plain")]
    | Annotated[Standardised, Tag("standardised")]
    | Annotated[Clock, Tag("clock")]
    | Annotated[Coded, Tag("coded")]
    | Annotated[Spelled, Tag("spelled")]
    | Annotated[Targeted, Tag("targeted")],
    Discriminator(
        _kind,
        custom_error_type="unknown_transform",
        custom_error_message="transform must be one of "
        + ", ".join(transform for each in _KINDS.values() for transform in each),
    ),
    BeforeValidator(_spelled_out),
]
"""One feature. A bare string is a column taken as it is."""
