"""Kernels of `linear.newton`."""

from beam_ml.kernels.compiling import listen

listen()
