"""Lines of libsvm text → rows. Columns: features, label, qid. Letters: ``m`` lines that are no blanks, ``n`` rows."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from beam_ml.core.spec import Settings
from beam_ml.formats import matrix
from beam_ml.formats.messages import rows_batch
from beam_ml.kernels.libsvm import lines as kernel
from beam_ml.kernels.libsvm import numbers

__all__ = [
    "COLUMNS", "DEFAULT", "LARGEST", "LONG", "MAX_BYTES", "MAX_QUERY", "Options", "Rows", "joined", "parse", "schema",
]  # fmt: skip

COLUMNS = (matrix.FEATURES, "label", "qid")
MAX_BYTES = 16 << 20
"""A longer line is refused."""
LARGEST = 2**31 - 2
"""The largest feature, numbered from 0."""
MAX_QUERY = numbers.MOST - 1
"""The largest query."""
LONG = f"a line of more than {MAX_BYTES >> 20} MiB"
_TYPES = (pa.map_(pa.int32(), pa.float64()), pa.float64(), pa.int64())
_REASONS = dict(
    zip(
        kernel.FAULTS,
        (
            "", "malformed label", "malformed feature", "malformed query", "a negative index",
            "index 0 where the first is 1", f"a feature beyond {LARGEST}", "an index twice", "indices that do not rise",
            "text that is not UTF-8", LONG,
        ),
        strict=True,
    )
)  # fmt: skip


class Options(Settings):
    """How the text is to be understood."""

    called: ClassVar[str] = "libsvm.Options"

    first_index: Annotated[
        Literal[0, 1],
        Field(description="index of the first feature, which is feature 0 of a row; it is never guessed from the data"),
    ] = 1


DEFAULT = Options()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of some lines.

    Attributes:
        batch: n rows.
        start, stop: (m,) int64 bounds of every line that is a row or refused, rising.
        good: (n,) int64 which of these are rows.
        refused: reason → which are refused.
        end: where reading ended.
    """

    batch: pa.RecordBatch
    start: np.ndarray
    stop: np.ndarray
    good: np.ndarray
    refused: dict[str, np.ndarray]
    end: int


def schema(columns: tuple[str, ...]) -> pa.Schema:
    """Return the columns' types."""
    types = dict(zip(COLUMNS, _TYPES, strict=True))
    return pa.schema([(name, types[name]) for name in columns])


def joined(batches: list[pa.RecordBatch], columns: tuple[str, ...]) -> pa.RecordBatch:
    """Return batches of these columns as one."""
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches, schema(columns)).combine_chunks()
    return table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=schema(columns))


def parse(text: bytes, columns: tuple[str, ...], options: Options, max_rows: int, at: int = 0) -> Iterator[Rows]:
    """Read whole lines, at most `max_rows` rows at a time; what is yielded tiles the text from `at`."""
    data = np.frombuffer(text, np.uint8)
    n_rows, n_values = min(len(text) // 2 + 1, max_rows), len(text) // 4 + 1
    found, label = np.empty((len(kernel.COLUMNS), n_rows), np.int64), np.empty(n_rows)
    indices, values = np.empty(n_values, np.int32), np.empty(n_values)
    later = np.empty((3, len(text) // 5 + 1), np.int64)
    while at < len(text):
        n, z, k, at = kernel.parse(data, at, options.first_index, MAX_BYTES, found, label, indices, values, later)
        _read(text, later[:, :k], values, label)
        fault = found[2, :n]
        good = np.flatnonzero(fault == 0)
        refused = {}
        if len(good) < n:
            refused = {
                _REASONS[kernel.FAULTS[code]]: np.flatnonzero(fault == code) for code in np.unique(fault[fault != 0])
            }
        batch = rows_batch(
            {name: _column(name, found, label, good, indices[:z], values[:z]) for name in columns}, len(good)
        )
        yield Rows(batch, found[0, :n].copy(), found[1, :n].copy(), good, refused, at)


def _column(
    name: str, found: np.ndarray, label: np.ndarray, good: np.ndarray, indices: np.ndarray, values: np.ndarray
) -> pa.Array:
    """Return a column of the rows, in memory of its own."""
    if name == "label":
        mine = label[good]
        return pa.array(mine, mask=np.isnan(mine))
    if name == "qid":
        return pa.array(found[4, good], mask=found[5, good] == 0)
    return matrix.sparse(np.concatenate([[0], found[3, good]]), indices.copy(), values.copy())


def _read(text: bytes, later: np.ndarray, values: np.ndarray, label: np.ndarray) -> None:
    """Read the numbers that the kernel left: those of many digits, or far from 1."""
    begin, end, where = later
    if not len(begin):
        return
    # As one column of the numbers and of what lies between them, of which the numbers are taken: none is copied by itself.
    offsets = np.empty(2 * len(begin), np.int64)
    signed = np.frombuffer(text, np.uint8)[begin] == ord("+")
    offsets[0::2], offsets[1::2] = begin + signed, end
    both = pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(text)])
    texts = both.take(pa.array(np.arange(0, len(offsets) - 1, 2)))
    try:
        read = texts.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:  # beyond the range of float64
        read = np.array([float(one) for one in texts.to_pylist()])
    mine = where >= 0
    values[where[mine]] = read[mine]
    label[-1 - where[~mine]] = read[~mine]
