"""The exponential clock of a row, by which samples draw: its rate, and which rows may be early enough to be kept.

`Sample` and `Gathered` share it. A row with weight w and event time t is drawn in the order of

    log(−ln u) − ln w − t · ln 2 / half_life,   u uniform in (0, 1), a hash of who the row is,

the logarithm of an exponential clock with the row's (decayed) weight as its rate (Efraimidis & Spirakis 2006; bottom-k
sketches of Cohen & Kaplan 2007). Letters: ``n`` rows, ``c`` classes.
"""

from typing import NamedTuple, Self

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.identity import draws, identities
from beam_ml.core.spec import Spec

__all__ = ["Known", "candidates", "chances", "classes", "log_clocks", "log_rate", "prefix", "row_bytes"]

_MAX_CLASSES = 256


class Known(NamedTuple):
    """What is computed once of a batch, however many samples are drawn from it.

    Attributes:
        identity: (n,) uint64 hashes that say who the rows are.
        drawn: (n,) uint64 hashes that they are drawn by.
        time: newest event time, µs; None without half-life.
        mass: (c,) (decayed) weight of the rows by class.
    """

    identity: np.ndarray
    drawn: np.ndarray
    time: int | None
    mass: np.ndarray

    @classmethod
    def of(cls, spec: Spec, batch: Batch) -> Self:
        """Hash, date and weigh the rows of a batch."""
        identity, c = identities(spec.seed, batch), classes(spec)
        time = None if spec.half_life is None or batch.time is None else int(batch.time.max())
        mass = _masses(spec, batch, batch.label if c > 1 else None, time, c)
        return cls(identity, draws(spec.seed, batch, identity), time, mass)


def classes(spec: Spec) -> int:
    """Return the number of classes kept apart: above 256 the caps would be too small, so none are."""
    return spec.n_label_classes if 1 < spec.n_label_classes <= _MAX_CLASSES else 1


def _masses(spec: Spec, batch: Batch, labels: np.ndarray | None, time: int | None, c: int) -> np.ndarray:
    """Return the (decayed) weight of the rows by class, relative to `time`."""
    now = batch.weight
    if time is not None and batch.time is not None and spec.half_life is not None:
        aged = np.exp2((batch.time - np.int64(time)) * (1e-6 / spec.half_life))
        now = aged if now is None else now * aged
    if labels is None:
        return np.array([float(len(batch)) if now is None else float(now.sum())])
    if c == 2:
        ones = float(np.count_nonzero(labels)) if now is None else float(now @ labels)
        return np.array([(float(len(batch)) if now is None else float(now.sum())) - ones, ones])
    return np.bincount(labels.astype(np.intp), weights=now, minlength=c).astype(np.float64)


def log_rate(spec: Spec, batch: Batch, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return ln w + t ln 2 / half_life of some rows."""
    rate = np.zeros(len(batch) if isinstance(rows, slice) else rows.size)
    if batch.weight is not None:
        with np.errstate(divide="ignore"):
            rate = np.log(batch.weight[rows])
    if spec.half_life is not None and batch.time is not None:
        rate = rate + batch.time[rows] * (1e-6 * np.log(2.0) / spec.half_life)
    return rate


def candidates(
    spec: Spec, batch: Batch, drawn: np.ndarray, tau: float, time: int | None, most: float = 1.0
) -> np.ndarray:
    """Return the rows whose hash could come before τ if they had the batch's largest rate: mostly few, by one comparison."""
    if tau == np.inf:
        return np.arange(len(batch))
    top = float(np.log(max(most, 1e-300)))
    if batch.weight is not None:
        top += float(np.log(max(batch.weight.max(), 1e-300)))
    if time is not None and spec.half_life is not None:
        top += time * (1e-6 * np.log(2.0) / spec.half_life)
    least = np.exp(-np.exp(min(tau + top, 700.0)))
    # Two units of slack: the exact comparison follows, this one must only not lose a row to rounding.
    limit = max(0, int(least * 2.0**53) - 2) << 11
    return np.flatnonzero(drawn >= np.uint64(limit))


def log_clocks(drawn: np.ndarray) -> np.ndarray:
    """Return log(−ln u) of hashes (n,) uint64: unit exponential clocks."""
    u = ((drawn >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.log(-np.log(u))


def chances(reached: np.ndarray) -> np.ndarray:
    """Return the probability that a unit exponential clock is below exp(reached), (n,).

    >>> chances(np.array([np.inf, 0.0])).round(3).tolist()
    [1.0, 0.632]
    """
    with np.errstate(over="ignore"):
        return -np.expm1(-np.exp(reached))


def row_bytes(rows: Batch) -> np.ndarray:
    """Return the bytes of each row, its bookkeeping included: the same number however the row was batched."""
    if rows.X is not None:
        return np.full(len(rows), rows.X.shape[1] * rows.X.itemsize + 40)
    assert rows.indptr is not None  # noqa: S101
    assert rows.values is not None  # noqa: S101
    return np.diff(rows.indptr) * (rows.values.itemsize + 4) + 48


def prefix(size: np.ndarray, most_bytes: int, most_rows: int | None = None) -> np.ndarray:
    """Return the mask of the longest prefix of rows, by their bytes (n,) in hash order, that fits both caps.

    Cut so after any merges, what is left does not depend on their order: a row that a shard refuses, all refuse.

    >>> prefix(np.array([4, 4, 4]), 8).tolist()
    [True, True, False]
    """
    fits: np.ndarray = np.cumsum(size) <= most_bytes
    if most_rows is not None:
        fits[most_rows:] = False
    return fits
