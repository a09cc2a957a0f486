"""Which pieces of which files the next round reads, and what has been read: each row once."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beam_ml import formats
from beam_ml.beam.job import FileSource
from beam_ml.core import intervals
from beam_ml.core.batch import Origin
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.errors import InputChanged, NoInput
from beam_ml.formats import csv
from beam_ml.formats.files import FileId, FileRange

__all__ = ["SOURCE", "FilePlan", "Taken", "forget", "plan_files"]

SOURCE = "files"
"""What file rows name as their source; the partition is the file's absolute path."""

_BYTES_PER_ROW = 64
"""Guess that turns rows into bytes where a format's places are bytes: it only sizes rounds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What has been read of a file source.

    Attributes:
        done: path → identity of each file read to its end.
        part: path → (identity, place up to which it has been read).
        horizon_ns: files modified before this are done and their names forgotten.
    """

    done: Mapping[str, FileId] = dataclasses.field(default_factory=dict)
    part: Mapping[str, tuple[FileId, int]] = dataclasses.field(default_factory=dict)
    horizon_ns: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give the plain JSON form."""
        return {
            "done": {path: [one.size, one.mtime_ns] for path, one in sorted(self.done.items())},
            "part": {path: [one.size, one.mtime_ns, at] for path, (one, at) in sorted(self.part.items())},
            "horizon_ns": self.horizon_ns,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | None) -> "Taken":
        """Build from the plain JSON form; None: nothing has been read."""
        if value is None:
            return cls()
        return cls(
            {path: FileId(path, size, mtime) for path, (size, mtime) in value["done"].items()},
            {path: (FileId(path, size, mtime), at) for path, (size, mtime, at) in value["part"].items()},
            value["horizon_ns"],
        )


@dataclasses.dataclass(frozen=True, slots=True)
class FilePlan:
    """The ranges that a round reads, and what has been read once it is published."""

    ranges: tuple[FileRange, ...]
    after: Taken

    def covered(self) -> dict[Origin, list[list[int]]]:
        """Give the places that the round must cover, by origin."""
        found: dict[Origin, np.ndarray] = {}
        for one in self.ranges:
            origin = Origin(SOURCE, one.path)
            here = np.array([[one.start, one.stop]], dtype=np.int64)
            found[origin] = intervals.union(found.get(origin, intervals.EMPTY), here)
        return {origin: places.tolist() for origin, places in sorted(found.items())}

    def rows(self) -> int | None:
        """Give the rows that the round must scan; None where the format does not tell."""
        counts = [one.n_rows for one in self.ranges]
        return None if any(n is None for n in counts) else sum(n for n in counts if n is not None)


def plan_files(
    source: FileSource, taken: Mapping[str, Any] | None, wanted_rows: int, *, wait: bool = False
) -> FilePlan:
    """Plan the next round: files in order of path, up to `wanted_rows` (at least one range when anything is left).

    Args:
        source: where to look.
        taken: what has been read, as `Taken.to_dict` gives it.
        wanted_rows: size of the round.
        wait: an empty folder is no error: files may come.

    Raises:
        NoInput: there is no file at all.
        InputChanged: a file that has been read, whole or in part, is no longer what it was.
        UnreadableInput: a file that cannot be opened.
    """
    before = Taken.from_dict(taken)
    try:
        found = formats.list_files(source.path, source.format)
    except NoInput:
        if not wait:
            raise
        return FilePlan((), before)
    done, part = dict(before.done), dict(before.part)
    ranges: list[FileRange] = []
    rows, files, waiting = 0, 0, []
    for file in found:
        if file.path in done:
            _same(done[file.path], file)
            continue
        if file.path not in part and file.mtime_ns < before.horizon_ns:
            continue
        if rows >= wanted_rows or files == source.round_files:
            waiting.append(file.mtime_ns)
            continue
        files += 1
        at = None
        if file.path in part:
            known, at = part.pop(file.path)
            _same(known, file)
        for one in _ranges(file, source.format, wanted_rows, source.csv.to_json() if source.csv else None):
            if at is not None and one.stop <= at:
                continue
            if rows >= wanted_rows:
                part[file.path] = (file, ranges[-1].stop)
                waiting.append(file.mtime_ns)
                break
            piece = one if at is None or one.start >= at else dataclasses.replace(one, start=at)
            ranges.append(piece)
            rows += piece.n_rows or (piece.stop - piece.start) // _BYTES_PER_ROW
        if file.path not in part:
            done[file.path] = file
    return FilePlan(tuple(ranges), _pruned(Taken(done, part, before.horizon_ns), source.remember, waiting))


def _same(known: FileId, now: FileId) -> None:
    if known != now:
        message = (
            f"{now.path} must not change after it was read: it had {known.size} bytes, modified at {known.mtime_ns} ns; "
            f"got {now.size} bytes, {now.mtime_ns} ns."
        )
        raise InputChanged(message)


@functools.lru_cache(maxsize=256)
def _ranges(file: FileId, format: str | None, rows: int, options: str | None) -> Sequence[FileRange]:
    """Cut a file once, however many rounds read it."""
    kind = format or formats.format_of(file.path)
    if kind != "csv":
        return tuple(formats.ranges(file, rows, kind))
    given = csv.Options() if options is None else csv.Options.parse(json.loads(options))
    return tuple(formats.ranges(file, rows * _BYTES_PER_ROW, kind, given))


def _pruned(taken: Taken, remember_s: float, waiting: list[int]) -> Taken:
    """Forget names far behind the newest, but none that an unread file is older than."""
    if not taken.done:
        return taken
    newest = max(one.mtime_ns for one in taken.done.values())
    horizon = min([newest - int(remember_s * 1e9), *waiting])
    if horizon <= taken.horizon_ns:
        return taken
    kept = {path: one for path, one in taken.done.items() if one.mtime_ns >= horizon}
    return Taken(kept, taken.part, horizon) if len(kept) < len(taken.done) else taken


def forget(learner: Learner, taken: Taken) -> Learner:
    """Drop the places of forgotten files from the learner's progress, so that it stays bounded."""
    known = set(taken.done) | set(taken.part)

    def keeps(origin: Origin) -> bool:
        return origin.source != SOURCE or origin.partition in known

    progress: Progress = learner.progress
    if all(map(keeps, progress.covered)):
        return learner
    covered = {origin: places for origin, places in progress.covered.items() if keeps(origin)}
    newest = {origin: time for origin, time in progress.latest.items() if keeps(origin)}
    return learner.replace(progress=dataclasses.replace(progress, covered=covered, latest=newest))
