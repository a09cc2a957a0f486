"""Reports of a round, read and joined slice by slice: memory holds one slice of them, however many have piled up.

Reports come in about the order of their times, and single ones are dated wrongly. So the clock may pass a time only once
`AHEAD` reports that are dated after it have been read, or none is left: a few typing errors keep no report from being read.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.prepare.dated import report_times, reports_dated
from beam_ml.beam.rounds.prepare.kept import BEGINNING, Kept
from beam_ml.beam.rounds.prepare.reading import read_raw
from beam_ml.beam.rounds.prepare.step import Arrived, Prepared, prepare
from beam_ml.beam.rounds.source import RoundSource
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.errors import NoInput
from beam_ml.formats.block import Block
from beam_ml.formats.stacked import stacked

__all__ = ["AHEAD", "prepared_in_slices"]

AHEAD = 1_000
"""Reports dated after the clock that say that those before it have been read."""


def prepared_in_slices(
    job: Job, source: RoundSource, learner: Learner, kept: Kept, came: Arrived, key: str, options: Sequence[str]
) -> tuple[Prepared, Progress]:
    """Prepare what lies before the clock; return it, and what of the reports cannot be read and is given up.

    Args:
        job: has labels.
        source: of its reports.
        learner: before the round.
        kept: by the round before.
        came: the rows of this round.
        key: of this attempt.
        options: Beam options of the pipelines that read.

    Raises:
        NoInput: there are no reports at all.
        SourceError: they cannot be read.
    """
    labels = job.labels
    assert labels is not None  # noqa: S101
    parts, lost, reports, wanted = list[Prepared](), Progress(), list[Block](), came.until
    for number in range(1 << 31):
        reached = _reached(job, kept, reports)
        if reached >= wanted:
            break
        reader = learner.replace(cursors=kept.reports, progress=Progress(), pending={})
        try:
            plan = source.plan(reader, labels.source.round_rows)
        except NoInput as error:
            message = f"labels.source.path: {error} (with --follow, reports may begin to come later.)"
            raise NoInput(message) from error
        if plan is None:
            break
        if reports:
            parts.append(prepare(job, kept, came._replace(until=max(reached, kept.until)), reports))
            kept, came = parts[-1].kept, came._replace(rows=(), rejected=())
        blocks = read_raw(plan, labels.columns, f"{key}/{number}", options)
        reports = reports_dated(job, blocks, time.time_ns() // 1000)
        kept, lost = dataclasses.replace(kept, reports=plan.advance(kept.reports)), lost.merge(plan.lost)
        source.published(reader.replace(cursors=kept.reports))  # what it has set aside is known from here on
    parts.append(prepare(job, kept, came._replace(until=wanted), reports))
    return _together(parts), lost


def _reached(job: Job, kept: Kept, reports: Sequence[Block]) -> int:
    """Return the time up to which the clock may go, µs: behind it are `AHEAD` reports that are kept or have just come."""
    labels = job.labels
    assert labels is not None  # noqa: S101
    assert kept.waiting is not None  # noqa: S101
    times = np.concatenate([kept.waiting.reports.time, *(report_times(job, block) for block in reports)])
    if times.size < AHEAD:
        return BEGINNING
    return int(np.partition(times, times.size - AHEAD)[times.size - AHEAD]) - labels.lateness_us


def _together(parts: Sequence[Prepared]) -> Prepared:
    """Return what several calls have prepared, one after the other, as of one."""
    if len(parts) == 1:
        return parts[0]
    last = parts[-1]
    rows = [one.rows for one in parts if len(one.rows)]
    whole = last.rows
    if rows:
        places = np.arange(rows[0].start, last.rows.stop, dtype=np.int64)
        whole = Block(
            stacked([one.batch for one in rows]), last.rows.origin, places, None, rows[0].start, last.rows.stop
        )
    return Prepared(
        tuple(block for one in parts for block in one.featured),
        whole,
        tuple(reject for one in parts for reject in one.rejected),
        sum((one.counts for one in parts), Counter[str]()),
        last.kept,
    )
