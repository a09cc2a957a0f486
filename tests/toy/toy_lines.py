"""A file format defined outside the package: a line of names, then a line per row of numbers; a row's place is its number."""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.core.spec import Settings
from beam_ml.errors import MissingColumn
from beam_ml.formats import files
from beam_ml.formats.block import Block
from beam_ml.formats.files import FileRange
from beam_ml.formats.table import Format

FORMAT = Format("toy_lines:FORMAT", (".lines",), package="toy_lines")


class Options(Settings):
    called: ClassVar[str] = "toy_lines.Options"

    separator: str = " "


DEFAULT = Options()


def ranges(file: FileId, target: int, options: Options = DEFAULT) -> list[FileRange]:
    with open(file.path, encoding="utf-8") as text:
        rows = sum(1 for _ in text) - 1
    cuts = [*range(0, rows, target), rows]
    pairs = itertools.pairwise(cuts)
    return [FileRange(file.path, file.size, file.mtime_ns, FORMAT.name, start, stop) for start, stop in pairs]


def read(
    piece: FileRange,
    columns: Sequence[str] | None = None,
    max_rows: int = 65_536,
    source: str = "",
    options: Options = DEFAULT,
) -> Iterator[Block]:
    files.check(piece)
    with open(piece.path, "rb") as file:
        whole = decode(file.read(), columns, options).batch
    for start in range(piece.start, piece.stop, max_rows):
        stop = min(start + max_rows, piece.stop)
        place = np.arange(start, stop, dtype=np.int64)
        yield Block(whole.slice(start, stop - start), Origin(source, piece.path), place, None, start, stop)


def write(path: str, batches: Iterable[pa.RecordBatch], options: Options = DEFAULT) -> None:
    whole = pa.Table.from_batches(list(batches)).combine_chunks().to_batches()[0]
    with files.replacing(path) as unfinished, open(unfinished, "wb") as file:
        file.write(encode(whole, options))


def encode(batch: pa.RecordBatch, options: Options = DEFAULT) -> bytes:
    head = options.separator.join(batch.schema.names)
    text = io.StringIO()
    np.savetxt(text, np.column_stack([np.asarray(column) for column in batch.columns]), "%.17g", options.separator)
    return f"{head}\n{text.getvalue()}".encode()


def decode(data: bytes, columns: Sequence[str] | None = None, options: Options = DEFAULT) -> Block:
    head, _, rest = data.decode().partition("\n")
    names = head.split(options.separator)
    missing = sorted({*(columns or ())} - {*names})
    if missing:
        message = f"columns must be of {names}; got {missing}."
        raise MissingColumn(message)
    rows = np.loadtxt(io.StringIO(rest), delimiter=options.separator, ndmin=2)
    return Block(pa.record_batch({name: rows[:, names.index(name)] for name in columns or names}))
