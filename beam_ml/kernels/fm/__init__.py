"""Kernels of `fm`."""
