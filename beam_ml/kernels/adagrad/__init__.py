"""Kernels of `linear.adagrad`."""

from beam_ml.kernels.compiling import listen

listen()
