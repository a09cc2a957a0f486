"""How many threads a worker's kernels may use: the cores it really has.

BLAS and numba count the machine's cores, not a container's share, and know nothing of workers beside them. A worker may
use the smaller of its CPU affinity and its control group's quota, or what the environment variable `BEAM_ML_THREADS`
says: set it where one machine runs several worker processes (Flink task slots): cores / workers.
"""

import functools
import math
import os
import sys
from pathlib import Path

from threadpoolctl import threadpool_limits

__all__ = ["THREADS", "cores", "limit_threads"]

THREADS = "BEAM_ML_THREADS"

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Give the number of cores that this process may keep busy.

    >>> cores() >= 1
    True
    """
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return mine
    return mine if quota == "max" else max(1, min(mine, math.ceil(int(quota) / int(period))))


@functools.cache
def limit_threads() -> int:
    """Hold BLAS and numba to this worker's cores, once a process; give the number."""
    stated = os.environ.get(THREADS, "")
    number = int(stated) if stated.isdigit() and int(stated) > 0 else cores()
    threadpool_limits(number)
    os.environ.setdefault("NUMBA_NUM_THREADS", str(number))
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
    return number
