"""How many different values columns have, by HyperLogLog: registers that merge by maximum, in any order, to the bit.

A value is its 64 bits, hashed. Of the hash, p bits choose one of m = 2^p registers, which keeps the most leading zeros seen
in the rest, plus 1.

With C_k registers of value k, q = 64 − p and ``z = m·τ(1 − C_{q+1}/m)·2^−q + Σ_k C_k·2^−k + m·σ(C_0/m)`` the count is::

    n = m² / (2·ln 2·z)        σ(x) = x + Σ_{k≥1} x^(2^k)·2^(k−1)        τ(x) = (1 − x − Σ_{k≥1} (1 − x^(2^−k))²·2^−k) / 3

σ corrects for small counts, where registers are empty, and τ for those near 2^64: there is no threshold between ranges and
no table. The standard error is ``1.04/√m``. Beside the registers stands the rows' mean, by whose distance test-then-train
sees columns move.

References: Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
algorithm" (2007); Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017).
"""

from typing import Any

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.distinct.spec import Count, Model, Partial, Spec
from beam_ml.algorithms.shared.centre import centre_of, joined, squared_from
from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, Predictions, check_batch
from beam_ml.core.batch import Batch
from beam_ml.core.mixing import mix64
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["DISTINCT", "Count", "Model", "Partial", "Spec"]


_MOST = 2.0**64
"""As many hashes as there are: what registers count that are all full."""


def _law(spec: Spec) -> Law:
    return Law(LawKind.EXACT, rtol=1e-9)


def _empty(spec: Spec) -> Partial:
    d = spec.n_features
    return Partial(np.zeros(()), np.zeros(d), np.zeros(d), np.zeros((d, 1 << spec.precision), np.uint8))


def _accumulate(spec: Spec, partial: Partial, batch: Batch, anchor: Any = None) -> Partial:
    check_batch(spec, batch)
    x, weight = batch.dense_x, batch.weights
    present = weight > 0
    if not present.any():
        return partial
    salt = mix64(np.array([spec.seed], dtype=np.uint64))[0]
    registers = kernels.distinct.registers.raised(x, weight, salt, spec.precision, partial.registers)
    centre = centre_of(x[present], weight[present])
    if float(partial.weight) > 0:
        centre, _ = joined(partial, centre)
    return Partial(centre.weight, centre.origin, centre.mean, registers)


def _merge(spec: Spec, a: Partial, b: Partial) -> Partial:
    if _weight(a) == 0.0 or _weight(b) == 0.0:
        return b if _weight(a) == 0.0 else a
    centre, _ = joined(a, b)
    return Partial(centre.weight, centre.origin, centre.mean, np.maximum(a.registers, b.registers))


def _scale(spec: Spec, summary: Partial, factor: float) -> Partial:
    weight = np.asarray(summary.weight * factor)
    return _empty(spec) if weight == 0.0 else Partial(weight, summary.origin, summary.mean, summary.registers)


def _weight(summary: Partial) -> float:
    return float(summary.weight)


def _sigma(x: float) -> float:
    """Return Ertl's σ: infinite at 1, where all registers are empty."""
    if x >= 1.0:
        return float("inf")
    found, power, before = x, 1.0, -1.0
    while found != before:
        x, before = x * x, found
        found += x * power
        power *= 2.0
    return found


def _tau(x: float) -> float:
    """Return Ertl's τ."""
    if x in (0.0, 1.0):
        return 0.0
    found, power, before = 1.0 - x, 1.0, -1.0
    while found != before:
        x, before, power = float(np.sqrt(x)), found, power * 0.5
        found -= (1.0 - x) ** 2 * power
    return found / 3.0


def _estimate(registers: np.ndarray, precision: int) -> float:
    """Return the count of one column's registers, (m,)."""
    m, q = registers.size, 64 - precision
    held = np.bincount(registers, minlength=q + 2)
    z = m * _tau(1.0 - held[q + 1] / m)
    for k in range(q, 0, -1):
        z = 0.5 * (z + held[k])
    z += m * _sigma(held[0] / m)
    return _MOST if z == 0.0 else min(_MOST, float(m * m / (2.0 * np.log(2.0) * z)))


def _derive(spec: Spec, model_spec: Count, state: Partial, sample: Batch | None = None) -> Model:
    if _weight(state) <= 0.0:
        message = "distinct.Count needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    if int(state.registers.max()) > 65 - spec.precision:
        message = f"distinct.Count needs registers <= {65 - spec.precision}; got {int(state.registers.max())}."
        raise DeriveRefused(message)
    counts = np.array([_estimate(one, spec.precision) for one in state.registers])
    return Model(counts, np.asarray(spec.standard_error), state.origin + state.mean)


def _rows(model: Model, batch: Batch) -> np.ndarray:
    if batch.n_features != model.count.size:
        message = f"A distinct model takes {model.count.size} columns; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    return batch.dense_x


def _predict(model: Model, batch: Batch) -> Predictions:
    """Return ``distinct`` (n, d) int64: beside each value, how many different ones its column has."""
    n = len(_rows(model, batch))
    return {"distinct": np.tile(np.rint(model.count).astype(np.int64), (n, 1))}


def _measure(model: Model, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each row and the mean."""
    return metrics.distortion(squared_from(_rows(model, batch), model.mean), batch.weights)


DISTINCT = Algorithm(
    name="distinct",
    version=1,
    spec=Spec,
    partial=Partial,
    law=_law,
    empty=_empty,
    accumulate=_accumulate,
    merge=_merge,
    scale=_scale,
    weight=_weight,
    models={"count": ModelKind(Count, Model, _derive, _predict, _measure)},
)
"""Distinct counts by HyperLogLog: law EXACT, State is Partial.

>>> from beam_ml import Batch, derive, fit
>>> learner = fit(Spec(n_features=1), [Batch.dense([[float(i % 500)] for i in range(2000)])])
>>> abs(derive(learner, Count()).arrays.count[0] - 500) < 3 * 0.0163 * 500
True
"""
