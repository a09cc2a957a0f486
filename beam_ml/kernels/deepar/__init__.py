"""Kernels of `deepar`: the network, its likelihoods, training and sampling. They need the extra `neural`."""

from beam_ml.kernels import neural  # first: it says what to install
from beam_ml.kernels.deepar import likelihoods, network, sample, train

__all__ = ["likelihoods", "network", "neural", "sample", "train"]
