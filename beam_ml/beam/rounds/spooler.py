"""One stream of a pipe: read into its spool until a round is there, and opened again behind what was read of it before."""

import time
import zlib
from collections.abc import Callable, Iterator

from beam_ml import formats
from beam_ml.beam.job.sources import PipeSource
from beam_ml.beam.rounds.pipe_bytes import CHUNK, Pipe, Stopped, open_pipe
from beam_ml.beam.rounds.spool import HEAD, Spool
from beam_ml.core.cursors import PipeCursor
from beam_ml.errors import InputChanged, SourceError, UnreadableInput

__all__ = ["Spooler"]

_SEEN = 1 << 20
"""Bytes of a stream that are awaited before its first round: formats infer types by as many."""
_WAIT_S = 0.1


class _Lingered(Exception):
    """The round begins with what has come."""


class Spooler:
    """The open pipe and its spool.

    Args:
        source: which pipe.
        stopping: asked while the pipe is waited for.

    Attributes:
        spool: of the stream that is read.
        at: a cursor of that stream.
        fault: why it cannot be read any further.
    """

    def __init__(self, source: PipeSource, stopping: Callable[[], bool]) -> None:
        self._source, self._stopping = source, stopping
        self._module = formats.of_files(source.format).module
        self._options = source.format_options()
        self._pipe: Pipe | None = None
        self.spool: Spool | None = None
        self.at = PipeCursor()
        self.fault: SourceError | None = None
        self._whole, self._deadline = 0, float("inf")

    def open(self, epoch: int) -> None:
        """Open the stream at its beginning."""
        self._pipe = open_pipe(self._source, epoch, self._stopping)

    def next_bytes(self) -> bytes:
        """Return the bytes that come next, empty at the end, however long that takes."""
        while (data := self._read()) is None:
            pass
        return data

    def filled(self, spool: Spool, at: PipeCursor, goal: int) -> int:
        """Fill the spool until rows are whole up to the goal; return up to where they are."""
        self._whole = at.place
        self._deadline = float("inf") if spool.stop == at.place else time.monotonic() + self._source.linger
        where, options = self._source.path(at.epoch), {} if self._options is None else {"options": self._options}
        try:
            if not at.place:
                self._await_head(spool, at)
            for end in self._module.ends(self._chunks(spool, at), at.place, where, **options):
                self._whole = end
                if end >= goal:
                    break
            else:
                if self._whole < spool.stop:
                    message = (
                        f"{where} cannot be read as {self._source.format}: the record at byte {self._whole} is cut off; the "
                        f"stream ends at byte {spool.stop}."
                    )
                    raise UnreadableInput(message)
            if self._whole == spool.stop and not spool.ended and self._pipe is not None:
                self.append(spool, self._pipe.read(0))
        except _Lingered:
            pass
        except (UnreadableInput, InputChanged) as error:
            self.fault = error
        return self._whole

    def _await_head(self, spool: Spool, at: PipeCursor) -> None:
        try:
            while spool.stop < _SEEN and not spool.ended and (self._pipe is not None or not spool.stop):
                if not self._more(spool, at, patient=not spool.stop):
                    break
        except (UnreadableInput, InputChanged) as error:
            self.fault = error  # what has come before it is learned

    def _chunks(self, spool: Spool, at: PipeCursor) -> Iterator[bytes]:
        """Yield the spool's bytes, and those that come into it."""
        place = at.place
        while True:
            while place < spool.stop:
                data = spool.read(place, CHUNK)
                place += len(data)
                yield data
            if spool.ended:
                return
            if not self._more(spool, at, patient=self._whole == at.place):
                raise _Lingered

    def _more(self, spool: Spool, at: PipeCursor, *, patient: bool) -> bool:
        """Read what comes next into the spool; False: the round begins without it.

        Args:
            spool: of the stream.
            at: where the round begins.
            patient: there is nothing yet to begin with.
        """
        if self.fault is not None:
            raise self.fault
        if self._pipe is None:
            if not patient:  # what a run before has left is learned first, whether or not the stream comes again
                return False
            more = self.reopened(at, spool)[1]
            if more:
                self.append(spool, more)
                return True
        while patient or time.monotonic() < self._deadline:
            data = self._read()
            if data is not None:
                self.append(spool, data)
                return True
        return False

    def _read(self) -> bytes | None:
        """Return the bytes that come next, None where none come for a moment."""
        assert self._pipe is not None  # noqa: S101
        data = self._pipe.read(_WAIT_S)
        if data is None and self._stopping():
            raise Stopped
        return data

    def append(self, spool: Spool, data: bytes | None) -> None:
        """Write what has come into the spool; empty: the stream ends here; None: nothing has."""
        if data is None:
            return
        if not data:
            spool.end()
            return
        spool.append(data)
        self._deadline = min(self._deadline, time.monotonic() + self._source.linger)

    def reopened(self, at: PipeCursor, spool: Spool | None) -> tuple[bytes, bytes]:
        """Open a stream, and pass over what has been read of it.

        Args:
            at: up to where it is learned.
            spool: holds what was read behind that.

        Returns:
            Its beginning, and what has come behind what was read.

        Raises:
            InputChanged: it is another stream.
        """
        where = self._source.path(at.epoch)
        self._pipe = open_pipe(self._source, at.epoch, self._stopping)
        stop = at.place if spool is None else spool.stop
        place, crc, same, head, more = 0, 0, True, b"", b""
        while place < stop and same:
            data = self.next_bytes()
            if not data:
                message = (
                    f"{where} must begin with the {stop:,} bytes that were read of it before; it has {place:,} bytes."
                )
                raise InputChanged(message)
            head += data[: max(0, HEAD - len(head))]
            before, behind = data[: max(0, at.place - place)], data[max(0, at.place - place) : max(0, stop - place)]
            crc = zlib.crc32(before, crc)
            if spool is not None and behind:
                same = spool.read(max(place, at.place), len(behind)) == behind
            more = data[max(0, stop - place) :]
            place += len(data)
        if not same or crc != at.crc:
            message = (
                f"{where} must begin with the {stop:,} bytes that were read of it before ({at.place:,} of them learned): "
                "after a restart a stream must come again from its beginning; it begins with others."
            )
            raise InputChanged(message)
        return head, more

    def shut(self) -> None:
        """Close the pipe."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def release(self) -> None:
        """Close the pipe and its spool, which stays."""
        self.shut()
        if self.spool is not None:
            self.spool.close()
            self.spool = None
