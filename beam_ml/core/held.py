"""Models of which only some features are held: those that rows have had. Letters: ``d`` features, ``r`` of them held."""

from typing import Protocol, runtime_checkable

import numpy as np

from beam_ml.errors import InvalidBatch

__all__ = ["Held", "check_held", "check_rising", "spread"]


@runtime_checkable
class Held(Protocol):
    """A model record with these fields holds some of `width` features; the others count for nothing."""

    @property
    def features(self) -> np.ndarray:
        """Numbers of the features held (r,), rising, below the width."""
        ...

    @property
    def width(self) -> np.ndarray:
        """d, features of a row, ()."""
        ...


def check_rising(what: str, numbers: np.ndarray) -> None:
    """Refuse numbers (p,) that do not rise from 0 or above.

    Raises:
        InvalidBatch: they do not.
    """
    if numbers.size and not (numbers[0] >= 0 and (numbers[1:] > numbers[:-1]).all()):
        message = f"{what} must be rising numbers >= 0."
        raise InvalidBatch(message)


def check_held(what: str, features: np.ndarray, width: np.ndarray) -> None:
    """Refuse features held that do not rise, or are not below the width.

    Raises:
        InvalidBatch: they are not.
    """
    check_rising(f"{what}.features", features)
    if features.size and features[-1] >= width:
        message = f"{what}.features must be below {int(width)}; got {features[-1]}."
        raise InvalidBatch(message)


def spread(model: Held, values: np.ndarray) -> np.ndarray:
    """Return values (d, …) of all features, 0 of those not held, from those of the features held (r, …)."""
    if len(model.features) == int(model.width):
        return values
    out = np.zeros((int(model.width), *values.shape[1:]))
    out[model.features] = values
    return out
