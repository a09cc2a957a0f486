"""Kernels of `quantile`."""

from beam_ml.kernels.compiling import listen

listen()

from beam_ml.kernels.quantile import buckets  # noqa: E402 importing them compiles them

__all__ = ["buckets"]
