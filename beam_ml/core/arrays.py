"""Array dataclasses: frozen records of numpy arrays whose annotations carry dtype and shape.

``Float64[np.ndarray, "d d"]`` says: float64, two axes of one length. From that one line this module derives validation,
a dict of arrays and back, byte size, tolerance equality and the wire schema.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar, dataclass_transform

import numpy as np

from beam_ml.errors import CorruptArtefact, InvalidBatch

__all__ = [
    "ArrayField",
    "array_dataclass",
    "array_fields",
    "axis_lengths",
    "check_code",
    "close",
    "from_arrays",
    "identical",
    "nbytes",
    "schema",
    "to_arrays",
]


T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class ArrayField:
    """Name, numpy dtype and axes of one field; an axis is a letter or a fixed length."""

    name: str
    dtype: np.dtype[Any]
    axes: tuple[str | int, ...]
    text: str


def _axes(dim_str: str) -> tuple[str | int, ...]:
    return tuple(int(axis) if axis.isdigit() else axis for axis in dim_str.split())


_FIELDS = "__array_fields__"


@dataclass_transform(frozen_default=True)
def array_dataclass(cls: type[T]) -> type[T]:
    """Make a frozen dataclass of arrays: checked when built, arrays read-only, compared with `close` or `identical`.

    A `__post_init__` of the class runs after the checks of dtypes and shapes, and raises `InvalidBatch` at wrong values.
    """
    fields: list[ArrayField] = []
    check_values = cls.__dict__.get("__post_init__")

    def __post_init__(self: Any) -> None:
        lengths: dict[str, int] = {}
        for spec in fields:
            given = getattr(self, spec.name)
            array = np.asarray(given)
            if array.dtype != spec.dtype:
                message = f"{cls.__name__}.{spec.name} must be {spec.dtype}; got {array.dtype}."
                raise InvalidBatch(message)
            if array.ndim != len(spec.axes):
                message = f"{cls.__name__}.{spec.name} must have axes {spec.axes}; got shape {array.shape}."
                raise InvalidBatch(message)
            for axis, length in zip(spec.axes, array.shape, strict=True):
                wanted = axis if isinstance(axis, int) else lengths.setdefault(axis, length)
                if length != wanted:
                    message = f"{cls.__name__}.{spec.name} must have {axis} = {wanted}; got shape {array.shape}."
                    raise InvalidBatch(message)
            frozen = array.view()
            frozen.flags.writeable = False
            object.__setattr__(self, spec.name, frozen)
        if check_values is not None:
            check_values(self)

    # Set before dataclass(): the __init__ it writes calls __post_init__ only if there is one by then.
    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    made = dataclasses.dataclass(frozen=True, eq=False)(cls)
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        kind = field.type
        if not (hasattr(kind, "dim_str") and hasattr(kind, "dtypes")):
            message = f"{cls.__name__}.{field.name} must be annotated with a jaxtyping array type; got {kind!r}."
            raise TypeError(message)
        text = str(field.metadata.get("text", ""))
        fields.append(ArrayField(field.name, np.dtype(kind.dtypes[0]), _axes(kind.dim_str), text))
    setattr(made, _FIELDS, tuple(fields))
    return made


def array_fields(kind: Any) -> tuple[ArrayField, ...]:
    """Return the fields of an array dataclass (class or instance), in order of declaration."""
    fields: tuple[ArrayField, ...] = getattr(kind, _FIELDS)
    return fields


def to_arrays(value: Any) -> dict[str, np.ndarray]:
    """Return the arrays by name."""
    return {field.name: getattr(value, field.name) for field in array_fields(value)}


def from_arrays(kind: type[T], arrays: Mapping[str, np.ndarray]) -> T:
    """Build from arrays by name; refuse missing, surplus or misshapen ones.

    Raises:
        CorruptArtefact: the arrays are not exactly what the class declares.
    """
    names = {field.name for field in array_fields(kind)}
    if set(arrays) != names:
        message = f"{kind.__name__} must have the arrays {sorted(names)}; got {sorted(arrays)}."
        raise CorruptArtefact(message)
    try:
        return kind(**arrays)
    except InvalidBatch as error:
        raise CorruptArtefact(str(error)) from error


def check_code(what: str, value: np.ndarray, known: Collection[int]) -> None:
    """Refuse a number () that stands for one of some choices and is none of them.

    Raises:
        InvalidBatch: it is not.
    """
    if int(value) not in known:
        message = f"{what} must be one of {sorted(known)}; got {int(value)}."
        raise InvalidBatch(message)


def axis_lengths(value: Any) -> dict[str, int]:
    """Return the length of each axis that has a letter."""
    return {
        axis: length
        for field in array_fields(value)
        for axis, length in zip(field.axes, getattr(value, field.name).shape, strict=True)
        if isinstance(axis, str)
    }


def nbytes(value: Any) -> int:
    """Return the bytes that the arrays hold."""
    return sum(int(getattr(value, field.name).nbytes) for field in array_fields(value))


def close(a: Any, b: Any, rtol: float = 1e-9, atol: float = 1e-12) -> bool:
    """Return whether two array dataclasses agree: same class and shapes, values within tolerance (NaN equals NaN).

    `rtol` is relative to the largest magnitude in each array: sums of rows carry that error in every entry.
    """
    if type(a) is not type(b):
        return False
    for field in array_fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if x.shape != y.shape:
            return False
        if x.dtype.kind == "f":
            finite = np.abs(x[np.isfinite(x)])
            span = float(finite.max()) if finite.size else 0.0
            if not np.allclose(x, y, rtol=rtol, atol=atol + rtol * span, equal_nan=True):
                return False
        elif not np.array_equal(x, y):
            return False
    return True


def identical(a: Any, b: Any) -> bool:
    """Return whether two array dataclasses agree to the last bit."""
    if type(a) is not type(b):
        return False
    pairs = ((getattr(a, f.name), getattr(b, f.name)) for f in array_fields(a))
    return all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs)


def schema(kind: Any) -> dict[str, Any]:
    """Return the wire schema: name → dtype, axes and meaning."""
    return {
        field.name: {
            "dtype": str(field.dtype),
            "axes": list(field.axes),
            **({"text": field.text} if field.text else {}),
        }
        for field in array_fields(kind)
    }
