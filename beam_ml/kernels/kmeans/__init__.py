"""Kernels of `kmeans`."""

from beam_ml.kernels.compiling import listen

listen()

from beam_ml.kernels.kmeans import absorb, nearest  # noqa: E402 importing them compiles them

__all__ = ["absorb", "nearest"]
