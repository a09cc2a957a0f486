"""Beam metrics under one namespace: what every step counts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns

from apache_beam.metrics import Metrics

from beam_ml.core.folding import STALE
from beam_ml.core.limits import FAR_BEYOND
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh

__all__ = ["NAMESPACE", "count", "count_progress", "count_refreshes", "measure", "timed"]

NAMESPACE = "beam_ml"


def count(name: str, n: int) -> None:
    """Add to a counter of the pipeline, by name."""
    if n:
        Metrics.counter(NAMESPACE, name).inc(n)


def measure(name: str, value: int) -> None:
    """Add a value to a distribution."""
    Metrics.distribution(NAMESPACE, name).update(value)


def count_rows(rows: int, nbytes: int, late: int) -> None:
    """Count rows that are learned, the bytes of their features, and how many of them come late."""
    count("rows", rows)
    count("bytes", nbytes)
    count("late", late)


def count_progress(progress: Progress) -> None:
    """Count rows, bytes, late and rejected rows: each once, where an accumulation leaves a worker."""
    count_rows(progress.rows, progress.bytes, progress.late)
    count("rejected", sum(progress.rejected.values()))
    count("adjusted", sum(progress.adjusted.values()))
    count("far_beyond", sum(rows for reason, rows in progress.rejected.items() if reason.endswith(FAR_BEYOND)))


def count_refreshes(refreshes: Sequence[Refresh]) -> None:
    """Count folds, the rows that were too stale for them, and how many versions the others' anchors lay behind."""
    count("refreshes", len(refreshes))
    for one in refreshes:
        count("stale_rows", one.progress.rejected.get(STALE, 0))
        for versions in one.behind:
            measure("versions_behind", versions)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the time that a block of code takes to a distribution, in µs."""
    begun = perf_counter_ns()
    yield
    measure(name, (perf_counter_ns() - begun) // 1000)
