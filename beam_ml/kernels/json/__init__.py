"""JSON text: where its values lie."""

from beam_ml.kernels.json import values

__all__ = ["values"]
