"""Rows of files in order of event time, within bounded memory.

A first pass over the event times shows how many rows there are and whether they are already in order; those that are
not are brought into order within a bounded buffer, or refused. Letters: ``n`` rows of a block.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml import formats
from beam_ml.core.epochs import UnitOfNumbers
from beam_ml.errors import UnreadableInput
from beam_ml.features.times import times_us

__all__ = ["Input", "Rows", "Survey", "in_order", "read", "stamp", "survey"]

Rows = tuple[pa.RecordBatch, np.ndarray]
"""Rows as named columns, and their (n,) int64 event times, µs since the epoch."""

_BLOCK_ROWS = 65_536
_RANGE_ROWS, _RANGE_BYTES = 1 << 20, 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """What is read of the files.

    Attributes:
        source: a file, a folder or a pattern; several files are read in order of name.
        time: column of event times.
        format: of `beam_ml.formats`; None: by the files' names.
        options: of the format.
        columns: that are sent; None: all.
        begin_us, end_us: event times from the one until before the other, µs since the epoch; None: no bound.
        sort_rows: rows held at once to bring them into order.
        unit: of event times that are numbers; None: recognised by their size.
    """

    source: str
    time: str
    format: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    begin_us: int | None = None
    end_us: int | None = None
    sort_rows: int = 1_000_000
    unit: UnitOfNumbers | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Survey:
    """What a look through the files found.

    Attributes:
        rows: to be sent.
        first_us, last_us: their earliest and latest event time; None if there are none.
        in_order: whether they are in order of event time as they stand.
        undated: rows without an event time; they are left out.
        malformed: rows that cannot be decoded, by reason; they are left out.
    """

    rows: int
    first_us: int | None
    last_us: int | None
    in_order: bool
    undated: int
    malformed: dict[str, int]


@dataclasses.dataclass(slots=True)
class _LeftOut:
    undated: int = 0
    malformed: dict[str, int] = dataclasses.field(default_factory=dict)


def _blocks(given: Input, columns: Sequence[str] | None, left_out: _LeftOut) -> Iterator[Rows]:
    """Read the rows within the bounds, as the files hold them, all with the first one's columns and types."""
    schema: pa.Schema | None = None
    for file in formats.list_files(given.source, given.format):
        format = given.format or formats.format_of(file.path)
        record = formats.of_files(format)
        target = _RANGE_BYTES if record.counts == "bytes" else _RANGE_ROWS
        options = record.options(given.options)
        for piece in formats.ranges(file, target, format, options):
            for block in formats.read(piece, columns, _BLOCK_ROWS, options=options):
                for reject in block.rejected:
                    left_out.malformed[reject.reason] = left_out.malformed.get(reject.reason, 0) + len(reject)
                schema = schema or block.batch.schema
                batch = _as(block.batch, schema, file.path)
                found = times_us(batch, given.time, "--time", given.unit)
                time = found.us
                wanted = np.ones(len(time), dtype=bool) if found.unusable is None else ~found.unusable
                left_out.undated += len(time) - int(wanted.sum())
                if given.begin_us is not None:
                    wanted &= time >= given.begin_us
                if given.end_us is not None:
                    wanted &= time < given.end_us
                if wanted.all():
                    yield batch, time
                elif wanted.any():
                    yield batch.filter(pa.array(wanted)), time[wanted]


def _as(batch: pa.RecordBatch, schema: pa.Schema, path: str) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    try:
        return batch.select(schema.names).cast(schema)
    except (pa.ArrowException, KeyError) as error:
        message = (
            f"{path} must have the columns and types of what was read before, {_named(schema)}; "
            f"got {_named(batch.schema)}."
        )
        raise UnreadableInput(message) from error


def _named(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def in_order(blocks: Iterable[Rows], sort_rows: int) -> Iterator[Rows]:
    """Bring rows into order of event time; equal times keep their order.

    Args:
        blocks: rows as they stand.
        sort_rows: rows held at once, and the blocks that they come in; a row may stand up to half as many rows behind
            its place. 0: nothing is held, the rows must be in order.

    Raises:
        UnreadableInput: a row stands farther behind its place.

    >>> times = np.array([3, 1, 2])
    >>> [time.tolist() for _, time in in_order([(pa.record_batch({"x": times}), times)], 10)]
    [[1, 2, 3]]
    """
    held: list[Rows] = []
    n, given = 0, None
    for batch, time in blocks:
        if given is not None and len(time) and int(time.min()) < given:
            raise _unordered(int(time.min()), given, sort_rows)
        if sort_rows == 0:
            if np.any(time[1:] < time[:-1]):
                i = int(np.argmax(time[1:] < time[:-1])) + 1
                raise _unordered(int(time[i]), int(time[i - 1]), sort_rows)
            given = int(time[-1]) if len(time) else given
            yield batch, time
            continue
        held.append((batch, time))
        n += len(time)
        if n < sort_rows:
            continue
        batch, time = _sorted(held)
        cut = n - sort_rows // 2
        given = int(time[cut - 1])
        yield batch.slice(0, cut), time[:cut]
        # The copy lets go of the rows that have been given.
        held, n = [(batch.take(pa.array(np.arange(cut, n))), time[cut:].copy())], n - cut
    if n:
        yield _sorted(held)


def _sorted(held: list[Rows]) -> Rows:
    batch, time = pa.concat_batches([batch for batch, _ in held]), np.concatenate([time for _, time in held])
    order = np.argsort(time, kind="stable")
    return batch.take(pa.array(order)), time[order]


def _unordered(late_us: int, given_us: int, sort_rows: int) -> UnreadableInput:
    message = (
        f"Rows must be in order of event time, or at most {sort_rows // 2:,} rows out of place; one of {stamp(late_us)} "
        f"comes too long after one of {stamp(given_us)} (sort the files, or raise --sort-rows, now {sort_rows:,})."
    )
    return UnreadableInput(message)


def survey(given: Input) -> Survey:
    """Look through the event times before anything is sent.

    Raises:
        NoInput, MissingColumn: there is no such file or column.
        UnreadableInput: it does not decode, or its rows are farther out of order than the buffer mends.
    """
    left_out = _LeftOut()
    rows, first, last, newest, ordered = 0, None, None, None, True

    def times() -> Iterator[Rows]:
        nonlocal newest, ordered
        for batch, time in _blocks(given, [given.time], left_out):
            ordered = ordered and bool(np.all(time[1:] >= time[:-1])) and (newest is None or int(time[0]) >= newest)
            newest = int(time[-1])
            yield batch, time

    for _, time in in_order(times(), given.sort_rows):
        first = int(time[0]) if first is None else first
        last = int(time[-1])
        rows += len(time)
    return Survey(rows, first, last, ordered, left_out.undated, left_out.malformed)


def read(given: Input, found: Survey) -> Iterator[Rows]:
    """Return the rows in order of event time.

    Args:
        given: what is read.
        found: by `survey`.

    Raises:
        InputChanged, UnreadableInput, MissingColumn: a file is not what it was, or misses a column.
    """
    columns = None if given.columns is None else list(dict.fromkeys((*given.columns, given.time)))
    return in_order(_blocks(given, columns, _LeftOut()), 0 if found.in_order else given.sort_rows)


def stamp(time_us: int) -> str:
    """Write an event time for people.

    >>> stamp(1_522_540_831_000_000)
    '2018-04-01 00:00:31'
    """
    moment = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=time_us)
    return f"{moment:%Y-%m-%d %H:%M:%S}"
