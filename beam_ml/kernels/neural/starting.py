"""Sets up JAX once per process: a cache of what was compiled, and as many threads as this worker uses."""

import contextlib
import functools
import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from beam_ml.errors import MissingExtra

__all__ = ["EXTRA", "begin", "cache_folder", "start"]

EXTRA = ("jax", "optax")
"""What the extra `neural` brings."""

_THREADS = "NPROC"  # where XLA's CPU client reads how many threads it may start
_AT_LEAST_S = 0.1  # what compiles faster is not worth a file


@functools.cache
def start() -> None:
    """Import JAX, and set it up where the process has not done so itself.

    The cache of compiled programs is `JAX_COMPILATION_CACHE_DIR` where that is set, else beside numba's.

    Raises:
        MissingExtra: the extra `neural` is not installed.
    """
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        message = f"Networks need {' and '.join(missing)}, of the extra 'neural': pip install 'beam_ml[neural]'."
        raise MissingExtra(message)
    jax = importlib.import_module("jax")
    if jax.config.jax_compilation_cache_dir is None:
        folder = cache_folder()
        if folder is not None:
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", _AT_LEAST_S)


def begin(threads: int) -> None:
    """Let JAX begin with a number of threads, before anything is computed; what it has begun with it keeps.

    By itself it takes the cores of the machine, also those that a container's quota does not leave. And XLA adds up long
    sums in parts, by the number of threads: another machine would learn other bits of the same rows.

    >>> begin(threads=1)
    """
    with _set(_THREADS, str(threads)):
        importlib.import_module("jax").devices()


def cache_folder() -> Path | None:
    """Return where compiled programs are kept: beside numba's; None where nothing can be written."""
    told = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    choices = [Path(told)] if told else [Path(__file__).parent / "__pycache__", home / "beam_ml"]
    for choice in choices:
        folder = choice / "jax"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return None


@contextlib.contextmanager
def _set(name: str, value: str) -> Iterator[None]:
    """Set an environment variable where it is not set, for a while."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
