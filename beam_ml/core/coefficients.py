"""The coefficients of a linear model in the units of its features, with their names.

Letters: ``d`` features, ``o`` outputs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml.core.held import Held, spread
from beam_ml.errors import InvalidValue

__all__ = ["Coefficients", "coefficients_of"]

_FIELDS = ("coefficients", "intercept", "origin")
_SHOWN = 10


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Coefficients:
    """A linear score, ``intercept + x · values``: before the link, so that a classifier's are log-odds.

    Attributes:
        names: of the d features; x0, x1, … where they are unknown.
        values: (d,) float64 per unit of each feature; (d, o) of several classes.
        intercept: () float64, the score where all features are 0; (o,) of several classes.
        errors: (d,) float64, standard errors of the values, NaN of columns that have not varied; None: not known, as of all
            models but those derived with errors.
        intercept_error: () float64, that of the intercept; None: not known.
    """

    names: tuple[str, ...]
    values: np.ndarray
    intercept: np.ndarray
    errors: np.ndarray | None = None
    intercept_error: np.ndarray | None = None

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            message = f"Coefficients have the names {list(self.names)[:_SHOWN]}; got {name!r}."
            raise InvalidValue(message)
        return self.values[self.names.index(name)].tolist()

    def to_dict(self) -> Mapping[str, Any]:
        """Return name → coefficient; a list of several classes."""
        return dict(zip(self.names, self.values.tolist(), strict=True))

    def __repr__(self) -> str:
        shown = [f"intercept {_text(self.intercept, self.intercept_error)}"]
        errors = [None] * len(self.names) if self.errors is None else self.errors
        shown += [f"{n} {_text(v, e)}" for n, v, e in zip(self.names[:_SHOWN], self.values, errors, strict=False)]
        rest = len(self.names) - _SHOWN
        return f"Coefficients({', '.join(shown)}{f', … {rest} more' if rest > 0 else ''})"


def _text(value: np.ndarray, error: np.ndarray | None) -> str:
    text = np.array2string(value, precision=6)
    return text if error is None else f"{text} ± {np.array2string(error, precision=2)}"


def coefficients_of(arrays: Any, names: tuple[str, ...] | None, kind: str) -> Coefficients:
    """Return the coefficients of a model's arrays, whose score is ``intercept + (x − origin) · coefficients``.

    Args:
        arrays: a model record.
        names: of its features, if they are known.
        kind: how messages call the model.

    Raises:
        InvalidValue: the model is not linear.
    """
    if not all(hasattr(arrays, field) for field in _FIELDS):
        message = f"model.coefficients must be asked of a linear model; got {kind}."
        raise InvalidValue(message)
    values = np.asarray(arrays.coefficients, dtype=np.float64)
    intercept = np.asarray(arrays.intercept, dtype=np.float64)
    if arrays.origin.size:  # none: 0
        intercept = intercept - arrays.origin @ values
    if isinstance(arrays, Held):
        values = spread(arrays, values)
    if values.ndim == 2 and values.shape[1] == 1:
        values, intercept = values[:, 0], intercept.reshape(())
    known = names if names is not None and len(names) == len(values) else tuple(f"x{j}" for j in range(len(values)))
    errors = getattr(arrays, "errors", None), getattr(arrays, "intercept_error", None)
    return Coefficients(known, values, np.asarray(intercept), *errors)
