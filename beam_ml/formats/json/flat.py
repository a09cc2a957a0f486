"""JSON messages of one flat object whose wanted fields are numbers: each is found on its own, and all are read at once."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_ml.formats.json.arrow import Part
from beam_ml.formats.json.text import quoted
from beam_ml.formats.json.values import Column, convert
from beam_ml.formats.mixed import EXACT
from beam_ml.kernels.json import numbers as kernel

__all__ = ["numbers"]

_AT_ONCE = 1 << 18
"""Numbers that are looked for together."""


def numbers(values: pa.Array, columns: Sequence[Column]) -> tuple[list[Part], np.ndarray]:
    """Read the messages that can be read so; return their parts, and the (m,) int64 numbers of those that are left.

    A message is left where it is no object, or has white space around it, anything within another, a letter beyond ASCII, an
    escape, a wanted field twice or one that is no number, and where a number is one that only a look at its own value can
    decide on. What is left depends on itself alone.

    Args:
        values: binary, without nulls.
        columns: those wanted.

    >>> messages = pa.array([b'{"x": 1.5}', b'{"x": "a"}', b'{"y": 2}'])
    >>> parts, left = numbers(messages, [Column("x", "number", None)])
    >>> parts[0].arrays[0].to_pylist(), parts[0].message.tolist(), left.tolist()
    ([1.5, None], [0, 2], [1])
    """
    everything = np.arange(len(values))
    if not len(values) or not columns or not all(map(_fits, columns)):
        return [], everything
    names = [quoted(one.name)[1:-1].encode(errors="replace") for one in columns]
    if any(b"\\" in name for name in names):
        return [], everything
    bounds = np.cumsum([0, *map(len, names)])
    joined = np.frombuffer(b"".join(names), np.uint8)
    _, places, text = values.buffers()
    if text is None:
        return [], everything
    wide = pa.types.is_large_binary(values.type)
    offsets = np.frombuffer(places, np.int64 if wide else np.int32)[values.offset : values.offset + len(values) + 1]
    starts, data = offsets.astype(np.int64), np.frombuffer(text, np.uint8)
    parts: list[Part] = []
    left = [everything[:0]]
    step = max(1, _AT_ONCE // len(columns))
    for i in range(0, len(values), step):
        part, rest = _some(data, starts[i : i + step + 1], joined, bounds, columns)
        parts.append(dataclasses.replace(part, message=part.message + i))
        left.append(rest + i)
    return parts, np.concatenate(left)


def _fits(column: Column) -> bool:
    """Return whether any number is a value of a column, be it whole."""
    return column.kind == "number" and not column.category and column.target in (None, pa.float64())


def _some(
    data: np.ndarray, starts: np.ndarray, names: np.ndarray, bounds: np.ndarray, columns: Sequence[Column]
) -> tuple[Part, np.ndarray]:
    shape = len(starts) - 1, len(columns)
    packed, offsets = (
        np.empty(int(starts[-1] - starts[0]) + shape[0] * shape[1], np.uint8),
        np.empty(shape[0] * shape[1] + 1, np.int64),
    )
    there, fits = np.empty(shape, bool), np.empty(shape[0], bool)
    n = kernel.find(data, starts, names, bounds, packed, offsets, there, fits)
    good = np.flatnonzero(fits)
    there = there if n == shape[0] else there[good]
    parts = [None, pa.py_buffer(offsets), pa.py_buffer(packed)]
    texts = pa.Array.from_buffers(pa.large_string(), n * shape[1], parts)
    read = texts.cast(pa.float64()).to_numpy().reshape(n, shape[1])
    table, sound = np.ascontiguousarray(read.T), np.ones(n, bool)
    for numbers_of, column in zip(table, columns, strict=True):
        sound &= np.abs(numbers_of) < (EXACT if column.target is None else np.inf)
    if not sound.all():
        fits[good[~sound]] = False
        good, table, there = good[sound], table[:, sound], there[sound]
    full = there.all()
    arrays = [
        convert(pa.array(table[j], mask=None if full else ~there[:, j]), column) for j, column in enumerate(columns)
    ]
    return Part(arrays, good, np.zeros(len(good), np.int64)), np.flatnonzero(~fits)
