"""Models of a state: weights of topics, and topics by their words."""

import numpy as np
from scipy.sparse import csr_matrix

from beam_ml.algorithms.ntm.coherence import diversity, npmi, uniqueness, vectors, wetc
from beam_ml.algorithms.ntm.encoder import halves, logits, network_of, sparse
from beam_ml.algorithms.ntm.learning import log_shares
from beam_ml.algorithms.ntm.spec import ACTIVATIONS, Spec, State, TopicModel, Topics, TopicWeights, WeightsModel
from beam_ml.core import metrics
from beam_ml.core.algorithm import Predictions
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["derive_topics", "derive_weights", "measure", "predict"]

_LEAST = 1e-12


def _weights_model(spec: Spec, state: State) -> WeightsModel:
    if float(state.weight) <= 0.0:
        message = "A topic model needs documents of positive weight; got none yet."
        raise DeriveRefused(message)
    return WeightsModel(
        layers=np.array(spec.layers, np.int64),
        activation=np.asarray(ACTIVATIONS.index(spec.encoder_layers_activation), np.int64),
        normed=np.asarray(int(spec.batch_norm), np.int64),
        parameters=state.mean,
        statistics=state.statistics,
        share=np.exp(log_shares(state.words)),
    )


def derive_weights(spec: Spec, model_spec: TopicWeights, state: State, sample: Batch | None = None) -> WeightsModel:
    """Return the encoder, by the mean of its parameters over recent steps.

    Raises:
        DeriveRefused: no documents yet.
    """
    return _weights_model(spec, state)


def derive_topics(spec: Spec, model_spec: Topics, state: State, sample: Batch | None = None) -> TopicModel:
    """Return the topics with their words and how good they are by the documents of the sample.

    Raises:
        DeriveRefused: no documents yet.
    """
    base = _weights_model(spec, state)
    network = network_of(base)
    beta = network.beta()
    lift = logits(network.arrays) + 0.5 * network.log_share
    top, lifted = (_first(one, model_spec.top_words) for one in (beta, lift))
    first = _first(beta, model_spec.coherence_words)
    documents = None if sample is None or len(sample) == 0 else sparse(sample)
    weight = np.zeros(0) if sample is None else sample.weights
    none = np.zeros(spec.num_topics)
    used = state.statistics[2 * spec.num_topics :].astype(np.float64)
    return TopicModel(
        layers=base.layers, activation=base.activation, normed=base.normed, parameters=base.parameters,
        statistics=base.statistics, share=base.share, top=top, lifted=lifted, weight=used / used.sum(),
        npmi=none if documents is None else npmi(first, documents, weight),
        wetc=none if documents is None else wetc(first, vectors(first, documents, weight)),
        uniqueness=uniqueness(top), diversity=np.asarray(diversity(top)),
        documents=np.asarray(0 if documents is None else documents.shape[0], np.int64),
    )  # fmt: skip


def _first(score: np.ndarray, n: int) -> np.ndarray:
    return np.argsort(-score, axis=1, kind="stable")[:, :n].astype(np.int64)


def _counts(model: WeightsModel, batch: Batch) -> csr_matrix:
    if batch.n_features != model.share.size:
        message = f"A topic model takes {model.share.size} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    return sparse(batch)


def predict(model: WeightsModel, batch: Batch) -> Predictions:
    """Return ``topic_weights`` (n, k), which sum to 1, and ``topic`` (n,), the heaviest one.

    A document without any known word has the weights that the network knows of no document.
    """
    theta = network_of(model).theta(_counts(model, batch))
    return {"topic_weights": theta, "topic": np.argmax(theta, axis=1).astype(np.int64)}


def measure(model: WeightsModel, batch: Batch) -> metrics.Likelihood:
    """Measure how likely each half of a document's tokens is by what the other half says of its topics."""
    network, counts = network_of(model), _counts(model, batch)
    beta, sides = network.beta(), halves(counts)
    nll = sum(
        (_nll(network.theta(seen), beta, asked) for seen, asked in (sides, sides[::-1])), np.zeros(counts.shape[0])
    )
    return metrics.likelihood(nll, np.asarray(counts.sum(axis=1)).ravel(), batch.weights)


def _nll(theta: np.ndarray, beta: np.ndarray, counts: csr_matrix) -> np.ndarray:
    """Return −Σ counts · log(θ β) by document (n,)."""
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    found = np.zeros(counts.shape[0])
    for at in range(0, row.size, 1 << 16):
        mine = slice(at, at + (1 << 16))
        chance = np.einsum("zk,zk->z", theta[row[mine]], beta.T[counts.indices[mine]])
        found += np.bincount(row[mine], -counts.data[mine] * np.log(chance + _LEAST), minlength=found.size)
    return found
