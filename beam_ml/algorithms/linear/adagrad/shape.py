"""Units of parameters, the packed columns that still learn, and the proximal map.

Letters: ``r`` parameter rows, ``m`` columns.

A parameter before the proximal map is u; with Σ gradient² G, total row weight W, learning rate a and a row's unit b::

    κ = a·λ₁·W/√G      ρ = a·λ₂·W/(b·√G)      θ = soft(u, κ) / (1 + ρ)

Features of rows that are wide, in units of scales, take shorter steps, or a row's own step would overshoot its label: a is
multiplied by the pace ``(mean squared norm of a scaled row)^(−γ/2)``, at most 1, with γ = ½ (Ross, Mineiro and Langford
2013 have 1, which is slow where dense features tell much).

G never stands for fewer than `LEAST_ROWS` rows: so many rows' worth of the mean squared gradient is added to it. That mean
is the squared scale times the bias's own, which is the mean square of the loss's derivative by the score. Rare features
and short half-lives so take no step of full length for one row.

A θ of 0 may come from any u in [−κ, κ]: slack = u/κ says which. With θ and slack, u is known under any G and W.
"""

import dataclasses
from types import MappingProxyType

import numpy as np

from beam_ml.algorithms.linear.adagrad.moments import ever_present, held
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad

__all__ = [
    "Columns",
    "Shape",
    "Sums",
    "added_norm",
    "kept_moments",
    "lift",
    "measured_around_mean",
    "shape_of_tables",
    "taken",
]

LEAST_ROWS = 64.0
"""Rows whose mean squared gradient is added to every step's."""
_PRIOR_ROWS = 16.0  # for which the mean square of the loss's derivative is what it is at a score of 0
_PRIOR = MappingProxyType({"logistic": 0.25, "softmax": 0.25})  # others: 1
_PACE = 0.5  # γ
_FAR = 16.0  # scales from the centre beyond which a value counts as being there, for steps
_FARTHEST = 100.0  # the same for moments: scales that grow must be able to


def taken(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return an own copy (r, …) of values (p, …) at some rows; 0 where the row is −1."""
    if values.shape[0] == 0:
        return np.zeros((rows.size, *values.shape[1:]))
    found = np.take(values, rows, axis=0)
    lacking = rows < 0
    if lacking.any():
        found[lacking] = 0.0
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """The packed columns that learn: each live variant's outputs, side by side.

    Attributes:
        live: (l,) numbers of the live variants.
        shape: (v, o) of all.
        rate, l1, l2: (m,) m = l·o, of each column.
        penalised: whether any penalty is not 0.
    """

    live: np.ndarray
    shape: tuple[int, int]
    rate: np.ndarray
    l1: np.ndarray
    l2: np.ndarray
    penalised: bool

    @staticmethod
    def of(spec: AdaGrad, status: np.ndarray) -> "Columns":
        """Return the columns of the variants whose status is 0."""
        live = np.flatnonzero(status == 0)
        settings = np.repeat(np.array(spec.variants)[live], spec.n_outputs, axis=0)
        rate, l1, l2 = (np.ascontiguousarray(column) for column in settings.reshape(-1, 3).T)
        shape = (spec.n_variants, spec.n_outputs)
        return Columns(live, shape, rate, l1, l2, bool(l1.any() or l2.any()))

    @property
    def flat(self) -> np.ndarray:
        """(m,) places of the columns among all variants' outputs."""
        return (self.live[:, None] * self.shape[1] + np.arange(self.shape[1])).ravel()

    def take(self, values: np.ndarray) -> np.ndarray:
        """Return an own (r, m) copy of the live columns of values (r, v, o)."""
        chosen = values if self.live.size == self.shape[0] else values[:, self.live]
        return np.array(chosen.reshape(values.shape[0], self.rate.size), order="C")

    def rows(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return an own (r, m) copy of the live columns of values (p, v, o) at some rows; 0 where the row is −1."""
        if self.live.size == self.shape[0]:
            return taken(values.reshape(values.shape[0], self.rate.size), rows)
        return self.take(taken(values, rows))

    def put(self, values: np.ndarray) -> np.ndarray:
        """Return (r, v, o) values, those of variants that do not learn 0."""
        r = values.shape[0]
        if self.live.size == self.shape[0]:
            return values.reshape(r, *self.shape)
        out = np.zeros((r, *self.shape))
        out[:, self.live] = values.reshape(r, self.live.size, self.shape[1])
        return out

    def of_variants(self, values: np.ndarray) -> np.ndarray:
        """Return the live variants' values (l,) of values (v,)."""
        return values[self.live]

    def to_variants(self, values: np.ndarray) -> np.ndarray:
        """Return values (v,) of the live variants' (l,), those of the others 0."""
        out = np.zeros(self.shape[0])
        out[self.live] = values
        return out


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Units of the parameter rows, the bias last.

    Attributes:
        scale: (r,) of the features, feature units; 0 where nothing varies; of the bias 1.
        pace: factor on the learning rates of features.
        unit: (r,) step of each row at rate 1, times the pace; 0 holds it still.
        inverse_unit: (r,) what its penalties are relative to; 0 for the bias and for features that do not vary.
        centre: (r − 1,) what is taken off the features.
        label_centre: what is taken off labels.
        label_unit: 1 / the unit of labels.
    """

    scale: np.ndarray
    pace: float
    unit: np.ndarray
    inverse_unit: np.ndarray
    centre: np.ndarray
    label_centre: float
    label_unit: float

    def at(self, rows: np.ndarray) -> "Shape":
        """Return the units of some parameter rows, the bias last."""
        return dataclasses.replace(
            self, scale=self.scale[rows], unit=self.unit[rows], inverse_unit=self.inverse_unit[rows],
            centre=self.centre[rows[:-1]],
        )  # fmt: skip

    def paced(self, pace: float) -> "Shape":
        """Return the same with another pace."""
        unit = self.unit.copy()
        unit[:-1] *= pace / self.pace
        return dataclasses.replace(self, pace=pace, unit=unit)

    @property
    def reach(self) -> np.ndarray:
        """(r,) how far from the centre values count as they are, for steps."""
        return np.where((self.scale > 0.0) & (self.inverse_unit > 0.0), _FAR * self.scale, np.inf)

    @property
    def farthest(self) -> np.ndarray:
        """(r − 1,) the same for moments, which one row of a million deviations would distort for good."""
        found: np.ndarray = self.reach[:-1] * (_FARTHEST / _FAR)
        return found

    def parameters(self, u: np.ndarray, squares: np.ndarray, columns: Columns, total: float | np.ndarray) -> np.ndarray:
        """Return θ (r, m) of u (r, m); `total` is one weight or one per column."""
        from beam_ml.kernels.adagrad.tables import proximal

        theta, reach = np.empty(u.shape), columns.rate * total * (self.pace / self.label_unit)
        tables = (np.ascontiguousarray(one) for one in (u, squares))
        proximal(*tables, reach, columns.l1, columns.l2, self.inverse_unit, theta)
        return theta

    def penalty(self, theta: np.ndarray, columns: Columns) -> np.ndarray:
        """Return ``Σ λ₁|θ|/b + ½λ₂(θ/b)²`` (m,) of parameters (r, m), the bias left out."""
        from beam_ml.kernels.adagrad.tables import sizes

        first, second = np.zeros(columns.rate.size), np.zeros(columns.rate.size)
        sizes(np.ascontiguousarray(theta), self.inverse_unit, first, second)
        found: np.ndarray = columns.l1 * first + 0.5 * columns.l2 * second
        return found


def _reach(squares: np.ndarray, columns: Columns, total: float | np.ndarray) -> np.ndarray:
    """Return a·W/√G of all rows but the bias; 0 where no gradient has come yet."""
    root = np.sqrt(squares[:-1])
    return np.divide(columns.rate * total, root, out=np.zeros_like(root), where=root > 0)


def lift(
    theta: np.ndarray, slack: np.ndarray | None, squares: np.ndarray, columns: Columns, shape: Shape, total: float
) -> np.ndarray:
    """Return u (r, m) of θ (r, m) and slack."""
    u = theta.copy()
    if not columns.penalised:
        return u
    at = _reach(squares, columns, total) * shape.pace / shape.label_unit
    some = theta[:-1]
    side = np.sign(some) if slack is None else np.where(some != 0, np.sign(some), slack[:-1])
    u[:-1] = some * (1.0 + at * columns.l2 * shape.inverse_unit[:-1, None]) + at * columns.l1 * side
    return u


@dataclasses.dataclass(frozen=True, slots=True)
class Sums:
    """Sums over rows that steps depend on.

    Attributes:
        total: Σ row weight with class factors.
        stepped: the same, each as it was when its run came to it: Σ gradient² counts them so.
        stepped_squares: Σ of their squares.
        norm: Σ row weight · squared norm of the scaled row.
        mass: Σ row weight.
    """

    total: float = 0.0
    stepped: float = 0.0
    stepped_squares: float = 0.0
    norm: float = 0.0
    mass: float = 0.0

    def plus(self, other: "Sums", factor: float = 1.0) -> "Sums":
        """Return the sums over these rows, weighted by a factor, and others; the squares fade as the weights do."""
        names = [field.name for field in dataclasses.fields(self)]
        return Sums(*(factor * getattr(self, name) + getattr(other, name) for name in names))

    def unlearned(self, spec: AdaGrad, m: int) -> np.ndarray:
        """Return the bias's Σ gradient² (m,) of these rows at a score of 0."""
        return np.full(m, self.stepped_squares * _PRIOR.get(spec.loss, 1.0))

    def behind(self, spec: AdaGrad, squares: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return what is added to Σ gradient² (r, m): the worth of `LEAST_ROWS` rows.

        Args:
            spec: the spec.
            squares: (m,) Σ gradient² of the bias.
            scale: (r,) of the parameter rows.
        """
        return np.square(scale)[:, None] * self.behind_unit(spec, squares)

    def behind_unit(self, spec: AdaGrad, squares: np.ndarray) -> np.ndarray:
        """Return the same (m,) of a parameter row whose scale is 1."""
        if self.stepped <= 0.0:
            return np.zeros(squares.size)
        typical = (self.stepped_squares / self.stepped) ** 2  # of a row's squared weight
        before = _PRIOR_ROWS * typical
        mean = (squares + before * _PRIOR.get(spec.loss, 1.0)) / (self.stepped_squares + before)
        return np.asarray(LEAST_ROWS * typical * mean)

    @property
    def pace(self) -> float:
        """Factor on the learning rates of features."""
        return max(self.norm / self.mass, 1.0) ** (-0.5 * _PACE) if self.mass > 0.0 else 1.0


def added_norm(spec: AdaGrad, shape: Shape, table: np.ndarray) -> float:
    """Return Σ row weight · squared norm of the scaled row, of rows with the moments (r, 6), around the shape's centre.

    In the long run no feature has more than 1 of it per row, and these do not either, whatever outlier is among them.
    """
    if not spec.normalize:
        return 0.0
    scale = shape.scale[:-1]
    around = table[:-1, 2] + table[:-1, 0] * np.square(table[:-1, 1] - shape.centre)
    with np.errstate(over="ignore", invalid="ignore"):
        share = np.divide(around, np.square(scale), out=np.zeros_like(scale), where=scale > 0)
        return float(np.minimum(share, table[:-1, 0]).sum())


def kept_moments(spec: AdaGrad, table: np.ndarray, mass: float) -> np.ndarray:
    """Return the moments (p, 6) of a state with what moved once `held`, where that is measured around a mean."""
    if not spec.sparse:
        return held(table)
    which = measured_around_mean(spec, table, mass)
    which[-1] = True
    return held(table, which)


def measured_around_mean(spec: AdaGrad, table: np.ndarray, mass: float) -> np.ndarray:
    """Return which features (r,) have their mean as centre, by their moments (r, 6), of rows that weigh `mass`."""
    if not spec.normalize:
        return np.zeros(table.shape[0], dtype=bool)
    if not spec.sparse:
        return np.ones(table.shape[0], dtype=bool)
    return ever_present(table, mass) if spec.use_bias else np.zeros(table.shape[0], dtype=bool)


def shape_of_tables(spec: AdaGrad, table: np.ndarray, numbers: np.ndarray, mass: float, pace: float = 1.0) -> Shape:
    """Return the units of some parameter rows.

    Args:
        spec: the spec.
        table: (r, 6) moments, the last of the bias or a real label.
        numbers: (r,) the parameter rows that these are of, the bias last.
        mass: Σ row weight, without class factors, of the rows that the moments are of.
        pace: factor on the learning rates of features.
    """
    label_centre, label_scale = 0.0, 1.0
    if spec.task == "regression" and spec.normalize_label:
        label_centre = float(table[-1, 1])
        deviation = float(np.sqrt(table[-1, 2] / table[-1, 0])) if table[-1, 0] > 0 else 0.0
        label_scale = deviation if np.isfinite(deviation) and deviation > 1e-15 * abs(label_centre) else 1.0
    r = numbers.size
    scale = np.ones(r - 1)
    centre = np.zeros(r - 1)
    if spec.normalize:
        from beam_ml.kernels.adagrad.tables import units

        around = 2 if not spec.sparse else int(spec.use_bias)
        units(np.ascontiguousarray(table[:-1]), mass, around, scale, centre)
    unit, inverse = np.zeros(r), np.zeros(r)
    np.divide(pace * label_scale, scale, out=unit[:-1], where=scale > 0)
    inverse[:-1] = scale / label_scale
    unit[-1] = label_scale * spec.bias_rate if spec.use_bias else 0.0
    return Shape(np.append(scale, 1.0), pace, unit, inverse, centre, label_centre, 1.0 / label_scale)
