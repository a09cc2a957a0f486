"""Files as the rounds driver reads them."""

import dataclasses
import logging
import time
from collections.abc import Callable, Collection

from beam_ml.beam.job.sources import FileSource
from beam_ml.beam.rounds.bad_files import ASIDE, file_of, set_aside
from beam_ml.beam.rounds.dividing import BYTES_PER_ROW
from beam_ml.beam.rounds.file_plan import SOURCE, FilePlan, forget, plan_files
from beam_ml.core import intervals
from beam_ml.core import learner as learners
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileCursor, Passes
from beam_ml.core.learner import Learner
from beam_ml.core.passes import first_pass
from beam_ml.core.progress import Progress
from beam_ml.core.spec import to_us
from beam_ml.core.windows import watermark
from beam_ml.errors import InvalidValue, MissingColumn, NoInput, SourceError
from beam_ml.formats import format_of, list_files, of_files

__all__ = ["FileRounds"]

_log = logging.getLogger(__name__)


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
        self._bad: dict[str, str] = {}
        self._known: Collection[str] = ()

    def plan(self, learner: Learner, wanted_rows: int) -> FilePlan | None:
        """Plan the next round; None: every file has been read, as often as it is to be.

        Raises:
            InputChanged, UnreadableInput: see `plan_files`; with `on_bad_file = "skip"` the file is set aside.
        """
        taken = learner.cursors.files or FileCursor()
        self._known = {*taken.done, *taken.part}
        while True:
            for path in self._bad:
                taken = set_aside(taken, path)
            try:
                plan = self._planned(learner, taken, wanted_rows)
                break
            except SourceError as error:
                if not self._sets_aside(error, self._known):
                    raise
        if self._bad:
            plan = dataclasses.replace(plan, lost=Progress(rejected={ASIDE: len(self._bad)}))
        self._found = bool(plan.ranges)
        return plan if self._found or self._bad else None

    def _planned(self, learner: Learner, taken: FileCursor, wanted_rows: int) -> FilePlan:
        passes = learner.cursors.passes or Passes()
        if taken.again_over and passes.continues(taken.number, self._passes):
            taken = taken.next_pass()  # before new files, which begin with a first pass
        plan = plan_files(self._source, taken, wanted_rows, wait=self._follow, passes=self._passes)
        if not plan.ranges and passes.continues(plan.after.number, self._passes):
            plan = plan_files(self._source, plan.after.next_pass(), wanted_rows, passes=self._passes)
        return plan

    def _sets_aside(self, error: SourceError, known: Collection[str]) -> bool:
        """Note the file that an error is about, to be set aside; False where the job does not want that."""
        if self._source.on_bad_file == "fail":
            return False
        try:
            listed = [file.path for file in list_files(self._source.path, self._source.format)]
        except NoInput:
            listed = []
        path = file_of(error, {*known, *listed})
        if path is None or path in self._bad:
            return False
        if isinstance(error, MissingColumn) and not {*known, *listed} - {path, *self._bad}:
            return False  # a column that no file has is the job's mistake
        _log.warning("%s is set aside (source.on_bad_file): %s", path, error)
        self._bad[path] = str(error)
        return True

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
        return of_files(self._source.format or format_of(origin.partition)).counts == "bytes"

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
        """Return whether the round is worth retrying without the file that cannot be read: none comes back by itself."""
        return self._sets_aside(error, self._known)

    def trim(self, learner: Learner) -> Learner:
        """Drop the places of forgotten files."""
        return forget(learner, learner.cursors.files or FileCursor())

    def published(self, learner: Learner) -> None:
        """Forget the files that were set aside: the version knows them, as read."""
        self._bad = {}

    def close(self) -> None:
        """Do nothing: no file is held open between rounds."""
