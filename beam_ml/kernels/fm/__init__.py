"""Kernels of `fm`."""

from beam_ml.kernels.compiling import listen

listen()
