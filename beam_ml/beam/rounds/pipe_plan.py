"""Which bytes of a pipe a round reads, and what has been read of it then."""

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from apache_beam import ParDo, PTransform
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.rounds.dividing import rows_in
from beam_ml.beam.rounds.source import RoundPlan
from beam_ml.beam.steps import Step
from beam_ml.beam.transforms.read import FileRanges, ReadRanges, in_json
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors, PipeCursor
from beam_ml.core.passes import in_pass
from beam_ml.core.progress import Progress
from beam_ml.core.spec import Settings
from beam_ml.formats import Block, FileRange
from beam_ml.formats.table import NO_ROLES, Roles

__all__ = ["SOURCE", "PipePlan"]

SOURCE = "pipe"
"""The source in the origin of a pipe's rows; the partition is the pipe's name, of a later stream with its number."""


@dataclasses.dataclass(frozen=True, slots=True)
class PipePlan:
    """The bytes that a round reads of the spool, and what has been read of the pipe once it is published.

    Attributes:
        name: of the pipe.
        ranges: one at most.
        after: what has been read then.
        options: the format's own; None: its defaults.
        roles: of columns, for formats of text.
        lost: what is given up of a stream that cannot be read any further, counted as rejected.
    """

    name: str
    ranges: tuple[FileRange, ...]
    after: PipeCursor
    options: Settings | None = None
    roles: Roles = NO_ROLES
    lost: Progress = dataclasses.field(default_factory=Progress)

    @property
    def last(self) -> bool:
        """Whether the pass ends with the round."""
        return self.after.ended

    @property
    def origin(self) -> Origin:
        """The origin of the round's rows."""
        stream = "" if not self.after.stream else f", stream {self.after.stream + 1}"
        return Origin(in_pass(SOURCE, self.after.number), self.name + stream)

    def read(self, columns: Sequence[str]) -> PTransform:
        """Return the root transform that reads the bytes."""
        return _ReadSpool(self.ranges, columns, self.options, self.roles, self.origin)

    def shape(self) -> Hashable:
        """Return what the transform that reads depends on."""
        return self.origin, None if self.options is None else self.options.to_json(), self.roles

    def renewed(self) -> Mapping[str, Any]:
        """Return the range, as the steps hold it."""
        return {"ranges": in_json(self.ranges)}

    def size(self) -> int:
        """Return about how many rows the bytes hold."""
        return sum(map(rows_in, self.ranges))

    def parts(self, number: int, in_turn: bool = False) -> list[RoundPlan]:
        """Return the plan itself: what was read of a pipe is one piece."""
        return [self]

    def to_dict(self) -> dict[str, Any]:
        """Return nothing: no other process reads it."""
        return {}

    def advance(self, cursors: Cursors) -> Cursors:
        """Return the learner's cursors once the round is published."""
        return cursors.with_pipe(self.name, self.after)

    def covered(self) -> dict[Origin, list[list[int]]]:
        """Return the places that the round must cover."""
        return {self.origin: [[one.start, one.stop] for one in self.ranges]} if self.ranges else {}

    def rows(self) -> int | None:
        """Return the rows that the round must scan, which bytes do not say."""
        return None if self.ranges else 0


@with_input_types(Block)
@with_output_types(Block)
class _Named(Step):
    """Blocks of a spool are blocks of its pipe."""

    def __init__(self, source: str, partition: str) -> None:
        self._source, self._partition = source, partition

    def process(self, element: Block) -> Iterator[Block]:
        yield element.replace(origin=Origin(self._source, self._partition))


class _ReadSpool(PTransform):
    def __init__(
        self,
        ranges: Sequence[FileRange],
        columns: Sequence[str],
        options: Settings | None,
        roles: Roles,
        origin: Origin,
    ) -> None:
        super().__init__()
        self._ranges = ranges
        self._read = ReadRanges(columns, source=origin.source, options=options, roles=roles)
        self._named = _Named(origin.source, origin.partition)

    def expand(self, pbegin: PBegin) -> PCollection:
        return pbegin | FileRanges(self._ranges) | self._read | "Named" >> ParDo(self._named)
