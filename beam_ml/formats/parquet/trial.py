"""Decoding Parquet on trial, in a process of its own: what takes too long or too much memory ends there and harms nobody.

A thread cannot interrupt the library, whose loops are C++. This file is also the program of that process, and so imports
nothing of the package.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["passes"]

_WAIT_S, _SLOWER = 60, 20
"""How long is waited for: to begin, and by the clock for what is allowed of a processor that others share."""


def passes(
    path: str, groups: Sequence[int], rows: int, columns: Sequence[str], at_once: int, seconds: float, most_bytes: int
) -> bool:
    """Return whether the first rows of some row groups decode within what is allowed of processor and memory.

    Args:
        path: of the file.
        groups: numbers of the row groups.
        rows: how many.
        columns: to decode.
        at_once: rows to decode at once.
        seconds: of the processor.
        most_bytes: of memory, beside what a process takes that decodes nothing.
    """
    asked = json.dumps([path, list(groups), rows, list(columns), at_once, seconds, most_bytes])
    settings = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    begun = [sys.executable, __file__]
    try:
        ended = subprocess.run(  # noqa: S603 this very file
            begun,
            input=asked.encode(),
            env=settings,
            capture_output=True,
            check=False,
            timeout=_WAIT_S + _SLOWER * seconds,
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


def _held() -> int:
    """Return the bytes of memory that count against the bound already; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[5]) * resource.getpagesize()
    except OSError:
        return 0


def _decode(
    path: str, groups: list[int], rows: int, columns: list[str], at_once: int, seconds: float, most_bytes: int
) -> None:
    pa.set_cpu_count(1)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends a process that does not handle it
    bound = _held() + most_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    with pq.ParquetFile(path) as parquet:
        for batch in parquet.iter_batches(batch_size=at_once, row_groups=groups, columns=columns, use_threads=False):
            rows -= batch.num_rows
            if rows <= 0:
                return


if __name__ == "__main__":
    _decode(*json.loads(sys.stdin.read()))
