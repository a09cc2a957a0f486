"""Kernels of several algorithms."""

from beam_ml.kernels.compiling import listen

listen()
