"""Files as the rounds driver reads them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from beam_ml.beam.plan import SOURCE, FilePlan, Taken, forget, plan_files
from beam_ml.beam.sources import FileSource
from beam_ml.core import learner as learners
from beam_ml.core.learner import Learner
from beam_ml.core.spec import to_us
from beam_ml.core.windows import watermark
from beam_ml.errors import InvalidValue, SourceError

__all__ = ["FileRounds"]


class FileRounds:
    """Files, in order of path; the whole source is one partition.

    Args:
        source: where they are.
        follow: wait for more.

    Raises:
        InvalidValue: no path.
    """

    def __init__(self, source: FileSource, follow: bool) -> None:
        if not source.path:
            message = "source.path must be given, in the job or as --source."
            raise InvalidValue(message)
        self._source, self._follow = source, follow
        self._found = False

    def plan(self, learner: Learner, wanted_rows: int) -> FilePlan | None:
        """Plan the next round; None: every file has been read."""
        plan = plan_files(self._source, learner.next.get(SOURCE), wanted_rows, wait=self._follow)
        self._found = bool(plan.ranges)
        return plan if self._found else None

    def wait(self, learner: Learner, stopping: Callable[[], bool]) -> None:
        """Wait between two looks, where the last one found nothing."""
        until = time.monotonic() + self._source.poll
        while not self._found and not stopping() and time.monotonic() < until:
            time.sleep(min(0.1, self._source.poll))

    def watermark(self, learner: Learner) -> float:
        """Give the newest event time seen, less the slack."""
        newest = learners.scanned(learner).time_max
        mark = watermark([] if newest is None else [newest], to_us(self._source.out_of_orderness))
        return float("-inf") if mark is None else mark

    def passes(self, error: SourceError) -> bool:
        """No file comes back by itself."""
        return False

    def trim(self, learner: Learner) -> Learner:
        """Drop the places of forgotten files."""
        return forget(learner, Taken.from_dict(learner.next.get(SOURCE)))

    def summary(self, learner: Learner) -> Mapping[str, Any]:
        """Count the files: the learner keeps every name, a manifest, which is never deleted, only their number."""
        return {SOURCE: Taken.from_dict(learner.next.get(SOURCE)).summary()}

    def published(self, learner: Learner) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing is held open."""
