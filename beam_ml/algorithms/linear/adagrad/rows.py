"""Rows as the AdaGrad kernels eat them, dense or CSR. Letters: ``n`` rows, ``d`` features, ``r`` parameter rows."""

import dataclasses

import numpy as np

from beam_ml.algorithms.linear.adagrad import losses
from beam_ml.algorithms.linear.adagrad.moments import (
    COLUMNS,
    around_zero,
    dense_table,
    label_table,
    sparse_table,
    stored_around_zero,
)
from beam_ml.algorithms.linear.adagrad.shape import Columns, Shape
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad
from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.core.batch import Batch
from beam_ml.core.passes import first_pass
from beam_ml.errors import InvalidBatch

__all__ = ["Rows", "class_factors", "class_masses", "densified", "moments_of", "present"]

MAX_DENSIFIED = 4096
"""Features up to which CSR rows may be written out in full for a learner of dense rows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows of positive weight.

    Attributes:
        x: (n, d) dense features, or None.
        indptr, indices, values: CSR features, columns rising within each row, or None.
        label: (n,).
        kind: (n,) class of each row; zeros for regression.
        weight: (n,) > 0.
        place: (z,) int32 parameter rows of the stored values, once `placed`.
        d: features.
        fresh: whether none of them has been learned from before: they are of a first pass.
    """

    x: np.ndarray | None
    indptr: np.ndarray | None
    indices: np.ndarray | None
    values: np.ndarray | None
    label: np.ndarray
    kind: np.ndarray
    weight: np.ndarray
    d: int
    place: np.ndarray | None = None
    fresh: bool = True

    def placed(self, scratch: np.ndarray | None = None, centred: np.ndarray | None = None) -> tuple[np.ndarray, "Rows"]:
        """Return the parameter rows that these rows touch, the bias last, and number by them.

        Args:
            scratch: (d + 1,) int32, all −1, given back so; None: made here.
            centred: features with a centre other than 0, which count in rows that lack them too; None if there are none.
        """
        if self.x is not None:
            return np.arange(self.d + 1), self
        from beam_ml.kernels.adagrad.moments import number_columns

        assert self.indices is not None  # noqa: S101
        scratch = np.full(self.d + 1, -1, dtype=np.int32) if scratch is None else scratch
        numbers = np.empty(min(self.indices.size, self.d) + 1, dtype=np.int64)
        place = np.empty(self.indices.size, dtype=np.int32)
        count = number_columns(self.indices, scratch, numbers, place)
        numbers[count] = self.d
        numbers = numbers[: count + 1]
        if centred is not None and centred.size:
            lacking = centred[~np.isin(centred, numbers)]
            numbers = np.concatenate([numbers[:-1], lacking, numbers[-1:]])
        return numbers, dataclasses.replace(self, place=place)

    def around(self, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return placed CSR rows less a centre (r − 1,): bounds, places and values.

        A row that lacks a feature with a centre other than 0 has minus that centre of it.
        """
        indptr, place, values = self.indptr, self.place, self.values
        assert indptr is not None  # noqa: S101
        assert place is not None  # noqa: S101
        assert values is not None  # noqa: S101
        far = np.flatnonzero(centre)
        if far.size == 0:
            return indptr, place, values
        n = indptr.size - 1
        column = np.full(centre.size, -1, dtype=np.int64)
        column[far] = np.arange(far.size)
        away, at = values - centre[place], column[place]
        on = at >= 0
        if int(np.count_nonzero(on)) == n * far.size:
            return indptr, place, away
        row = np.repeat(np.arange(n), np.diff(indptr))
        lacks = np.ones((n, far.size), dtype=bool)
        lacks[row[on], at[on]] = False
        more_row, more = np.nonzero(lacks)
        order = np.argsort(np.concatenate([row, more_row]), kind="stable")
        place = np.concatenate([place, far[more].astype(np.int32)])[order]
        away = np.concatenate([away, -centre[far[more]]])[order]
        return indptr + np.concatenate([[0], np.cumsum(lacks.sum(axis=1))]), place, away

    def chosen(self, index: np.ndarray) -> "Rows":
        """Return some of the rows (n,), as learned from before; placed ones stay placed."""
        label, kind, weight = (one[index] if one.size else one for one in (self.label, self.kind, self.weight))
        common = dataclasses.replace(self, label=label, kind=kind, weight=weight, fresh=False)
        if self.x is not None:
            return dataclasses.replace(common, x=np.ascontiguousarray(self.x[index]))
        assert self.indptr is not None  # noqa: S101
        size = np.diff(self.indptr)[index]
        indptr = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        at = np.arange(int(indptr[-1])) + np.repeat(self.indptr[:-1][index] - indptr[:-1], size)
        indices, values, place = (None if one is None else one[at] for one in (self.indices, self.values, self.place))
        return dataclasses.replace(common, indptr=indptr, indices=indices, values=values, place=place)

    def learn(
        self,
        spec: AdaGrad,
        shape: Shape,
        columns: Columns,
        weight: np.ndarray,
        total: float,
        base: np.ndarray,
        squares: np.ndarray,
        u: np.ndarray,
    ) -> np.ndarray:
        """Run over the rows; `squares` and `u` are updated.

        Returns:
            (l,) Σ weight · loss of each live variant on the rows, each before it was learned from; 0 unless fresh.
        """
        from beam_ml.kernels.adagrad import run as kernels

        costs = np.zeros(columns.live.size)
        l1, l2 = (penalty * (shape.pace / shape.label_unit) for penalty in (columns.l1, columns.l2))
        reach = shape.reach if spec.normalize else np.full(shape.unit.size, np.inf)
        # A feature that does not vary yet stays still; so does its dead zone.
        rest = (
            self.label - shape.label_centre, weight, losses.code_of(spec), spec.n_outputs, losses.shape_of(spec),
            shape.label_unit, shape.unit, shape.inverse_unit, reach, columns.rate, l1, l2,
            total, columns.penalised, spec.mini_batch_rows, base, squares, u,
        )  # fmt: skip
        counted = costs if self.fresh else costs[:0]
        if self.x is not None:
            theta = shape.parameters(u, base + squares, columns, total) if columns.penalised else u
            kernels.dense_run(self.x, shape.centre, *rest, theta, counted)
        else:
            kernels.sparse_run(*self.around(shape.centre), *rest, counted)
        return costs


def present(spec: AdaGrad, batch: Batch) -> Rows:
    """Return the rows of positive weight, in the form that the spec learns from."""
    weight = batch.weights
    if batch.weight is not None and not (weight > 0).all():
        batch = batch.take(weight > 0)
        weight = batch.weights
    label = np.zeros(len(batch)) if batch.label is None else batch.label
    kind = np.zeros(0, dtype=np.int64) if spec.task == "regression" else label.astype(np.int64)
    fresh = batch.origin is None or first_pass(batch.origin) == batch.origin
    if not spec.sparse:
        return Rows(densified(batch), None, None, None, label, kind, weight, batch.n_features, fresh=fresh)
    indptr, indices, values = canonical(batch)
    return Rows(None, indptr, indices, values, label, kind, weight, batch.n_features, fresh=fresh)


def densified(batch: Batch) -> np.ndarray:
    """Return the features as a dense matrix; refuse to write out a wide CSR batch."""
    if batch.X is not None:
        return batch.X
    if batch.n_features > MAX_DENSIFIED:
        message = f"linear.AdaGrad.sparse must be true to learn from CSR rows of {batch.n_features:,} features."
        raise InvalidBatch(message)
    assert batch.indptr is not None  # noqa: S101
    assert batch.indices is not None  # noqa: S101
    assert batch.values is not None  # noqa: S101
    x = np.zeros((len(batch), batch.n_features), dtype=batch.values.dtype)
    np.add.at(x, (np.repeat(np.arange(len(batch)), np.diff(batch.indptr)), batch.indices), batch.values)
    return x


def class_masses(spec: AdaGrad, rows: Rows) -> np.ndarray:
    """Return the row weight by class (k,); regression: in all."""
    if spec.task == "regression":
        return np.array([rows.weight.sum()])
    return np.bincount(rows.kind, weights=rows.weight, minlength=spec.n_classes)


def class_factors(spec: AdaGrad, mass: np.ndarray) -> np.ndarray:
    """Return the factor on the weight of each class (k,), by class masses where the spec says balanced."""
    if spec.balance_multiclass_weights:
        known = mass > 0
        share = np.divide(mass.sum(), known.sum() * mass, out=np.ones_like(mass), where=known)
        return share
    if spec.class_weights:
        return np.array(spec.class_weights)
    if spec.positive_weight == "balanced":
        factor = mass[0] / mass[1] if mass.min() > 0 else 1.0
        return np.array([1.0, factor])
    factors = np.ones(spec.n_label_classes)
    if spec.task == "binary":
        factors[1] = float(spec.positive_weight)
    return factors


def moments_of(spec: AdaGrad, rows: Rows, shape: Shape) -> np.ndarray:
    """Return the moments (r, 6) of placed rows at the parameter rows they touch; the last is of a real label.

    Values farther from the centre than the shape of before says count as being there.
    Of what is not scaled they are 0; without a bias they are around 0, so that nothing is centred.
    """
    r = shape.unit.size
    table = np.zeros((r, COLUMNS))
    if spec.normalize:
        if rows.x is not None:
            table[:-1] = dense_table(rows.x, rows.weight, shape.centre, shape.farthest)
        else:
            assert rows.place is not None  # noqa: S101
            assert rows.indptr is not None  # noqa: S101
            assert rows.values is not None  # noqa: S101
            table[:-1] = sparse_table(rows.indptr, rows.place, rows.values, rows.weight, shape.centre, shape.farthest)
            if not spec.use_bias:
                table[:-1] = stored_around_zero(table[:-1])
    if spec.task == "regression" and spec.normalize_label:
        table[-1:] = label_table(rows.label, rows.weight)
    return table if spec.use_bias else around_zero(table)
