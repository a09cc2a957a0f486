"""Hypothesis strategies for rows as streams really bring them; states are built by accumulating them: reachable ones.

Structure (sizes, offsets, duplicates, weights) is drawn, so that a failure shrinks to its cause; the numbers come from
a seeded generator. Letters: ``n`` rows, ``d`` features.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.spec import Spec

__all__ = ["SIZES", "Rows", "World", "batches", "splits", "worlds"]

Rows = Callable[[Spec, Batch], Batch]
"""What makes of rows as the laws draw them, numbers side by side, rows that an algorithm takes, such as series: as many,
with the same weights, times and places."""

SIZES = (0, 1, 2, 3, 5, 8, 17, 64, 150)
"""Rows a generated batch may have."""

_OFFSETS = (0.0, 1.0, 1e3, 1e8)
_FORMS = ("normal", "integers", "constant columns", "duplicates", "one row")
_WEIGHTS = ("none", "uniform", "some zero", "all zero", "whole")
_DRIFTS = (0.0, 0.0, 3.0)
_FIRST_TIME_US = 1_577_836_800_000_000  # 2020-01-01T00:00:00Z


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """Where rows come from: one fixed distribution, any number of batches of it.

    Attributes:
        seed: of the generator.
        form: what the features look like.
        offset: added to every feature.
        sparse: generate CSR batches.
        rows: makes of drawn rows those that the algorithm takes; None: these are.
    """

    seed: int = 0
    form: str = "normal"
    offset: float = 0.0
    sparse: bool = False
    rows: Rows | None = None

    def batch(
        self, spec: Spec, n: int, seed: int = 0, *, weights: str = "none", drift: float = 0.0, narrow: bool = False
    ) -> Batch:
        """Return `n` rows; equal arguments yield equal rows.

        Args:
            spec: says width, label, and whether features are counts.
            n: rows.
            seed: which rows.
            weights: none, uniform, some zero, all zero or whole (0, 1, 2, 3).
            drift: how far these rows have moved, in standard deviations.
            narrow: features as float32.
        """
        fixed = np.random.default_rng(self.seed)
        d = spec.n_features
        spread = fixed.uniform(0.5, 3.0, d)
        slope = fixed.normal(size=d) / np.sqrt(d)
        centres = fixed.normal(size=(4, d)) * 3.0
        rng = np.random.default_rng((self.seed, seed, n))
        z = rng.normal(size=(n, d)) + centres[rng.integers(0, 4, n)]
        if self.form == "integers":
            z = np.round(z)
        elif self.form == "constant columns":
            z[:, ::2] = 1.0
        elif self.form == "duplicates":
            z = np.round(z[rng.integers(0, max(n, 1), n) // 4], 1)
        elif self.form == "one row":
            z[:] = centres[0]
        # Multiples of 2⁻²⁰ are exact at offset 1e8, so that the laws, not the input's rounding, are measured.
        x = np.round((z + drift) * spread * 2**20) / 2**20 + self.offset
        if spec.feature_rule == "count":
            x = np.floor(np.abs(z + drift) * spread) + self.offset
        if self.sparse:
            x = np.where(rng.random((n, d)) < 0.5, x, 0.0)
        label = self._label(spec, z, slope, rng)
        options: dict[str, Any] = {
            "label": label,
            "weight": _weight(weights, n, rng),
            "time": _FIRST_TIME_US + 1_000_000 * np.sort(rng.integers(0, 86_400, n)),
            "time_unit": "us",
            "origin": Origin("generated", "0"),
            "position": (self.seed * 1_000_003 + seed) * 100_003 + np.arange(n),
        }
        x = x.astype(np.float32) if narrow else x
        if not self.sparse:
            drawn = Batch.dense(x, **options)
        else:
            rows, columns = np.nonzero(x)
            indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
            drawn = Batch.csr(indptr, columns, x[rows, columns], d, **options)
        return drawn if self.rows is None else self.rows(spec, drawn)

    def _label(self, spec: Spec, z: np.ndarray, slope: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        n = z.shape[0]
        target = spec.label_target
        if target == "none":
            return None
        score = z @ slope
        if target == "real":
            return score + rng.normal(size=n) + self.offset / 1e3
        classes = spec.n_label_classes
        noise = rng.logistic(size=n) * 0.5
        cuts = np.linspace(-1.5, 1.5, classes + 1)[1:-1]
        return np.searchsorted(cuts, score + noise).astype(np.float64)


def _weight(kind: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
    if kind == "none":
        return None
    if kind == "all zero":
        return np.zeros(n)
    if kind == "whole":
        return rng.integers(0, 4, n).astype(np.float64)
    weight = rng.uniform(0.05, 3.0, n)
    if kind == "some zero":
        weight[rng.random(n) < 0.4] = 0.0
    return weight


def worlds(*, sparse: bool = False, rows: Rows | None = None) -> st.SearchStrategy[World]:
    """Draw where rows come from: few distinct ones, so that warm states can be shared between examples."""
    return st.builds(
        World,
        seed=st.integers(0, 2),
        form=st.sampled_from(_FORMS),
        offset=st.sampled_from(_OFFSETS),
        sparse=st.just(sparse),
        rows=st.just(rows),
    )


@st.composite
def batches(
    draw: st.DrawFn,
    spec: Spec,
    world: World,
    *,
    count: int | None = None,
    sizes: Sequence[int] = SIZES,
    weights: Sequence[str] = _WEIGHTS,
) -> list[Batch]:
    """Draw batches of a world: ragged sizes, weights, drift; all of one feature type."""
    number = draw(st.integers(0, 4)) if count is None else count
    narrow = draw(st.booleans()) if world.offset < 1e6 else False  # float32 cannot hold data far from zero
    first = draw(st.integers(0, 50))
    return [
        world.batch(
            spec,
            draw(st.sampled_from(sizes)),
            first + i * 64,
            weights=draw(st.sampled_from(weights)),
            drift=draw(st.sampled_from(_DRIFTS)),
            narrow=narrow,
        )
        for i in range(number)
    ]


@st.composite
def splits(draw: st.DrawFn, batch: Batch) -> list[Batch]:
    """Cut one batch at drawn places (empty pieces included)."""
    cuts = sorted(draw(st.lists(st.integers(0, len(batch)), max_size=4)))
    bounds = [0, *cuts, len(batch)]
    return [batch.take(slice(a, b)) for a, b in itertools.pairwise(bounds)]
