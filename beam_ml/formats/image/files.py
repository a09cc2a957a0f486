"""Images, one per file: its pixels are the row, and the folder that it lies in the label. A row's place is 0."""

import io
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from PIL import Image

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.core.rejects import Reject
from beam_ml.errors import InvalidValue, UnreadableInput
from beam_ml.formats import files, matrix
from beam_ml.formats.block import Block, chosen
from beam_ml.formats.files import FileRange
from beam_ml.formats.image.claims import LONG
from beam_ml.formats.image.decoding import decoded
from beam_ml.formats.image.options import DEFAULT, Options

__all__ = ["COLUMNS", "decode", "encode", "ranges", "read", "write"]

COLUMNS = (matrix.FEATURES, "label")


def ranges(file: FileId, target_rows: int, options: Options = DEFAULT) -> list[FileRange]:
    """Return the file as one range of one row.

    Raises:
        InputChanged: the file is not what was listed.
        UnreadableInput: it is gone.
    """
    files.check(file)
    return [FileRange(file.path, file.size, file.mtime_ns, "image", 0, 1)]


def label_of(path: str, options: Options = DEFAULT) -> str | None:
    """Return the label of an image: the folder that it lies in, bytes of no text replaced.

    >>> label_of("/data/cats/1.png")
    'cats'
    """
    if options.label == "none":
        return None
    return os.fsencode(os.path.basename(os.path.dirname(path))).decode(errors="replace")


def _block(
    data: bytes | None, label: str | None, columns: tuple[str, ...], origin: Origin | None, options: Options
) -> Block:
    """Return one image as a block; None: it is too long to be read."""
    found = decoded([data], 1, options)
    reasons = [LONG] if data is None else list(found.refused)
    n = 0 if reasons else 1
    X = found.X[:n]
    every = {
        matrix.FEATURES: matrix.dense(np.arange(n + 1) * options.features, X.reshape(-1)),
        "label": pa.array([label] * n, pa.string()),
    }
    batch = pa.RecordBatch.from_pydict({name: every[name] for name in columns})
    if not columns:
        batch = pa.RecordBatch.from_struct_array(pa.array([{}] * n, pa.struct([])))
    place = np.zeros(1, np.int64)
    words = found.detail.get(0, "")
    rejected = tuple(Reject(why, place, place + 1, (words,) if words else (), origin) for why in reasons)
    return Block(batch, origin, place[:n], None, 0, 1, rejected)


def read(
    piece: FileRange,
    columns: Sequence[str] | None = None,
    max_rows: int = 65_536,
    source: str = "",
    options: Options = DEFAULT,
) -> Iterator[Block]:
    """Read a file, which is a block of one row, or of none where the image is in `Block.rejected`.

    Raises:
        InputChanged: the file is not what the plan saw, before or after reading.
        UnreadableInput: it cannot be read at all.
        MissingColumn: a column is not there.
    """
    names = chosen(columns, COLUMNS, piece.path)
    files.check(piece)
    data = None
    if piece.size <= options.max_bytes:
        try:
            with open(piece.path, "rb", buffering=0) as file:
                data = file.read(piece.size + 1)
        except OSError as error:
            message = f"{piece.path} cannot be read: {error.strerror}."
            raise UnreadableInput(message) from error
        files.check(piece)
    yield _block(data, label_of(piece.path, options), names, Origin(source, piece.path), options)


def _grey_or_color(rows: pa.RecordBatch, options: Options) -> Image.Image:
    if rows.num_rows != 1 or matrix.FEATURES not in rows.schema.names:
        message = f"An image must be one row with {matrix.FEATURES!r}; got {rows.num_rows} rows of {rows.schema.names}."
        raise InvalidValue(message)
    column = rows.column(matrix.FEATURES)
    found = matrix.rows_of(column) if matrix.is_matrix(column.type) else None
    if found is None or found.indices is not None or len(found.values) != options.features:
        message = f"An image must have features that are a list of {options.features} numbers; got {column.type}."
        raise InvalidValue(message)
    most = 1 if options.scale == "unit" else 255
    values = np.asarray(found.values, np.float64) * (255 / most)
    if not np.all((values >= 0) & (values <= 255)):
        message = f"An image must have features from 0 to {most}; got {found.values.min()} to {found.values.max()}."
        raise InvalidValue(message)
    shape = (options.height, options.width, 3) if options.color == "rgb" else (options.height, options.width)
    return Image.fromarray(np.rint(values).astype(np.uint8).reshape(shape))


def encode(batch: pa.RecordBatch, options: Options = DEFAULT) -> bytes:
    """Return the bytes of a PNG that holds the one row of a batch, in eight bits per channel.

    Raises:
        InvalidValue: the rows are not one image.

    >>> small = Options(height=1, width=2, color="grey", label="none")
    >>> rows = pa.record_batch({"features": pa.array([[0.0, 1.0]], pa.list_(pa.float32()))})
    >>> decode(encode(rows, small), ["features"], small).batch.to_pydict()
    {'features': [[0.0, 1.0]]}
    """
    out = io.BytesIO()
    _grey_or_color(batch, options).save(out, "PNG")
    return out.getvalue()


def write(path: str, batches: Iterable[pa.RecordBatch], options: Options = DEFAULT) -> None:
    """Write one row as one PNG, whole or not at all.

    Raises:
        InvalidValue: there are more rows, the file is not called a PNG, or its folder is not the row's label.
    """
    rows = pa.Table.from_batches(batches).combine_chunks().to_batches()
    one = rows[0] if rows else pa.record_batch({})
    labels = one.column("label").to_pylist() if "label" in one.schema.names else []
    where = label_of(os.path.abspath(path), options)
    if not path.lower().endswith(".png"):
        message = f"Images must be written as .png, without loss; got {path!r}."
        raise InvalidValue(message)
    if any(label is not None and label != where for label in labels):
        message = f"An image must be written into the folder of its label; got {labels[0]!r} and {path!r}."
        raise InvalidValue(message)
    data = encode(one, options)
    with files.replacing(path) as unfinished, open(unfinished, "wb") as file:
        file.write(data)


def decode(data: bytes, columns: Sequence[str] | None = None, options: Options = DEFAULT) -> Block:
    """Return the row of an image held in memory, which lies in no folder and so has no label.

    Raises:
        MissingColumn: a column is not there.
    """
    return _block(data, None, chosen(columns, COLUMNS, f"<{len(data)} bytes>"), None, options)
