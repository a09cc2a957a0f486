"""Says when kernels are being compiled: the first time on a machine takes long, and would be silent."""

import functools
import logging
from typing import Any

from numba.core import config, event

__all__ = ["listen"]

_log = logging.getLogger("beam_ml.kernels")


class _Said(event.Listener):
    """Hears of each function that numba compiles; what the cache on disk holds is not compiled."""

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"].py_func.__module__.startswith("beam_ml."):
            _say()

    def on_end(self, event: Any) -> None:
        pass


@functools.cache
def _say() -> None:
    where = config.CACHE_DIR or "beside the package, or in the user's cache folder"
    _log.warning("Compiling kernels for this machine: once, up to a few minutes. The result is kept (%s).", where)


@functools.cache
def listen() -> None:
    """Say so once per process, when a kernel of this package is compiled: a warning of the logger `beam_ml.kernels`."""
    event.register("numba:compile", _Said())
