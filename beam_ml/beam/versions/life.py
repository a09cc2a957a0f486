"""The life of windows, the same for rounds, a stream or a user's own pipeline: taken in, folded, tidied up after."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from beam_ml import registry as registries
from beam_ml.beam.telemetry import count_refreshes, timed
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Refresh
from beam_ml.core.threads import one_thread
from beam_ml.core.windows import ROUND
from beam_ml.errors import RegistryError
from beam_ml.registry import Registry, drop_round, round_files

__all__ = ["folded", "take_in", "tidy", "undone"]

_TIDY_EVERY = 10
"""Publishes between two looks for payloads to remove."""


def take_in(
    algorithm: Algorithm, learner: Learner, windows: Iterable[tuple[int, Accumulation]], by_time: bool
) -> Learner:
    """Add accumulations to a learner's open windows.

    Args:
        algorithm: the record.
        learner: before.
        windows: window end, µs, and what was accumulated for it, in any order.
        by_time: windows are lengths of time: `ROUND` then holds rows that reached none, to be counted and not folded.
    """
    for end, accumulation in windows:
        if end == ROUND and by_time:
            learner = learner.replace(progress=learner.progress.merge(accumulation.progress))
        else:
            learner = learners.add_pending(algorithm, learner, end, accumulation)
    return learner


def folded(
    learner: Learner,
    steps: Iterable[tuple[Learner, Refresh | None]],
    done: Callable[[Learner, Refresh], Refresh] = lambda learner, one: one,
) -> tuple[Learner, list[tuple[Refresh, float]]]:
    """Go through folds, on one thread, and count their refreshes.

    Args:
        learner: before them.
        steps: the learner and the Refresh after each; no Refresh where nothing was folded.
        done: what each Refresh becomes.

    Returns:
        The learner after them, and each Refresh with the seconds that it took.
    """
    refreshes: list[tuple[Refresh, float]] = []
    with timed("fold_us"), one_thread():
        begun = time.monotonic()
        for after, one in steps:
            learner = after
            if one is not None:
                refreshes.append((done(after, one), time.monotonic() - begun))
            begun = time.monotonic()
    count_refreshes([one for one, _ in refreshes])
    return learner, refreshes


def tidy(registry: Registry, name: str, number: int, versions: int, grace_s: float) -> None:
    """Remove payloads that retention no longer keeps, and what attempts have left; not after every version.

    Args:
        registry: where.
        name: published under.
        number: of the version just published.
        versions: how many versions' payloads stay.
        grace_s: how long a version's payloads stay however many follow.
    """
    if number % _TIDY_EVERY == 0:
        registries.tidy(registry, name, versions, grace_s)


@contextlib.contextmanager
def undone(registry: Registry, name: str, round_id: str) -> Iterator[None]:
    """Remove the files of a round that fails here, before a version can name them.

    A round that is tried again and again would fill the registry.

    Args:
        registry: where.
        name: the learner's.
        round_id: of the attempt.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(RegistryError):  # the sweep finds what is left
            drop_round(registry, name, round_id, round_files(registry, name, round_id))
        raise
