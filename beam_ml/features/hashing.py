"""Categories by hash: one indicator per value, in a space of fixed size, with no dictionary to learn or to keep.

A whole number is mixed by SplitMix64's finaliser (Steele, Lea and Flood 2014), a text goes through BLAKE2b of its UTF-8
bytes: equal on every machine and in every process. A text or a float that spells a whole number counts as that number:
formats without types read one column as numbers in one block and as text in the next. Two values that collide share
their weight (Weinberger et al. 2009). Letters: ``n`` rows.
"""

import hashlib
import re
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field

from beam_ml.core.mixing import mix64
from beam_ml.core.spec import Settings
from beam_ml.errors import MissingColumn
from beam_ml.features.columns import column

__all__ = ["Hashed", "HashedTerm", "buckets_of"]

_SHORT = "^-?0*[0-9]{1,18}$"
"""A whole number that is surely within int64."""
_WHOLE = re.compile(rb"-?0*[0-9]{1,20}")
_LEAST, _BITS = -(1 << 63), (1 << 64) - 1
_EXACT = 2.0**53  # a float64 from here on stands for several whole numbers


class Hashed(Settings):
    """One indicator feature a value of a column, in one of `buckets` places by hash.

    >>> Hashed(column="shop").buckets
    65536
    """

    column: str
    buckets: Annotated[int, Field(ge=1, le=1 << 26, description="places that values are hashed to")] = 1 << 16


def _spelled_out(value: Any) -> Any:
    """Let a bare column name mean the default number of buckets."""
    return {"column": value} if isinstance(value, str) else value


HashedTerm = Annotated[Hashed, BeforeValidator(_spelled_out)]
"""One column of categories. A bare string is one with the default number of buckets."""


def buckets_of(batch: pa.RecordBatch, term: Hashed, field: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the place of each row's value, (n,) int64 in [0, buckets), and where there is none.

    That is where it is null, or a float that is not whole, or not below 2⁵³, where it stands for several numbers.

    Raises:
        MissingColumn: the column is absent, or holds neither numbers nor text.

    >>> rows = pa.record_batch({"shop": ["a", "7", "a"], "card": [1, 7, None]})
    >>> shops, missing = buckets_of(rows, Hashed(column="shop", buckets=1000), "Features.hashed")
    >>> bool(shops[0] == shops[2] != shops[1]), missing is None
    (True, True)
    >>> cards, missing = buckets_of(rows, Hashed(column="card", buckets=1000), "Features.hashed")
    >>> bool(cards[1] == shops[1]), missing.tolist()
    (True, [False, False, True])
    """
    wanted = "a whole number or text"
    array = column(batch, term.column, field, wanted)
    kind, types = array.type, pa.types
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if types.is_null(kind):
        return np.zeros(len(array), dtype=np.int64), np.ones(len(array), dtype=bool)
    if types.is_boolean(kind) or types.is_integer(kind):
        whole = array.cast(pa.uint8()) if types.is_boolean(kind) else array
        numbers = whole.fill_null(0).to_numpy(zero_copy_only=False)
        mixed = mix64(numbers.astype(np.uint64))
    elif types.is_floating(kind):
        reals = array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)  # null: NaN
        none = (np.trunc(reals) != reals) | ~(np.abs(reals) < _EXACT)
        missing = none if none.any() else None
        mixed = mix64(np.where(none, 0.0, reals).astype(np.int64).astype(np.uint64))
    elif types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        coded = array.cast(pa.large_binary()).fill_null(b"").dictionary_encode()
        mixed = _of_texts(coded.dictionary)[coded.indices.to_numpy()]
    else:
        message = f"{field} names the column {term.column!r}, which must be {wanted}; got {kind}."
        raise MissingColumn(message)
    return (mixed % np.uint64(term.buckets)).astype(np.int64), missing


def _of_texts(texts: pa.LargeBinaryArray) -> np.ndarray:
    codes, short = np.empty(len(texts), dtype=np.uint64), pc.match_substring_regex(texts, _SHORT)
    whole = short.to_numpy(zero_copy_only=False).copy()
    codes[whole] = texts.filter(short).cast(pa.large_string()).cast(pa.int64()).to_numpy().astype(np.uint64)
    for i, text in zip(np.flatnonzero(~whole), texts.filter(pc.invert(short)).to_pylist(), strict=True):
        if _WHOLE.fullmatch(text) and _LEAST <= (number := int(text)) <= _BITS:
            codes[i], whole[i] = number & _BITS, True
        else:
            codes[i] = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return np.where(whole, mix64(codes.copy()), codes)
