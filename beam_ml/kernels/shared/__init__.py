"""Kernels of several algorithms."""
