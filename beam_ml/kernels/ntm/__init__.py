"""Kernels of `ntm`. Importing it needs the extra `neural`."""

from beam_ml.kernels import neural  # first: it says what to install
from beam_ml.kernels.ntm.network import Network, encoded, loss
from beam_ml.kernels.ntm.run import Documents, compiled, train

__all__ = ["Documents", "Network", "compiled", "encoded", "loss", "neural", "train"]
