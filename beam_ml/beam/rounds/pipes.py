"""A pipe as the rounds driver reads it: a round's bytes are spooled first, and learned from there.

What is learned is recognised by its place: after a restart the spool is learned first, and a stream that comes again from
its beginning is passed over up to where it was read, if its bytes are the same.
"""

import dataclasses
import hashlib
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from beam_ml import formats
from beam_ml.beam.job.sources import PipeSource
from beam_ml.beam.rounds.bad_files import ASIDE
from beam_ml.beam.rounds.dividing import BYTES_PER_ROW
from beam_ml.beam.rounds.pipe_bytes import Stopped
from beam_ml.beam.rounds.pipe_plan import SOURCE, PipePlan
from beam_ml.beam.rounds.spool import HEAD, Spool, locked
from beam_ml.beam.rounds.spooler import Spooler
from beam_ml.core import intervals
from beam_ml.core import learner as learners
from beam_ml.core.cursors import Cursors, Passes, PipeCursor
from beam_ml.core.learner import Learner
from beam_ml.core.passes import first_pass
from beam_ml.core.progress import Progress
from beam_ml.core.spec import to_us
from beam_ml.core.windows import watermark
from beam_ml.errors import InputChanged, InvalidValue, SourceError, UnreadableInput

__all__ = ["PipeRounds"]

_log = logging.getLogger(__name__)


class PipeRounds:
    """A pipe; its streams are read one after the other, each once.

    Args:
        source: which pipe.
        owner: tells the spools of jobs and registries apart; its first word names the folder.
        follow: wait for more, which a pipe has none of once it has ended.
        passes: how many epochs there are.
        stopping: asked while the pipe is waited for.

    Raises:
        InvalidValue: it is to be followed.
        SourceUnavailable: another run of the job reads it.
    """

    def __init__(self, source: PipeSource, owner: str, follow: bool, passes: int, stopping: Callable[[], bool]) -> None:
        if follow:
            message = f"--follow must be left out with a pipe, which is read to its end; got {source.where}."
            raise InvalidValue(message)
        self._source, self._passes = source, passes
        self._record = formats.of_files(source.format)
        self._options = source.format_options()
        self._folder = _folder(source, owner)
        self._lock = locked(self._folder, source.where)
        self._reader = Spooler(source, stopping)
        self._instead: dict[PipeCursor, PipeCursor] = {}
        self._unreadable = False

    # --- the next round ----------------------------------------------------------------------------------------------

    def plan(self, learner: Learner, wanted_rows: int) -> PipePlan | None:
        """Read the next round's bytes into the spool; None: there are no more, or the run is to end.

        Raises:
            NoInput: nobody writes the pipe.
            UnreadableInput: it cannot be read any further; what came before it has been learned.
            InputChanged: it begins with other bytes than were read of it before.
            InvalidValue: it is no FIFO, or the spool cannot be written.
        """
        plan = self._planned(learner, wanted_rows)
        while plan is not None and not plan.ranges and not plan.after.ended:  # no more than a header has come
            plan = self._planned(learner, wanted_rows)
        return plan

    def _planned(self, learner: Learner, wanted_rows: int) -> PipePlan | None:
        try:
            at = self._position(learner.cursors)
            if at is None:
                return None
            spool = self._spooled(at)
            end = (
                at.place if self._unreadable else self._reader.filled(spool, at, at.place + wanted_rows * BYTES_PER_ROW)
            )
        except Stopped:
            return None
        ended, lost = spool.ended and end == spool.stop, Progress()
        if end == at.place and self._reader.fault is not None:
            if self._source.on_bad_file == "fail":
                raise self._reader.fault
            _log.warning(
                "The rest of %s is given up (source.on_bad_file): %s", self._source.path(at.epoch), self._reader.fault
            )
            ended, lost, self._reader.fault, self._unreadable = True, Progress(rejected={ASIDE: 1}), None, False
        crc = at.crc
        for place in range(at.place, end, HEAD):
            crc = zlib.crc32(spool.read(place, min(HEAD, end - place)), crc)
        after = PipeCursor(at.stream, at.epoch, end, ended, crc)
        ranges = self._ranges(spool, at.place, end)
        if ended and not ranges and not lost.rejected and self._source.name not in learner.cursors.pipes:
            _log.warning("%s ended without a row.", self._source.path(at.epoch))
            return None
        return PipePlan(self._source.name, ranges, after, self._options, self._source.roles, lost)

    def _ranges(self, spool: Spool, start: int, stop: int) -> tuple[formats.FileRange, ...]:
        if start == stop:
            return ()
        file = spool.identity()
        if not start:  # behind a header, if there is one
            pieces = formats.ranges(file, max(1, file.size), self._record.name, self._options)
            start = pieces[0].start if pieces else stop
        if start >= stop:
            return ()
        return (formats.FileRange(file.path, file.size, file.mtime_ns, self._record.name, start, stop),)

    def _position(self, cursors: Cursors) -> PipeCursor | None:
        """Return the place to read from; None: everything has been read."""
        known = cursors.pipes.get(self._source.name)
        if known is None or not known.ended:
            return known or PipeCursor()
        if (cursors.passes or Passes()).continues(known.number, self._passes):
            return known.next_epoch()
        if known in self._instead:
            return self._instead[known]
        if self._reader.spool is not None:
            return None
        if known.epoch:
            _log.warning(
                "%d epochs of %s have been read to their ends; more are asked for by passes, and another pipe, or another "
                "name of the job, begins afresh.",
                known.number,
                self._source.name,
            )
            return None
        at = self._compared(known)
        if at is not None:
            self._instead[known] = at
        return at

    def _compared(self, known: PipeCursor) -> PipeCursor | None:
        """Return where to read: behind the stream that has been read to its end if it comes again, or in another one."""
        other, reader = known.next_stream(), self._reader
        reader.spool, reader.at = Spool.found(self._stem(other), self._ending, 0), other
        if reader.spool is not None:
            return other
        reader.open(0)
        trial = reader.spool = Spool.begin(self._stem(other, "new"), self._ending)
        crc = 0
        while trial.stop < known.place and (data := reader.next_bytes()):
            crc = zlib.crc32(data[: known.place - trial.stop], crc)
            trial.append(data)
        if trial.stop < known.place or crc != known.crc:
            reader.spool = trial.moved_on(self._stem(other), self._ending, 0)
            return other if trial.stop else None
        reader.at = dataclasses.replace(known, ended=False)
        reader.spool = trial.moved_on(self._stem(reader.at), self._ending, known.place)
        more = reader.next_bytes() if reader.spool.stop == known.place else None
        if more != b"":
            reader.append(reader.spool, more)
            return reader.at
        _log.warning(
            "%s begins and ends with the %s bytes that were read before: they are not learned again.",
            self._source.where,
            f"{known.place:,}",
        )
        reader.spool.drop()
        return None

    # --- the spool ---------------------------------------------------------------------------------------------------

    @property
    def _ending(self) -> str:
        return self._record.endings[0]

    def _stem(self, at: PipeCursor, more: str = "") -> Path:
        return self._folder / str(at.stream) / (os.path.basename(self._source.path(at.epoch)) + more)

    def _spooled(self, at: PipeCursor) -> Spool:
        """Return the spool of a stream, with nothing in it that has been learned."""
        stem = self._stem(at)
        if self._reader.spool is not None and (at.stream, at.epoch) != (self._reader.at.stream, self._reader.at.epoch):
            self._reader.release()
        if self._reader.spool is None:
            self._reader.spool = Spool.found(stem, self._ending, at.place)
        if self._reader.spool is None and at.place:
            head, more = b"", None
            try:
                head, more = self._reader.reopened(at, None)
            except (UnreadableInput, InputChanged) as error:
                self._reader.fault = error
            self._reader.spool = Spool.begin(stem, self._ending, at.place, head[: at.place])
            self._reader.append(self._reader.spool, more or None)
        elif self._reader.spool is None:
            self._reader.spool = Spool.begin(stem, self._ending)
        elif self._reader.spool.start < at.place and self._reader.spool.stop - at.place <= HEAD:
            self._reader.spool = self._reader.spool.moved_on(stem, self._ending, at.place)
        self._reader.at = at
        return self._reader.spool

    # --- what the driver asks ----------------------------------------------------------------------------------------

    def sized(self, learner: Learner, rows: int) -> int:
        """Turn rows into those that `plan` guesses by their bytes.

        Args:
            learner: knows how many rows were read from which places.
            rows: of a round.
        """
        seen = learners.scanned(learner)
        places = sum(map(intervals.size, seen.covered.values()))
        if not places or not seen.scanned or any(first_pass(origin).source != SOURCE for origin in seen.covered):
            return rows
        return max(1, round(rows * places / seen.scanned / BYTES_PER_ROW))

    def wait(self, learner: Learner, stopping: Callable[[], bool]) -> None:
        """Do nothing: `plan` waits for the bytes."""

    def watermark(self, learner: Learner) -> float:
        """Return the newest event time seen, less the slack."""
        newest = learners.scanned(learner).time_max
        mark = watermark([] if newest is None else [newest], to_us(self._source.out_of_orderness))
        return float("-inf") if mark is None else mark

    def is_transient(self, error: SourceError) -> bool:
        """Return whether the round is worth retrying: where the rest of a stream that cannot be read is to be given up."""
        path = "" if self._reader.spool is None else str(self._reader.spool.path)
        ours = isinstance(error, UnreadableInput | InputChanged) and bool(path) and path in str(error)
        if not ours or self._source.on_bad_file == "fail":
            return False
        self._reader.fault, self._unreadable = error, True
        return True

    def trim(self, learner: Learner) -> Learner:
        """Return the learner as it is: of each stream it knows one interval."""
        return learner

    def published(self, learner: Learner) -> None:
        """Remove what is learned of a stream that has ended."""
        known = learner.cursors.pipes.get(self._source.name)
        if known is not None and known.ended and self._reader.spool is not None:
            self._reader.spool.drop()
            self._reader.shut()

    def close(self) -> None:
        """Close the pipe; what it has in the spool stays for the next run."""
        self._reader.release()
        os.close(self._lock)


def _folder(source: PipeSource, owner: str) -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    base = Path(source.spool) if source.spool else state / "beam_ml" / "pipes"
    digest = hashlib.sha256(f"{owner}\0{source.name}".encode()).hexdigest()[:16]
    return (base / f"{owner.split()[0]}-{digest}").absolute()
