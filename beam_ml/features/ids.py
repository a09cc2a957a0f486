"""A column of ids as texts, equal where the ids are: formats without types read one column as numbers and as text."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.core.mixing import mix64
from beam_ml.errors import MissingColumn
from beam_ml.features.columns import column, is_text
from beam_ml.features.hashing import EXACT, codes_of

__all__ = ["MOST_CHARS", "Ids", "ids_of", "shards_of"]

MOST_CHARS = 1_024
"""Longest id."""
_NUMBER = r"^-?[0-9]+$"
_WANTED = "a whole number or text"


class Ids(NamedTuple):
    """A column of ids.

    Attributes:
        texts: (n,) large_string, empty where there is no id to use.
        broken: reason → (n,) bool, where a row has none.
    """

    texts: pa.Array
    broken: dict[str, np.ndarray]


def ids_of(batch: pa.RecordBatch, name: str, field: str) -> Ids:
    """Return a column of ids. A text or a float that spells a whole number is that number; white space is kept.

    Raises:
        MissingColumn: the column is absent, or holds neither numbers nor text.

    >>> found = ids_of(pa.record_batch({"tx": ["7", "007", "a", None]}), "tx", "LateLabels.id")
    >>> found.texts.to_pylist(), {why: rows.tolist() for why, rows in found.broken.items()}
    (['7', '7', 'a', ''], {'missing id': [False, False, False, True]})
    """
    array = column(batch, name, field, _WANTED)
    kind, types = array.type, pa.types
    inexact = np.zeros(len(array), dtype=bool)
    if types.is_null(kind):
        texts = pa.nulls(len(array), pa.large_string())
    elif types.is_boolean(kind) or types.is_integer(kind):
        texts = (array.cast(pa.uint8()) if types.is_boolean(kind) else array).cast(pa.large_string())
    elif types.is_floating(kind):
        reals = array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)  # null: NaN
        nothing = np.isnan(reals)
        inexact = ~nothing & ((np.trunc(reals) != reals) | ~(np.abs(reals) < EXACT))
        whole = np.where(nothing | inexact, 0.0, reals).astype(np.int64)
        texts = pa.array(whole, mask=nothing).cast(pa.large_string())
    elif types.is_decimal(kind):
        values = array.to_pylist()
        inexact = np.array([one is not None and one != one.to_integral_value() for one in values], dtype=bool)
        texts = pa.array(
            [None if one is None or odd else str(int(one)) for one, odd in zip(values, inexact, strict=True)],
            pa.large_string(),
        )
    elif is_text(kind):
        texts = _plain(array.cast(pa.large_string()))
    else:
        message = f"{field} names the column {name!r}, which must be {_WANTED}; got {kind}."
        raise MissingColumn(message)
    texts = pc.fill_null(texts, "")
    long = np.asarray(pc.greater(pc.utf8_length(texts), MOST_CHARS))
    missing = np.asarray(pc.equal(texts, "")) & ~inexact
    reasons = {
        "missing id": missing,
        "id is not an exact whole number": inexact,
        f"id above {MOST_CHARS} characters": long,
    }
    broken = {reason: rows for reason, rows in reasons.items() if rows.any()}
    return Ids(pc.if_else(pa.array(long), "", texts) if long.any() else texts, broken)


def _plain(texts: pa.Array) -> pa.Array:
    """Write whole numbers as numbers are written: without zeros in front, and without the sign of 0."""
    numbers = np.asarray(pc.fill_null(pc.match_substring_regex(texts, _NUMBER), False))
    if not numbers.any():
        return texts
    plain = pc.replace_substring_regex(texts, r"^(-?)0*([0-9]+)$", r"\1\2")
    return pc.if_else(pa.array(numbers), pc.if_else(pc.equal(plain, "-0"), "0", plain), texts)


def shards_of(batch: pa.RecordBatch, name: str, field: str, n_shards: int) -> np.ndarray:
    """Return the shard of each row by its id, (n,) int64 in [0, n_shards): equal ids have equal shards.

    >>> at = shards_of(pa.record_batch({"tx": ["7", "007", "a"]}), "tx", "LateLabels.id", 4)
    >>> bool(at[0] == at[1])
    True
    """
    texts = pa.record_batch({"id": ids_of(batch, name, field).texts})
    codes, _ = codes_of(texts, "id", field)
    # Mixed again: what hashes the same ids into buckets must not find only every n-th of them in a shard.
    return (mix64(codes.copy()) % np.uint64(n_shards)).astype(np.int64)
