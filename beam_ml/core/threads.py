"""Threads: how many cores a worker uses, and how.

Decoding, numpy on blocks and the kernels release the interpreter's lock, so a worker can read ahead, and grow partials side
by side. What is learned depends on how the rows are shared out, so it is fixed by the number of threads alone, never by
which of them is faster. BLAS keeps to one thread: on matrices of some thousand rows by tens of columns its threads wait for
each other far longer than they compute.
"""

import contextlib
import functools
import importlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from threadpoolctl import OpenBLASController, ThreadpoolController

from beam_ml.errors import InvalidValue

__all__ = ["VARIABLE", "Lanes", "ahead", "cores", "one_thread", "side_by_side", "threads", "using", "whole"]

VARIABLE = "BEAM_ML_THREADS"
"""Environment variable of a worker that says how many threads it uses."""
_GROUPS = Path("/sys/fs/cgroup")
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files of a container's quota and period, in the two versions of control groups."""

_TURNS_S = 0.0005
"""How long a thread keeps the interpreter's lock while others want it: they come out of a kernel and have little to do."""

_AHEAD = 2
"""Items made ahead: one is too few where some take longer. Chosen on the data of `integration/bench/cores.py`."""

_WAITING = 4
"""Calls that may be begun or wait in all lanes together before the caller waits for one; each holds a slice of rows."""

T = TypeVar("T")


def cores() -> int:
    """Return the cores that this process may use: those it is bound to, within the quota of its container.

    >>> cores() >= 1
    True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in _QUOTAS:
        with contextlib.suppress(OSError, ValueError):  # not a number, "max", where there is no quota
            quota, period = map(int, " ".join((_GROUPS / file).read_text() for file in files).split())
            return min(bound, -(-quota // period)) if quota > 0 else bound
    return bound


class _Asked:
    """What `using` asks for in this process, the newest last: blocks of several threads may end in any order."""

    lock = threading.Lock()
    numbers: ClassVar[dict[object, int]] = {}
    turns_s = 0.0


def threads() -> int:
    """Return how many threads this worker uses: what `using` says, else `BEAM_ML_THREADS`, else 1.

    Raises:
        InvalidValue: the variable is not a whole number from 1 on.
    """
    with _Asked.lock:
        asked = [*_Asked.numbers.values()]
    return asked[-1] if asked else whole(VARIABLE, os.environ.get(VARIABLE, "1"))


def whole(name: str, value: Any) -> int:
    """Return a number of threads.

    Raises:
        InvalidValue: not a whole number from 1 on.
    """
    text = str(value)
    if not text.isdecimal() or int(text) < 1:
        message = f"{name} must be a whole number >= 1; got {text!r}."
        raise InvalidValue(message)
    return int(text)


@contextlib.contextmanager
def using(number: int | None) -> Iterator[None]:
    """Set how many threads this process uses; None: leave it to the environment.

    >>> with using(3):
    ...     threads()
    3
    """
    if number is None:
        yield
        return
    asked, mine = whole("threads", number), object()
    with _Asked.lock:
        if not _Asked.numbers:
            _Asked.turns_s = sys.getswitchinterval()
            sys.setswitchinterval(min(_Asked.turns_s, _TURNS_S))
        _Asked.numbers[mine] = asked
    try:
        yield
    finally:
        with _Asked.lock:
            del _Asked.numbers[mine]
            if not _Asked.numbers:
                sys.setswitchinterval(_Asked.turns_s)


class _OneThread:
    """BLAS and OpenMP held to one thread while any thread of this process wants it so.

    The limit is the process's: were each thread to restore what it found, one would lift it while another computes. And
    threadpoolctl heeds only the thread that has set a limit until that one gives up control, so each gives it up at once.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit = _controller().limit(limits=1)
                OpenBLASController.clear_controlling_thread()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()
                OpenBLASController.clear_controlling_thread()


_ONE = _OneThread()


@functools.lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Find the BLAS and OpenMP libraries of numpy and scipy, once: it takes milliseconds, and only loaded ones are found."""
    importlib.import_module("scipy.linalg")
    return ThreadpoolController()


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Return a context in which BLAS and OpenMP of this process use one thread.

    >>> with one_thread():
    ...     pass
    """
    return _ONE


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield what an iterator yields, made up to two items ahead in another thread where this worker uses several.

    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    if threads() == 1:
        yield from items
        return
    end: Any = object()
    with ThreadPoolExecutor(1, "beam_ml_ahead") as pool:
        coming = deque(pool.submit(next, items, end) for _ in range(_AHEAD))
        while (item := coming.popleft().result()) is not end:
            coming.append(pool.submit(next, items, end))
            yield item


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of calls, in order; made in as many threads as this worker uses.

    >>> side_by_side([lambda: 1, lambda: 2])
    [1, 2]
    """
    n = min(threads(), len(calls))
    if n <= 1:
        return [call() for call in calls]
    with ThreadPoolExecutor(n, "beam_ml_beside") as pool:
        return [one.result() for one in [pool.submit(call) for call in calls]]


class Lanes:
    """Threads beside the caller's that each work through their own calls in order, one call at a time.

    A few calls may wait, so that neither side is idle where the other is slow for a moment: a sketch is slow while it
    fills, a file where its first block is decoded.

    Args:
        number: of lanes; 0: one, whose calls are made at once in the caller's thread.
    """

    def __init__(self, number: int) -> None:
        self.number = max(1, number)
        self._pools = [ThreadPoolExecutor(1, "beam_ml_lane") for _ in range(number)]
        self._most = -(-_WAITING // self.number)
        self._begun: list[deque[Future[Any]]] = [deque() for _ in range(self.number)]

    def begin(self, lane: int, call: Callable[..., T], *args: Any) -> list[T]:
        """Begin a call, after a lane's others; return the results that had to be waited for to make room for it.

        Which results come back, and when, follows from the order of calls alone, not from how fast any of them is.
        """
        if not self._pools:
            return [call(*args)]
        begun = self._begun[lane]
        room = [begun.popleft().result() for _ in range(len(begun) - self._most + 1)]
        begun.append(self._pools[lane].submit(call, *args))
        return room

    def drain(self, lane: int) -> list[Any]:
        """Return the results of a lane's calls that were not returned yet, once they are there."""
        begun = self._begun[lane]
        return [begun.popleft().result() for _ in range(len(begun))]

    def end(self) -> None:
        """End the threads; each finishes its calls."""
        for pool in self._pools:
            pool.shutdown()
