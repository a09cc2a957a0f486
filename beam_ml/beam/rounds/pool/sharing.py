"""A round in parts: how many is fixed by its plan, and what each part comes to by the part; who does it is not.

So the result is the same to the bit whether processes of the pool do the parts, threads of the trainer's own, or one after
the other: a process that ends in the middle of a part leaves it to the others. Processes are started once rounds that can
be shared have taken as long as starting takes, so that whoever learns little never pays for them.
"""

import dataclasses
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from apache_beam import Pipeline

from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.handover import taking
from beam_ml.beam.rounds.pipeline import run_plan
from beam_ml.beam.rounds.pool.arriving import Arriving
from beam_ml.beam.rounds.pool.early import Early
from beam_ml.beam.rounds.pool.elements import from_message, values_out
from beam_ml.beam.rounds.pool.processes import Lost, Pool, Process
from beam_ml.beam.rounds.source import RoundPlan
from beam_ml.beam.wire.elements import Slice
from beam_ml.core.accumulation import Accumulation, merge_all
from beam_ml.core.algorithm import LawKind
from beam_ml.core.spec import to_us
from beam_ml.core.threads import one_thread, threads, using

__all__ = ["PART_VALUES", "START_AFTER_S", "Shared", "Task", "parts_of", "read_parts"]

PART_VALUES = 1 << 22
"""Values, rows by columns, that a part has at least: about a tenth of a second of the cheapest learner's work."""

START_AFTER_S = 2.0
"""Seconds that this process's rounds have taken, those that can be shared, before other processes are started."""

_log = logging.getLogger(__name__)

Built = dict[Hashable, Pipeline]


@dataclasses.dataclass(slots=True)
class Shared:
    """What a trainer keeps from one round to the next.

    Attributes:
        built: the pipelines of the last one, one for each thread.
        guessing: whether windows are learned before all rows are there: not where such a guess was wrong.
    """

    built: list[Built] = dataclasses.field(default_factory=list)
    guessing: bool = True

    def pipelines(self, number: int) -> list[Built]:
        """Return the pipelines kept for the first so many threads, at least."""
        self.built += [{} for _ in range(number - len(self.built))]
        return self.built


class Task:
    """What a round asks of whoever does a part of it.

    Args:
        job: the deployment.
        where: the place of the registry.
        values: `pipeline.round_values`.
        options: Beam options.
        in_order: rows are only gathered.
    """

    def __init__(
        self, job: Job, where: str, values: Mapping[str, Any], options: Sequence[str], in_order: bool = False
    ) -> None:
        self.job, self.where, self.values, self.options, self.in_order = job, where, values, options, in_order

    def here(
        self, number: int, part: RoundPlan, built: Built, take: Callable[[int, Slice | Accumulation], None]
    ) -> None:
        """Do a part in this thread."""
        key = f"{self.values['round_id']}/{number}"
        with taking(key, take):
            values = {**self.values, "round_id": key}
            run_plan(self.job, self.where, part, values, self.options, self.in_order, built)

    def there(
        self, number: int, part: RoundPlan, process: Process, take: Callable[[int, Slice | Accumulation], None]
    ) -> None:
        """Have a process do a part.

        Raises:
            Lost: it has ended.
        """
        asked = {
            "job": self.job.to_dict(),
            "where": self.where,
            "values": values_out({**self.values, "round_id": f"{self.values['round_id']}/{number}"}),
            "options": [*self.options],
            "in_order": self.in_order,
            "plan": part.to_dict(),
            "path": [*map(str, sys.path)],  # an algorithm of the user's own may have been put there since
        }
        for head, buffers in process.ask(asked):
            take(*from_message(head, buffers))


def parts_of(job: Job, plan: RoundPlan, in_order: bool) -> list[RoundPlan]:
    """Return the parts of a round that are done side by side, by plan and number of threads alone; none: it is whole.

    Raw rows are not, which this process prepares; nor what does not add up the same however rows are shared out, but for
    learning in order, which does not depend on it.

    Args:
        job: the deployment.
        plan: of the round.
        in_order: rows are only gathered.
    """
    law = job.algorithm().law(job.algorithm_spec())
    adds = in_order or law.kind is not LawKind.ANCHORED or law.across_anchors
    if threads() == 1 or job.prepares or not adds or '"__main__:' in job.to_json():
        return []
    width = len(job.features.columns()) + (0 if job.features.matrix is None else job.features.matrix.width)
    number = min(threads(), plan.size() * width // PART_VALUES)
    parts = plan.parts(number, in_turn=in_order) if number > 1 else []
    return parts if len(parts) > 1 else []


class _Parts:
    """The parts of a round that nobody has taken yet, and what came of the others."""

    def __init__(self, number: int) -> None:
        self._lock, self._left = threading.Lock(), deque(range(number))
        self.found: list[list[tuple[int, Accumulation]]] = [[] for _ in range(number)]

    def take(self) -> int | None:
        with self._lock:
            return self._left.popleft() if self._left else None

    def give_back(self, part: int) -> None:
        with self._lock:
            self._left.appendleft(part)

    def stop(self) -> None:
        with self._lock:
            self._left.clear()


def read_parts(
    task: Task,
    parts: Sequence[RoundPlan],
    pool: Pool,
    shared: Shared,
    handed: dict[int, list[Slice]],
    early: Early,
) -> dict[int, Accumulation]:
    """Read the parts of a round; return what was accumulated, by window end.

    Args:
        task: of the round.
        parts: see `parts_of`.
        pool: whose processes help.
        shared: what the trainer keeps.
        handed: gets the rows, where they are only gathered.
        early: learns windows of them meanwhile.

    Raises:
        BeamMLError: an error of a part, as it was raised; what the others do is ended.
    """
    if not task.in_order:
        return learn_parts(task, parts, pool, shared)
    slack_us = to_us(task.job.source.out_of_orderness)
    rows = Arriving(len(parts), task.job.windows().size_us or 0, slack_us, shared.guessing)
    found = gather_parts(task, parts, pool, shared, rows, early.learn)
    handed.update(rows.rows())
    return found


def learn_parts(task: Task, parts: Sequence[RoundPlan], pool: Pool, shared: Shared) -> dict[int, Accumulation]:
    """Return what the parts of a round come to, by window end.

    Args:
        task: of the round.
        parts: see `parts_of`.
        pool: whose processes do parts beside this one, if they are ready; else threads do.
        shared: what the trainer keeps.

    Raises:
        BeamMLError: an error of a part, as it was raised; what the others do is ended.
    """
    begun, number = time.monotonic(), len(parts)
    if pool.shared_s >= START_AFTER_S:
        pool.start(number - 1)
    work = _Parts(number)
    built = shared.pipelines(number)

    def here(slot: int) -> None:
        try:
            while (i := work.take()) is not None:
                found: list[Any] = []
                task.here(i, parts[i], built[slot], lambda *one, found=found: found.append(one))
                work.found[i] = found
        except BaseException:
            work.stop()
            raise

    def there(process: Process) -> None:
        while (i := work.take()) is not None:
            found: list[Any] = []
            try:
                task.there(i, parts[i], process, lambda *one, found=found: found.append(one))
            except Lost as lost:
                work.give_back(i)
                _log.warning("%s Its part is read again.", lost)
                return
            except BaseException:
                work.stop()
                raise
            work.found[i] = found

    with ThreadPoolExecutor(number, "beam_ml_part") as hands, pool.borrowed(number - 1) as others, using(1):
        beside = [partial(there, one) for one in others]
        beside += [partial(here, slot) for slot in range(1, number - len(others))]
        running = [hands.submit(one) for one in beside]
        here(0)
        for one in running:
            one.result()
        here(0)  # what a process has left
    pool.shared_s += time.monotonic() - begun
    return _merged(task.job, work.found)


def gather_parts(
    task: Task,
    parts: Sequence[RoundPlan],
    pool: Pool,
    shared: Shared,
    rows: Arriving,
    learn: Callable[[Arriving], None],
) -> dict[int, Accumulation]:
    """Read the parts of a round into `rows`; return what is in no row, by window end.

    Where processes of the pool read, this thread learns meanwhile.

    Args:
        task: of the round.
        parts: see `parts_of`.
        pool: whose processes read, if as many are ready as there are parts; else this thread reads one after the other.
        shared: what the trainer keeps.
        rows: a sender for each part.
        learn: called with `rows` while they arrive.

    Raises:
        BeamMLError: an error of a part, as it was raised; what the others do is ended.
    """
    begun = time.monotonic()
    if pool.shared_s >= START_AFTER_S:
        pool.start(len(parts))
    (built, *_) = shared.pipelines(1)
    counted: list[list[tuple[int, Accumulation]]] = [[] for _ in parts]
    left = [*range(len(parts))]

    def take(i: int, end: int, piece: Slice | Accumulation) -> None:
        if isinstance(piece, Slice):
            rows.add(i, end, piece)
        else:
            counted[i].append((end, piece))

    def there(i: int, process: Process) -> int | None:
        try:
            task.there(i, parts[i], process, partial(take, i))
        except Lost as lost:
            _log.warning("%s Its part is read again.", lost)
            counted[i] = []
            rows.drop(i)
            return i
        except BaseException:
            rows.let_go()
            raise
        finally:
            rows.finish(i)
        return None

    with ThreadPoolExecutor(len(parts), "beam_ml_part") as hands, pool.borrowed(len(parts)) as others:
        if len(others) == len(parts):
            running = [hands.submit(there, i, one) for i, one in enumerate(others)]
            learn(rows)
            left = [i for i in [one.result() for one in running] if i is not None]
        for i in left:
            task.here(i, parts[i], built, partial(take, i))
    pool.shared_s += time.monotonic() - begun
    return _merged(task.job, counted)


def _merged(job: Job, found: Sequence[Sequence[tuple[int, Accumulation]]]) -> dict[int, Accumulation]:
    """Add up what parts have come to, in their order."""
    spec, by_end = job.algorithm_spec(), dict[int, list[Accumulation]]()
    for part in found:
        for end, one in part:
            by_end.setdefault(end, []).append(one)
    with one_thread():
        return {end: merge_all(job.algorithm(), spec, several) for end, several in sorted(by_end.items())}
