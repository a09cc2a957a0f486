"""The state and its fold: the words are counted, and the network is trained on the documents gathered.

The words' own shares follow the counts, which are exact and forget with the half-life; the network learns only how topics
differ from them. A fold makes `passes_per_refresh` passes over its documents in an order drawn by seed and step, among them
documents of the learner's own sample (`replay`), so that what is no longer in the stream is not unlearned at once.
"""

import dataclasses
from typing import Any

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.ntm.encoder import sparse
from beam_ml.algorithms.ntm.spec import Spec, State
from beam_ml.core import gathered
from beam_ml.core.algorithm import Law, LawKind
from beam_ml.core.batch import Batch
from beam_ml.core.gathered import Gathered
from beam_ml.core.threads import threads

__all__ = ["fold", "init", "law", "log_shares", "network_settings", "scale", "stepping", "weight"]

_MOST_COUNT = 1e6  # of a word in a document: squares of what is larger leave float32
_AVERAGING = 8.0
_SMOOTHING = 0.5
_STARTS_AT = -1.0  # log variance of a document's topics before anything is learned


def law(spec: Spec) -> Law:
    """GATHERED: exact to the bit in any order."""
    return Law(LawKind.GATHERED, rtol=1e-6)


def init(spec: Spec) -> State:
    """Return the network before its first step, drawn by the spec's seed."""
    rng = np.random.default_rng(spec.seed)
    shape, k = spec.layout, spec.num_topics
    arrays = {name: np.zeros(size, np.float32) for name, size in shape.shapes}
    for name, array in arrays.items():
        if array.ndim == 2:
            wide, high = array.shape
            size = {"spread": 0.01, "topics": 0.1, "words": 0.1, "mean": wide**-0.5}.get(
                name, (2.0 / (wide + high)) ** 0.5
            )
            arrays[name] = rng.standard_normal(array.shape, np.float32) * np.float32(size)
    arrays["spread_bias"] += np.float32(_STARTS_AT)
    parameters = shape.vector(arrays)
    none, zero = np.zeros_like(parameters), np.zeros((), np.int64)
    return State(
        parameters=parameters, first=none, second=none, mean=parameters,
        statistics=np.concatenate([np.zeros(k), np.ones(k), np.full(k, 1.0 / k)]).astype(np.float32),
        steps=zero, skipped=zero, key=np.array([0, spec.seed], np.uint32),
        words=np.zeros(spec.n_features), weight=np.zeros(()),
    )  # fmt: skip


def weight(summary: State | Gathered) -> float:
    """Return the documents' total weight."""
    return gathered.weight(summary) if isinstance(summary, Gathered) else float(summary.weight)


def scale(spec: Spec, summary: State | Gathered, factor: float) -> State | Gathered:
    """Multiply the weight of all documents so far by a factor; what the network has learned stays."""
    if isinstance(summary, Gathered):
        return gathered.scale(spec, summary, factor)
    if factor == 0.0 or float(summary.weight) * factor == 0.0:
        return init(spec)
    return _replaced(summary, words=summary.words * factor, weight=np.asarray(summary.weight * factor))


def log_shares(words: np.ndarray) -> np.ndarray:
    """Return the log of each word's share of all words (d,), as if each had been seen half a time more.

    Counts that weigh little count as if the rarest unit of them was one token.
    """
    total = float(words.sum())
    smoothing = min(_SMOOTHING, max(total, 1e-300) / words.size) if total > 0.0 else _SMOOTHING
    found: np.ndarray = np.log((words + smoothing) / (total + smoothing * words.size))
    return found


def fold(spec: Spec, state: State, partial: Gathered, sample: Batch | None, past: Batch | None = None) -> State:
    """Count the words of the documents gathered, and train on them.

    Raises:
        FloatingPointError: a count is below 0, which no document that was admitted has.
    """
    if partial.mass.size == 0:
        return state
    rows = gathered.rows(spec, partial)
    total = np.asarray(state.weight + gathered.weight(partial))
    if rows is None:
        return _replaced(state, weight=total)
    counts = sparse(rows)
    if counts.data.size and counts.data.min() < 0.0:
        message = "documents with counts below 0 reached the fold"
        raise FloatingPointError(message)
    words = state.words + counts.T @ rows.weights
    trained = _trained(spec, state, rows, past, log_shares(words))
    return _replaced(trained, words=words, weight=total)


def _trained(spec: Spec, state: State, rows: Batch, past: Batch | None, shares: np.ndarray) -> State:
    known = _known(rows)
    if not known.size:
        return state
    ntm = kernels.ntm
    ntm.neural.begin(threads())
    rng = np.random.default_rng([spec.seed, int(state.steps), int(state.skipped)])
    again = np.zeros(0, np.int64) if past is None or spec.replay == 0.0 else _known(past)
    documents = _documents(rows, past if again.size else None)
    passes = [
        rng.permutation(
            np.concatenate(
                [
                    _part(rng, known, spec.sub_sample * known.size),
                    len(rows) + _replayed(rng, spec, past, again, known.size),
                ]
            )
        )
        for _ in range(spec.passes_per_refresh)
    ]
    training = ntm.neural.Training(
        state.parameters, state.first, state.second, state.mean, state.statistics,
        state.steps.astype(np.int32), state.skipped.astype(np.int32), state.key,
    )  # fmt: skip
    after = ntm.train(
        network_settings(spec),
        stepping(spec),
        training,
        documents,
        passes,
        spec.mini_batch_size,
        shares,
        spec.kl_warmup_steps,
    )
    return _replaced(
        state, parameters=after.parameters, first=after.first, second=after.second, mean=after.mean,
        statistics=after.statistics, key=after.key,
        steps=after.steps.astype(np.int64), skipped=after.skipped.astype(np.int64),
    )  # fmt: skip


def network_settings(spec: Spec) -> Any:
    """Return what the loss is built from."""
    return kernels.ntm.Network(
        layout=spec.layout, activation=spec.encoder_layers_activation, batch_norm=spec.batch_norm,
        kl_weight=spec.kl_weight, alpha=spec.alpha, apart=spec.apart, rescale=spec.rescale_gradient,
    )  # fmt: skip


def stepping(spec: Spec) -> Any:
    """Return how steps are made."""
    return kernels.ntm.neural.Stepping(
        optimizer=spec.optimizer, learning_rate=spec.learning_rate, warmup=spec.warmup_steps,
        decay_after=spec.decay_after_steps, clip=spec.clip_gradient or 0.0, weight_decay=spec.weight_decay,
        averaging=_AVERAGING,
    )  # fmt: skip


def _known(rows: Batch) -> np.ndarray:
    """Return the numbers of the documents that have words and weight."""
    return np.flatnonzero((np.asarray(sparse(rows).sum(axis=1)).ravel() > 0) & (rows.weights > 0))


def _part(rng: np.random.Generator, rows: np.ndarray, wanted: float) -> np.ndarray:
    return rows if wanted >= rows.size else rng.choice(rows, max(1, round(wanted)), replace=False)


def _replayed(rng: np.random.Generator, spec: Spec, past: Batch | None, rows: np.ndarray, fresh: int) -> np.ndarray:
    """Draw documents of the learner's sample, by what they weigh."""
    if past is None or not rows.size:
        return np.zeros(0, np.int64)
    share = past.weights[rows] / past.weights[rows].sum()
    return rng.choice(rows, round(spec.replay * fresh), p=share)


def _documents(rows: Batch, past: Batch | None) -> Any:
    """Return the documents gathered and those of the sample behind them, the weights of each 1 on average.

    What is drawn from the sample is drawn by weight, so that each weighs the same.
    """
    parts = [sparse(rows)] if past is None else [sparse(rows), sparse(past)]
    weight = rows.weights / rows.weights.mean()
    if past is not None:
        weight = np.concatenate([weight, np.ones(len(past))])
    sizes = np.concatenate([np.diff(part.indptr) for part in parts])
    return kernels.ntm.Documents(
        indptr=np.concatenate([[0], np.cumsum(sizes)]),
        indices=np.concatenate([part.indices for part in parts]),
        values=np.minimum(np.concatenate([part.data for part in parts]), _MOST_COUNT),
        weight=weight,
    )


def _replaced(state: State, **changes: np.ndarray) -> State:
    return dataclasses.replace(state, **changes)
