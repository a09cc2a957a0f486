"""The factor on the weight of rows of class 1, as specs of two classes take it."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

__all__ = ["PositiveWeight"]


def _number_or_balanced(value: object) -> object:
    if value == "balanced":
        return value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < float("inf"):
        message = "must be a number > 0 or 'balanced'"
        raise ValueError(message)
    return number


PositiveWeight = Annotated[
    Annotated[float, Field(gt=0)] | Literal["balanced"],
    BeforeValidator(_number_or_balanced),
]
"""A number > 0; or balanced: the mass of class 0 over that of class 1."""
