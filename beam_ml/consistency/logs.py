"""`compare`: two logs of features → a report, in memory that does not grow with the logs."""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from beam_ml.consistency.shares import FAN, ID, Shares
from beam_ml.consistency.tally import Feature, Report
from beam_ml.consistency.values import Tolerance, compared
from beam_ml.core.cursors import FileId
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.features.ids import ids_of
from beam_ml.formats.stacked import stacked
from beam_ml.formats.table import Format

__all__ = ["LEAST_BYTES", "Log", "compare"]

LEAST_BYTES = 1 << 20
_RANGE = {"rows": 1 << 20, "bytes": 64 << 20}
_BLOCK_ROWS = 1 << 14
_MOST_CUTS = 4
_SPREAD = 4
"""How much larger rows are in memory, while they are compared, than their files: read, concatenated, picked."""


@dataclasses.dataclass(frozen=True, slots=True)
class Log:
    """Files of features.

    Attributes:
        files: read in this order.
        format: of them.
        options: of the format; None: its defaults.
        id: column of the rows' ids.
    """

    files: Sequence[FileId]
    format: Format
    options: Settings | None = None
    id: str = "id"


def compare(
    a: Log,
    b: Log,
    columns: Sequence[str] | None = None,
    tolerance: Tolerance | None = None,
    examples: int = 5,
    memory: int = 256 << 20,
) -> Report:
    """Compare two logs by id.

    Both are cut into shares by a hash of the id, on disk, until those of both logs together fit into a quarter of the
    memory; then they are compared share by share. Disk is needed for the columns that are compared.

    Args:
        a: the first, as features were served.
        b: the second, as they are computed again.
        columns: to compare; None: all that either has. A column that only one has is missing, or extra, in every row.
        tolerance: of numbers; None: the default.
        examples: how many of the worst are kept, per feature.
        memory: bytes for the rows that are held at once.

    Raises:
        InvalidValue: memory below 1 MiB, or one id has more rows than fit.
        MissingColumn: a log has no such id, or a column is in neither.
        UnreadableInput, InputChanged: see the formats.

    >>> from beam_ml import formats
    >>> folder = tempfile.mkdtemp()
    >>> for name, values in (("a", [1.0, 2.0]), ("b", [1.0, 2.5])):
    ...     formats.write(f"{folder}/{name}.parquet", [pa.record_batch({"id": [7, 8], "x": values})])
    >>> logs = [Log(formats.list_files(f"{folder}/{name}.parquet"), formats.of_files("parquet")) for name in "ab"]
    >>> report = compare(*logs)
    >>> report.features["x"].mismatch, report.features["x"].worst, report.worst
    (1, [(0.2, '8', 2.0, 2.5)], 0.5)
    """
    if memory < LEAST_BYTES:
        message = f"memory must be at least {LEAST_BYTES:,} bytes; got {memory:,}."
        raise InvalidValue(message)
    report, tolerance = Report(), tolerance or Tolerance()
    with tempfile.TemporaryDirectory(prefix="beam_ml-consistency-") as folder:
        shares, names = [], []
        for i, log in enumerate((a, b)):
            shares.append(Shares(Path(folder) / "ab"[i]))
            names.append(_spilled(log, columns, shares[i], report.rejected[i]))
        wanted = list(columns) if columns is not None else list(dict.fromkeys(names[0] + names[1]))
        for name in wanted:
            if name not in names[0] + names[1]:
                message = f"--columns must name columns of either log, {names[0]} or {names[1]}; got {name!r}."
                raise MissingColumn(message)
        report.features = {name: Feature() for name in wanted}
        for pair in _fitting(shares[0], shares[1], memory // _SPREAD):
            _tally(report, pair, tolerance, examples)
    return report


def _spilled(log: Log, columns: Sequence[str] | None, shares: Shares, rejected: Counter[str]) -> list[str]:
    """Write a log's rows into shares; return the columns that it has."""
    names: dict[str, None] = {}
    given = {} if log.options is None else {"options": log.options}
    for file in log.files:
        for piece in log.format.module.ranges(file, _RANGE[log.format.counts], **given):
            for block in log.format.module.read(piece, None, _BLOCK_ROWS, "", **given):
                for reject in block.rejected:
                    rejected[reject.reason] += len(reject)
                if not len(block):
                    continue
                batch = block.batch
                kept = [n for n in batch.schema.names if n != log.id and (columns is None or n in columns)]
                names.update(dict.fromkeys(kept))
                ids = ids_of(batch, log.id, "--id")
                rows = pa.record_batch({ID: ids.texts} | {name: batch.column(name) for name in kept})
                good = np.ones(len(block), dtype=bool)
                for reason, broken in ids.broken.items():
                    rejected[reason] += int(broken.sum())
                    good &= ~broken
                shares.add(rows if good.all() else rows.filter(pa.array(good)))
    return list(names)


def _fitting(a: Shares, b: Shares, most: int) -> Iterator[tuple[list[pa.RecordBatch], list[pa.RecordBatch]]]:
    """Yield the rows of each share of both, cut again where they do not fit."""
    for number in range(len(a)):
        size = a.size(number) + b.size(number)
        if size <= most:
            if size:
                yield list(a.read(number)), list(b.read(number))
            a.remove(number)
            b.remove(number)
        elif a.level + 1 >= _MOST_CUTS:
            message = (
                f"Rows of one id, or of few, must fit into {most:,} bytes, a quarter of the memory; got {size:,} that no "
                "hash of the id cuts apart: name an id that tells rows apart, or raise --memory."
            )
            raise InvalidValue(message)
        else:
            n = min(FAN, 2 * -(-size // most))  # twice as many as would do, since shares differ in size
            yield from _fitting(a.again(number, n), b.again(number, n), most)


def _tally(
    report: Report, pair: tuple[list[pa.RecordBatch], list[pa.RecordBatch]], tolerance: Tolerance, examples: int
) -> None:
    """Compare a share's rows."""
    tables, firsts = [], []
    for i, batches in enumerate(pair):
        table = stacked(batches) if batches else pa.record_batch({ID: pa.array([], pa.large_string())})
        coded = table.column(ID).dictionary_encode()
        _, first = np.unique(coded.indices.to_numpy(zero_copy_only=False), return_index=True)
        report.rows[i] += first.size
        report.duplicates[i] += table.num_rows - first.size
        tables.append(table)
        firsts.append(first)
    ids = [table.column(ID).take(pa.array(first)) for table, first in zip(tables, firsts, strict=True)]
    both = pa.concat_arrays(ids).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    _, in_a, in_b = np.intersect1d(both[: len(ids[0])], both[len(ids[0]) :], assume_unique=True, return_indices=True)
    order = np.argsort(in_a)
    in_a, in_b = in_a[order], in_b[order]
    report.both += in_a.size
    for mine, there, kept in ((ids[0], in_a, report.missing), (ids[1], in_b, report.extra)):
        alone = np.setdiff1d(np.arange(len(mine)), there)
        kept[:] = sorted([*kept, *mine.take(pa.array(alone[:examples])).to_pylist()])[:examples]
    names = ids[0].take(pa.array(in_a))
    at = [pa.array(firsts[0][in_a]), pa.array(firsts[1][in_b])]
    for name, feature in report.features.items():
        left, right = (_values(table, name, rows) for table, rows in zip(tables, at, strict=True))
        feature.add(names, left, right, compared(left, right, tolerance), examples)


def _values(table: pa.RecordBatch, name: str, at: pa.Array) -> pa.Array:
    if name not in table.schema.names:
        return pa.nulls(len(at))
    column = table.column(name)
    return (column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).take(at)
