"""What the benches share: the machine's description, timing, memory, the last line, and one generated data set.

Claim: none; it holds no measurement. The rows are a mixture of Gaussians with correlated features whose label follows a
logistic model, so the same table serves k-means, PCA and logistic regression. Letters: ``n`` rows, ``d`` features.
"""

import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit

__all__ = [
    "KEYS",
    "N_FEATURES",
    "Clock",
    "draw",
    "fastest",
    "features",
    "generate",
    "has",
    "last_line",
    "machine",
    "peak_bytes",
    "reset_peak",
    "skipped_line",
    "spent",
    "timed",
    "write_files",
]

KEYS = ("claim", "ours", "peer", "ratio", "quality", "rows", "seconds")
"""What the last line of every bench holds."""

N_FEATURES = 30
_MODES = 12
_POSITIVES = 0.2
_DAY_US = 86_400_000_000
_BEGIN_US = 1_704_067_200_000_000  # 2024-01-01

T = TypeVar("T")


def machine() -> str:
    """Describe this machine in one line; the load shows whether it was ours alone."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    python, ours = platform.python_version(), version("beam_ml")
    return (
        f"machine: {cores} cores of {model}, {memory:.0f} GiB, {platform.system()}, Python {python}, "
        f"numpy {np.__version__}, beam_ml {ours}; load average {load:.1f}"
    )


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds a call took, and its result."""
    began = time.perf_counter()
    value = function()
    return time.perf_counter() - began, value


@dataclass
class Clock:
    """Wall and processor seconds of what goes on within `running`, in this process and all its threads."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count what is within."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu


def spent(command: Sequence[str]) -> tuple[Clock, str | None]:
    """Run a program; give the seconds that it took and its output, or None where it failed."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        print(f"{' '.join(command)[:200]} failed: {done.stderr[-500:]}", file=sys.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Clock(wall, cpu), None if done.returncode else done.stdout


def fastest(command: Sequence[str]) -> Clock:
    """Return the least that a program takes of several runs."""
    clocks = [spent(command)[0] for _ in range(3)]
    return Clock(min(one.wall for one in clocks), min(one.cpu for one in clocks))


def has(python: str, module: str) -> bool:
    """Return whether an interpreter has a module."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def last_line(
    claim: str, ours: Any, peer: Any, ratio: float | None, quality: Any, rows: int, seconds: float, **more: Any
) -> str:
    """Return the one JSON object that ends a bench's output.

    Args:
        claim: what is measured, as a sentence.
        ours: our figure.
        peer: the figure it is compared with.
        ratio: of the two; the claim says which way is good.
        quality: how good what came out is.
        rows: that were learned from.
        seconds: the whole bench.
        more: further keys, behind the fixed ones.
    """
    values = dict(zip(KEYS, (claim, ours, peer, ratio, quality, rows, seconds), strict=True)) | more
    return json.dumps(values, allow_nan=False)


def skipped_line(claim: str, reason: str) -> str:
    """Return the last line of a bench that cannot run here."""
    return last_line(claim, None, None, None, None, 0, 0.0, skipped=reason)


def reset_peak() -> int:
    """Begin measuring this process's peak memory anew where the system allows it; give what it holds now, bytes."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """Return this process's peak memory since `reset_peak`, bytes.

    ``ru_maxrss`` alone would not do on Linux: a child starts with its parent's.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def features() -> list[str]:
    """Return the names of the feature columns."""
    return [f"f{j}" for j in range(N_FEATURES)]


def draw(seed: int, block: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows of one block: equal seeds and numbers give equal rows, whatever was drawn before.

    Returns:
        (n, d) float64 features and (n,) float64 labels in {0, 1}.
    """
    world = np.random.default_rng((seed, 0))
    d = N_FEATURES
    modes = 2.0 * world.normal(size=(_MODES, d)) / np.sqrt(np.arange(1, d + 1))
    mixing = world.normal(size=(d, d)) * np.exp(-np.arange(d) / 8.0)[:, None]
    shift, beta = world.normal(size=d), 0.25 * world.normal(size=d)
    rng = np.random.default_rng((seed, 1 + block))
    X = modes[rng.integers(_MODES, size=n)] + rng.normal(size=(n, d)) @ mixing / 2.0 + rng.normal(size=(n, d)) / 2.0
    eta = X @ beta + np.log(_POSITIVES / (1.0 - _POSITIVES))
    return X + shift, (rng.random(n) < expit(eta)).astype(np.float64)


def generate(seed: int, rows: int, block_rows: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Return block number, features and labels, block after block, none kept."""
    for block, first in enumerate(range(0, rows, block_rows)):
        yield block, *draw(seed, block, min(block_rows, rows - first))


def write_files(folder: Path, seed: int, rows: int, file_rows: int) -> int:
    """Write the rows as Parquet files of a day each, with label and event time in order; return their bytes.

    Compression and encoding are pyarrow's defaults, which are also those of pandas: the form that most files have.
    """
    for block, X, y in generate(seed, rows, file_rows):
        time_us = _BEGIN_US + block * _DAY_US + np.arange(y.size) * (_DAY_US // y.size)
        columns = dict(zip(features(), X.T, strict=True))
        label = pa.array(y.astype(np.int32))
        table = pa.table({**columns, "label": label, "time": pa.array(time_us, pa.timestamp("us", tz="UTC"))})
        pq.write_table(table, folder / f"{block:04d}.parquet", row_group_size=65_536)
    return sum(file.stat().st_size for file in folder.iterdir())
