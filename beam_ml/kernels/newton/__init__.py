"""Kernels of `linear.newton`."""
