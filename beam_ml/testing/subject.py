"""What a law is checked on: an algorithm, one spec of it, and the ways to bring it into reachable states."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind
from beam_ml.core.arrays import array_fields, close, identical, to_arrays
from beam_ml.core.batch import Batch
from beam_ml.core.champions import LOSSES
from beam_ml.core.refresh import model_kind
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import DeriveRefused, InvalidValue
from beam_ml.testing.codec import ARRAYS, Codec
from beam_ml.testing.strategies import Rows, World, batches, worlds

__all__ = [
    "Scenario",
    "Subject",
    "additive",
    "arrays_of",
    "difference",
    "digest",
    "loss_of",
    "over",
    "require",
    "sample_of",
    "warm",
]

WIDTHS = (1, 2, 3, 5)
"""Numbers of features that laws over drawn cases are checked at, beside the spec's own."""

WARM_ROWS = 6_000
"""Rows a warm state has seen: enough for every learner here to have an anchor."""

_BATCH_ARRAYS = ("X", "indptr", "indices", "values", "label", "weight", "time", "position", "position_end")


def require(holds: bool, message: str) -> None:
    """Raise an AssertionError unless a law's equation holds."""
    if not holds:
        raise AssertionError(message)


def additive(law: Law) -> bool:
    """Return whether a partial is a sum over rows, so that cuts do not matter."""
    return law.kind is LawKind.EXACT or (law.kind is LawKind.ANCHORED and law.homomorphic)


def arrays_of(value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Return the arrays of a batch, of an array dataclass, or of a mapping of arrays, by name."""
    if isinstance(value, Batch):
        pairs = ((name, getattr(value, name)) for name in _BATCH_ARRAYS)
        yield from ((name, array) for name, array in pairs if array is not None)
    elif isinstance(value, Mapping):
        yield from value.items()
    elif value is not None:
        yield from to_arrays(value).items()


def digest(*values: Any) -> str:
    """Hash every array's dtype, shape and bytes."""
    found = hashlib.sha256()
    for value in values:
        for name, array in arrays_of(value):
            found.update(f"{name} {array.dtype} {array.shape} ".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def difference(a: Any, b: Any, rtol: float = 0.0) -> str:
    """Name the first field in which two records differ by more than `rtol`, and by how much."""
    if type(a) is not type(b):
        return f"{type(a).__name__} is not {type(b).__name__}"
    for field in array_fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if x.shape != y.shape:
            return f"{field.name} has shape {x.shape} and {y.shape}"
        if x.tobytes() == y.tobytes():
            continue
        if x.dtype.kind != "f":
            return f"{field.name} differs"
        with np.errstate(invalid="ignore"):
            gap, span = float(np.max(np.abs(x - y))), float(np.max(np.abs(x)))
        if not gap <= rtol * span:
            return f"{field.name} differs by {gap:.3g} where the largest magnitude is {span:.3g}"
    return "nothing but signs of zero"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Scenario:
    """A drawn situation: the state and anchor to start from, and batches still to come."""

    world: World
    state: Any
    anchor: Any
    batches: tuple[Batch, ...]

    @property
    def rows(self) -> Batch:
        """All batches as one."""
        return Batch.concat(self.batches)

    def __repr__(self) -> str:
        start = "cold" if self.anchor is None else "from an anchor"
        return f"{self.world}, {start}, batches: {'; '.join(map(_described, self.batches)) or 'none'}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Keep Hypothesis from printing every array."""
        printer.text("..." if cycle else repr(self))


def _described(batch: Batch) -> str:
    features = batch.X if batch.X is not None else batch.values
    kind = "none" if features is None else features.dtype
    weight = "unweighted" if batch.weight is None else f"weight {batch.weights.sum():.6g}"
    return f"{len(batch)} rows of {kind}, {weight}, from {0 if batch.position is None else batch.position[:1]}"


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """An algorithm under test.

    Attributes:
        algorithm: the record.
        spec: one spec of it.
        model_specs: what to derive; none: each kind of model with its defaults.
        codec: how records become bytes; a function of the spec where bytes say whose they are.
        examples: examples that Hypothesis draws for each law.
        sparse: feed CSR batches.
        rows: makes of rows as the laws draw them those that the algorithm takes.
        shrink: look for the smallest counterexample.
        elsewhere: the spec has another width than the one under test, at which models may be refused.
        named: rows have origin and position, as they do where a bounded sample is drawn from them.
        drawn: one entry for each time that cases were drawn.
    """

    algorithm: Algorithm
    spec: Spec
    model_specs: tuple[ModelSpec, ...]
    codec: Codec | Callable[[Spec], Codec] = ARRAYS
    examples: int = 20
    sparse: bool = False
    rows: Rows | None = None
    shrink: bool = True
    elsewhere: bool = False
    named: bool = True
    drawn: list[int] = dataclasses.field(default_factory=list)

    def at_other_widths(self) -> Iterator["Subject"]:
        """Return the same algorithm at every other of `WIDTHS` that its spec takes, with a few examples each.

        At every second of them rows come without origin and position.
        """
        settings = self.spec.to_dict()
        for i, width in enumerate(WIDTHS):
            try:
                spec = self.algorithm.spec.parse({**settings, "n_features": width})
            except InvalidValue:
                continue  # the spec says that there are no such rows
            if width != self.spec.n_features:
                few = min(self.examples, max(3, self.examples // 6))
                yield dataclasses.replace(self, spec=spec, examples=few, elsewhere=True, named=i % 2 == 0, drawn=[])

    def world(self, seed: int = 0, offset: float = 0.0) -> World:
        """Return where rows as this algorithm takes them come from."""
        return World(seed=seed, offset=offset, sparse=self.sparse, rows=self.rows)

    @property
    def stored(self) -> Codec:
        """How this spec's records become bytes."""
        return self.codec if isinstance(self.codec, Codec) else self.codec(self.spec)

    @property
    def law(self) -> Law:
        """What this algorithm promises for this spec."""
        return self.algorithm.law(self.spec)

    def examine(
        self, strategy: st.SearchStrategy[Any], check: Callable[[Any], None], examples: int | None = None
    ) -> None:
        """Run `check` on drawn cases; the same cases every time."""
        self.drawn.append(self.spec.n_features)

        @settings(
            max_examples=examples or self.examples,
            deadline=None,
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink) if self.shrink else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def run(case: Any) -> None:
            check(case)

        run()

    def scenarios(self, count: int | None = None, *, cold: bool = True, **options: Any) -> st.SearchStrategy[Scenario]:
        """Draw a scenario; ANCHORED ones start from a warm anchor or, if allowed, cold."""
        anchored = self.law.kind is LawKind.ANCHORED
        warmth = st.just(anchored) if not (anchored and cold) else st.booleans()

        @st.composite
        def build(draw: st.DrawFn) -> Scenario:
            world = draw(worlds(sparse=self.sparse, rows=self.rows))
            state = (
                warm(self, dataclasses.replace(world, form="normal"))
                if draw(warmth)
                else self.algorithm.init(self.spec)
            )
            parts = tuple(draw(batches(self.spec, world, count=count, **options)))
            # A bounded sample uses names, which rows have by then; whatever else learns must do without.
            if not self.named and self.law.kind is not LawKind.GATHERED:
                parts = tuple(part.replace(origin=None, position=None, position_end=None) for part in parts)
            return Scenario(world, state, self.algorithm.anchor(self.spec, state), parts)

        return build()

    def accumulate(self, batches: Iterable[Batch], anchor: Any = None) -> Any:
        """Return the partial of some batches."""
        partial = self.algorithm.empty(self.spec)
        for batch in batches:
            partial = self.algorithm.accumulate(self.spec, partial, batch, anchor)
        return partial

    def merge(self, a: Any, b: Any) -> Any:
        """Merge two partials."""
        return self.algorithm.merge(self.spec, a, b)

    def fold(self, state: Any, partial: Any, rows: Sequence[Batch]) -> Any:
        """Fold a partial into a state, with its own rows as the sample."""
        return self.algorithm.fold(self.spec, state, partial, sample_of(rows))

    def kinds(self) -> Iterator[tuple[ModelKind, ModelSpec]]:
        """Return the model specs to derive, each with its kind; when none were given, every kind's default one."""
        for model_spec in self.model_specs:
            yield model_kind(self.algorithm, model_spec), model_spec
        if not self.model_specs:
            for name, kind in self.algorithm.models.items():
                yield kind, kind.spec.parse({"kind": name})

    def models(self, state: Any, sample: Batch | None) -> list[tuple[ModelKind, ModelSpec, Any]]:
        """Derive every model; only a state without weight, or a cold one, may refuse, or one of another width."""
        found = []
        for kind, model_spec in self.kinds():
            try:
                found.append((kind, model_spec, kind.derive(self.spec, model_spec, state, sample)))
            except DeriveRefused:
                require(
                    self.elsewhere or self.algorithm.weight(state) <= 0 or self.law.kind is LawKind.ANCHORED,
                    f"{type(model_spec).__name__} is refused although the state has rows",
                )
        return found

    def same(self, a: Any, b: Any, what: str) -> None:
        """Require that two records are equal within the law's tolerance (GATHERED: to the last bit)."""
        if self.law.kind is LawKind.GATHERED:
            require(identical(a, b), f"{what}: {difference(a, b)}")
        else:
            require(close(a, b, rtol=self.law.rtol), f"{what}: {difference(a, b, self.law.rtol)}")

    def same_weight(self, found: float, expected: float, what: str) -> None:
        """Require that two weights are equal within the law's tolerance."""
        require(
            abs(found - expected) <= max(self.law.rtol, 1e-12) * abs(expected),
            f"{what}: weight {found!r} should be {expected!r}",
        )

    def loss(self, partial: Any, rows: Batch) -> float:
        """Return the default model's loss on rows, after folding a partial into the first state."""
        state = self.fold(self.algorithm.init(self.spec), partial, [rows])
        return self.loss_of_state(state, rows, rows)

    def loss_of_state(self, state: Any, sample: Batch, rows: Batch) -> float:
        """Return the loss on rows of the default model of a state."""
        for kind, model_spec in self.kinds():
            return loss_of(kind, kind.derive(self.spec, model_spec, state, sample), rows)
        message = f"{self.algorithm.name} must have a kind of model (Algorithm.models) to be judged by; it has none"
        raise AssertionError(message)


def loss_of(kind: ModelKind, model: Any, rows: Batch) -> float:
    """Return what a model is judged by on rows: the first of `LOSSES` that its measure has."""
    values = metrics.compute(kind.measure(model, rows))
    found = [values[name] for name in LOSSES if name in values]
    require(
        bool(found),
        f"measure of the model {kind.spec.__name__} must return a finite {' or '.join(LOSSES)}, by a record of "
        f"beam_ml.core.metrics; it returns {', '.join(sorted(values)) or 'nothing'}",
    )
    return found[0]


def sample_of(rows: Sequence[Batch]) -> Batch | None:
    """Return the rows of positive weight as one batch, as a fold's sample holds them."""
    parts = [batch.take(batch.weights > 0) for batch in rows]
    parts = [part for part in parts if len(part)]
    return Batch.concat(parts) if parts else None


@functools.lru_cache(maxsize=128)
def warm(subject: Subject, world: World) -> Any:
    """Return the state after enough rows of a world for an anchor; shared, since states are immutable."""
    state = subject.algorithm.init(subject.spec)
    for seed in (1_000, 1_001):
        batch = world.batch(subject.spec, WARM_ROWS // 2, seed)
        anchor = subject.algorithm.anchor(subject.spec, state)
        state = subject.fold(state, subject.accumulate([batch], anchor), [batch])
    anchored = subject.algorithm.anchor(subject.spec, state) is not None
    require(anchored, f"a state that has seen {WARM_ROWS} rows has an anchor")
    return state


def over(found: float, expected: float) -> float:
    """Return by what share a loss exceeds another one; two of 0 are equal, as where a summary holds every row.

    >>> over(1.5, 1.0), over(0.0, 0.0), over(1.0, 0.0)
    (0.5, 0.0, inf)
    """
    if expected == 0.0:
        return 0.0 if found == 0.0 else float("inf")
    return found / expected - 1.0
