"""The contract: an algorithm is a frozen record of pure, importable functions.

Four laws say what its partial promises; `beam_ml.testing.laws` turns each into generated tests.

- EXACT: ``accumulate(x ++ y) = merge(accumulate x, accumulate y)`` to rounding.
- SKETCH: the same up to a stated, tested bound, whatever the number of shards.
- ANCHORED: with a given anchor the partial is a sum over rows: exact monoid, rows and weight conserved.
- GATHERED: the partial is the window's prepared rows, one bounded bottom-k sample; merge is exact to the bit.
"""

# ruff: noqa: D102 — the docstring of the protocol says what its call returns

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import InvalidBatch, InvalidValue

__all__ = [
    "Accumulate",
    "Algorithm",
    "AnchorOf",
    "ByMerge",
    "Derive",
    "Empty",
    "Fold",
    "Grow",
    "Growing",
    "Informed",
    "Init",
    "Law",
    "LawKind",
    "LawOf",
    "Measure",
    "Merge",
    "MergeStates",
    "ModelKind",
    "Predict",
    "Predictions",
    "Remove",
    "Scale",
    "Scorer",
    "ScorerOf",
    "Weight",
    "check_batch",
]

SpecT = TypeVar("SpecT", bound=Spec)
StateT = TypeVar("StateT")
PartialT = TypeVar("PartialT")
AnchorT = TypeVar("AnchorT")
ModelSpecT = TypeVar("ModelSpecT", bound=ModelSpec)
ModelT = TypeVar("ModelT")
SummaryT = TypeVar("SummaryT")
# What a function of the contract only takes, and only returns.
SpecIn = TypeVar("SpecIn", contravariant=True)
StateIn = TypeVar("StateIn", contravariant=True)
PartialIn = TypeVar("PartialIn", contravariant=True)
AnchorIn = TypeVar("AnchorIn", contravariant=True)
ModelSpecIn = TypeVar("ModelSpecIn", contravariant=True)
ModelIn = TypeVar("ModelIn", contravariant=True)
SummaryIn = TypeVar("SummaryIn", contravariant=True)
StateOut = TypeVar("StateOut", covariant=True)
PartialOut = TypeVar("PartialOut", covariant=True)
AnchorOut = TypeVar("AnchorOut", covariant=True)
ModelOut = TypeVar("ModelOut", covariant=True)

Predictions = dict[str, np.ndarray]
"""Named arrays, one entry per row, under SageMaker's field names."""

Scorer = Callable[[Batch], np.ndarray]
"""Rows → (n,) probabilities of class 1."""


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
        drift: largest ratio of a default model's loss to that of a linear model refitted to all rows as they are
            weighted, in every window of every drift of `beam_ml.testing.drifts`; None: only the prior bounds it.
    """

    kind: LawKind
    rtol: float = 1e-9
    bound: float = 0.0
    homomorphic: bool = False
    across_anchors: bool = False
    guarantee: Callable[[Any, Any, Batch], tuple[float, float]] | None = None
    drift: float | None = None


class LawOf(Protocol[SpecIn]):
    """Return what the partials of a spec promise."""

    def __call__(self, spec: SpecIn) -> Law: ...


class Init(Protocol[SpecIn, StateOut]):
    """Return the state of a learner that has seen no rows; seeded, deterministic."""

    def __call__(self, spec: SpecIn) -> StateOut: ...


class Empty(Protocol[SpecIn, PartialOut]):
    """Return the identity of merge."""

    def __call__(self, spec: SpecIn) -> PartialOut: ...


class Accumulate(Protocol[SpecIn, PartialT, AnchorIn]):
    """Return the partial with a batch's rows added: of any size, their weights may be 0, and they may have no positions.

    The batch's memory is not kept. The anchor is None while there is none.
    """

    def __call__(self, spec: SpecIn, partial: PartialT, batch: Batch, anchor: AnchorIn | None) -> PartialT: ...


class Merge(Protocol[SpecIn, PartialT]):
    """Return the sum of two partials: pure, commutative, associative within the law."""

    def __call__(self, spec: SpecIn, a: PartialT, b: PartialT) -> PartialT: ...


class Remove(Protocol[SpecIn, SummaryT]):
    """Return a partial or a state without a part that was merged into it: as if the part's rows had never been seen.

    ``remove(merge(a, b), b) = a`` in every sum, to the law's tolerance of ``merge(a, b)``: digits that the part's sums swamp
    are gone, so the rest is off by up to W(merge(a, b)) / W(a) times the tolerance. Arrays may be written around another
    origin, and what only a maximum or a minimum tells stays that of both.

    Raises `RemoveRefused`: the part was not learned, or is no longer distinct from the rest.
    """

    def __call__(self, spec: SpecIn, summary: SummaryT, part: SummaryT) -> SummaryT: ...


class Fold(Protocol[SpecIn, StateT, PartialIn]):
    """Return the state after a window; the sample is the window's, weighted to stand for all its rows.

    Where `Algorithm.looks_back`, a fifth argument ``past: Batch | None = None`` is the learner's own sample, weighted to
    stand for all rows before the window: what a state says of its rows may be false where the window's solution is.
    """

    def __call__(self, spec: SpecIn, state: StateT, partial: PartialIn, sample: Batch | None) -> StateT: ...


class Scale(Protocol[SpecIn, SummaryT]):
    """Return a partial or a state, whichever it is given, with all its rows' weights times a factor: forgetting.

    A factor of 0 returns `Algorithm.empty`.
    """

    def __call__(self, spec: SpecIn, summary: SummaryT, factor: float) -> SummaryT: ...


class Weight(Protocol[SummaryIn]):
    """Return the rows' total (decayed) weight in a partial or a state, conserved by merge and fold."""

    def __call__(self, summary: SummaryIn) -> float: ...


class AnchorOf(Protocol[SpecIn, StateIn, AnchorOut]):
    """Return what workers start from; None: the state knows nothing that they could."""

    def __call__(self, spec: SpecIn, state: StateIn) -> AnchorOut | None: ...


class MergeStates(Protocol[SpecIn, StateT]):
    """Return the merged state of two learners.

    Each sample is that learner's own, weighted to stand for all its rows, or None where it is not available.
    """

    def __call__(
        self, spec: SpecIn, a: StateT, b: StateT, sample_a: Batch | None = None, sample_b: Batch | None = None
    ) -> StateT: ...


class Growing(Protocol[PartialOut]):
    """One worker's partial while it grows: memory of its own that is updated in place, batch after batch.

    For algorithms whose partial would cost too much to rewrite for every batch, such as tables of a million rows of
    which a batch touches a thousand. Growing over batches and then asking for the partial equals `accumulate` over the
    same batches, to the law's tolerance: the law "growth" of `beam_ml.testing.laws`.
    """

    def add(self, batch: Batch) -> None:
        """Learn from a batch; keeps no reference to its memory."""
        ...

    def scale(self, factor: float) -> None:
        """Weigh all rows so far by a factor, as `Algorithm.scale` does."""
        ...

    def partial(self) -> PartialOut:
        """Return the partial of everything so far; adding more leaves it as it is."""
        ...

    @property
    def nbytes(self) -> int:
        """The bytes that `partial` would have now."""
        ...


class Grow(Protocol[SpecIn, PartialT, AnchorIn]):
    """Return what continues from a partial, which stays as it is, in memory of its own."""

    def __call__(self, spec: SpecIn, partial: PartialT, anchor: AnchorIn | None) -> Growing[PartialT]: ...


class ScorerOf(Protocol[SpecIn, AnchorIn]):
    """Return a function from rows to their probability of class 1 by the anchor's model; None if it has no two classes.

    Workers draw more of the rows that rank high (`core.sample`).
    """

    def __call__(self, spec: SpecIn, anchor: AnchorIn) -> Scorer | None: ...


class Informed(Protocol[SpecIn, StateIn]):
    """Return the coefficients (d,) that a state's rows determine, and what these say of them: information (d, d).

    Its inverse is the coefficients' covariance. The sample stands for all rows. Raises `DeriveRefused`: it is not known.
    """

    def __call__(self, spec: SpecIn, state: StateIn, sample: Batch | None) -> tuple[np.ndarray, np.ndarray]: ...


class FeaturesHeld(Protocol[SpecIn, StateIn]):
    """Return the numbers of the features that a state holds anything of, rising; others are as if no row had had them.

    Raises `InvalidBatch` for a state whose rows are not the spec's: it may come from a file.
    """

    def __call__(self, spec: SpecIn, state: StateIn) -> np.ndarray: ...


class Derive(Protocol[SpecIn, ModelSpecIn, StateIn, ModelOut]):
    """Return a model of a state; no data, pure. The sample stands for all rows of the state."""

    def __call__(self, spec: SpecIn, model_spec: ModelSpecIn, state: StateIn, sample: Batch | None) -> ModelOut: ...


class Predict(Protocol[ModelIn]):
    """Return what a model says of rows."""

    def __call__(self, model: ModelIn, batch: Batch) -> Predictions: ...


class Measure(Protocol[ModelIn]):
    """Return how good a model is on rows: a mergeable record of `beam_ml.core.metrics`, weighted as the rows are.

    It is what test-then-train adds up.
    """

    def __call__(self, model: ModelIn, batch: Batch) -> Any: ...


@dataclasses.dataclass(frozen=True, slots=True)
class ModelKind(Generic[SpecT, StateT, ModelSpecT, ModelT]):
    """One kind of model that can be derived from a state.

    Attributes:
        spec, model: the ModelSpec class, and the array dataclass of the model.
        derive, predict, measure: see `Derive`, `Predict`, `Measure`.
        bounded: ``(model, batch, level)`` → what `predict` returns, and bounds of the score; None: its errors are not known.
    """

    spec: type[ModelSpecT]
    model: type[ModelT]
    derive: Derive[SpecT, ModelSpecT, StateT, ModelT]
    predict: Predict[ModelT]
    measure: Measure[ModelT]
    bounded: Callable[[ModelT, Batch, float], Predictions] | None = None


def _no_anchor(spec: Spec, state: Any) -> None:
    """Return no anchor: workers need no parameters to start from."""


@dataclasses.dataclass(frozen=True, slots=True)
class ByMerge(Generic[SpecT, PartialT]):
    """The fold of an algorithm whose state is a partial: it merges the window's."""

    merge: Merge[SpecT, PartialT]

    def __call__(self, spec: SpecT, state: PartialT, partial: PartialT, sample: Batch | None = None) -> PartialT:
        return self.merge(spec, state, partial)


_AS_PARTIAL: Any = None  # filled in by `Algorithm`, where the state is a partial


@dataclasses.dataclass(frozen=True, slots=True)
class Algorithm(Generic[SpecT, StateT, PartialT, AnchorT]):
    """One algorithm. Array dataclasses name the arrays; the functions are pure and importable by name.

    Each function has a Protocol that names its arguments and says what it must do. Where the state is itself a partial, as
    the laws EXACT and SKETCH have it, `state`, `init` and `fold` can be left out: they are `partial`, `empty` and `merge`.

    Attributes:
        name: key in ALGORITHMS, or ``module:attribute``.
        version: rises when the meaning of stored arrays changes.
        spec, partial: the classes.
        law: see `LawOf`.
        empty: see `Empty`.
        accumulate: see `Accumulate`.
        merge: see `Merge`.
        scale: see `Scale`.
        weight: see `Weight`.
        models: kind → ModelKind; the first is the default.
        state: the class.
        init: see `Init`.
        fold: see `Fold`.
        anchor_type: the class; None unless ANCHORED.
        anchor: see `AnchorOf`.
        grown_from: returns the anchor that a partial's rows were grown from; None: it does not know it.
        settle: ``(spec, partial, anchor)`` → the partial, its waiting rows grown from the anchor; None: no row waits.
        merge_states: see `MergeStates`; None: `merge` does.
        grow: see `Grow`; None: workers call `accumulate` for every batch. `core.decay.Growth` uses whichever there is.
        looks_back: whether `fold` takes a fifth argument; see `Fold`.
        scorer: see `ScorerOf`; None if there is no ranking.
        features_held: see `FeaturesHeld`; None: states hold all features.
        information: see `Informed`; None: coefficients, if there are any, have no known error.
        remove: see `Remove`; None: what was merged stays.

    Raises:
        InvalidValue: the state is no partial, and `init` or `fold` is missing.
    """

    name: str
    version: int
    spec: type[SpecT]
    partial: type[PartialT]
    law: LawOf[SpecT]
    empty: Empty[SpecT, PartialT]
    accumulate: Accumulate[SpecT, PartialT, AnchorT]
    merge: Merge[SpecT, PartialT]
    scale: Scale[SpecT, StateT | PartialT]
    weight: Weight[StateT | PartialT]
    models: Mapping[str, ModelKind[SpecT, StateT, Any, Any]]
    state: type[StateT] = _AS_PARTIAL
    init: Init[SpecT, StateT] = _AS_PARTIAL
    fold: Fold[SpecT, StateT, PartialT] = _AS_PARTIAL
    anchor_type: type[AnchorT] | None = None
    anchor: AnchorOf[SpecT, StateT, AnchorT] = _no_anchor
    grown_from: AnchorOf[SpecT, PartialT, AnchorT] | None = None
    settle: Callable[[SpecT, PartialT, AnchorT], PartialT] | None = None
    merge_states: MergeStates[SpecT, StateT] | None = None
    grow: Grow[SpecT, PartialT, AnchorT] | None = None
    looks_back: bool = False
    scorer: ScorerOf[SpecT, AnchorT] | None = None
    features_held: FeaturesHeld[SpecT, StateT] | None = None
    information: Informed[SpecT, StateT] | None = None
    remove: Remove[SpecT, StateT | PartialT] | None = None

    def __post_init__(self) -> None:
        """Fill in what is left out of an algorithm whose state is a partial."""
        if self.state not in (None, self.partial):
            for name in ("init", "fold"):
                if getattr(self, name) is None:
                    message = f"Algorithm.{name} is required where state is not the partial; {self.name} has none."
                    raise InvalidValue(message)
        filled = {"state": self.partial, "init": self.empty, "fold": ByMerge(self.merge)}
        for name, value in filled.items():
            if isinstance(getattr(self, name), ByMerge | None):  # one is rebuilt where merge is replaced
                object.__setattr__(self, name, value)


def check_batch(spec: Spec, batch: Batch) -> None:
    """Refuse a batch whose width is not the spec's."""
    if batch.n_features != spec.n_features:
        name = spec.called or type(spec).__name__
        message = f"{name}.n_features is {spec.n_features}; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
