"""`FoldJob`: the part of a job that the fold needs, shipped as names, numbers and JSON."""

import dataclasses

from beam_ml.beam.job.job import Job
from beam_ml.beam.stream.start import Start
from beam_ml.beam.wire.references import plan_json

__all__ = ["FoldJob"]


@dataclasses.dataclass(frozen=True, slots=True)
class FoldJob:
    """The part of a job that the fold needs: names, numbers and JSON.

    Attributes:
        name: published under.
        registry: path or URL.
        spec, plan, features, start: JSON.
        size_us: length of the windows.
        lateness_us: how far behind the last folded window rows may come.
        keep, grace_s: retention.
        announce: the topic in which versions are announced, as JSON; empty: none.
        ledger: what is kept of closed windows, as JSON; empty: nothing.
        delay_us: how long after a window's end, by the watermark, all of it is there.
        prepares: whether raw rows are prepared: a version then holds the mark of its last window's end.
    """

    name: str
    registry: str
    spec: str
    plan: str
    features: str
    start: str
    size_us: int
    lateness_us: int
    keep: int
    grace_s: float
    announce: str
    ledger: str = ""
    delay_us: int = 0
    prepares: bool = False

    @staticmethod
    def of(job: Job, where: str, start: Start, delay_us: int = 0) -> "FoldJob":
        """Take from a job what the fold needs."""
        windows = job.windows()
        return FoldJob(
            job.name, where, job.algorithm_spec().to_json(), plan_json(job.plan()), job.features.to_json(),
            start.to_json(), windows.size_us or 0, windows.allowed_lateness_us, job.retention.keep,
            job.retention.grace, "" if job.announce is None else job.announce.to_json(),
            "" if job.ledger is None else job.ledger.to_json(),
            delay_us, job.prepares,
        )  # fmt: skip
