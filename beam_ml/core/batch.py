"""`Batch`: what a kernel eats. Letters: ``n`` rows, ``d`` features, ``z`` stored non-zeros."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from beam_ml.core import convert, frames
from beam_ml.core.epochs import UnitOfNumbers
from beam_ml.errors import InvalidBatch

__all__ = ["FIT", "ROW_COLUMNS", "Batch", "Origin"]

FIT = "fit"
"""Source of rows that `beam_ml.fit` was given without one; their partition is a digest, # and a mark of that call."""
ROW_COLUMNS = ("label", "weight", "time", "position", "position_end")
"""The columns of one entry per row besides the features."""
_MOST_FEATURES = 2**31 - 1  # int32 holds every column's number


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where rows came from: a source (topic, folder) and one of its partitions (partition number, file)."""

    source: str
    partition: str

    @property
    def drawn_as(self) -> str:
        """What decides, with seed and position, which rows are sampled: all but the mark that tells two equal fits apart.

        >>> Origin("fit", "2f6b#0c1d").drawn_as == Origin("fit", "2f6b#9e8a").drawn_as
        True
        """
        partition = self.partition.partition("#")[0] if self.source == FIT else self.partition
        return f"{self.source}\0{partition}"


def _vector(name: str, value: Any, n: int, unit: UnitOfNumbers | None = None) -> np.ndarray | None:
    if value is None:
        return None
    if name in ("label", "weight"):
        array = np.ascontiguousarray(convert.reals(name, value), dtype=np.float64)
    else:
        whole = convert.times_us(name, value, unit) if name == "time" else convert.wholes(name, value)
        # What is 0-d stays so until its shape is refused.
        array = np.asarray(whole, order="C")
    if array.shape != (n,):
        message = f"Batch.{name} must have shape ({n},); got {array.shape}."
        raise InvalidBatch(message)
    return array


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows ready for a kernel: dense or CSR features; label, weight, event time, source position.

    Build it with `Batch.dense` or `Batch.csr`. Nothing copies unless it must; treat the arrays as read-only.

    Attributes:
        X: (n, d) float32 or float64 features, C order; None when the batch is CSR.
        indptr, indices, values: CSR row bounds (n + 1) int64, columns (z) int32, values (z) float32 or float64.
        n_features: d.
        label: (n,) float64, or None.
        weight: (n,) float64 ≥ 0, or None: all 1.
        time: (n,) int64 event time, µs since the epoch, or None.
        origin: source and partition that all the rows came from, or None.
        position: (n,) int64 place of each row within its origin (row of a file, …), or None.
        position_end: (n,) int64 where the row's place ends, for places that are wider than 1 (byte offsets); None: + 1.
        names: of the d features, where the rows came from a frame; None: unknown.

    >>> batch = Batch.dense([[1.0, 2.0], [3.0, 4.0]], label=[0, 1])
    >>> len(batch), batch.n_features
    (2, 2)
    """

    X: np.ndarray | None
    indptr: np.ndarray | None
    indices: np.ndarray | None
    values: np.ndarray | None
    n_features: int
    label: np.ndarray | None = None
    weight: np.ndarray | None = None
    time: np.ndarray | None = None
    origin: Origin | None = None
    position: np.ndarray | None = None
    position_end: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    @classmethod
    def dense(
        cls,
        X: Any,
        label: Any = None,
        weight: Any = None,
        time: Any = None,
        origin: Origin | None = None,
        position: Any = None,
        position_end: Any = None,
        time_unit: UnitOfNumbers | None = None,
    ) -> Self:
        """Build from an (n, d) array or a frame; float32 and float64 are kept, other numbers become float64.

        A frame (pandas, polars, Arrow) names the features.

        Times may be `datetime64` of any unit, `datetime` (UTC where there is no zone), or numbers that count `time_unit`
        since the epoch: "s", "ms", "us" or "ns". Without it they are µs, but for numbers that are all ns of the years 1990
        to 2100; a warning says so, and where all look like seconds or ms of those years.

        Raises:
            InvalidBatch: what is no number or time, or would change on the way; shapes that do not fit.

        >>> Batch.dense([[1.0]], label=["yes"])
        Traceback (most recent call last):
        beam_ml.errors.InvalidBatch: Batch.label must be numbers, as (text == 'yes') makes them of text; got 'yes' (<U3).
        """
        frame = frames.read(X)
        matrix, names = (convert.reals("X", X), None) if frame is None else frame
        if matrix.ndim != 2:
            message = f"Batch.X must have two axes (n, d); got shape {matrix.shape}."
            raise InvalidBatch(message)
        matrix = np.ascontiguousarray(matrix)
        n, d = matrix.shape
        return cls(
            matrix, None, None, None, d,
            _vector("label", label, n), _vector("weight", weight, n),
            _vector("time", time, n, time_unit), origin, _vector("position", position, n),
            _vector("position_end", position_end, n), names,
        )  # fmt: skip

    @classmethod
    def of(cls, rows: Any) -> "Batch":
        """Return rows of features as a batch: a batch itself, an (n, d) array, a frame, a sparse matrix.

        >>> Batch.of([[1.0, 2.0]]).dense_x.tolist()
        [[1.0, 2.0]]
        """
        if isinstance(rows, Batch):
            return rows
        return cls.from_scipy(rows) if frames.is_sparse(rows) else cls.dense(rows)

    @classmethod
    def from_arrow(
        cls,
        rows: Any,
        label: Any = None,
        weight: Any = None,
        time: Any = None,
        time_unit: UnitOfNumbers | None = None,
    ) -> Self:
        """Build from a frame of numbers that has named columns: Arrow's, or whatever exports Arrow's C stream.

        Args:
            rows: the frame; all columns that are not named below are features, which keep their names.
            label: name of a column of it, or an array (n,).
            weight: as `label`.
            time: as `label`.
            time_unit: of times that are numbers, as `dense` takes it.

        Raises:
            InvalidBatch: a column is not there, or holds no numbers (`Features` takes categories, texts and gaps).

        >>> import pyarrow as pa
        >>> batch = Batch.from_arrow(pa.table({"amount": [1.0, 2.0], "fraud": [0, 1]}), label="fraud")
        >>> batch.dense_x.tolist(), batch.label.tolist(), batch.names
        ([[1.0], [2.0]], [0.0, 1.0], ('amount',))
        """
        features, beside = frames.parted(rows, {"label": label, "weight": weight, "time": time})
        return cls.dense(features, **beside, time_unit=time_unit)

    @classmethod
    def from_pandas(
        cls,
        rows: Any,
        label: Any = None,
        weight: Any = None,
        time: Any = None,
        time_unit: UnitOfNumbers | None = None,
    ) -> Self:
        """Build from a pandas frame of numbers; its index is no feature. Otherwise as `from_arrow`."""
        return cls.from_arrow(rows, label, weight, time, time_unit)

    @classmethod
    def from_scipy(
        cls,
        rows: Any,
        label: Any = None,
        weight: Any = None,
        time: Any = None,
        time_unit: UnitOfNumbers | None = None,
    ) -> Self:
        """Build a CSR batch from a sparse matrix or array of scipy, (n, d), whatever its format.

        Raises:
            InvalidBatch: it is none, or what stands beside it has another length.

        >>> import scipy.sparse
        >>> batch = Batch.from_scipy(scipy.sparse.coo_array([[0.0, 2.0], [0.0, 0.0]]), label=[1, 0])
        >>> batch.indices.tolist(), batch.values.tolist(), batch.label.tolist()
        ([1], [2.0], [1.0, 0.0])
        """
        if not frames.is_sparse(rows):
            message = f"Batch.from_scipy takes sparse matrices of scipy; got {type(rows).__name__}."
            raise InvalidBatch(message)
        if rows.ndim != 2:
            message = f"Batch.from_scipy takes rows of features, (n, d); got an array of shape {rows.shape}."
            raise InvalidBatch(message)
        matrix = rows.tocsr(copy=True)
        matrix.sum_duplicates()
        beside = {"label": label, "weight": weight, "time": time, "time_unit": time_unit}
        return cls.csr(matrix.indptr, matrix.indices, matrix.data, matrix.shape[1], **beside)

    def ordered(self, names: tuple[str, ...] | None) -> "Batch":
        """Return the batch with its features in an order of names; without names here or there it is as it is.

        Raises:
            InvalidBatch: its features have other names.
        """
        if names is None or self.names is None or self.names == names:
            return self
        if sorted(self.names) != sorted(names):
            absent, more = (
                [n for n in one if n not in other] for one, other in ((names, self.names), (self.names, names))
            )
            message = f"Batch.names must be {list(names)[:8]} in any order; lacking {absent[:8]}, unknown {more[:8]}."
            raise InvalidBatch(message)
        place = {name: j for j, name in enumerate(self.names)}
        return dataclasses.replace(
            self, X=self.dense_x[:, [place[name] for name in names]].copy(order="C"), names=names
        )

    @classmethod
    def csr(
        cls,
        indptr: Any,
        indices: Any,
        values: Any,
        n_features: int,
        label: Any = None,
        weight: Any = None,
        time: Any = None,
        origin: Origin | None = None,
        position: Any = None,
        position_end: Any = None,
        time_unit: UnitOfNumbers | None = None,
    ) -> Self:
        """Build from CSR arrays: ``indptr`` (n + 1), ``indices`` and ``values`` (z)."""
        n_features = convert.count("n_features", n_features, _MOST_FEATURES)
        indptr = np.ascontiguousarray(convert.wholes("indptr", indptr))
        indices = np.asarray(indices)
        if indices.dtype != np.int32:
            indices = convert.wholes("indices", indices)  # made int32 once they are known to fit
        values = np.ascontiguousarray(convert.reals("values", values))
        if indptr.ndim != 1 or indptr.size < 1 or indptr[0] != 0 or np.any(np.diff(indptr) < 0):
            message = "Batch.indptr must start at 0 and never fall."
            raise InvalidBatch(message)
        if indices.shape != values.shape or indices.shape != (int(indptr[-1]),):
            message = (
                f"Batch.indices and values must have shape ({int(indptr[-1])},); got {indices.shape}, {values.shape}."
            )
            raise InvalidBatch(message)
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < n_features:
            message = f"Batch.indices must lie in [0, {n_features}); got {int(indices.min())} to {int(indices.max())}."
            raise InvalidBatch(message)
        n = indptr.size - 1
        return cls(
            None, indptr, np.ascontiguousarray(indices, dtype=np.int32), values, n_features,
            _vector("label", label, n), _vector("weight", weight, n),
            _vector("time", time, n, time_unit), origin, _vector("position", position, n),
            _vector("position_end", position_end, n),
        )  # fmt: skip

    def __len__(self) -> int:
        if self.X is not None:
            return int(self.X.shape[0])
        assert self.indptr is not None  # noqa: S101 the constructors set one of the two
        return int(self.indptr.size - 1)

    @property
    def is_dense(self) -> bool:
        """Return whether the features are a dense matrix."""
        return self.X is not None

    @property
    def dense_x(self) -> np.ndarray:
        """Return the dense (n, d) matrix; refuse a CSR batch."""
        if self.X is None:
            message = "This algorithm takes dense features; got a CSR batch."
            raise InvalidBatch(message)
        return self.X

    @property
    def weights(self) -> np.ndarray:
        """Return the weights, (n,) float64, ones where none were given."""
        return np.ones(len(self)) if self.weight is None else self.weight

    @property
    def feature_bytes(self) -> int:
        """Return the bytes of the features' values."""
        values = self.values if self.X is None else self.X
        assert values is not None  # noqa: S101 the constructors set one of the two
        return int(values.nbytes)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays."""
        arrays = (self.X, self.indptr, self.indices, self.values, *(getattr(self, name) for name in ROW_COLUMNS))
        return sum(int(array.nbytes) for array in arrays if array is not None)

    def take(self, rows: np.ndarray | slice) -> "Batch":
        """Return some rows: a slice (views where possible), a boolean mask or row numbers."""
        columns: dict[str, Any] = {}
        for name in ROW_COLUMNS:
            value = getattr(self, name)
            columns[name] = None if value is None else value[rows]
        if self.X is not None:
            return dataclasses.replace(self, X=np.ascontiguousarray(self.X[rows]), **columns)
        assert self.indptr is not None  # noqa: S101
        assert self.indices is not None  # noqa: S101
        assert self.values is not None  # noqa: S101
        if isinstance(rows, slice) and rows.step in (None, 1):
            begin, end, _ = rows.indices(len(self))
            bounds = self.indptr[begin : max(begin, end) + 1]
            kept = slice(int(bounds[0]), int(bounds[-1]))
            return dataclasses.replace(
                self, indptr=bounds - bounds[0], indices=self.indices[kept].copy(), values=self.values[kept].copy(),
                **columns,
            )  # fmt: skip
        chosen = np.arange(len(self))[rows]
        counts = np.diff(self.indptr)
        width = int(counts[0]) if counts.size else 0
        if width and self.indices.size == counts.size * width and bool((counts == width).all()):
            return dataclasses.replace(
                self, indptr=np.arange(chosen.size + 1) * width, indices=self.indices.reshape(-1, width)[chosen].ravel(),
                values=self.values.reshape(-1, width)[chosen].ravel(), **columns,
            )  # fmt: skip
        counts = counts[chosen]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        where = np.repeat(self.indptr[chosen] - indptr[:-1], counts) + np.arange(indptr[-1])
        return dataclasses.replace(
            self, indptr=indptr, indices=self.indices[where], values=self.values[where], **columns
        )

    def replace(self, **changes: Any) -> "Batch":
        """Return a copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    @staticmethod
    def concat(batches: Iterable["Batch"]) -> "Batch":
        """Concatenate batches of one form and width; a column that one lacks is dropped (weight is filled with 1).

        Features that have names are matched by them.

        Raises:
            InvalidBatch: no batch, or batches of several forms, widths or sets of names.
        """
        parts: Sequence[Batch] = list(batches)
        if not parts:
            message = "Batch.concat needs at least one batch."
            raise InvalidBatch(message)
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        if any(p.is_dense != first.is_dense or p.n_features != first.n_features for p in parts):
            message = "Batch.concat needs batches of one form (dense or CSR) and one width."
            raise InvalidBatch(message)

        def column(name: str) -> np.ndarray | None:
            values = [getattr(p, name) for p in parts]
            return None if any(v is None for v in values) else np.concatenate(values)

        weight = None if all(p.weight is None for p in parts) else np.concatenate([p.weights for p in parts])
        origin = first.origin if all(p.origin == first.origin for p in parts) else None
        shared: dict[str, Any] = {"label": column("label"), "weight": weight, "time": column("time"), "origin": origin}
        if origin is not None:
            shared["position"] = column("position")
            if any(p.position_end is not None for p in parts):
                ends = [
                    p.position + 1 if p.position_end is None and p.position is not None else p.position_end
                    for p in parts
                ]
                shared["position_end"] = np.concatenate([e for e in ends if e is not None])
        if first.is_dense:
            names = first.names if all(p.names is not None for p in parts) else None
            matrix = np.concatenate([p.ordered(first.names).dense_x for p in parts])
            return Batch.dense(matrix, **shared, time_unit="us").replace(names=names)
        offsets = np.cumsum([0, *(int(p.indptr[-1]) for p in parts if p.indptr is not None)])
        indptr = np.concatenate(
            [[0], *(p.indptr[1:] + o for p, o in zip(parts, offsets, strict=False) if p.indptr is not None)]
        )
        indices = np.concatenate([p.indices for p in parts if p.indices is not None])
        values = np.concatenate([p.values for p in parts if p.values is not None])
        return Batch.csr(indptr, indices, values, first.n_features, **shared, time_unit="us")
