"""The law of sketches that state a bound for every input: rows made to break it."""

from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.spec import Spec
from beam_ml.testing.subject import Subject, require

__all__ = ["adversaries", "guarantee"]

_ROWS = 640
_SHARDS = 32
_BATCH_ROWS = (1, 0, 7, 2, 64)


def adversaries(spec: Spec, seed: int = 0, n: int = _ROWS) -> Iterator[tuple[str, Batch]]:
    """Return rows by name, weighted: spectra and orders that a sketch of few directions finds hard.

    Directions are random orthonormal ones, so that no axis is special. Letters: ``n`` rows, ``d`` features.
    """
    d = spec.n_features
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    one = np.eye(d)[np.arange(n) % d] * np.sqrt(d)
    noise = rng.normal(size=(n, d))
    rank = np.arange(1, d + 1)
    late = np.linspace(0.0, 1.0, n)[:, None]
    sign = np.where(np.arange(n) // d % 2, 1.0, -1.0)[:, None]
    # As much in one direction as to matter, but little at a time: lost by a sketch that only cuts the smallest off.
    heavy, many = max(1, d // 2), n // 4
    drip = np.where(np.arange(n) < many, np.arange(n) % heavy, min(heavy, d - 1))
    forms = {
        "flat": one * sign,
        "one direction after another": np.eye(d)[np.arange(n) * d // n]
        * np.where(np.arange(n) % 2, 1.0, -1.0)[:, None],
        "ever larger": one * np.exp(4.0 * late),
        "ever smaller": one * np.exp(-4.0 * late),
        "heavy first, then a steady drip": np.eye(d)[drip]
        * sign
        * np.where(drip < heavy, np.sqrt(heavy), 1.0)[:, None],
        "power law": noise / rank,
        "exponential": noise * 0.5**rank,
        "a step": noise * np.where(rank <= heavy, 3.0, 1.0),
        "low rank": noise[:, :1] @ noise[:1],
        "drifting mean": noise * 0.1 + 10.0 * late * noise[0],
        "means apart": noise + 50.0 * np.eye(d)[np.arange(n) * _SHARDS // n % d],
        "far from zero": noise / rank + 1e6,
        "one row": np.ones((n, d)),
    }
    for i, (name, x) in enumerate(forms.items()):
        weight = None if i % 2 else np.where(rng.random(n) < 0.1, 0.0, rng.uniform(0.1, 3.0, n))
        yield name, Batch.dense(x @ turn, weight=weight)


def guarantee(subject: Subject) -> None:
    """On adversarial rows, from one shard or from 32, in turn or in pairs, aged or not, the error keeps its stated bound."""
    spec, stated = subject.spec, subject.law.guarantee
    require(stated is not None, "the law states a guarantee")
    assert stated is not None  # noqa: S101
    for name, drawn in adversaries(spec):
        rows = drawn if subject.rows is None else subject.rows(spec, drawn)
        parts = [subject.accumulate(_ragged(rows.take(cut))) for cut in np.array_split(np.arange(len(rows)), _SHARDS)]
        half = rows.replace(weight=rows.weights * 0.5)
        for how, partial, held in (
            ("one shard", subject.accumulate([rows]), rows),
            ("small batches", subject.accumulate(_ragged(rows)), rows),
            ("32 shards in turn", reduce(subject.merge, parts), rows),
            ("32 shards in pairs", _paired(subject, parts), rows),
            ("32 shards, half forgotten", subject.algorithm.scale(spec, _paired(subject, parts), 0.5), half),
        ):
            error, most = stated(spec, partial, held)
            require(error <= most, f"{name}, {how}: the error is {error:.6g}, at most {most:.6g} is guaranteed")


def _ragged(rows: Batch) -> Iterator[Batch]:
    start, i = 0, 0
    while start < len(rows):
        stop = start + _BATCH_ROWS[i % len(_BATCH_ROWS)]
        yield rows.take(slice(start, stop))
        start, i = stop, i + 1


def _paired(subject: Subject, parts: list[Any]) -> Any:
    while len(parts) > 1:
        parts = [reduce(subject.merge, parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]
