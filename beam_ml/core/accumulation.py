"""`Accumulation`: what travels from workers to the fold. A commutative monoid; Beam's accumulator.

Partials are kept apart by the anchor their workers started from, each with its own rows' progress; beside them stand
the progress of rows that reached no partial (rejects) and one sample of the rows that did.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from beam_ml.core import decay, gathered
from beam_ml.core.admit import admit
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import nbytes
from beam_ml.core.batch import Batch
from beam_ml.core.decay import AsOf
from beam_ml.core.drawing import Drawing, Naming
from beam_ml.core.leaps import FAR, leap_us, without_far
from beam_ml.core.limits import ABSOLUTE, Limits, Seen
from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec
from beam_ml.errors import MergeRefused

__all__ = [
    "COLD",
    "Accumulation",
    "Accumulator",
    "Part",
    "add",
    "empty",
    "merge",
    "merge_all",
    "same_names",
    "size_bytes",
]

COLD = 0
"""Version of partials grown without an anchor (and of every EXACT or SKETCH partial)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One partial and the progress of exactly its rows."""

    dated: AsOf
    progress: Progress


@dataclasses.dataclass(frozen=True, slots=True)
class Accumulation:
    """Partials by anchor number, the progress of rows in none of them, and the sample of rows that are.

    Attributes:
        spec: shapes the partials; only accumulations of one spec add.
        parts: version (`Learner.version`) whose anchor the part was grown from, 0: cold → part.
        rest: rows scanned that reached no partial.
        sample: of all parts' rows.
        names: of the features of all parts, in their order; None: unknown.
    """

    spec: Spec
    parts: Mapping[int, Part]
    rest: Progress
    sample: Sample
    names: tuple[str, ...] | None = None

    @property
    def progress(self) -> Progress:
        """All rows scanned."""
        return reduce(Progress.merge, (part.progress for part in self.parts.values()), self.rest)


def empty(spec: Spec) -> Accumulation:
    """Return the identity of `merge`."""
    return Accumulation(spec, {}, Progress(), Sample.empty(spec))


def same_names(a: tuple[str, ...] | None, b: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the names of the features in both: they add place by place.

    Raises:
        MergeRefused: the names differ, or their order does.

    >>> same_names(("amount", "hour"), None)
    ('amount', 'hour')
    """
    if a is None or b is None or a == b:
        return b if a is None else a
    message = (
        f"Rows and learners add if their features are the same in order, as Batch.ordered(names) puts them; got "
        f"{list(a)[:8]} and {list(b)[:8]}."
    )
    raise MergeRefused(message)


def merge(algorithm: Algorithm, spec: Spec, a: Accumulation, b: Accumulation) -> Accumulation:
    """Merge two accumulations of one spec.

    Raises:
        MergeRefused: one of them is of another spec, or their features are named otherwise.
    """
    for one in (a, b):
        if one.spec is not spec and one.spec != spec:
            message = f"Accumulations of one spec merge; got {one.spec.to_json()} for {spec.to_json()}."
            raise MergeRefused(message)
    parts = dict(a.parts)
    for number, part in b.parts.items():
        mine = parts.get(number)
        if mine is not None:
            dated = decay.merge(algorithm, spec, mine.dated, part.dated)
            part = Part(dated, mine.progress.merge(part.progress))
        parts[number] = part
    names = same_names(a.names, b.names)
    return Accumulation(spec, dict(sorted(parts.items())), a.rest.merge(b.rest), a.sample.merge(b.sample, spec), names)


def merge_all(algorithm: Algorithm, spec: Spec, accumulations: Iterable[Accumulation]) -> Accumulation:
    """Merge any number, none included, taking them one at a time."""
    total = empty(spec)
    for one in accumulations:
        total = merge(algorithm, spec, total, one)
    return total


def add(algorithm: Algorithm, spec: Spec, a: Accumulation, batch: Batch) -> Accumulation:
    """Add a batch's rows, grown cold; rows that may not be learned from are counted as rejected."""
    accumulator = Accumulator(algorithm, spec, start=a)
    accumulator.add(batch)
    return accumulator.result()


def size_bytes(a: Accumulation) -> int:
    """Return the bytes of the arrays held, places scanned included."""
    parts = sum(nbytes(part.dated.summary) + part.progress.nbytes for part in a.parts.values())
    return parts + a.rest.nbytes + a.sample.nbytes


def scorer_of(algorithm: Algorithm, spec: Spec, anchor: Any) -> Any:
    """Return what scores rows for the sample; None where the algorithm has no scorer, or nothing was learned yet."""
    return None if algorithm.scorer is None or anchor is None else algorithm.scorer(spec, anchor)


class Accumulator:
    """The mutable twin of `Accumulation` for the hot loop: many batches in, one accumulation out.

    Algebra stays with the immutable record; a law test shows that this loop equals merging one accumulation per batch.

    Args:
        algorithm: the record.
        spec: what is learned.
        number: version of the anchor.
        anchor: the parameters that the partial grows from; None: cold.
        start: what was accumulated before.
        sampling: False leaves the sample as it is; somebody else draws it.
        max_leap: seconds that few rows of a batch may be dated ahead of all others where rows age; None: see `leap_us`.
        newest: newest event time of what was learned before, µs.
        limits: how large values may be.
        seen: what was learned before, which limits go by.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        spec: Spec,
        number: int = COLD,
        anchor: Any = None,
        start: Accumulation | None = None,
        sampling: bool = True,
        max_leap: float | None = None,
        newest: int | None = None,
        limits: Limits = ABSOLUTE,
        seen: Seen | None = None,
    ) -> None:
        self._algorithm, self._spec = algorithm, spec
        self._number = COLD if anchor is None else number
        self._anchor = anchor
        begun = empty(spec) if start is None else start
        self._others = {at: part for at, part in begun.parts.items() if at != self._number}
        mine = begun.parts.get(self._number)
        dated = decay.empty(algorithm, spec) if mine is None else mine.dated
        self._growth = decay.Growth(algorithm, spec, dated, self._anchor)
        self._progress: list[Progress] = [] if mine is None else [mine.progress]
        self._rest: list[Progress] = [begun.rest]
        self._drawing = Drawing(spec, scorer_of(algorithm, spec, anchor), begun.sample) if sampling else None
        self._begun, self._names, self._limits, self._seen = begun.sample, begun.names, limits, seen
        # Gathered rows are drawn by who they are, so whoever has no name gets one before.
        self._naming = Naming() if decay.gathers(algorithm) else None
        self._leap_us, self._newest = leap_us(max_leap, half_life_s=spec.half_life), newest

    def add(self, batch: Batch, late: int = 0) -> dict[str, Batch]:
        """Learn from a batch's good rows and count the others; return the rejected rows by reason."""
        good, bad = self.admit(batch)
        self.add_admitted(good, min(late, len(good)))
        return bad

    def admit(self, batch: Batch) -> tuple[Batch, dict[str, Batch]]:
        """Count the rows that may not be learned from; return the others, and those by reason.

        All rows of a batch are judged side by side, also where not all of them are added to this accumulator.
        """
        batch, far, set_back = without_far(batch, self._leap_us, self._newest)
        good, rejected, adjusted = admit(self._spec, batch, self._limits, self._seen, set_back=set_back)
        bad = {reason: batch.take(rows) for reason, rows in rejected.items()}
        if far is not None:
            bad[FAR] = far
        if adjusted:
            self.add_progress(Progress(adjusted=adjusted))
        for reason, rows in bad.items():
            self.add_progress(Progress.of_rejected(rows, reason))
        return good, bad

    def add_admitted(self, batch: Batch, late: int = 0) -> None:
        """Learn from rows that `admit` has let through.

        Raises:
            MergeRefused: their features have other names, or another order of names, than those before.
        """
        if len(batch) == 0:
            return
        self._names = same_names(self._names, batch.names)
        self._progress.append(Progress.of(batch, late))
        if self._naming is not None:
            batch = self._naming.named(batch)
        self._growth.add(batch)
        if self._drawing is not None:
            self._drawing.add(batch)
        if len(self._progress) >= 64:
            self._progress = [reduce(Progress.merge, self._progress)]

    def add_progress(self, progress: Progress) -> None:
        """Count rows that reached no partial."""
        self._rest.append(progress)
        if len(self._rest) >= 64:
            self._rest = [reduce(Progress.merge, self._rest)]

    def room(self, batch: Batch) -> int:
        """Return how many of a batch's first rows can be added before a fold is due: all, but where rows are gathered."""
        return len(batch) if self._naming is None else gathered.fitting(self._spec, self._growth.nbytes, batch)

    def merge(self, other: Accumulation) -> Accumulation:
        """Return this one's accumulation plus another."""
        return merge(self._algorithm, self._spec, self.result(), other)

    def result(self) -> Accumulation:
        """Return the accumulation of everything added so far; more may be added afterwards."""
        parts = dict(self._others)
        if self._progress:
            self._progress = [reduce(Progress.merge, self._progress)]
            parts[self._number] = Part(self._growth.dated(), self._progress[0])
        sample = self._begun if self._drawing is None else self._drawing.sample()
        return Accumulation(
            self._spec, dict(sorted(parts.items())), reduce(Progress.merge, self._rest, Progress()), sample, self._names
        )

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays held, places scanned included."""
        places = sum(one.nbytes for one in (*self._progress, *self._rest))
        sample = self._begun if self._drawing is None else self._drawing
        return self._growth.nbytes + sample.nbytes + places
