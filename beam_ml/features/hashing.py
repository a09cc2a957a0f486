"""Categories by hash: one indicator per value, in a space of fixed size, with no dictionary to learn or to keep.

A whole number is mixed by SplitMix64's finaliser (Steele, Lea and Flood 2014), a text goes through BLAKE2b of its UTF-8
bytes: equal on every machine and in every process. A text or a float that spells a whole number counts as that number:
formats without types read one column as numbers in one block and as text in the next. Nothing is a category of its own:
null, NaN and the empty text, which CSV cannot tell apart. Two values that collide share their weight (Weinberger et al.
2009). Letters: ``n`` rows.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field

from beam_ml.core.mixing import mix64
from beam_ml.core.spec import Settings
from beam_ml.features.columns import Name, column, name_of, wrong
from beam_ml.features.entries import Entries
from beam_ml.features.rules import Rule, inexact

__all__ = [
    "CROWDED",
    "EXACT",
    "MOST_PLACES",
    "Buckets",
    "Hashed",
    "HashedTerm",
    "codes_of",
    "codes_of_values",
    "hashed_words",
    "placed",
    "places_for",
    "sharing",
]

MOST_PLACES = 1 << 16
"""Places of a column whose buckets are not given, unless a job has chosen fewer."""
CROWDED = 0.1
"""Share of a column's values that share their place from which it is named."""
_FEWEST_PLACES, _SPARE = 1 << 10, 64

_SHORT = "^-?0*[0-9]{1,18}$"
"""A whole number that is surely within int64."""
_WHOLE = re.compile(rb"-?0*[0-9]{1,20}")
_LEAST, _BITS = -(1 << 63), (1 << 64) - 1
EXACT = 2.0**53
"""A float64 from here on stands for several whole numbers."""
_NOTHING = np.uint64(int.from_bytes(hashlib.blake2b(b"", digest_size=8).digest(), "little"))
"""What stands for a value that is missing: the code of the empty text."""


Buckets = Annotated[
    int | None,
    Field(
        ge=1, le=1 << 26,
        description="places that values are hashed to; none: a job chooses by the values in its files or topic, once, and "
        "otherwise there are 65536",
    ),
]  # fmt: skip
"""How many places values are hashed to."""


class Hashed(Settings):
    """One indicator feature a value of a column, in one of `buckets` places by hash.

    >>> Hashed(column="shop").places, Hashed(column="card", buckets=1000).places
    (65536, 1000)
    """

    column: Name
    buckets: Buckets = None

    @property
    def places(self) -> int:
        """The places that values are hashed to."""
        return MOST_PLACES if self.buckets is None else self.buckets

    @property
    def is_hashed(self) -> bool:
        """Whether values are hashed: always."""
        return True

    @property
    def name(self) -> str:
        """What the field is called."""
        return self.column

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read."""
        return (self.column,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features: those of their places."""
        return tuple(f"{self.column}#{i}" for i in range(self.places))

    def codes(self, batch: pa.RecordBatch) -> tuple[np.ndarray, tuple[Rule, ...]]:
        """Return 64 bits that stand for each row's value, (n,) uint64, and the rules that rows break."""
        codes, refused = codes_of(batch, self.column, "Features.hashed")
        return codes, () if refused is None else (inexact(self.column, refused),)

    def entries(self, batch: pa.RecordBatch) -> Entries:
        """Return the place of each row's value.

        Raises:
            MissingColumn: the column is absent, or holds neither numbers nor text.
        """
        codes, rules = self.codes(batch)
        return Entries(placed(codes, self.places), rules=rules)


def _spelled_out(value: Any) -> Any:
    """Let a bare column name mean one whose buckets are not given."""
    name = name_of(value)
    return {"column": name} if isinstance(name, str) else value


HashedTerm = Annotated[Hashed, BeforeValidator(_spelled_out)]
"""One column of categories. A bare string is one whose buckets are not given."""


def places_for(seen: int) -> int:
    """Return how many places a column gets of which some values were seen: a power of two, 64 times as many or more.

    Then about 1 in 64 values seen shares its place. Never fewer than 1,024, since more values come, and never more than
    65,536. Places that no value has cost nothing where learners and models are stored.

    >>> [places_for(seen) for seen in (0, 11, 100, 1_000_000)]
    [1024, 1024, 8192, 65536]
    """
    return min(max(1 << (_SPARE * seen - 1).bit_length() if seen else 1, _FEWEST_PLACES), MOST_PLACES)


def sharing(seen: int, places: int) -> float:
    """Return which share of the values seen is expected to share its place with another: ``1 − (1 − 1/m)^(n − 1)``.

    >>> round(sharing(100, 8192), 4), sharing(1, 1024)
    (0.012, 0.0)
    """
    return 1.0 - (1.0 - 1.0 / places) ** max(seen - 1, 0)


def placed(codes: np.ndarray, places: int) -> np.ndarray:
    """Return the place of each code, (n,) int64."""
    return (codes % np.uint64(places)).astype(np.int64)


def codes_of(batch: pa.RecordBatch, name: str, field: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return 64 bits that stand for each row's value, (n,) uint64, and which are refused, (n,) bool; None: none.

    Refused are decimals and floats that are not whole, and floats not below 2⁵³, which stand for several numbers. Null
    and NaN have the code of the empty text.

    Args:
        batch: n rows.
        name: the column.
        field: the setting that names it, for the message.

    Raises:
        MissingColumn: the column is absent, or holds neither numbers nor text.

    >>> rows = pa.record_batch({"shop": ["a", "7", "a"], "card": [1, 7, None]})
    >>> shops, refused = codes_of(rows, "shop", "Features.hashed")
    >>> bool(shops[0] == shops[2] != shops[1]), refused is None
    (True, True)
    >>> bool(codes_of(rows, "card", "Features.hashed")[0][1] == shops[1])
    True
    """
    wanted = "a whole number or text"
    array = column(batch, name, field, wanted)
    kind, types = array.type, pa.types
    refused = None
    if types.is_null(kind):
        return np.full(len(array), _NOTHING), None
    if types.is_boolean(kind) or types.is_integer(kind):
        whole = array.cast(pa.uint8()) if types.is_boolean(kind) else array
        numbers = whole.fill_null(0).to_numpy(zero_copy_only=False)
        codes = mix64(numbers.astype(np.uint64))
        if array.null_count:
            codes[array.is_null().to_numpy(zero_copy_only=False)] = _NOTHING
    elif types.is_floating(kind):
        reals = array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)  # null: NaN
        nothing = np.isnan(reals)
        inexact = ~nothing & ((np.trunc(reals) != reals) | ~(np.abs(reals) < EXACT))
        refused = inexact if inexact.any() else None
        codes = mix64(np.where(nothing | inexact, 0.0, reals).astype(np.int64).astype(np.uint64))
        codes[nothing] = _NOTHING
    elif types.is_decimal(kind):
        coded = array.dictionary_encode()
        values = [*coded.dictionary.to_pylist(), None]
        at = coded.indices.fill_null(len(values) - 1).to_numpy()
        broken = np.array([one is not None and one != int(one) for one in values])
        refused = broken[at] if broken[at].any() else None
        codes = _of_texts(pa.array([b"" if one is None else str(int(one)) for one in values], pa.large_binary()))[at]
    elif types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        coded = array.cast(pa.large_binary()).fill_null(b"").dictionary_encode()
        codes = _of_texts(coded.dictionary)[coded.indices.to_numpy()]
    else:
        raise wrong(name, field, wanted, kind)
    return codes, refused


def codes_of_values(values: Sequence[Any]) -> np.ndarray:
    """Return the codes of texts, whole numbers and truth values, (v,) uint64, as columns of them have.

    >>> one, text, truth = codes_of_values([1, "1", True])
    >>> bool(one == text == truth)
    True
    """
    texts = [one if isinstance(one, str) else str(int(one)) for one in values]
    return _of_texts(pa.array(texts, pa.string()).cast(pa.large_binary()))


def _of_texts(texts: pa.LargeBinaryArray) -> np.ndarray:
    """Return the codes of different texts, (v,) uint64: mixed numbers where they spell whole ones, else BLAKE2b."""
    codes, short = np.empty(len(texts), dtype=np.uint64), pc.match_substring_regex(texts, _SHORT)
    whole = short.to_numpy(zero_copy_only=False).copy()
    codes[whole] = texts.filter(short).cast(pa.large_string()).cast(pa.int64()).to_numpy().astype(np.uint64)
    for i, text in zip(np.flatnonzero(~whole), texts.filter(pc.invert(short)).to_pylist(), strict=True):
        if _WHOLE.fullmatch(text) and _LEAST <= (number := int(text)) <= _BITS:
            codes[i], whole[i] = number & _BITS, True
        else:
            codes[i] = _digest(text)
    return np.where(whole, mix64(codes.copy()), codes)


def hashed_words(words: pa.LargeBinaryArray) -> np.ndarray:
    """Return the codes of different words, (v,) uint64: BLAKE2b of each, also where it spells a number."""
    return np.fromiter(map(_digest, words.to_pylist()), dtype=np.uint64, count=len(words))


def _digest(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
