"""All features of a record from one column: dense lists of numbers, sparse maps of features to numbers, or images.

Letters: ``n`` rows, ``z`` stored values.
"""

from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidBatch
from beam_ml.features.columns import column, wrong
from beam_ml.formats import matrix
from beam_ml.formats.image.decoding import decoded
from beam_ml.formats.image.options import Pixels

__all__ = ["Filled", "Matrix"]

_FIELD = "Features.matrix"
_WANTED = "lists of numbers, or maps of whole numbers to numbers"
_IMAGES = "the bytes of images"
_MOST_BYTES = 2 << 30
"""A dense matrix made of sparse rows may not be larger."""


class Filled(NamedTuple):
    """The features of n rows: a dense (n, d) matrix, or None and CSR arrays; and where rows cannot be used, by reason."""

    X: np.ndarray | None
    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    broken: dict[str, np.ndarray]


class Matrix(Settings):
    """All features of a record, from one column, as RecordIO and libsvm have them.

    A row is the same however it is stored: `sparse` alone says whether batches are dense or CSR.

    >>> rows = pa.record_batch({"features": pa.array([[(0, 1.5), (2, 4.0)], []], pa.map_(pa.int32(), pa.float64()))})
    >>> Matrix(width=3).fill(rows).X.tolist()
    [[1.5, 0.0, 4.0], [0.0, 0.0, 0.0]]
    """

    column: Annotated[str, Field(description="column of lists of numbers, or of maps of features to numbers")] = (
        matrix.FEATURES
    )
    width: Annotated[int, Field(ge=1, le=100_000_000, description="features of a record; others are rejected")]
    sparse: Annotated[bool, Field(description="batches are CSR; false: dense")] = False
    image: Annotated[
        Pixels | None,
        Field(
            description="the column holds the bytes of JPEG or PNG images, and how their pixels become features: height · "
            "width · channels of them; none: it holds the features"
        ),
    ] = None

    @model_validator(mode="after")
    def _sized(self) -> "Matrix":
        if self.image is not None and self.width != self.image.features:
            message = f"width must be {self.image.features}, height · width · channels of image; got {self.width}"
            raise ValueError(message)
        return self

    def fill(self, batch: pa.RecordBatch) -> Filled:
        """Return the features of a batch of columns; rows that cannot be used are empty, or 0.

        Raises:
            MissingColumn: the column is absent, or no matrix.
            InvalidBatch: sparse rows are to be dense, or images decoded, and would take more than 2 GiB.
        """
        array = column(batch, self.column, _FIELD, _WANTED if self.image is None else _IMAGES)
        if self.image is not None:
            return self._pictured(array, self.image)
        if pa.types.is_null(array.type):
            array = array.cast(pa.list_(pa.float64()))
        if not matrix.is_matrix(array.type):
            raise wrong(self.column, _FIELD, _WANTED, array.type)
        rows = matrix.rows_of(array)
        values = rows.values if rows.values.dtype == np.float32 else rows.values.astype(np.float64, copy=False)
        broken = {} if rows.missing is None else {"missing features": rows.missing}
        counts = np.diff(rows.indptr)
        if rows.indices is None:
            if np.any(counts != self.width):
                broken["another number of features"] = counts != self.width
        else:
            broken |= self._misplaced(rows.indptr, rows.indices, counts)
        bad = np.zeros(len(counts), bool)
        for mask in broken.values():
            bad |= mask
        kept = None if not bad.any() else np.repeat(~bad, counts)
        indices = rows.indices
        if kept is not None:
            values, indices = values[kept], None if indices is None else indices[kept]
            counts = np.where(bad, 0, counts)
        unusable = _non_finite(values, counts)
        if unusable is not None:
            broken["non-finite feature"] = unusable
        return Filled(*self._formed(counts, bad, indices, values), broken)

    def _pictured(self, array: pa.Array, settings: Pixels) -> Filled:
        """Return the features of images; those that cannot be used are 0."""
        types, n = pa.types, len(array)
        if not (
            types.is_binary(array.type) or types.is_large_binary(array.type) or types.is_fixed_size_binary(array.type)
        ):
            raise wrong(self.column, _FIELD, _IMAGES, array.type)
        if n * self.width * 4 > _MOST_BYTES:
            message = (
                f"Features.matrix must have fewer features where {n} images of {self.width} do not fit into 2 GiB."
            )
            raise InvalidBatch(message)
        found = decoded((one.as_py() for one in array), n, settings)
        bad = array.is_null().to_numpy(zero_copy_only=False)
        broken = {"missing features": bad} if bad.any() else {}
        for reason, at in found.refused.items():
            broken[reason] = np.isin(np.arange(n), at)
            bad = bad | broken[reason]
        counts = np.where(bad, 0, self.width)
        values = found.X.reshape(-1) if not bad.any() else found.X[~bad].reshape(-1)
        return Filled(*self._formed(counts, bad, None, values), broken)

    def _misplaced(self, indptr: np.ndarray, indices: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Return which rows hold features that there are not, or not in rising order."""
        found = {}
        outside = (indices < 0) | (indices >= self.width)
        if outside.any():
            found[f"a feature outside 0 … {self.width - 1}"] = _any_of(outside, counts)
        falls = np.zeros(len(indices), bool)
        falls[1:] = indices[1:] <= indices[:-1]
        begins = indptr[:-1][counts > 0]
        falls[begins] = False
        if falls.any():
            found["features that do not rise"] = _any_of(falls, counts)
        return found

    def _formed(
        self, counts: np.ndarray, bad: np.ndarray, indices: np.ndarray | None, values: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray]:
        """Return the matrix, or None and CSR arrays, of rows that are all of one form."""
        n = len(counts)
        if self.sparse:
            if indices is None:
                indices = np.tile(np.arange(self.width, dtype=np.int32), int(np.count_nonzero(counts)))
                stored = values != 0
                counts = np.bincount(np.repeat(np.arange(n), counts)[stored], minlength=n)
                values, indices = values[stored], indices[stored]
            indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            return None, indptr, indices.astype(np.int32, copy=False), values
        nothing = np.empty(0, np.int64)
        if indices is None and not bad.any():
            return values.reshape(n, self.width), nothing, nothing, nothing
        if n * self.width * values.itemsize > _MOST_BYTES:
            message = (
                f"Features.matrix must be sparse = true where {n} sparse rows of {self.width} features do not fit into "
                f"{_MOST_BYTES >> 30} GiB; got sparse = false."
            )
            raise InvalidBatch(message)
        X = np.zeros((n, self.width), values.dtype)
        if indices is None:
            X[~bad] = values.reshape(-1, self.width)
        else:
            X[np.repeat(np.arange(n), counts), indices] = values
        return X, nothing, nothing, nothing


def _any_of(marked: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which rows have a marked value."""
    return np.bincount(np.repeat(np.arange(len(counts)), counts)[marked], minlength=len(counts)) > 0


def _non_finite(values: np.ndarray, counts: np.ndarray) -> np.ndarray | None:
    """Return which rows have a value that is NaN or infinite; one sum decides the common case."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return None
    wrong_ones = ~np.isfinite(values)
    return _any_of(wrong_ones, counts) if wrong_ones.any() else None
