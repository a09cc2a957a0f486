"""Kernels of `kmeans`."""

from beam_ml.kernels.kmeans import absorb, nearest

__all__ = ["absorb", "nearest"]
