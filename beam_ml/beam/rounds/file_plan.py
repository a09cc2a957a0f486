"""Which pieces of which files the next round reads, and what has been read: each row once."""

import dataclasses
import datetime
import functools
import logging
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from apache_beam import PTransform
from apache_beam.pvalue import PBegin, PCollection

from beam_ml import formats
from beam_ml.beam.job.sources import FileSource
from beam_ml.beam.rounds.dividing import BYTES_PER_ROW, dealt, even, finer, joined, rows_in
from beam_ml.beam.rounds.source import RoundPlan
from beam_ml.beam.transforms.read import FileRanges, ReadRanges, in_json, options_of
from beam_ml.core import intervals
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors, FileCursor, FileId
from beam_ml.core.learner import Learner
from beam_ml.core.passes import in_pass
from beam_ml.core.progress import Progress
from beam_ml.core.spec import Settings
from beam_ml.errors import InputChanged, NoInput
from beam_ml.formats.files import FileRange
from beam_ml.formats.table import NO_ROLES, Roles

__all__ = ["SOURCE", "FilePlan", "forget", "plan_files"]

SOURCE = "files"
"""The source in the origin of file rows; the partition is the file's absolute path."""

_CLOCKS_APART_NS = 3600 * 10**9
"""How far ahead of ours the clock of a file server may be; a later modification time was set by hand."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class FilePlan:
    """The ranges that a round reads, what has been read once it is published, and the options of their format.

    Attributes:
        ranges: in order.
        after: what has been read then, and in which pass.
        options: the format's own; None: its defaults, or files of several formats.
        roles: of columns, for formats of text.
        last: nothing is left to read in this pass.
        lost: what is given up of files that cannot be read, counted as rejected.
    """

    ranges: tuple[FileRange, ...]
    after: FileCursor
    options: Settings | None = None
    roles: Roles = NO_ROLES
    last: bool = False
    lost: Progress = dataclasses.field(default_factory=Progress)

    def read(self, columns: Sequence[str]) -> PTransform:
        """Return the root transform that reads the ranges."""
        return _ReadPlanned(self.ranges, columns, self.options, self.roles, in_pass(SOURCE, self.after.number))

    def shape(self) -> Hashable:
        """Return what the transform that reads depends on: how files are parsed, and the pass that rows are counted in."""
        return self.after.number, None if self.options is None else self.options.to_json(), self.roles

    def renewed(self) -> Mapping[str, Any]:
        """Return the ranges, as the steps hold them."""
        return {"ranges": in_json(self.ranges)}

    def size(self) -> int:
        """Return about how many rows the ranges hold."""
        return sum(map(rows_in, self.ranges))

    def parts(self, number: int, in_turn: bool = False) -> list[RoundPlan]:
        """Return plans of about as many rows each; long ranges are cut, at row groups or lines."""
        # Dealt out whole where there are enough, so that blocks, and with them gradient steps, are those of one thread.
        enough = in_turn and len(self.ranges) >= 2 * number
        pieces = self.ranges if enough else finer(self.ranges, number, self.options, self.roles)
        groups = (dealt if in_turn else even)(pieces, number, rows_in)
        return [dataclasses.replace(self, ranges=joined(some)) for some in groups]

    def to_dict(self) -> dict[str, Any]:
        """Return the ranges and the pass, as plain JSON values."""
        return {"ranges": [one.to_dict() for one in self.ranges], "number": self.after.number}

    @classmethod
    def from_dict(cls, source: FileSource, value: Mapping[str, Any]) -> "FilePlan":
        """Return a plan that reads what `to_dict` says; what has been read then is left to the trainer."""
        ranges = tuple(FileRange.from_dict(one) for one in value["ranges"])
        return cls(ranges, FileCursor(number=value["number"]), source.format_options(), source.roles)

    def advance(self, cursors: Cursors) -> Cursors:
        """Return the learner's cursors once the round is published."""
        return dataclasses.replace(cursors, files=self.after)

    def covered(self) -> dict[Origin, list[list[int]]]:
        """Return the places that the round must cover, by origin."""
        found: dict[Origin, np.ndarray] = {}
        for one in self.ranges:
            origin = Origin(in_pass(SOURCE, self.after.number), one.path)
            here = np.array([[one.start, one.stop]], dtype=np.int64)
            found[origin] = intervals.union(found.get(origin, intervals.EMPTY), here)
        return {origin: places.tolist() for origin, places in sorted(found.items())}

    def rows(self) -> int | None:
        """Return the rows that the round must scan; None where the format does not say."""
        counts = [one.n_rows for one in self.ranges]
        return None if any(n is None for n in counts) else sum(n for n in counts if n is not None)


class _ReadPlanned(PTransform):
    def __init__(
        self,
        ranges: Sequence[FileRange],
        columns: Sequence[str],
        options: Settings | None,
        roles: Roles,
        source: str,
    ) -> None:
        super().__init__()
        self._ranges = ranges
        self._read = ReadRanges(columns, source=source, options=options, roles=roles)

    def expand(self, pbegin: PBegin) -> PCollection:
        return pbegin | FileRanges(self._ranges) | self._read


def plan_files(
    source: FileSource, before: FileCursor, wanted_rows: int, *, wait: bool = False, passes: int = 1
) -> FilePlan:
    """Plan the next round: files in order of path, up to `wanted_rows` (at least one range when anything is left).

    A pass that has begun continues over the files of the first one (`FileCursor.next_pass` begins one). New files that
    arrive during the first pass are in it; later ones wait and then form their own batch, which begins with its first pass.

    Files that have been read to their end may be moved away. With `wait`, a file that may still be written (see
    `source.settle`) is left for a later look, and files after it in order of path are taken before it.

    Args:
        source: where to look.
        before: what has been read.
        wanted_rows: size of the round.
        wait: files may come and grow: an empty folder is no error, and a file is taken once it has settled.
        passes: how often each file will be read.

    Raises:
        NoInput: there is no file at all, and nothing has been read before.
        InputChanged: a file that has been read, whole or in part, is no longer what it was, or one that has been read
            in part is gone.
        UnreadableInput: a file that cannot be opened.
    """
    now_ns = time.time_ns()
    found = _found(source, before, wait)
    if before.number > 1 and not before.again_over:
        return _plan_again(source, before, {file.path: file for file in found}, wanted_rows)
    done, part = dict(before.done), dict(before.part)
    ranges: list[FileRange] = []
    rows, files, waiting = 0, 0, []
    passed: list[FileId] = []
    for file in found:
        if file.path in done:
            _same(done[file.path], file)
            continue
        if file.path not in part and file.mtime_ns < before.horizon_ns:
            passed.append(file)
            continue
        at = None
        if file.path in part:
            known, at = part[file.path]
            _same(known, file)
        elif wait and not _settled(file, source.settle, now_ns):
            waiting.append(file.mtime_ns)
            continue
        if rows >= wanted_rows or files == source.round_files:
            waiting.append(file.mtime_ns)
            continue
        part.pop(file.path, None)
        pieces, stop, rows = _cut(source, file, at, wanted_rows, rows)
        ranges += pieces
        # A file without rows counts for nothing: a round of such files alone would never run, and they would never be done.
        files += bool(pieces)
        if stop is None:
            done[file.path] = file
        else:
            part[file.path] = (file, stop)
            waiting.append(file.mtime_ns)
    if passed and (ranges or not wait):
        # Not at the looks that find nothing to do: there may be one every second.
        _warn_of_passed(passed, before.horizon_ns)
    after = FileCursor(done, part, before.horizon_ns)
    if not ranges:  # the passes that have been are the last ones
        after = dataclasses.replace(after, number=before.number, batch=before.batch, again=before.again)
    elif passes > 1 or before.batch is not None:
        batch = {} if before.number > 1 else before.done if before.batch is None else before.batch
        fresh = {path: one for path, one in done.items() if path not in before.done}
        after = dataclasses.replace(after, batch={**batch, **fresh})
    kept = after if source.remember is None else _pruned(after, source.remember, waiting)
    return FilePlan(tuple(ranges), kept, source.format_options(), source.roles, last=bool(ranges) and not waiting)


def _plan_again(source: FileSource, before: FileCursor, found: Mapping[str, FileId], wanted_rows: int) -> FilePlan:
    """Plan a round of a pass after the first: the files of the batch, in order of path, as they were."""
    part, again, batch = dict(before.part), set(before.again), before.batch or {}
    ranges: list[FileRange] = []
    rows = files = 0
    for path, known in sorted(batch.items()):
        if path in again:
            continue
        if rows >= wanted_rows or files == source.round_files:
            break
        if path not in found:
            message = f"{path} must stay until its last pass; pass {before.number} no longer found it."
            raise InputChanged(message)
        _same(known, found[path])
        _, at = part.pop(path, (known, None))
        pieces, stop, rows = _cut(source, known, at, wanted_rows, rows)
        ranges += pieces
        files += bool(pieces)
        if stop is None:
            again.add(path)
        else:
            part[path] = (known, stop)
    after = dataclasses.replace(before, part=part, again=frozenset(again))
    return FilePlan(tuple(ranges), after, source.format_options(), source.roles, last=len(again) == len(batch))


def _cut(
    source: FileSource, file: FileId, at: int | None, wanted_rows: int, rows: int
) -> tuple[list[FileRange], int | None, int]:
    """Take ranges of a file until a round is full.

    Args:
        source: how files are cut.
        file: which.
        at: where it was left, None: not begun.
        wanted_rows: size of the round.
        rows: in it already.

    Returns:
        The ranges; where the file is left, None: at its end; and the rows in the round then.
    """
    pieces: list[FileRange] = []
    options = source.format_options()
    for one in _ranges(file, source.format, wanted_rows, None if options is None else options.to_json(), source.roles):
        if at is not None and one.stop <= at:
            continue
        if rows >= wanted_rows:
            return pieces, pieces[-1].stop if pieces else (at or 0), rows
        piece = one if at is None or one.start >= at else dataclasses.replace(one, start=at)
        pieces.append(piece)
        rows += piece.n_rows or (piece.stop - piece.start) // BYTES_PER_ROW
    return pieces, None, rows


def _found(source: FileSource, before: FileCursor, wait: bool) -> list[FileId]:
    """List the files; what has been read in part must be among them."""
    try:
        found = formats.list_files(source.path, source.format)
    except NoInput:
        if not (wait or before.done or before.part):
            raise
        found = []
    gone = sorted(set(before.part) - {file.path for file in found})
    if gone:
        known, at = before.part[gone[0]]
        message = (
            f"{gone[0]} must stay until it has been read to its end: its {known.size} bytes were read up to place {at} "
            f"(a row, in CSV a byte); {source.path} no longer has such a file."
        )
        raise InputChanged(message)
    return found


def _settled(file: FileId, settle_s: float, now_ns: int) -> bool:
    """Return whether nobody has written to a file for `settle_s`, judging by its modification time.

    One a little ahead of this clock is a file server's, and waited for; one far ahead was set by hand and says nothing.
    """
    age = now_ns - file.mtime_ns
    return settle_s == 0 or age >= settle_s * 1e9 or age < -_CLOCKS_APART_NS


def _warn_of_passed(passed: list[FileId], horizon_ns: int) -> None:
    horizon = datetime.datetime.fromtimestamp(horizon_ns / 1e9, datetime.UTC).isoformat(timespec="seconds")
    _log.warning(
        "%d file(s) modified before %s were passed over, the first of them %s: either read before and their names "
        "forgotten, or new ones with an old modification time, which are never read (source.remember).",
        len(passed),
        horizon,
        passed[0].path,
    )


def _same(known: FileId, now: FileId) -> None:
    if known != now:
        message = (
            f"{now.path} must not change after it was read: it had {known.size} bytes, modified at {known.mtime_ns} ns; "
            f"got {now.size} bytes, {now.mtime_ns} ns."
        )
        raise InputChanged(message)


@functools.lru_cache(maxsize=256)
def _ranges(file: FileId, format: str | None, rows: int, options: str | None, roles: Roles) -> Sequence[FileRange]:
    """Cut a file once, however many rounds read it."""
    kind = format or formats.format_of(file.path)
    target = rows if formats.of_files(kind).counts == "rows" else rows * BYTES_PER_ROW
    return tuple(formats.ranges(file, target, kind, options_of(kind, options, roles)))


def _pruned(taken: FileCursor, remember_s: float, waiting: list[int]) -> FileCursor:
    """Forget names far behind the newest, but none that an unread file is older than."""
    if not taken.done:
        return taken
    newest = max(one.mtime_ns for one in taken.done.values())
    horizon = min([newest - int(remember_s * 1e9), *waiting])
    if horizon <= taken.horizon_ns:
        return taken
    kept = {path: one for path, one in taken.done.items() if one.mtime_ns >= horizon}
    return dataclasses.replace(taken, done=kept, horizon_ns=horizon) if len(kept) < len(taken.done) else taken


def forget(learner: Learner, taken: FileCursor) -> Learner:
    """Drop the places of forgotten files from the learner's progress, so that it stays bounded."""
    known = set(taken.done) | set(taken.part)

    def gone(origin: Origin) -> bool:
        return origin.source == SOURCE and origin.partition not in known

    if not any(map(gone, learner.progress.covered)):
        return learner
    return learner.replace(progress=learner.progress.without(gone))
