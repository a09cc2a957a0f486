"""Rows that are single elements, dicts or `beam.Row`s, as blocks and back."""

import datetime
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam import DoFn, ParDo, Row
from apache_beam.pvalue import PCollection
from apache_beam.typehints import typehints, with_output_types
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_ml.core.rejects import UNPLACED, Reject
from beam_ml.errors import InvalidBatch
from beam_ml.features.hashing import EXACT
from beam_ml.formats.block import Block
from beam_ml.formats.table import NO_ROLES, Roles

__all__ = ["as_rows", "block_of", "holds_rows", "in_blocks", "with_columns"]

_log = logging.getLogger(__name__)
_absent: set[str] = set()
"""Columns that were warned of."""

_MOST_ROWS = 4_096
"""Rows of one block: what comes later in a bundle is in the next one."""
_DETAIL_CHARS = 200
_MOST_NAMES = 100
_NEITHER = "column {} holds neither number, text nor time"
_ODD = object()
"""In place of a value that no text stands for."""


def holds_rows(pcoll: PCollection) -> bool:
    """Return whether a PCollection's declared type is that of rows: dicts, `beam.Row`s or named tuples."""
    kind = pcoll.element_type
    if isinstance(kind, type):
        return issubclass(kind, dict | Row) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    return isinstance(kind, RowTypeConstraint | typehints.DictConstraint)


def in_blocks(pcoll: PCollection, wanted: Iterable[str] | None = None, roles: Roles = NO_ROLES) -> PCollection:
    """Gather the rows of each bundle and window into blocks; blocks stay as they are.

    Args:
        pcoll: rows, blocks, or both.
        wanted: the columns to keep, which must be numbers, texts or times; None: all, whatever they are.
        roles: of columns: labels may be texts, numbers and truth values, and categories texts and whole numbers.
    """
    return pcoll | "InBlocks" >> ParDo(_InBlocks(None if wanted is None else frozenset(wanted), roles))


def as_rows(pcoll: PCollection) -> PCollection:
    """Return each row of blocks as a dict of plain values."""
    return pcoll | "AsRows" >> ParDo(_AsRows())


@with_output_types(Block)
class _InBlocks(DoFn):
    def __init__(self, wanted: frozenset[str] | None, roles: Roles) -> None:
        self._wanted, self._roles = wanted, roles

    def start_bundle(self) -> None:
        self._rows: dict[Any, tuple[Timestamp, list[Mapping[str, Any]]]] = {}

    def process(
        self, element: Any, window: Any = DoFn.WindowParam, timestamp: Any = DoFn.TimestampParam
    ) -> Iterator[Any]:
        if isinstance(element, Block):
            yield element
            return
        since, rows = self._rows.get(window, (timestamp, []))
        rows.append(_as_mapping(element))
        self._rows[window] = min(since, timestamp), rows
        if len(rows) >= _MOST_ROWS:
            del self._rows[window]
            yield WindowedValue(block_of(rows, self._wanted, self._roles), since, (window,))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for window, (since, rows) in self._rows.items():
            yield WindowedValue(block_of(rows, self._wanted, self._roles), since, (window,))
        self._rows = {}


def _as_mapping(element: Any) -> Mapping[str, Any]:
    for name in ("as_dict", "_asdict"):
        if hasattr(element, name):
            found: Mapping[str, Any] = getattr(element, name)()
            return found
    if not isinstance(element, Mapping):
        message = f"Rows must be blocks, dicts or beam.Rows; got {type(element).__name__}."
        raise InvalidBatch(message)
    return element


def block_of(rows: list[Mapping[str, Any]], wanted: frozenset[str] | None, roles: Roles = NO_ROLES) -> Block:
    """Return rows as a block; what a row lacks is null, and rows with an odd value are rejected.

    A column of scalars of several kinds is text, as formats of text have it: what reads numbers finds them spelled. Of
    wanted columns, times and decimals are text too, so that a row is read alike whatever rows come with it.

    Args:
        rows: n of them.
        wanted: the columns that must be scalars, whatever the others in the block are, and the only ones kept; None: all,
            nested ones too, if they are of one kind.
        roles: of columns.
    """
    columns: dict[str, pa.Array] = {}
    odd: dict[int, str] = {}
    for name in dict.fromkeys(name for row in rows for name in row if wanted is None or name in wanted):
        values = [row.get(name) for row in rows]
        try:
            array = pa.array([_written(value) for value in values] if name in roles.labels else values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            array = None
        if array is None or not (_is_of_one_kind(array, values) if wanted is None else _is_plain(array.type)):
            text = _category if name in roles.categories else _text
            texts = [text(value) for value in values]
            odd = {i: name for i, one in enumerate(texts) if one is _ODD} | odd
            array = pa.array([None if one is _ODD else one for one in texts], pa.string())
        columns[name] = array
    batch = pa.record_batch(columns) if columns else pa.record_batch({"": pa.nulls(len(rows))})
    block = Block(batch) if wanted is None else with_columns(Block(batch), sorted(wanted))
    if not odd:
        return block
    good = np.setdiff1d(np.arange(len(rows)), list(odd))
    return block.replace(batch=block.batch.take(pa.array(good)), rejected=tuple(_rejects(rows, odd)))


def with_columns(block: Block, names: Iterable[str]) -> Block:
    """Return a block of rows with nulls for the columns that none of them has, as where one beside them has it.

    Such a column is logged once: its name may be wrong.

    >>> with_columns(Block(pa.record_batch({"x": [1]})), ["x", "y"]).to_dicts()
    [{'x': 1, 'y': None}]
    """
    there = block.batch.schema.names
    absent = [name for name in names if name not in there]
    if not absent:
        return block
    for name in absent:
        if len(block) and name not in _absent:
            _absent.add(name)
            _log.warning("no row of %d has the column %r; they have %s.", len(block), name, there[:_MOST_NAMES])
    batch = block.batch
    for name in absent:
        batch = batch.append_column(name, pa.nulls(len(block)))
    return block.replace(batch=batch)


def _rejects(rows: list[Mapping[str, Any]], odd: Mapping[int, str]) -> Iterator[Reject]:
    reasons: dict[str, list[int]] = {}
    for i, name in sorted(odd.items()):
        inexact = isinstance(rows[i][name], Real | Decimal)  # as `Features` says it of a column of them
        what = f"category {name} is not an exact whole number" if inexact else _NEITHER.format(name)
        reasons.setdefault(what, []).append(i)
    for what, mine in sorted(reasons.items()):
        detail = tuple(f"{rows[i][odd[i]]!r:.{_DETAIL_CHARS}}" for i in mine)
        yield Reject(what, np.full(len(mine), UNPLACED), None, detail)


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether a column is of numbers or texts, which are read as they are whatever stands beside them."""
    types = pa.types
    plain = types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
    return plain or types.is_string(kind)


def _is_of_one_kind(array: pa.Array, values: list[Any]) -> bool:
    """Return whether Arrow has taken values for what they are: behind a time, it takes numbers for its units of time."""
    return not pa.types.is_temporal(array.type) or len({type(value) for value in values if value is not None}) < 2


def _text(value: Any) -> Any:
    """Return a scalar as a text that is read as the same value; `_ODD`: it is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str):
        return value if value.isascii() or value.encode(errors="ignore").decode() == value else _ODD
    if isinstance(value, Integral):
        return str(int(value))  # a truth value, too: 0 or 1
    if isinstance(value, Real):
        return repr(float(value)).removesuffix(".0")
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value.astype("datetime64[us]"))
    if isinstance(value, datetime.date):
        return value.isoformat() if value == value else None  # pandas' missing time is unequal to itself
    return _ODD


def _category(value: Any) -> Any:
    """Return what names a category as a text; a float or decimal that is not an exact whole number names none."""
    if isinstance(value, Decimal) and value.is_finite():
        return str(int(value)) if value == int(value) else _ODD
    number = float(value) if isinstance(value, Real) and not isinstance(value, Integral) else math.nan
    return _text(value) if math.isnan(number) or (number.is_integer() and abs(number) < EXACT) else _ODD


def _written(value: Any) -> str | None:
    """Return a label as text, so that a column may hold several kinds of them."""
    return None if value is None or value != value else str(value)


@with_output_types(dict[str, Any])
class _AsRows(DoFn):
    def process(self, element: Block) -> Iterator[dict[str, Any]]:
        yield from element.to_dicts()
