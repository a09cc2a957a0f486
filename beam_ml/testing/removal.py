"""The law of removal: what was merged can be taken out again."""

from typing import Any

from beam_ml.core.arrays import identical
from beam_ml.errors import RemoveRefused
from beam_ml.testing.subject import Scenario, Subject, difference, require

__all__ = ["removal"]


def removal(subject: Subject) -> None:
    """remove(merge(a, b), b) = a, in every sum; to remove nothing changes nothing, all leaves empty, and more is refused.

    Equality is asked for where sums can be compared: with b added again, ``merge(remove(merge(a, b), b), b) = merge(a, b)``.
    Sums cancel, so this says that the rest is a, with the digits that ``merge(a, b)`` has of it. Rows that are given again
    are b only where they are grown from the same anchor, which the sum must know: ``A(y, grown_from(merge(a, b))) = b``.
    """
    algorithm, spec = subject.algorithm, subject.spec
    remove: Any = algorithm.remove

    def check(case: Scenario) -> None:
        a, b = (subject.accumulate([batch], case.anchor) for batch in case.batches)
        both = subject.merge(a, b)
        rest = remove(spec, both, b)
        require(type(rest) is type(both), f"remove returned a {type(rest).__name__}, not a {type(both).__name__}")
        subject.same(subject.merge(rest, b), both, "merge(remove(merge(a, b), b), b) = merge(a, b)")
        if algorithm.grown_from is not None:
            again = subject.accumulate([case.batches[1]], algorithm.grown_from(spec, both))
            subject.same(
                subject.merge(rest, again), both, "merge(remove(merge(a, b), b), A(y, grown_from(merge(a, b))))"
            )
        weights = [algorithm.weight(one) for one in (both, b, rest)]
        gap = abs(weights[0] - weights[1] - weights[2])
        require(gap <= max(subject.law.rtol, 1e-12) * weights[0], f"weight of the rest is off by {gap}")
        unchanged = remove(spec, both, algorithm.empty(spec))
        require(identical(unchanged, both), f"remove(p, empty) = p: {difference(unchanged, both)}")
        nothing = remove(spec, both, both)
        require(identical(nothing, algorithm.empty(spec)), "remove(p, p) = empty")
        if weights[1] > 1e-6 * weights[0] > 0.0:
            require(_refuses(remove, spec, a, both), "remove(a, merge(a, b)) must be refused")

    subject.examine(subject.scenarios(count=2), check)


def _refuses(remove: Any, *arguments: Any) -> bool:
    try:
        remove(*arguments)
    except RemoveRefused:
        return True
    return False
