"""Threads: a worker learns on one core, and the engine runs as many workers as there are cores.

BLAS would start a thread a core inside every worker; on matrices of some thousand rows by tens of columns the threads then
wait for each other far longer than they compute.
"""

import functools
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]


@functools.lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Find the loaded BLAS and OpenMP libraries, once: it takes milliseconds."""
    return ThreadpoolController()


def one_thread() -> Any:
    """Give a context in which BLAS and OpenMP of this process use one thread.

    >>> with one_thread():
    ...     pass
    """
    return _controller().limit(limits=1)
