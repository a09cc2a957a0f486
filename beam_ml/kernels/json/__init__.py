"""JSON text: where its values lie, and the numbers of flat objects."""

from beam_ml.kernels.json import numbers, values

__all__ = ["numbers", "values"]
