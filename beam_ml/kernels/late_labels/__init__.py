"""Rows and the reports of their labels, id by id in order of time."""

from beam_ml.kernels.late_labels import resolve

__all__ = ["resolve"]
