"""The law of growing in place: what workers do over many batches is what the pure functions say."""

from typing import Any

from beam_ml.core import decay as clock
from beam_ml.core.arrays import nbytes
from beam_ml.core.decay import Growth
from beam_ml.core.spec import Spec
from beam_ml.testing.hygiene import overwritten, owned
from beam_ml.testing.subject import Scenario, Subject, digest, require

__all__ = ["growth"]

_HALF_LIFE_S = 6 * 3600.0


def growth(subject: Subject) -> None:
    """A partial grown in place equals `accumulate` over the same batches, aged or not; all that was given stays as it was.

    So do the partial that was begun with, partials asked for on the way, the anchor, and the batches, whose memory may be
    reused at once.
    """
    algorithm = subject.algorithm
    aging = algorithm.spec.parse({**subject.spec.to_dict(), "half_life": _HALF_LIFE_S})

    def check(case: Scenario) -> None:
        for spec in (subject.spec, aging):
            begun = clock.empty(algorithm, spec)
            _compare(subject, spec, begun, case)
            _compare(subject, spec, clock.accumulate(algorithm, spec, begun, case.batches[0], case.anchor), case)

    subject.examine(subject.scenarios(count=4), check)


def _compare(subject: Subject, spec: Spec, begun: clock.AsOf, case: Scenario) -> None:
    algorithm = subject.algorithm
    grown, expected = Growth(algorithm, spec, begun, case.anchor), begun
    given: list[tuple[Any, str]] = [(begun.summary, digest(begun.summary)), (case.anchor, digest(case.anchor))]
    for batch in case.batches:
        mine = owned(batch)
        before = digest(mine)
        grown.add(mine)
        require(digest(mine) == before, "adding changed the batch")
        overwritten(mine)
        expected = clock.accumulate(algorithm, spec, expected, batch, case.anchor)
        found = grown.dated()
        subject.same(found.summary, expected.summary, "grown = accumulated")
        require(found.time == expected.time, f"grown to {found.time}, accumulated to {expected.time}")
        size = nbytes(found.summary)
        require(grown.nbytes == size, f"a grown partial of {size} bytes says it has {grown.nbytes}")
        given.append((found.summary, digest(found.summary)))
    for value, before in given:
        require(digest(value) == before, "what was given changed when more was added")
