"""Categories as numbers: as one code, by hash, as the numbers that spell their text, or as the mean of their labels.

What learns of categories reads these. A code says which values are equal, and nothing else: enough to count them. A
vocabulary needs the texts themselves, and a batch holds numbers alone: so `spell` writes texts as numbers
(`beam_ml.core.spelling`), and rows travel, are sampled and are stored as any others. Letters: ``n`` rows, ``s`` numbers of
a text.
"""

import functools
import re
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from beam_ml.core.mixing import places_of
from beam_ml.core.spec import Settings
from beam_ml.core.spelling import MOST_BYTES, WIDTH, spell
from beam_ml.features.columns import Name, column, is_text
from beam_ml.features.hashing import codes_of
from beam_ml.features.rules import Rule, inexact

__all__ = ["CATEGORIES", "Coded", "Spelled", "Targeted"]

_FIELD = "Features.numeric"
_KEPT = np.uint64(11)
_PADDED = re.compile(r"-?0\d{1,19}|-0")


class Coded(Settings):
    """A category as a whole number below 2⁵³: the first 53 bits of the code that hashed columns have.

    Equal values have equal codes, a text that spells a whole number and that number among them; a missing value is the
    empty text.

    >>> shop = Coded(column="shop", transform="code")
    >>> values, rules = shop.read(pa.record_batch({"shop": ["7", "a", None, "7"]}))
    >>> bool(values[0, 0] == values[3, 0] != values[1, 0]), values.shape, rules
    (True, (4, 1), [])
    """

    column: Name
    transform: Literal["code"]

    @property
    def name(self) -> str:
        """What the number is called."""
        return f"code({self.column})"

    @property
    def names(self) -> tuple[str, ...]:
        """The name of its feature."""
        return (self.name,)

    def read(self, batch: pa.RecordBatch) -> tuple[np.ndarray, list[Rule]]:
        """Return the codes (n, 1) float64, and the rules that rows break.

        Raises:
            MissingColumn: the column is absent, or holds neither numbers nor text.
        """
        return _codes(batch, self.column)


class Targeted(Settings):
    """A category as the mean of the labels that its rows had: what a model of `target` has learned, of its code.

    A place of `values` may stand for several categories, and for those that were never seen.

    >>> shop = Targeted(column="shop", transform="target", values=[0.25, 0.75])
    >>> values, rules = shop.read(pa.record_batch({"shop": ["7", "a", None, "7"]}))
    >>> bool(values[0, 0] == values[3, 0]), set(values.ravel()) <= {0.25, 0.75}, shop.names
    (True, True, ('target(shop)',))
    """

    column: Name
    transform: Literal["target"]
    values: Annotated[
        tuple[float, ...],
        Field(
            min_length=2, max_length=65_536,
            description="by place of the category: `Model.target` of a trained model. Rows that taught it may not be "
            "encoded by it: their own labels are in it",
        ),
    ]  # fmt: skip

    @property
    def name(self) -> str:
        """What the number is called."""
        return f"target({self.column})"

    @property
    def names(self) -> tuple[str, ...]:
        """The name of its feature."""
        return (self.name,)

    def read(self, batch: pa.RecordBatch) -> tuple[np.ndarray, list[Rule]]:
        """Return the means (n, 1) float64, and the rules that rows break.

        Raises:
            MissingColumn: the column is absent, or holds neither numbers nor text.
        """
        codes, rules = _codes(batch, self.column)
        return self._table[places_of(codes, len(self.values))], rules

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """The values, once for all batches."""
        return np.array(self.values)


class Spelled(Settings):
    """A category as the numbers that spell its text, six bytes each.

    A whole number is the text of its digits, a truth value 1 or 0, a missing value the empty text. A text of more bytes is
    counted, and known by no vocabulary.

    >>> shop = Spelled(column="shop", transform="spell", bytes=12)
    >>> shop.names
    ('spell(shop)', 'spell(shop)+6')
    >>> from beam_ml.core.spelling import read
    >>> read(shop.read(pa.record_batch({"shop": ["a shop", "007", None]}))[0])
    ['a shop', '7', '']
    """

    column: Name
    transform: Literal["spell"]
    bytes: Annotated[
        int,
        Field(
            ge=WIDTH, le=MOST_BYTES, multiple_of=WIDTH,
            description="the longest text, in bytes of UTF-8: a multiple of 6",
        ),
    ] = 24  # fmt: skip

    @property
    def name(self) -> str:
        """What the first of its numbers is called."""
        return f"spell({self.column})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features."""
        return (self.name, *(f"{self.name}+{start}" for start in range(WIDTH, self.bytes, WIDTH)))

    def read(self, batch: pa.RecordBatch) -> tuple[np.ndarray, list[Rule]]:
        """Return the numbers (n, s) float64, and the rules that rows break.

        Raises:
            MissingColumn: the column is absent, or holds neither numbers nor text.
        """
        _, refused = codes_of(batch, self.column, _FIELD)
        texts = _texts(column(batch, self.column, _FIELD, "a whole number or text"), refused)
        coded = texts.dictionary_encode()
        listed = coded.dictionary
        padded = pc.match_substring_regex(listed, f"^({_PADDED.pattern})$")
        if pc.any(padded).as_py():
            listed = pa.array([str(int(one)) if _PADDED.fullmatch(one) else one for one in listed.to_pylist()])
        listed = listed.cast(pa.large_binary())
        offsets = np.frombuffer(listed.buffers()[1], np.int64)[listed.offset : listed.offset + len(listed) + 1]
        data = np.frombuffer(listed.buffers()[2] or b"", np.uint8)
        rules = [] if refused is None else [inexact(self.column, refused)]
        return spell(data, offsets, self.bytes)[coded.indices.to_numpy()], rules


def _codes(batch: pa.RecordBatch, name: str) -> tuple[np.ndarray, list[Rule]]:
    """Return the codes of a column's values, (n, 1) float64, and the rules that rows break."""
    codes, refused = codes_of(batch, name, _FIELD)
    rules = [] if refused is None else [inexact(name, refused)]
    return (codes >> _KEPT).astype(np.float64)[:, None], rules


CATEGORIES = (Coded, Spelled, Targeted)
"""The terms that read a column of categories as numbers."""


def _texts(array: pa.Array, refused: np.ndarray | None) -> pa.Array:
    """Return a column as texts, "" where a value is missing or refused."""
    kind, types = array.type, pa.types
    if refused is not None:
        array = pc.if_else(pa.array(refused), pa.scalar(None, kind), array)
    if types.is_floating(kind):
        whole = np.nan_to_num(array.to_numpy(zero_copy_only=False).astype(np.float64)).astype(np.int64)
        missing = pc.or_kleene(pc.is_null(array), pc.is_nan(array.fill_null(np.nan)))
        array = pc.if_else(missing, pa.scalar(None, pa.int64()), pa.array(whole))
    elif types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif types.is_decimal(kind):
        array = pa.array([None if one is None else str(int(one)) for one in array.to_pylist()], pa.large_string())
    texts = array if is_text(array.type) else array.cast(pa.large_string())
    return pc.fill_null(texts.cast(pa.large_string()), "")
