"""The contract: an algorithm is a frozen record of pure, importable functions.

Four laws say what its partial promises; `beam_ml.testing.laws` turns each into generated tests.

- EXACT: ``accumulate(x ++ y) = merge(accumulate x, accumulate y)`` to rounding.
- SKETCH: the same up to a stated, tested bound, whatever the number of shards.
- ANCHORED: with a given anchor the partial is a sum over rows: exact monoid, rows and weight conserved.
- GATHERED: the partial is the window's prepared rows, one bounded bottom-k sample; merge is exact to the bit.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import InvalidBatch

__all__ = ["Algorithm", "Growing", "Law", "LawKind", "ModelKind", "Predictions", "check_batch"]

Predictions = dict[str, np.ndarray]
"""Named arrays, one entry a row, under SageMaker's field names."""


class LawKind(enum.StrEnum):
    """The four laws."""

    EXACT = "exact"
    SKETCH = "sketch"
    ANCHORED = "anchored"
    GATHERED = "gathered"


@dataclasses.dataclass(frozen=True, slots=True)
class Law:
    """What a partial promises, and how closely.

    Attributes:
        kind: one of the four laws.
        rtol: relative tolerance, to each array's largest magnitude, of every equality the law states.
        bound: SKETCH, and ANCHORED of first order: largest relative excess of the derived model's loss over a single-shard
            run's; 0 elsewhere.
        homomorphic: ANCHORED: batch splits do not matter at a fixed anchor (Newton).
        across_anchors: ANCHORED: parts of different anchors add (Newton).
        guarantee: SKETCH: ``(spec, summary, rows) → (error, most)``: how far a summary of these rows is off, and the most
            that it may be on any rows, in any number of shards; None where only `bound` is stated.
        drift: largest ratio of a default model's loss to that of a linear model fitted anew to all rows as they are
            weighted, in every window of every drift of `beam_ml.testing.drifts`; None: only the prior bounds it.
    """

    kind: LawKind
    rtol: float = 1e-9
    bound: float = 0.0
    homomorphic: bool = False
    across_anchors: bool = False
    guarantee: Callable[[Any, Any, Batch], tuple[float, float]] | None = None
    drift: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ModelKind:
    """One kind of model that a state can give.

    Attributes:
        spec: the ModelSpec class.
        model: the array dataclass of the model.
        derive: ``(spec, model_spec, state, sample) → model``; no data, pure.
        predict: ``(model, batch) → Predictions``.
        measure: ``(model, batch) → metrics`` (a mergeable record of `beam_ml.core.metrics`): what test-then-train adds up.
    """

    spec: type[ModelSpec]
    model: type
    derive: Callable[..., Any]
    predict: Callable[..., Predictions]
    measure: Callable[..., Any]


class Growing(Protocol):
    """One worker's partial while it grows: memory of its own that is updated in place, batch after batch.

    For algorithms whose partial would cost too much to write anew for every batch, such as tables of a million rows of
    which a batch touches a thousand. Growing over batches and then asking for the partial equals `accumulate` over the
    same batches, to the law's tolerance: the law "growth" of `beam_ml.testing.laws`.
    """

    def add(self, batch: Batch) -> None:
        """Learn from a batch; keeps no reference to its memory."""
        ...

    def scale(self, factor: float) -> None:
        """Weigh all rows so far by a factor, as `Algorithm.scale` does."""
        ...

    def partial(self) -> Any:
        """Return the partial of everything so far; adding more leaves it as it is."""
        ...

    @property
    def nbytes(self) -> int:
        """The bytes that `partial` would have now."""
        ...


def _no_anchor(spec: Spec, state: Any) -> None:
    """Return no anchor: workers need no parameters to start from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm. Array dataclasses name the arrays; the functions are pure and importable by name.

    Attributes:
        name: key in ALGORITHMS, or ``module:attribute``.
        version: rises when the meaning of stored arrays changes.
        spec, state, partial, anchor_type: the classes (anchor_type None unless ANCHORED).
        law: ``(spec) → Law``.
        init: ``(spec) → State``; seeded, deterministic.
        empty: ``(spec) → Partial``; the identity of merge.
        accumulate: ``(spec, partial, batch, anchor) → Partial``; any batch size; keeps no reference to the batch's memory.
        merge: ``(spec, a, b) → Partial``; pure, commutative, associative within the law.
        fold: ``(spec, state, partial, sample) → State``; the sample is the window's, weighted to stand for all its rows.
        anchor: ``(spec, state) → Anchor | None``.
        scale: ``(spec, summary, factor) → summary``: forgetting; takes a Partial or a State and gives the same class.
        weight: ``(summary) → float``: rows' total (decayed) weight in a Partial or a State, conserved by merge and fold.
        models: kind → ModelKind; the first is the default.
        merge_states: ``(spec, a, b, sample_a=None, sample_b=None) → State``: merges two learners' states; each sample is
            that learner's own, weighted to stand for all its rows, or None where it is not at hand. None: `merge` does.
        grow: ``(spec, partial, anchor) → Growing``: goes on from a partial, left as it is, in memory of its own; None:
            workers call `accumulate` for every batch. `core.decay.Growth` uses whichever there is.
        looks_back: fold takes a fifth argument, the learner's own sample, weighted to stand for all rows before the
            window, or None: what a state says of its rows may be false where the window's solution is.
        scorer: ``(spec, anchor) → (batch → (n,)) | None``: of two classes, probabilities of class 1 by the anchor's model;
            of rows that rank high, workers draw more (`core.sample`). None: no model, and no rank.
    """

    name: str
    version: int
    spec: type[Spec]
    state: type
    partial: type
    law: Callable[..., Law]
    init: Callable[..., Any]
    empty: Callable[..., Any]
    accumulate: Callable[..., Any]
    merge: Callable[..., Any]
    fold: Callable[..., Any]
    scale: Callable[..., Any]
    weight: Callable[..., float]
    models: Mapping[str, ModelKind]
    anchor_type: type | None = None
    anchor: Callable[..., Any] = _no_anchor
    merge_states: Callable[..., Any] | None = None
    grow: Callable[..., Growing] | None = None
    looks_back: bool = False
    scorer: Callable[..., Callable[[Batch], np.ndarray] | None] | None = None


def check_batch(spec: Spec, batch: Batch) -> None:
    """Refuse a batch whose width is not the spec's."""
    if batch.n_features != spec.n_features:
        message = f"{type(spec).__name__}.n_features is {spec.n_features}; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
