"""What a job would make of a few raw rows, before it runs."""

import time
from collections.abc import Sequence

from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.prepare.kept import encode_kept, nothing_kept
from beam_ml.beam.rounds.prepare.step import arrived, prepare
from beam_ml.core.rejects import Reject
from beam_ml.formats.block import Block

__all__ = ["looked_at"]


def looked_at(job: Job, blocks: Sequence[Block]) -> tuple[tuple[Block, ...], tuple[Reject, ...], int]:
    """Return raw rows with their rolling features, those refused, and the bytes that would be kept of them.

    Args:
        job: the deployment.
        blocks: of raw rows.
    """
    kept = nothing_kept(job)
    came = arrived(job, kept, blocks, time.time_ns() // 1000)
    done = prepare(job, kept, came._replace(until=came.newest + 1), ())
    return done.featured, done.rejected, len(encode_kept(job, done.kept))
