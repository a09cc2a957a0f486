"""`Gathered`: the partial of law GATHERED: rows themselves, as many as fit, and what they all weigh. A commutative monoid.

For what learns from rows and from nothing less: neural networks, whose shards do not add. Workers gather, one fold trains.
Rows are kept sparse, with weight and event time as they came: nothing is scaled on the way, the fold weighs (`aged`). So any
order and grouping of merges yields the same bytes, with a half-life too.

Where the rows exceed `GatheredSpec.gather_bytes`, those are kept that come first by their clocks (`beam_ml.core.clocks`):
the partial holds the longest prefix that fits and τ, the smallest order refused. A kept row then stands for others: its
weight in `rows` is divided by its chance of being kept, 1 − exp(−e^τ · rate), and all weights are scaled to the exact total.

That total is exact to the bit whatever the order of addition (`beam_ml.core.masses`).

Letters: ``n`` rows, ``z`` stored values, ``l`` labels (n or, where the spec has none, 0), ``m`` masses.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt64
from pydantic import Field

from beam_ml.core.algorithm import check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.batch import Batch
from beam_ml.core.clocks import chances, log_clocks, log_rate, prefix
from beam_ml.core.identity import draws, identities
from beam_ml.core.masses import half_life_us, in_units, masses_of, summed
from beam_ml.core.spec import Spec
from beam_ml.errors import InvalidBatch

__all__ = [
    "NO_TIME",
    "Gathered",
    "GatheredSpec",
    "Gathering",
    "accumulate",
    "aged",
    "empty",
    "fitting",
    "grow",
    "merge",
    "rows",
    "scale",
    "shares",
    "thinned",
    "weight",
]

NO_TIME = np.iinfo(np.int64).min
"""The time of a row that has none."""

_WIDEST = 16  # of the bytes to gather, the share that one row may take


class GatheredSpec(Spec):
    """A spec of law GATHERED: it says how many bytes of rows are gathered for a fold."""

    gather_bytes: Annotated[
        int,
        Field(ge=1024, le=1 << 40, description="rows gathered for one fold, in bytes; more are thinned by chance"),
    ] = 64 << 20


@array_dataclass
class Gathered:
    """Rows in the order of their clocks, and what all rows weigh, those left out included."""

    order: Float64[np.ndarray, "n"]  # log of the row's clock, rising
    identity: UInt64[np.ndarray, "n"]  # hash of what the row is drawn by
    counts: Int64[np.ndarray, "n"]  # stored values of the row
    indices: Int32[np.ndarray, "z"]  # their features
    values: Float64[np.ndarray, "z"]  # feature units
    label: Float64[np.ndarray, "l"]  # of the rows, where the spec has labels
    weight: Float64[np.ndarray, "n"]  # of the row, as it came
    time: Int64[np.ndarray, "n"]  # event time, µs since the epoch; NO_TIME: none
    tau: Float64[np.ndarray, ""]  # smallest order refused; +inf while nothing was
    seen: Int64[np.ndarray, ""]  # rows of positive weight, kept or not
    era: Int64[np.ndarray, "m"]  # number of a half-life since the epoch; 0 where nothing is forgotten
    octave: Int64[np.ndarray, "m"]  # power of 256 at or below the weights
    mass: Float64[np.ndarray, "m"]  # Σ weight as of the beginning of the era

    def __post_init__(self) -> None:
        """Refuse rows that do not add up to what is stored."""
        if (self.counts < 0).any() or int(self.counts.sum()) != self.indices.size:
            message = f"Gathered.counts must add up to the {self.indices.size} values; got {int(self.counts.sum())}."
            raise InvalidBatch(message)
        if self.label.size not in (0, self.counts.size):
            message = f"Gathered.label must have one entry per row, {self.counts.size}, or none; got {self.label.size}."
            raise InvalidBatch(message)


_OF_ROWS = ("order", "identity", "counts", "weight", "time")


def empty(spec: Spec) -> Gathered:
    """Return the identity of `merge`."""
    none, whole = np.zeros(0), np.zeros(0, np.int64)
    return Gathered(
        order=none, identity=none.astype(np.uint64), counts=whole, indices=whole.astype(np.int32), values=none, label=none,
        weight=none, time=whole, tau=np.asarray(np.inf), seen=np.zeros((), np.int64), era=whole, octave=whole, mass=none,
    )  # fmt: skip


def weight(gathered: Gathered) -> float:
    """Return the weight of all rows, as of the beginning of the newest era: of an aged partial, as of its time."""
    if gathered.mass.size == 0:
        return 0.0
    return float(np.sum(gathered.mass * np.exp2((gathered.era - gathered.era.max()).astype(np.float64))))


def thinned(gathered: Gathered) -> int:
    """Return how many rows of positive weight are not kept: others stand for them."""
    return int(gathered.seen) - gathered.order.size


def accumulate(spec: GatheredSpec, partial: Gathered, batch: Batch, anchor: None = None) -> Gathered:
    """Add a batch's rows of positive weight.

    Rows without origin and position are drawn by what is in them; those that workers gather have a name by then.

    >>> spec = GatheredSpec(algorithm="mine", n_features=2)
    >>> one = accumulate(spec, empty(spec), Batch.dense([[1.0, 0.0], [2.0, 3.0]], weight=[1.0, 0.0]))
    >>> weight(one), one.values.tolist(), thinned(one)
    (1.0, [1.0], 0)
    """
    return _merged(spec, [partial, _of(spec, batch, float(partial.tau))])


def merge(spec: GatheredSpec, a: Gathered, b: Gathered) -> Gathered:
    """Return all rows of both, cut to what fits: to the bit the same in any order and grouping."""
    return _merged(spec, [a, b])


def scale(spec: Spec, gathered: Gathered, factor: float) -> Gathered:
    """Return the rows with their weights times a factor; they stay in their order."""
    if factor == 0.0 or weight(gathered) * factor == 0.0:
        return empty(spec)
    return dataclasses.replace(gathered, weight=gathered.weight * factor, mass=gathered.mass * factor)


def aged(spec: Spec, gathered: Gathered, time: int | None) -> Gathered:
    """Return the rows with the weights that they have as of a time, 2^(−age / half_life) of their own: for a fold."""
    if spec.half_life is None or time is None or gathered.mass.size == 0:
        return gathered
    half_us = half_life_us(spec.half_life)
    ages = np.where(gathered.time == NO_TIME, 0, np.int64(time) - gathered.time)
    at_era = ((gathered.era * half_us - time) / half_us).astype(np.float64)
    total = float(np.sum(gathered.mass * np.exp2(at_era)))
    if total == 0.0:
        return empty(spec)
    zero = np.zeros(1, np.int64)
    return dataclasses.replace(
        gathered, weight=gathered.weight * np.exp2(-ages / half_us), era=zero, octave=zero, mass=np.array([total])
    )


def rows(spec: Spec, gathered: Gathered) -> Batch | None:
    """Return the rows kept, in the order of their clocks, weighted to stand for all rows; None without any.

    A row's weight is its own over its chance of being kept; all are scaled to the exact total. Where nothing was left out
    these are the rows' own weights.
    """
    if gathered.order.size == 0:
        return None
    weights = gathered.weight
    if thinned(gathered):
        rates = log_clocks(gathered.identity) - gathered.order
        weights = weights / np.maximum(chances(float(gathered.tau) + rates), 1e-300)
        total = float(weights.sum())
        weights = weights * (weight(gathered) / total) if total > 0.0 else weights
    timed = gathered.time.size and not (gathered.time == NO_TIME).any()
    return Batch.csr(
        np.concatenate([[0], np.cumsum(gathered.counts)]), gathered.indices, gathered.values, spec.n_features,
        label=gathered.label if gathered.label.size else None, weight=weights, time=gathered.time if timed else None,
        time_unit="us",
    )  # fmt: skip


def fitting(spec: Spec, held_bytes: int, batch: Batch) -> int:
    """Return how many of a batch's first rows fit beside what is held, with none thinned.

    >>> spec = GatheredSpec(algorithm="mine", n_features=1, gather_bytes=1024)
    >>> fitting(spec, 900, Batch.dense([[1.0], [2.0], [3.0]]))
    2
    """
    return int(np.count_nonzero(np.cumsum(_needed(spec, batch)) <= _room(spec) - held_bytes))


def shares(spec: Spec, batches: Sequence[Batch]) -> list[int]:
    """Return how many rows go into each of several partials, one after the other, so that none is thinned.

    >>> spec = GatheredSpec(algorithm="mine", n_features=1, gather_bytes=1024)
    >>> shares(spec, [Batch.dense(np.ones((30, 1)))])
    [19, 11]
    """
    if not batches:
        return []
    begins = [0]
    total = np.cumsum(np.concatenate([_needed(spec, batch) for batch in batches]))
    while begins[-1] < total.size:
        before = int(total[begins[-1] - 1]) if begins[-1] else 0
        begins.append(int(np.searchsorted(total, before + _room(spec), side="right")))
    return np.diff(begins).tolist()


def _needed(spec: Spec, batch: Batch) -> np.ndarray:
    """Return the bytes that each row will have; those that are left out have none."""
    counts = np.count_nonzero(batch.X, axis=1) if batch.X is not None else np.diff(_indptr(batch))
    size = _row_bytes(spec, counts)
    size[(batch.weights <= 0) | (size > _widest(spec))] = 0
    return size


class Gathering:
    """The mutable twin of `accumulate` for many batches; what was begun with, and what was given, stay as they are."""

    def __init__(self, spec: GatheredSpec, start: Gathered) -> None:
        self._spec, self._parts = spec, [start]

    def add(self, batch: Batch) -> None:
        """Add a batch's rows."""
        tau = min(float(one.tau) for one in self._parts)
        self._parts.append(_of(self._spec, batch, tau))
        fresh = sum(map(_bytes_of_rows, self._parts[1:]))
        if fresh > max(_bytes_of_rows(self._parts[0]), self._spec.gather_bytes // 8):
            self.partial()

    def scale(self, factor: float) -> None:
        """Weigh all rows so far by a factor."""
        self._parts = [scale(self._spec, self.partial(), factor)]

    def partial(self) -> Gathered:
        """Return everything so far; adding more leaves it as it is."""
        if len(self._parts) > 1:
            self._parts = [_merged(self._spec, self._parts)]
        return self._parts[0]

    @property
    def nbytes(self) -> int:
        """The bytes that `partial` has."""
        if sum(map(_bytes_of_rows, self._parts)) > self._spec.gather_bytes:
            self.partial()
        at, _, _ = _masses(self._parts)
        return sum(map(_bytes_of_rows, self._parts)) + 16 + 24 * at.size


def grow(spec: GatheredSpec, partial: Gathered, anchor: None = None) -> Gathering:
    """Return what continues from a partial."""
    return Gathering(spec, partial)


# --- how ---------------------------------------------------------------------------------------------------------------


def _indptr(batch: Batch) -> np.ndarray:
    assert batch.indptr is not None  # noqa: S101 a batch is dense or CSR
    return batch.indptr


def _row_bytes(spec: Spec, counts: np.ndarray) -> np.ndarray:
    return counts * 12 + (40 if spec.label_target == "none" else 48)


def _bytes_of_rows(gathered: Gathered) -> int:
    return gathered.order.size * 40 + gathered.indices.size * 12 + gathered.label.size * 8


def _room(spec: Spec) -> int:
    assert isinstance(spec, GatheredSpec)  # noqa: S101 the law "capacity" requires it
    return spec.gather_bytes


def _widest(spec: Spec) -> int:
    return _room(spec) // _WIDEST


def _of(spec: GatheredSpec, batch: Batch, below: float) -> Gathered:
    """Return a batch's rows, not cut, without those that τ so far refuses."""
    check_batch(spec, batch)
    present = batch.weights > 0
    if not present.any():
        return empty(spec)
    batch = batch if present.all() else batch.take(present)
    weights, octave = in_units(batch.weights)
    batch = batch.replace(weight=weights)
    era, octave, mass = masses_of(spec, batch, octave)
    identity = _drawn_by(spec, batch)
    order = log_clocks(identity) - log_rate(spec, batch)
    seen, sparse = len(batch), _sparse(batch)
    counts = np.diff(_indptr(sparse))
    kept = (order < below) & (_row_bytes(spec, counts) <= _widest(spec))
    if not kept.all():
        sparse, order, identity = sparse.take(kept), order[kept], identity[kept]
    labelled = spec.label_target != "none"
    assert sparse.indices is not None  # noqa: S101
    assert sparse.values is not None  # noqa: S101
    return Gathered(
        order=order, identity=identity, counts=np.diff(_indptr(sparse)), indices=sparse.indices.copy(),
        values=sparse.values.astype(np.float64),
        label=sparse.label.copy() if labelled and sparse.label is not None else np.zeros(0),
        weight=sparse.weights.copy(),
        time=np.full(len(sparse), NO_TIME) if sparse.time is None else sparse.time.copy(),
        tau=np.asarray(below), seen=np.asarray(seen, np.int64), era=era, octave=octave, mass=mass,
    )  # fmt: skip


def _masses(parts: list[Gathered]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return summed(*(np.concatenate([getattr(one, name) for one in parts]) for name in ("era", "octave", "mass")))


def _drawn_by(spec: Spec, batch: Batch) -> np.ndarray:
    """Return the hashes that rows are drawn by: of their places, or where they have none of what is in them."""
    if batch.origin is not None and batch.position is not None:
        return draws(spec.seed, batch, identities(spec.seed, batch))
    return _hashed_content(spec, batch)


def _hashed_content(spec: Spec, batch: Batch) -> np.ndarray:
    sparse = _sparse(batch)
    indptr = _indptr(sparse)
    assert sparse.indices is not None  # noqa: S101
    assert sparse.values is not None  # noqa: S101
    beside = [column for column in (sparse.weights, sparse.label, sparse.time) if column is not None]
    found = np.empty(len(batch), np.uint64)
    for i in range(len(batch)):
        mine = slice(int(indptr[i]), int(indptr[i + 1]))
        parts = (sparse.indices[mine], sparse.values[mine].astype(np.float64), *(one[i : i + 1] for one in beside))
        text = spec.seed.to_bytes(4, "little") + b"".join(part.tobytes() for part in parts)
        found[i] = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return found


def _sparse(batch: Batch) -> Batch:
    """Return rows as CSR: what is 0 in a dense row is not stored."""
    if batch.X is None:
        return batch
    there = batch.X != 0.0
    _, columns = np.nonzero(there)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(there, axis=1))])
    return Batch.csr(
        indptr,
        columns,
        batch.X[there],
        batch.n_features,
        label=batch.label,
        weight=batch.weight,
        time=batch.time,
        time_unit="us",
    )


def _merged(spec: GatheredSpec, parts: list[Gathered]) -> Gathered:
    """Put rows into the order of their clocks and keep the longest prefix that fits."""
    held = [one for one in parts if one.seen > 0]
    if len(held) == 1 and held[0] is parts[0]:
        return parts[0]
    if not held:
        return empty(spec)
    era, octave, mass = _masses(held)
    tau = min(float(one.tau) for one in held)
    seen = sum(int(one.seen) for one in held)
    columns = {name: np.concatenate([getattr(one, name) for one in held]) for name in _OF_ROWS}
    place = _places(columns["order"], columns["identity"], columns["time"], columns["weight"])
    place = place[columns["order"][place] < tau]
    label = np.concatenate([one.label for one in held])
    fits = prefix(_row_bytes(spec, columns["counts"][place]), spec.gather_bytes)
    if not fits.all():
        tau = float(columns["order"][place[np.argmin(fits)]])
        place = place[fits & (columns["order"][place] < tau)]  # of rows with one clock, all or none
    begin = np.cumsum(columns["counts"]) - columns["counts"]
    counts = columns["counts"][place]
    where = np.repeat(begin[place] - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    return Gathered(
        **{name: column[place] for name, column in columns.items()},
        indices=np.concatenate([one.indices for one in held])[where],
        values=np.concatenate([one.values for one in held])[where],
        label=label[place] if label.size else label,
        tau=np.asarray(tau), seen=np.asarray(seen, np.int64), era=era, octave=octave, mass=mass,
    )  # fmt: skip


def _places(order: np.ndarray, identity: np.ndarray, time: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return what sorts rows by their clocks; rows of one clock by what else tells them apart."""
    place = np.argsort(order, kind="stable")
    if (order[place][1:] == order[place][:-1]).any():
        return np.lexsort((weight, time, identity, order))
    return place
