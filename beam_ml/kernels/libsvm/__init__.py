"""libsvm text: its numbers, and the lines that they stand in."""

from beam_ml.kernels.libsvm import lines, numbers

__all__ = ["lines", "numbers"]
