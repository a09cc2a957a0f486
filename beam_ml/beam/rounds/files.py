"""Files as the rounds driver reads them."""

import time
from collections.abc import Callable

from beam_ml.beam.job.sources import FileSource
from beam_ml.beam.rounds.file_plan import BYTES_PER_ROW, SOURCE, FilePlan, forget, plan_files
from beam_ml.core import intervals
from beam_ml.core import learner as learners
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileCursor, Passes
from beam_ml.core.learner import Learner
from beam_ml.core.passes import first_pass
from beam_ml.core.spec import to_us
from beam_ml.core.windows import watermark
from beam_ml.errors import InvalidValue, SourceError
from beam_ml.formats import TABLE, format_of

__all__ = ["FileRounds"]


class FileRounds:
    """Files, in order of path; the whole source is one partition.

    Args:
        source: where they are.
        follow: wait for more.
        passes: how often each file is read.

    Raises:
        InvalidValue: no path.
    """

    def __init__(self, source: FileSource, follow: bool, passes: int = 1) -> None:
        if not source.path:
            message = "source.path must be given, in the job or as --source."
            raise InvalidValue(message)
        self._source, self._follow, self._passes = source, follow, passes
        self._found = False

    def plan(self, learner: Learner, wanted_rows: int) -> FilePlan | None:
        """Plan the next round; None: every file has been read, as often as it is to be."""
        passes, taken = learner.cursors.passes or Passes(), learner.cursors.files or FileCursor()
        if taken.again_over and passes.continues(taken.number, self._passes):
            taken = taken.next_pass()  # before new files, which begin with a first pass
        plan = plan_files(self._source, taken, wanted_rows, wait=self._follow, passes=self._passes)
        if not plan.ranges and passes.continues(plan.after.number, self._passes):
            plan = plan_files(self._source, plan.after.next_pass(), wanted_rows, passes=self._passes)
        self._found = bool(plan.ranges)
        return plan if self._found else None

    def sized(self, learner: Learner, rows: int) -> int:
        """Turn rows into those that `plan` counts: in CSV it counts bytes, and guesses how many a row has.

        Args:
            learner: knows how many rows were read from which places.
            rows: of a round.
        """
        seen = learners.scanned(learner)
        places = sum(map(intervals.size, seen.covered.values()))
        # Where rows are of other sources too, or places are forgotten, nobody knows how many rows the places known hold.
        forgetful = learner.cursors.files is not None and learner.cursors.files.horizon_ns > 0
        unclear = forgetful or not places or not seen.scanned
        if unclear or not all(map(self._in_bytes, seen.covered)):
            return rows
        return max(1, round(rows * places / seen.scanned / BYTES_PER_ROW))

    def _in_bytes(self, origin: Origin) -> bool:
        if first_pass(origin).source != SOURCE:
            return False
        return TABLE[self._source.format or format_of(origin.partition)].counts == "bytes"

    def wait(self, learner: Learner, stopping: Callable[[], bool]) -> None:
        """Wait between two looks, where the last one found nothing."""
        until = time.monotonic() + self._source.poll
        while not self._found and not stopping() and time.monotonic() < until:
            time.sleep(min(0.1, self._source.poll))

    def watermark(self, learner: Learner) -> float:
        """Return the newest event time seen, less the slack."""
        newest = learners.scanned(learner).time_max
        mark = watermark([] if newest is None else [newest], to_us(self._source.out_of_orderness))
        return float("-inf") if mark is None else mark

    def is_transient(self, error: SourceError) -> bool:
        """Return False: no file comes back by itself."""
        return False

    def trim(self, learner: Learner) -> Learner:
        """Drop the places of forgotten files."""
        return forget(learner, learner.cursors.files or FileCursor())

    def published(self, learner: Learner) -> None:
        """Do nothing: files keep no record of what was read."""

    def close(self) -> None:
        """Do nothing: no file is held open between rounds."""
