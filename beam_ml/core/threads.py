"""Threads: a worker learns on one core, and the engine runs as many workers as there are cores.

BLAS would start a thread per core inside every worker; on matrices of some thousand rows by tens of columns the threads then
wait for each other far longer than they compute.
"""

import functools
import importlib
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]


@functools.lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Find the BLAS and OpenMP libraries of numpy and scipy, once: it takes milliseconds, and only loaded ones are found."""
    importlib.import_module("scipy.linalg")
    return ThreadpoolController()


def one_thread() -> Any:
    """Return a context in which BLAS and OpenMP of this process use one thread.

    >>> with one_thread():
    ...     pass
    """
    return _controller().limit(limits=1)
