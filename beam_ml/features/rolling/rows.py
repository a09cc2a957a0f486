"""`Rows`: what rolling windows need of a block's rows, as arrays, by key. Letters: ``n`` rows, ``l`` lanes, ``c`` clocks."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_ml.core.epochs import UnitOfNumbers
from beam_ml.core.mixing import GOLDEN, mix64
from beam_ml.core.rejects import Reject
from beam_ml.features.columns import numbers
from beam_ml.features.hashing import codes_of, codes_of_values
from beam_ml.features.rolling.layout import Layout, layout_of
from beam_ml.features.rolling.spec import Rolling
from beam_ml.features.rolling.texts import Texts
from beam_ml.features.times import EventTime, TimeColumn, Times, times_us
from beam_ml.formats.block import Block

__all__ = ["NEVER", "NOTHING", "Read", "Rows", "Tag", "concatenated", "no_rows", "rows_of"]

NEVER = np.iinfo(np.int64).max
"""The time of what has none: it is never known."""
NOTHING = codes_of_values([""])[0]
"""The code of a value that is missing, and of the empty text."""
_FIELD = "Rolling.aggregates"
_SHOWN = 200
"""Characters of a text that is shown of a rejected row."""


class Tag(NamedTuple):
    """Which block a row came from.

    Attributes:
        source: of the block's origin.
        partition: of the block's origin.
        block: what tells the blocks of one origin apart.
    """

    source: str
    partition: str
    block: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one key, as arrays.

    Attributes:
        time: (n,) int64 event times, µs since the epoch.
        place: (n,) int64 places within their origin: what decides between equal times.
        tag: (n,) int32 which of the tags each row has.
        row: (n,) int32 the row's number in its block.
        key: (n,) uint64 code of the key; NOTHING: it has none.
        numbers: (l, n) float64; NaN: missing.
        codes: (l, n) uint64; NOTHING: missing.
        clocks: (c, n) int64 further times, µs; NEVER: missing.
        tags: of the blocks.
        texts: of those codes that have to be spelled.
    """

    time: np.ndarray
    place: np.ndarray
    tag: np.ndarray
    row: np.ndarray
    key: np.ndarray
    numbers: np.ndarray
    codes: np.ndarray
    clocks: np.ndarray
    tags: tuple[Tag, ...]
    texts: Texts

    def __len__(self) -> int:
        return int(self.time.size)

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays, without the texts."""
        vectors = (self.time, self.place, self.tag, self.row, self.key, self.numbers, self.codes, self.clocks)
        return sum(int(values.nbytes) for values in vectors)

    def take(self, index: np.ndarray) -> "Rows":
        """Return some rows, by number or truth value."""
        if index.dtype == np.bool_:
            index = np.flatnonzero(index)
        if index.size == len(self) and np.array_equal(index, np.arange(index.size)):
            return self
        return dataclasses.replace(
            self,
            time=self.time[index],
            place=self.place[index],
            tag=self.tag[index],
            row=self.row[index],
            key=self.key[index],
            numbers=np.take(self.numbers, index, axis=1),
            codes=np.take(self.codes, index, axis=1),
            clocks=np.take(self.clocks, index, axis=1),
        )

    def shards(self, n_shards: int) -> "list[Rows]":
        """Return the rows of each shard of the key's hash, in their order; those without a key are in the first.

        >>> from beam_ml.features.rolling import Rolling
        >>> spec = Rolling(time="ts", aggregates=[{"key": "card", "of": "count", "windows": ["1d"]}])
        >>> block = Block(pa.record_batch({"ts": [10**15] * 1000, "card": range(1000)}))
        >>> [len(one) for one in rows_of(spec, block).rows[0].shards(2)]
        [520, 480]
        """
        if n_shards == 1:
            return [self]
        # Mixed again: what hashes the same keys into buckets must not find only every n-th of them in a shard.
        shard = (mix64(self.key.copy()) % np.uint64(n_shards)).astype(np.int64)
        shard[self.key == NOTHING] = 0
        order = np.argsort(shard, kind="stable")
        bounds = np.searchsorted(shard[order], np.arange(n_shards + 1))
        return [self.take(order[bounds[i] : bounds[i + 1]]) for i in range(n_shards)]


class Read(NamedTuple):
    """A block, read.

    Attributes:
        rows: of each key, all of the same rows.
        good: (n,) numbers of the block's rows that they are.
        rejected: the others, by reason.
    """

    rows: tuple[Rows, ...]
    good: np.ndarray
    rejected: tuple[Reject, ...]


def no_rows(layout: Layout) -> Rows:
    """Return no rows."""
    lanes = (len(layout.numbers), len(layout.codes), len(layout.clocks))
    return Rows(
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
        np.zeros(0, np.uint64),
        np.zeros((lanes[0], 0)),
        np.zeros((lanes[1], 0), np.uint64),
        np.zeros((lanes[2], 0), np.int64),
        (),
        Texts.empty(),
    )


def concatenated(pieces: Sequence[Rows]) -> Rows:
    """Return rows one after the other; there is at least one piece."""
    full = [one for one in pieces if len(one)]
    if len(full) <= 1:
        return full[0] if full else pieces[0]
    tags = tuple(sorted({tag for one in full for tag in one.tags}))
    number = {tag: i for i, tag in enumerate(tags)}
    renumbered = [np.array([number[tag] for tag in one.tags], np.int32)[one.tag] for one in full]
    return Rows(
        np.concatenate([one.time for one in full]),
        np.concatenate([one.place for one in full]),
        np.concatenate(renumbered),
        np.concatenate([one.row for one in full]),
        np.concatenate([one.key for one in full]),
        np.concatenate([one.numbers for one in full], axis=1),
        np.concatenate([one.codes for one in full], axis=1),
        np.concatenate([one.clocks for one in full], axis=1),
        tags,
        Texts.merged([one.texts for one in full]),
    )


class _Rule(NamedTuple):
    reason: str
    broken: np.ndarray
    texts: pa.Array | None = None


def _unit(time: TimeColumn) -> tuple[str, UnitOfNumbers | None]:
    return (time.column, time.unit) if isinstance(time, EventTime) else (time, None)


def _unusable(found: Times, what: str, missing: bool) -> list[_Rule]:
    rules = [_Rule(f"missing {what}", found.missing)] if missing and found.missing is not None else []
    if found.unread is not None:
        rules.append(_Rule(f"{what} cannot be read", found.unread, found.texts))
    if found.implausible is not None:
        rules.append(_Rule(f"implausible {what}", found.implausible))
    return rules


class _Columns:
    """Reads each column of a block once, and notes what is wrong with it."""

    def __init__(self, block: Block) -> None:
        self._batch = block.batch
        self.rules: list[_Rule] = []
        self._read: dict[tuple[str, str], np.ndarray] = {}

    def codes(self, name: str) -> np.ndarray:
        found = self._read.get(("code", name))
        if found is None:
            found, refused = codes_of(self._batch, name, _FIELD)
            if refused is not None:
                self.rules.append(_Rule(f"category {name} is not an exact whole number", refused))
            self._read["code", name] = found
        return found

    def numbers(self, name: str) -> np.ndarray:
        found = self._read.get(("number", name))
        if found is None:
            read = numbers(self._batch, name, _FIELD)
            if read.unread is not None:
                self.rules.append(_Rule(f"column {name} is not a number", read.unread, read.texts))
            found = self._read["number", name] = read.values.astype(np.float64, copy=False)
        return found

    def lane(self, name: str, category: str | int | bool | None) -> np.ndarray:
        if category is None:
            return self.numbers(name)
        codes = self.codes(name)
        meant = codes_of_values([category])[0]
        return np.where(codes == NOTHING, np.nan, np.where(codes == meant, 1.0, 0.0))

    def clock(self, time: TimeColumn) -> np.ndarray:
        name, unit = _unit(time)
        found = self._read.get(("clock", name))
        if found is None:
            read = times_us(self._batch, name, _FIELD, unit)
            self.rules += _unusable(read, f"time {name}", missing=False)
            found = read.us if read.missing is None else np.where(read.missing, NEVER, read.us)
            self._read["clock", name] = found
        return found

    def key(self, names: tuple[str, ...]) -> np.ndarray:
        codes = self.codes(names[0])
        for name in names[1:]:
            more = self.codes(name)
            missing = (codes == NOTHING) | (more == NOTHING)
            codes = mix64((codes * GOLDEN) ^ more)
            codes[missing] = NOTHING
        return codes

    def texts(self, names: Sequence[str]) -> Texts:
        return Texts.merged([Texts.of(self._batch, name, _FIELD) for name in names]) if names else Texts.empty()


def rows_of(spec: Rolling, block: Block, name: str = "") -> Read:
    """Read what the windows need of a block's rows.

    A row is rejected without a usable event time, with a key or category that is a number and not whole, and with a text
    where a number is wanted.

    Args:
        spec: says which columns.
        block: n rows.
        name: what tells the block apart from others of its origin; empty: its first place.

    Raises:
        MissingColumn: a column is absent or of the wrong type.

    >>> spec = Rolling(time="ts", aggregates=[{"key": "card", "of": "count", "windows": ["1d"]}])
    >>> read = rows_of(spec, Block(pa.record_batch({"ts": [10**15, None], "card": [7, 7]})))
    >>> read.good.tolist(), [(one.reason, len(one)) for one in read.rejected]
    ([0], [('missing event time', 1)])
    """
    n, columns = len(block), _Columns(block)
    column, unit = _unit(spec.time)
    found = times_us(block.batch, column, "Rolling.time", unit)
    columns.rules += _unusable(found, "event time", missing=True)
    place = np.arange(n, dtype=np.int64) if block.position is None else block.position
    source = ("", "") if block.origin is None else (block.origin.source, block.origin.partition)
    tag = Tag(*source, name or f"{block.start:020d}")
    shared = (found.us, place, np.zeros(n, np.int32), np.arange(n, dtype=np.int32))
    rows = []
    for group in range(len(spec.keys)):
        layout = layout_of(spec, group)
        rows.append(
            Rows(
                *shared,
                columns.key(layout.key),
                _stacked([columns.lane(*lane) for lane in layout.numbers], n, np.float64),
                _stacked([columns.codes(name) for name in layout.codes], n, np.uint64),
                _stacked([columns.clock(clock) for clock in layout.clocks], n, np.int64),
                (tag,),
                columns.texts([layout.codes[lane] for lane in layout.texts]),
            )
        )
    if not columns.rules:
        return Read(tuple(rows), np.arange(n), ())
    return _without(block, rows, columns.rules)


def _stacked(lanes: list[np.ndarray], n: int, dtype: type) -> np.ndarray:
    return np.array(lanes, dtype=dtype).reshape(len(lanes), n)


def _without(block: Block, rows: list[Rows], rules: list[_Rule]) -> Read:
    """Split off the rows that break a rule; each counts under the first it breaks."""
    good, rejected = np.ones(len(block), dtype=bool), []
    for reason, broken, texts in rules:
        fresh = broken & good
        if fresh.any():
            shown = () if texts is None else tuple(text[:_SHOWN] for text in texts.filter(pa.array(fresh)).to_pylist())
            rejected.append(_reject(block, fresh, reason, shown))
            good &= ~broken
    return Read(tuple(one.take(good) for one in rows), np.flatnonzero(good), tuple(rejected))


def _reject(block: Block, rows: np.ndarray, reason: str, shown: tuple[str, ...]) -> Reject:
    place = np.arange(len(block), dtype=np.int64) if block.position is None else block.position
    end = None if block.position_end is None else block.position_end[rows]
    return Reject(reason, place[rows], end, shown, block.origin)
