"""Raw rows of a round, read by a pipeline of this process into its memory; and prepared rows, given to the next pipeline."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from apache_beam import Create, ParDo, PTransform
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.engine import new_pipeline, run
from beam_ml.beam.rounds.source import RoundPlan
from beam_ml.beam.steps import Step, renew
from beam_ml.beam.wire import coders
from beam_ml.core import intervals
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors
from beam_ml.core.progress import Progress
from beam_ml.errors import RoundAbandoned
from beam_ml.formats.block import Block

__all__ = ["PreparedPlan", "lent", "read_raw"]

_lent: dict[str, list[Block]] = {}


@contextmanager
def lent(key: str, blocks: Sequence[Block] = ()) -> Iterator[list[Block]]:
    """Keep blocks where steps of this process find them, until the block ends, well or not."""
    _lent[key] = [*blocks]
    try:
        yield _lent[key]
    finally:
        del _lent[key]


@with_input_types(Block)
@with_output_types(type(None))
class _Keep(Step):
    def __init__(self, key: str) -> None:
        self._key = key

    def process(self, element: Block) -> None:
        _lent[self._key].append(element)


@with_input_types(bytes)
@with_output_types(Block)
class _Emit(Step):
    renewed = ("round_id",)
    _round_id = ""

    def process(self, element: bytes) -> Iterator[Block]:
        yield from _lent[self._round_id]


class _Lent(PTransform):
    def expand(self, pbegin: PBegin) -> PCollection:
        coders.install(pbegin.pipeline)
        return pbegin | Create([b""]) | ParDo(_Emit())


def read_raw(plan: RoundPlan, columns: Sequence[str], key: str, options: Sequence[str]) -> list[Block]:
    """Read what a plan says; return its blocks in order of origin and place.

    Args:
        plan: of one round.
        columns: to decode.
        key: of this attempt.
        options: Beam options; the in-process runner's.

    Raises:
        RoundAbandoned: what was read is not exactly what the plan covers.
    """
    with lent(key) as blocks:
        pipeline = new_pipeline(options)
        _ = pipeline | "Read" >> plan.read(columns) | "Keep" >> ParDo(_Keep(key))
        renew(pipeline, plan.renewed())
        run(pipeline)
        found = [*blocks]
    found.sort(key=lambda one: (_name(one), one.start))
    spans: dict[Origin, list[tuple[int, int]]] = {}
    for one in found:
        if one.origin is not None and one.start < one.stop:
            spans.setdefault(one.origin, []).append((one.start, one.stop))
    covered = {origin: intervals.from_positions(*np.array(pairs, np.int64).T) for origin, pairs in spans.items()}
    twice = any(intervals.size(covered[origin]) != sum(b - a for a, b in pairs) for origin, pairs in spans.items())
    if twice or {origin: ranges.tolist() for origin, ranges in covered.items()} != plan.covered():
        message = f"The round must read exactly its plan, {plan.covered()}; it read {spans}."
        raise RoundAbandoned(message)
    return found


def _name(block: Block) -> tuple[str, str]:
    return ("", "") if block.origin is None else (block.origin.source, block.origin.partition)


class PreparedPlan:
    """A round over rows that have been prepared, in the place of the plan that read them.

    Args:
        plan: by which raw rows were read.
        rows: to be learned.
        n_rejected: rows that were refused on the way.
        lost: of other sources, given up.
    """

    def __init__(self, plan: RoundPlan, rows: Block, n_rejected: int, lost: Progress) -> None:
        self._plan, self._rows, self._n_rejected, self._lost = plan, rows, n_rejected, lost

    @property
    def lost(self) -> Progress:
        """What can no longer be read of the source and is given up, counted as rejected."""
        return self._plan.lost.merge(self._lost)

    def covered(self) -> dict[Origin, list[list[int]]]:
        """Return the places of the prepared rows."""
        rows = self._rows
        assert rows.origin is not None  # noqa: S101
        return {rows.origin: [[rows.start, rows.stop]]} if len(rows) else {}

    def rows(self) -> int | None:
        """Return the rows that the round must scan, those refused included."""
        return len(self._rows) + self._n_rejected

    def read(self, columns: Sequence[str]) -> PTransform:
        """Return the root transform that finds the rows in this process."""
        return _Lent()

    def shape(self) -> Hashable:
        """Return what all plans of this kind share."""
        return "prepared"

    def renewed(self) -> Mapping[str, Any]:
        """Return nothing: the rows are found by the round's id."""
        return {}

    def size(self) -> int:
        """Return the rows that are there."""
        return len(self._rows)

    def parts(self, number: int, in_turn: bool = False) -> list[RoundPlan]:
        """Return the plan itself: its rows are in this process alone."""
        return [self]

    def to_dict(self) -> dict[str, Any]:
        """Return nothing: no other process can read these rows."""
        return {}

    def advance(self, cursors: Cursors) -> Cursors:
        """Return the learner's cursors once the round is published: what was read of the source."""
        return self._plan.advance(cursors)
