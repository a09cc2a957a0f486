"""Files of one format → one file of another, block by block: memory is that of a few blocks, whatever the files' size."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from beam_ml.core.cursors import FileId
from beam_ml.core.rejects import UNPLACED, Reject
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue, NoInput
from beam_ml.formats.arranging import arranging
from beam_ml.formats.block import Block
from beam_ml.formats.table import Format
from beam_ml.formats.united import fitted, united

__all__ = ["Conversion"]

_RANGE = {"rows": 1 << 20, "bytes": 64 << 20}
_ROWS, _VALUES = 1 << 16, 1 << 22
"""Rows of a block, and numbers of one whose features become columns."""


@dataclasses.dataclass
class Conversion:
    """One conversion, and what became of its rows.

    Attributes:
        inputs: files, read in this order.
        source, target: their format, and that of the file written.
        options, target_options: of these formats; None: their defaults.
        columns: those to take; None: all.
        label: the column of the label, where the target wants all features in one column; "": there is none.
        width: features of a row, where the target wants a column for each; None: as many as the first row has.
        allowed: rows that may be rejected; None: any.
        listed: called with each reject.
        rows: that were written.
        rejected: reason → rows.
    """

    inputs: Sequence[FileId]
    source: Format
    target: Format
    options: Settings | None = None
    target_options: Settings | None = None
    columns: Sequence[str] | None = None
    label: str | None = None
    width: int | None = None
    allowed: int | None = 0
    listed: Callable[[Reject], None] = lambda reject: None
    rows: int = 0
    rejected: Counter[str] = dataclasses.field(default_factory=Counter)

    def write(self, path: str) -> None:
        """Write the file, whole or not at all.

        Raises:
            NoInput: there are no rows.
            InvalidValue: the target cannot hold the rows, or more are rejected than allowed, all counted and listed.
            UnreadableInput, InputChanged, MissingColumn: see the source's format.
        """
        schema = self._schema()
        given = {} if self.target_options is None else {"options": self.target_options}
        try:
            self.target.module.write(path, self._arranged(schema), **given)
        except (pa.ArrowException, TypeError) as error:
            words = " ".join(str(error).split()).rstrip(".")
            message = f"{path} must be of rows that {self.target.name} can hold; got: {words}."
            raise InvalidValue(message) from error

    def _schema(self) -> pa.Schema:
        """Return the schema of all rows: where values or files decide the types, all are looked at before one is written."""
        found = (block.batch.schema for block in self._blocks() if len(block))
        source = self.source.under(self.options)
        inferred = len(self.inputs) > 1 or (source.counts == "bytes" and not source.columns)
        schemas = list(dict.fromkeys(found)) if inferred else list(itertools.islice(found, 1))
        if not schemas:
            message = f"{self.inputs[0].path} must have rows to convert; got none that can be read."
            raise NoInput(message)
        return united(schemas, source.ragged)

    def _blocks(self) -> Iterator[Block]:
        given = {} if self.options is None else {"options": self.options}
        rows = max(1, min(_ROWS, _VALUES // (self.width or 1)))
        for file in self.inputs:
            for piece in self.source.module.ranges(file, _RANGE[self.source.counts], **given):
                yield from self.source.module.read(piece, self.columns, rows, "", **given)

    def _arranged(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows as the target holds them; count and list what is rejected."""
        arrange = None
        for block in self._blocks():
            for reject in block.rejected:
                self._reject(reject.of(block.origin))
            if not len(block):
                continue
            rows = fitted(block.batch, schema)
            if arrange is None:
                arrange = arranging(rows, self.target.under(self.target_options), self.label, self.width)
            batch, refused = arrange(rows)
            for reason, at in refused.items():
                self._reject(_placed(block, reason, at))
            self.rows += batch.num_rows
            yield batch
        total = self.rejected.total()
        if self.allowed is not None and total > self.allowed:
            raise InvalidValue(_too_many(self.rejected, self.allowed, self.rows))

    def _reject(self, reject: Reject) -> None:
        self.rejected[reject.reason] += len(reject)
        self.listed(reject)


def _placed(block: Block, reason: str, at: np.ndarray) -> Reject:
    if block.position is None:
        return Reject(reason, np.full(at.size, UNPLACED), origin=block.origin)
    end = None if block.position_end is None else block.position_end[at]
    return Reject(reason, block.position[at], end, origin=block.origin)


def _too_many(rejected: Counter[str], allowed: int, rows: int) -> str:
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in rejected.most_common())
    return (
        f"Rejected rows must be at most {allowed:,}; got {rejected.total():,} ({reasons}): nothing is written of the other "
        f"{rows:,}."
    )
