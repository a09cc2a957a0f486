"""A decoder that is waited for: where it takes too long, a trial elsewhere says whether it ever ends.

The library's loops cannot be interrupted, and a thread cannot be ended. So the decoder runs in a thread that can be left
behind: that costs one core until the process ends, and nobody waits for it.
"""

import atexit
import functools
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["Stuck", "watched"]

T = TypeVar("T")

_TICK_S = 1.0
"""A wait of so long counts once, however long it has been by the clock: a process that was paused has not waited."""
_LAST_S = 5


class Stuck(Exception):
    """What is decoded does not end within the bounds of a trial."""


def watched(items: Iterator[T], patience: int, passes: Callable[[], bool]) -> Iterator[T]:
    """Yield what an iterator yields, each item made in another thread when it is asked for.

    Args:
        items: to iterate over.
        patience: seconds after which an item has taken too long.
        passes: asked then, once: whether all items can be made. If so, it is waited for as long as it takes.

    Raises:
        Stuck: they cannot be made; the thread is left behind.

    >>> list(watched(iter("ab"), 30, lambda: False))
    ['a', 'b']
    """
    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
    made: queue.SimpleQueue[tuple[bool, T | None, BaseException | None]] = queue.SimpleQueue()
    threading.Thread(target=_make, args=(items, asked, made), name="parquet", daemon=True).start()
    waited, tried = 0, False
    try:
        asked.put(True)
        while True:
            try:
                there, item, error = made.get(timeout=_TICK_S)
            except queue.Empty:
                waited += 1
                if waited < patience or tried:
                    continue
                tried = True
                if not passes() and made.empty():
                    _end_in_any_case()
                    raise Stuck from None
                continue
            if error is not None:
                raise error
            if not there:
                return
            yield item  # type: ignore[misc]  # `there` says that it is one
            waited = 0
            asked.put(True)
    finally:
        asked.put(False)


def _make(
    items: Iterator[T],
    asked: "queue.SimpleQueue[bool]",
    made: "queue.SimpleQueue[tuple[bool, T | None, BaseException | None]]",
) -> None:
    while asked.get():
        try:
            made.put((True, next(items), None))
        except StopIteration:
            made.put((False, None, None))
            return
        except BaseException as error:  # raised where it is waited for
            made.put((False, None, error))
            return


@functools.cache
def _end_in_any_case() -> None:
    """Let the process end although the library's own threads, which it waits for at the very end, may never stop."""

    def end() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LAST_S)

    if hasattr(signal, "SIGALRM"):
        atexit.register(end)
