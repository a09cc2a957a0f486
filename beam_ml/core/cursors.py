"""Cursors: what a learner has read of its sources, and in which pass, so that training resumes at the next row.

They are stored in the learner, and so committed with the rows that they count. Cursors of two learners merge as learners
do: what either has read is read.
"""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from beam_ml.errors import MergeRefused

__all__ = ["Cursors", "FileCursor", "FileId", "Passes", "PipeCursor", "TopicCursor"]

T = TypeVar("T", "FileCursor", "Passes")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class FileId:
    """What identifies a file: path, size in bytes, modification time in ns since the epoch."""

    path: str
    size: int
    mtime_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class FileCursor:
    """What has been read of files.

    Attributes:
        done: path → identity of each file read to its end.
        part: path → (identity, place up to which it has been read).
        horizon_ns: files modified before this count as done, and their names are forgotten; 0: none is forgotten.
        number: the pass that is under way, or that has ended; 1: the first.
        batch: path → identity of the files read to their end whose passes run together; None: all that are done.
        again: paths read to their end in a pass after the first.
    """

    done: Mapping[str, FileId] = dataclasses.field(default_factory=dict)
    part: Mapping[str, tuple[FileId, int]] = dataclasses.field(default_factory=dict)
    horizon_ns: int = 0
    number: int = 1
    batch: Mapping[str, FileId] | None = None
    again: frozenset[str] = frozenset()

    @property
    def again_over(self) -> bool:
        """Whether a pass after the first has ended."""
        return self.number > 1 and len(self.again) == len(self.batch or {})

    def next_pass(self) -> "FileCursor":
        """Begin the pass after this one, over the same files.

        >>> FileCursor({"a": FileId("a", 10, 0)}).next_pass().number
        2
        """
        batch = self.done if self.batch is None else self.batch
        return dataclasses.replace(self, number=self.number + 1, batch=batch, again=frozenset())

    def merge(self, other: "FileCursor") -> "FileCursor":
        """Return what either has read, in the later of their passes.

        >>> a, b = (FileCursor({path: FileId(path, 10, 0)}) for path in "ab")
        >>> sorted(a.merge(b).done)
        ['a', 'b']
        """
        batches = [one for one in (self.batch, other.batch) if one is not None]
        earlier, later = sorted((self, other), key=lambda one: one.number)
        part = {**earlier.part, **later.part}
        if earlier.number == later.number:
            part |= {path: max(at, earlier.part.get(path, at)) for path, at in later.part.items()}
        return FileCursor(
            {**self.done, **other.done},
            part,
            max(self.horizon_ns, other.horizon_ns),
            max(self.number, other.number),
            {path: one for batch in batches for path, one in batch.items()} if batches else None,
            self.again | other.again,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class TopicCursor:
    """What has been read of a topic.

    Attributes:
        offsets: partition → the first offset that has not been read through.
        begun: partition → the offset at which it was first read, where a stream has noted it.
        id: ids of cluster and topic, `cluster/topic`: a recreated topic has another one. Empty if unknown.
    """

    offsets: Mapping[int, int] = dataclasses.field(default_factory=dict)
    begun: Mapping[int, int] = dataclasses.field(default_factory=dict)
    id: str = ""

    def merge(self, other: "TopicCursor") -> "TopicCursor":
        """Return what either has read.

        Raises:
            MergeRefused: the topic was recreated between them: offsets of one are none of the other.

        >>> TopicCursor({0: 5, 1: 7}).merge(TopicCursor({0: 9})).offsets
        {0: 9, 1: 7}
        """
        if self.id and other.id and self.id != other.id:
            message = (
                f"Learners merge that have read the same topic; got topics {self.id} and {other.id} under one name "
                "(recreated, or of two clusters)."
            )
            raise MergeRefused(message)
        offsets, begun = dict(self.offsets), dict(self.begun)
        for partition, at in other.offsets.items():
            offsets[partition] = max(at, offsets.get(partition, at))
        for partition, at in other.begun.items():
            begun[partition] = min(at, begun.get(partition, at))
        return TopicCursor(offsets, begun, other.id or self.id)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class PipeCursor:
    """What has been read of a pipe, whose streams come one after the other.

    Attributes:
        stream: how many streams were read to their end before, whatever their epochs.
        epoch: of the stream, 0 the first.
        place: decompressed bytes that have been read of it.
        ended: they are all of it.
        crc: CRC-32 of them, by which they are recognised where a restart finds the stream from its beginning.
    """

    stream: int = 0
    epoch: int = 0
    place: int = 0
    ended: bool = False
    crc: int = 0

    @property
    def number(self) -> int:
        """The pass that the epoch is."""
        return self.epoch + 1

    def next_epoch(self) -> "PipeCursor":
        """Return the beginning of the epoch after this one.

        >>> PipeCursor(epoch=1, place=9, ended=True, crc=7).next_epoch()
        PipeCursor(stream=0, epoch=2, place=0, ended=False, crc=0)
        """
        return PipeCursor(self.stream, self.epoch + 1)

    def next_stream(self) -> "PipeCursor":
        """Return the beginning of another stream.

        >>> PipeCursor(epoch=1, place=9, ended=True, crc=7).next_stream()
        PipeCursor(stream=1, epoch=0, place=0, ended=False, crc=0)
        """
        return PipeCursor(self.stream + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Passes:
    """The passes over one batch of files, so far.

    Attributes:
        number: the pass that is under way, or was the last.
        of: how many the job asked for.
        metric: what passes are judged by.
        values: the metric's mean in each pass, over its rows before they were learned from (again).
        rows: how many rows each of these means is over.
        judged: the pass that the last of them is of: a first pass of one round has no model to judge.
        heard: passes that patience does not count, since the job was asked to continue after them.
        stopped: why they ended early; empty: they did not.
    """

    number: int = 1
    of: int = 1
    metric: str = ""
    values: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()
    judged: int = 0
    heard: int = 0
    stopped: str = ""

    def continues(self, number: int, passes: int) -> bool:
        """Return whether another pass follows, where nothing is left to read in pass `number`.

        Passes that were stopped early continue only where more of them are asked for than then.

        >>> Passes(of=3, stopped="the loss stopped improving").continues(2, 3)
        False
        """
        return number < passes and not (self.stopped and passes <= self.of)

    def merge(self, other: "Passes") -> "Passes":
        """Return the larger numbers of both, with the values of `other`: means over different rows do not add up.

        >>> Passes(number=2, values=(0.5,), rows=(9,)).merge(Passes()).values
        ()
        """
        return dataclasses.replace(
            other,
            number=max(self.number, other.number),
            of=max(self.of, other.of),
            judged=max(self.judged, other.judged),
            heard=max(self.heard, other.heard),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Cursors:
    """What has been read of every source.

    Attributes:
        files: of files; None: no file was read.
        topics: what rows' origins call a topic → what was read of it.
        passes: how passes over files go; None: the job asks for one.
        pipes: a pipe's name → what was read of it.
    """

    files: FileCursor | None = None
    topics: Mapping[str, TopicCursor] = dataclasses.field(default_factory=dict)
    passes: Passes | None = None
    pipes: Mapping[str, PipeCursor] = dataclasses.field(default_factory=dict)

    def topic(self, name: str) -> TopicCursor:
        """Return what was read of a topic; of one that is not known, nothing.

        >>> Cursors().topic("kafka://c/t").offsets
        {}
        """
        return self.topics.get(name, TopicCursor())

    def with_topic(self, name: str, cursor: TopicCursor) -> "Cursors":
        """Return cursors with another one of a topic."""
        return dataclasses.replace(self, topics={**self.topics, name: cursor})

    def with_pipe(self, name: str, cursor: PipeCursor) -> "Cursors":
        """Return cursors with another one of a pipe.

        >>> Cursors().with_pipe("stdin", PipeCursor(place=9)).pipes["stdin"].place
        9
        """
        return dataclasses.replace(self, pipes={**self.pipes, name: cursor})

    def merge(self, other: "Cursors") -> "Cursors":
        """Return what either has read.

        >>> a, b = (Cursors(topics={name: TopicCursor({0: 5})}) for name in ("kafka://c/a", "kafka://c/b"))
        >>> sorted(a.merge(b).topics)
        ['kafka://c/a', 'kafka://c/b']
        """
        topics = dict(self.topics)
        for name, theirs in other.topics.items():
            topics[name] = topics[name].merge(theirs) if name in topics else theirs
        pipes = dict(self.pipes)
        for name, one in other.pipes.items():
            pipes[name] = max(pipes.get(name, one), one)
        return Cursors(_merged(self.files, other.files), topics, _merged(self.passes, other.passes), pipes)


def _merged(a: T | None, b: T | None) -> T | None:
    return b if a is None else a if b is None else a.merge(b)
