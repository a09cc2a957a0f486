"""Kernels of `linear.adagrad`."""
