"""Payloads of protobuf `Record` messages → rows. Columns: features, label, uid, metadata. Letters: ``n`` records."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from beam_ml.core.spec import Settings
from beam_ml.formats import matrix
from beam_ml.formats.lines import is_text
from beam_ml.kernels.recordio import records as kernel

__all__ = [
    "BROKEN",
    "COLUMNS",
    "DEFAULT",
    "LONG",
    "MAX_BYTES",
    "Layout",
    "Options",
    "Records",
    "decode",
    "first_of",
    "layout_of",
]

COLUMNS = (matrix.FEATURES, "label", "uid", "metadata")
MAX_BYTES = 64 << 20
"""A longer record is refused."""

BROKEN = "parts of a split record that do not belong together"
LONG = f"a record of more than {MAX_BYTES >> 20} MiB"
_TEXT = "text that is not UTF-8"
_REASONS = dict(
    zip(
        kernel.FAULTS,
        (
            "", "malformed record", "no features", "features that are bytes", "features of another type",
            "a sparse record where dense ones are expected", "keys that do not fit values and shape",
            "values that do not fit the shape", "another number of features", "another number of labels",
            "a feature twice",
        ),
        strict=True,
    )
)  # fmt: skip
_LOOKED_AT = 64
"""Records that are looked at together for the first good one."""


class Options(Settings):
    """What records are expected to hold. Of files, what is not given is as in the file's first record.

    A label is one number, or a list where `label_size` is not 1. Records are of the key "values"; others are passed over.
    """

    called: ClassVar[str] = "recordio.Options"

    form: Annotated[
        Literal["dense", "sparse"] | None,
        Field(
            description="whether a row is a list of numbers, or a map of features to numbers, which takes dense records, "
            "too; none: as the file's first record, and dense of messages"
        ),
    ] = None
    values: Annotated[
        Literal["float32", "float64"] | None,
        Field(
            description="float32 takes Float32 tensors alone, float64 all; none: as the file's first record, and float64 of "
            "messages"
        ),
    ] = None
    width: Annotated[
        int | None,
        Field(
            ge=1, description="features of a record: others are refused, and sparse ones are written with this shape"
        ),
    ] = None
    label_size: Annotated[int, Field(ge=1, le=1 << 16, description="values of a label")] = 1

    @property
    def matrix_width(self) -> int | None:
        """What `features.matrix.width` must be."""
        return self.width


DEFAULT = Options()


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How rows are laid out.

    Attributes:
        sparse: features are a map.
        single: they are float32.
        width: of each row; 0: any.
        labels: values of a label.
        columns: those wanted, in order.
    """

    sparse: bool
    single: bool
    width: int
    labels: int
    columns: tuple[str, ...]

    def schema(self) -> pa.Schema:
        """Return the columns' types."""
        number = pa.float32() if self.single else pa.float64()
        features = pa.map_(pa.int32(), number) if self.sparse else pa.list_(number)
        label = pa.float64() if self.labels == 1 else pa.list_(pa.float64())
        types = dict(zip(COLUMNS, (features, label, pa.string(), pa.string()), strict=True))
        return pa.schema([(name, types[name]) for name in self.columns])


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Rows, the numbers of the records that they came from, and refused records by reason."""

    batch: pa.RecordBatch
    good: np.ndarray
    refused: dict[str, np.ndarray]


def layout_of(options: Options, columns: tuple[str, ...], first: tuple[bool, bool] = (False, False)) -> Layout:
    """Return the layout by the options and, where they do not say, by whether the first record is sparse, and float32."""
    sparse = first[0] if options.form is None else options.form == "sparse"
    single = first[1] if options.values is None else options.values == "float32"
    return Layout(sparse, single, options.width or 0, options.label_size, columns)


def first_of(data: np.ndarray, start: np.ndarray, size: np.ndarray, options: Options) -> tuple[bool, bool] | None:
    """Return whether the first good record is sparse, and of float32; None: there is none."""
    none, no_keys = np.empty(0), np.empty(0, np.int32)
    labels = np.empty((_LOOKED_AT + 1) * options.label_size)
    for i in range(0, len(start), _LOOKED_AT):
        group = slice(i, i + _LOOKED_AT)
        found = np.empty((len(kernel.COLUMNS), len(start[group])), np.int64)
        kernel.decode(
            data, start[group], size[group], kernel.EITHER, options.width or 0, 0, options.label_size,
            none.view(np.uint8), none, no_keys, labels, found,
        )  # fmt: skip
        good = np.flatnonzero(found[0] == 0)
        if len(good):
            return bool(found[1, good[0]] == kernel.SPARSE), bool(found[2, good[0]] == kernel.FLOAT32)
    return None


def decode(data: np.ndarray, start: np.ndarray, size: np.ndarray, layout: Layout) -> Records:
    """Decode n payloads.

    Args:
        data: uint8.
        start: (n,) int64 where each begins.
        size: (n,) int64 its bytes, at most MAX_BYTES.
        layout: of the rows.
    """
    n, total = len(start), int(size.sum())
    # No record has more values than bytes; of what is set aside only what is written becomes memory.
    wide = np.empty(0 if layout.single else total)
    raw = np.empty(total if layout.single else 0, np.uint8)
    keys = np.empty(total if layout.sparse else 0, np.int32)
    labels = np.empty((n + 1) * layout.labels)
    found = np.empty((len(kernel.COLUMNS), n), np.int64)
    n_values, n_labels = kernel.decode(
        data, start, size, kernel.SPARSE if layout.sparse else kernel.DENSE, layout.width,
        kernel.FLOAT32 if layout.single else 0, layout.labels, raw, wide, keys, labels, found,
    )  # fmt: skip
    fault, _, _, ends, label_ends, uid, uid_size, metadata, metadata_size = found
    good = np.flatnonzero(fault == 0)
    refused: dict[str, np.ndarray] = {}
    if len(good) < n:
        codes = np.unique(fault[fault != 0])
        refused = {_REASONS[kernel.FAULTS[code]]: np.flatnonzero(fault == code) for code in codes}
    values = raw[: 4 * n_values].view(np.float32) if layout.single else wide[:n_values]
    indptr = np.concatenate([[0], ends[good]])
    columns: dict[str, Any] = {
        matrix.FEATURES: matrix.sparse(indptr, keys[:n_values], values)
        if layout.sparse
        else matrix.dense(indptr, values),
        "label": _labels(np.concatenate([[0], label_ends[good]]), labels[:n_labels], layout.labels),
    }
    spoilt = np.zeros(len(good), bool)
    for name, at, width in (("uid", uid, uid_size), ("metadata", metadata, metadata_size)):
        if name in layout.columns:
            columns[name], bad = _texts(data, at[good], width[good])
            spoilt |= bad
    batch = pa.RecordBatch.from_arrays([columns[name] for name in layout.columns], schema=layout.schema())
    if not layout.columns:
        batch = pa.RecordBatch.from_struct_array(pa.array([{}] * len(good), pa.struct([])))
    if spoilt.any():
        refused[_TEXT] = good[spoilt]
        batch, good = batch.filter(pa.array(~spoilt)), good[~spoilt]
    return Records(batch, good, refused)


def _labels(bounds: np.ndarray, labels: np.ndarray, size: int) -> pa.Array:
    """Return labels as a column; a record without one has none."""
    here = np.diff(bounds) > 0
    if size > 1:
        offsets = pa.array(bounds.astype(np.int32), mask=np.append(~here, False))
        return pa.ListArray.from_arrays(offsets, pa.array(labels))
    spread = np.zeros(len(here))
    spread[here] = labels
    return pa.array(spread, mask=~here)


def _texts(data: np.ndarray, at: np.ndarray, size: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """Return texts as a column, and where one is not UTF-8."""
    if np.all(at < 0):
        return pa.nulls(len(at), pa.string()), np.zeros(len(at), bool)
    pieces = [None if a < 0 else data[a : a + n].tobytes() for a, n in zip(at.tolist(), size.tolist(), strict=True)]
    bad = np.array([piece is not None and not is_text(piece) for piece in pieces], bool)
    return pa.array([None if no else piece for piece, no in zip(pieces, bad, strict=True)], pa.string()), bad
