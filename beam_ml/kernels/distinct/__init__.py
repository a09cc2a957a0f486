"""Kernels of `distinct`."""

from beam_ml.kernels.compiling import listen

listen()

from beam_ml.kernels.distinct import registers  # noqa: E402 importing them compiles them

__all__ = ["registers"]
