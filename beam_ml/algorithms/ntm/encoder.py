"""What a model says of documents, in numpy: serving needs no JAX.

A document's weights of topics are the mean of softmax(μ ± σ ε) over eight draws of ε that are the same for every document.
Letters: ``n`` rows, ``d`` words, ``k`` topics, ``z`` stored values.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from scipy.sparse import csr_matrix

from beam_ml.algorithms.ntm.spec import ACTIVATIONS, EMBEDDING, WeightsModel, layout
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidBatch

__all__ = ["Network", "halves", "logits", "network_of", "sparse"]

_DRAWS = 8
_LEAST = 1e-12
_BLOCK = 4096
_ACTIVATE: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "softplus": lambda x: np.logaddexp(0.0, x),
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A model's arrays by name, in float64, and how they are used."""

    arrays: dict[str, np.ndarray]
    layers: int
    activation: str
    centre: np.ndarray
    scale: np.ndarray
    log_share: np.ndarray

    def beta(self) -> np.ndarray:
        """Return the words' shares by topic (k, d)."""
        raised = logits(self.arrays) + self.log_share
        found = np.exp(raised - raised.max(axis=1, keepdims=True))
        shares: np.ndarray = found / found.sum(axis=1, keepdims=True)
        return shares

    def theta(self, counts: csr_matrix) -> np.ndarray:
        """Return the weights of topics (n, k) of documents."""
        blocks = [self._theta(counts[at : at + _BLOCK]) for at in range(0, counts.shape[0], _BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.centre.size))

    def _theta(self, counts: csr_matrix) -> np.ndarray:
        x = counts.log1p()
        norm = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
        hidden = x.multiply((4.0 / np.maximum(norm, _LEAST))[:, None]).tocsr()
        for number in range(self.layers):
            hidden = _ACTIVATE[self.activation](hidden @ self.arrays[f"w{number}"] + self.arrays[f"c{number}"])
        mean = hidden @ self.arrays["mean"] + self.arrays["mean_bias"]
        log_variance = np.clip(hidden @ self.arrays["spread"] + self.arrays["spread_bias"], -8.0, 4.0)
        mean, deviation = (mean - self.centre) / self.scale, np.exp(0.5 * log_variance)
        total = np.zeros_like(mean)
        for noise in _noise(mean.shape[1]):
            for sign in (1.0, -1.0):
                z = mean + sign * deviation * noise
                raised = np.exp(z - z.max(axis=1, keepdims=True))
                total += raised / raised.sum(axis=1, keepdims=True)
        return total / (2.0 * _DRAWS)


def _noise(k: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(_DRAWS, k))


def logits(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return how words differ by topic from all words (k, d), before the words' own shares."""
    return arrays["topics"] @ arrays["words"]


def network_of(model: WeightsModel) -> Network:
    """Return a model's network.

    Raises:
        InvalidBatch: its arrays are not those of one network, as those of a damaged file.
    """
    k, rest = divmod(model.statistics.size, 3)
    layers = tuple(int(one) for one in model.layers)
    d = model.share.size
    wrong = rest or k < 1 or any(one < 1 for one in layers) or not 0 <= int(model.activation) < len(ACTIVATIONS)
    shape = None if wrong else layout(d, layers, k)
    if shape is None or shape.size != model.parameters.size or not ((model.share > 0) & np.isfinite(model.share)).all():
        message = f"The arrays of a model of ntm do not make a network of {d} words with vectors of {EMBEDDING}."
        raise InvalidBatch(message)
    statistics = model.statistics.astype(np.float64)
    normed = bool(model.normed)
    return Network(
        arrays={name: one.astype(np.float64) for name, one in shape.arrays(model.parameters).items()},
        layers=len(layers),
        activation=ACTIVATIONS[int(model.activation)],
        centre=statistics[:k] if normed else np.zeros(k),
        scale=np.sqrt(np.maximum(statistics[k : 2 * k], 0.0) + 1e-4) if normed else np.ones(k),
        log_share=np.log(model.share),
    )


def sparse(batch: Batch) -> csr_matrix:
    """Return a batch's counts (n, d)."""
    if batch.X is not None:
        return csr_matrix(batch.X.astype(np.float64))
    assert batch.values is not None  # noqa: S101 a batch is dense or CSR
    return csr_matrix(
        (batch.values.astype(np.float64), batch.indices, batch.indptr), shape=(len(batch), batch.n_features)
    )


def halves(counts: csr_matrix) -> tuple[csr_matrix, csr_matrix]:
    """Return every second token of each document, and the others; tokens lie in the order of their words.

    Of a word that reaches from token a to token b, the first half has f(b) − f(a), ``f(t) = ⌊t/2⌋ + min(t mod 2, 1)``.

    >>> first, second = halves(csr_matrix([[3.0, 0.0, 2.0, 1.0]]))
    >>> first.toarray().tolist(), second.toarray().tolist()
    ([[2.0, 0.0, 1.0, 0.0]], [[1.0, 0.0, 1.0, 1.0]])
    """
    ends = np.cumsum(counts.data)
    base = np.repeat(np.concatenate([[0.0], ends])[counts.indptr[:-1]], np.diff(counts.indptr))
    stop = ends - base
    mine = _before(stop) - _before(stop - counts.data)
    first, second = counts.copy(), counts.copy()
    first.data, second.data = np.clip(mine, 0.0, counts.data), np.clip(counts.data - mine, 0.0, counts.data)
    return first, second


def _before(tokens: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.floor(tokens / 2.0) + np.minimum(np.mod(tokens, 2.0), 1.0)
    return found
