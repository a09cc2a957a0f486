"""Rows that are single elements, dicts or `beam.Row`s, as blocks and back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from apache_beam import DoFn, ParDo, Row
from apache_beam.pvalue import PCollection
from apache_beam.typehints import typehints, with_output_types
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_ml.errors import InvalidBatch
from beam_ml.formats.block import Block

__all__ = ["as_rows", "holds_rows", "in_blocks"]

_MOST_ROWS = 4_096
"""Rows of one block: what comes later in a bundle is in the next one."""


def holds_rows(pcoll: PCollection) -> bool:
    """Return whether a PCollection's declared type is that of rows: dicts, `beam.Row`s or named tuples."""
    kind = pcoll.element_type
    if isinstance(kind, type):
        return issubclass(kind, dict | Row) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    return isinstance(kind, RowTypeConstraint | typehints.DictConstraint)


def in_blocks(pcoll: PCollection, labels: Sequence[str] = ()) -> PCollection:
    """Gather the rows of each bundle and window into blocks; blocks stay as they are.

    Args:
        pcoll: of rows.
        labels: columns of listed values (`Roles.labels`), which may hold texts, numbers and truth values.
    """
    return pcoll | "InBlocks" >> ParDo(_InBlocks(tuple(labels)))


def as_rows(pcoll: PCollection) -> PCollection:
    """Return each row of blocks as a dict of plain values."""
    return pcoll | "AsRows" >> ParDo(_AsRows())


@with_output_types(Block)
class _InBlocks(DoFn):
    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels

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
            yield WindowedValue(_block(rows, self._labels), since, (window,))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for window, (since, rows) in self._rows.items():
            yield WindowedValue(_block(rows, self._labels), since, (window,))
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


def _block(rows: list[Mapping[str, Any]], labels: Sequence[str]) -> Block:
    """Return rows as a block; what a row lacks is null.

    Raises:
        InvalidBatch: a column holds values of several kinds.
    """
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            values = [row.get(name) for row in rows]
            columns[name] = pa.array([_written(value) for value in values] if name in labels else values)
        except (pa.ArrowException, OverflowError, TypeError) as error:
            words = " ".join(str(error).split()).rstrip(".")
            message = f"Rows must hold values of one kind in each column; got in {name!r}: {words}."
            raise InvalidBatch(message) from error
    return Block(pa.record_batch(columns) if columns else pa.record_batch({"": pa.nulls(len(rows))}))


def _written(value: Any) -> str | None:
    """Return a label as text, so that a column may hold several kinds of them."""
    return None if value is None or value != value else str(value)


@with_output_types(dict[str, Any])
class _AsRows(DoFn):
    def process(self, element: Block) -> Iterator[dict[str, Any]]:
        yield from element.to_dicts()
