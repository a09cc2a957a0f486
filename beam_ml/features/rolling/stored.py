"""Rows as plain arrays and back; what is read is checked before it is used."""

from typing import Any

import numpy as np

from beam_ml.artefact.envelope import decode, encode
from beam_ml.errors import CorruptArtefact
from beam_ml.features.rolling.layout import Layout, layout_of
from beam_ml.features.rolling.rows import Rows, Tag
from beam_ml.features.rolling.spec import Rolling
from beam_ml.features.rolling.texts import Texts

__all__ = ["arrays_of", "rows_from", "rows_from_bytes", "rows_to_bytes", "taken", "texts_from"]

_KIND = "rolling_rows"
_VECTORS = {"time": np.int64, "place": np.int64, "tag": np.int32, "row": np.int32, "key": np.uint64}
_LANES = {"numbers": np.float64, "codes": np.uint64, "clocks": np.int64}


def arrays_of(rows: Rows, prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays of rows, and of their texts."""
    arrays = {f"{prefix}{name}": getattr(rows, name) for name in (*_VECTORS, *_LANES)}
    return arrays | {f"texts/{name}": values for name, values in rows.texts.to_arrays().items()}


def taken(left: dict[str, np.ndarray], name: str, dtype: Any, *shape: int) -> np.ndarray:
    """Take an array out of those left: of a dtype, and any number of entries of a shape.

    Raises:
        CorruptArtefact: it is absent or another.
    """
    array = left.pop(name, None)
    if array is None or array.dtype != dtype or array.shape[1:] != shape or array.ndim != 1 + len(shape):
        got = "none" if array is None else f"{array.dtype} {array.shape}"
        message = f"The rolling state must have {np.dtype(dtype)} entries of shape {shape} in {name}; got {got}."
        raise CorruptArtefact(message)
    return array


def texts_from(left: dict[str, np.ndarray]) -> Texts:
    """Take the texts out of the arrays left.

    Raises:
        CorruptArtefact: they are none.
    """
    codes, utf8 = taken(left, "texts/codes", np.uint64), taken(left, "texts/utf8", np.uint8)
    return Texts.from_arrays(codes, utf8, taken(left, "texts/ends", np.int64))


def rows_from(layout: Layout, tags: Any, left: dict[str, np.ndarray], prefix: str, texts: Texts) -> Rows:
    """Take rows out of the arrays left.

    Raises:
        CorruptArtefact: they are no rows of the layout.
    """
    if not isinstance(tags, list) or not all(
        isinstance(tag, list) and len(tag) == 3 and all(isinstance(text, str) for text in tag) for tag in tags
    ):
        message = "The rolling state's tags must be lists of three texts."
        raise CorruptArtefact(message)
    vectors = {name: taken(left, prefix + name, dtype) for name, dtype in _VECTORS.items()}
    n, lanes = vectors["time"].size, dict[str, np.ndarray]()
    counts = (len(layout.numbers), len(layout.codes), len(layout.clocks))
    for (name, dtype), count in zip(_LANES.items(), counts, strict=True):
        lanes[name] = taken(left, prefix + name, dtype, n)
        if len(lanes[name]) != count:
            message = f"The rolling state must have {count} lanes of {prefix}{name}; got {len(lanes[name])}."
            raise CorruptArtefact(message)
    tag, row = vectors["tag"], vectors["row"]
    if any(values.size != n for values in vectors.values()) or (
        n and (tag.min() < 0 or tag.max() >= len(tags) or row.min() < 0)
    ):
        message = "The rolling state's waiting rows must have one length, and tags that there are."
        raise CorruptArtefact(message)
    return Rows(**vectors, **lanes, tags=tuple(Tag(*tag) for tag in tags), texts=texts)


def rows_to_bytes(rows: Rows) -> bytes:
    """Return rows as bytes, as they travel from where they are read to their shard."""
    return encode(_KIND, {"tags": [list(tag) for tag in rows.tags]}, arrays_of(rows, ""))


def rows_from_bytes(spec: Rolling, key: int, data: bytes) -> Rows:
    """Read the bytes of `rows_to_bytes`.

    Args:
        spec: of the windows.
        key: number of the rows' key.
        data: the bytes.

    Raises:
        CorruptArtefact: they are not whole, or no rows of that key.

    >>> from beam_ml.features.rolling.rows import no_rows
    >>> spec = Rolling(time="ts", aggregates=[{"key": "card", "of": "count", "windows": ["1d"]}])
    >>> len(rows_from_bytes(spec, 0, rows_to_bytes(no_rows(layout_of(spec, 0)))))
    0
    """
    found = decode(data, _KIND)
    left = dict(found.arrays)
    return rows_from(layout_of(spec, key), found.meta.get("tags"), left, "", texts_from(left))
