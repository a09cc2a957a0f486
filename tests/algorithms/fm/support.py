"""Ratings of users and items, and learning them in windows of shards."""

import itertools
from functools import reduce

import numpy as np

from beam_ml import fm
from beam_ml.core import metrics
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.sample import Sample

FM = fm.FM


def ratings(seed, n, task="regression", users=400, items=300, rank=4):
    """Low-rank tastes, noise, popular items and busy users; half stars from ½ to 5, or whether a user likes an item."""
    rng = np.random.default_rng(seed)
    user_bias, item_bias = 0.4 * rng.normal(size=users), 0.5 * rng.normal(size=items)
    tastes, traits = rng.normal(size=(users, rank)), rng.normal(size=(items, rank))
    busy, popular = rng.lognormal(size=users), np.arange(1, items + 1) ** -0.8
    u = rng.choice(users, n, p=busy / busy.sum())
    i = rng.choice(items, n, p=popular / popular.sum())
    score = 3.5 + user_bias[u] + item_bias[i] + 0.675 * (tastes[u] * traits[i]).sum(axis=1) / np.sqrt(rank)
    if task == "binary":
        label = rng.random(n) < 1 / (1 + np.exp(-2 * (score - 3.5)))
    else:
        label = np.clip(np.round(2 * (score + 0.8 * rng.normal(size=n))) / 2, 0.5, 5)
    columns = np.stack([u, users + i], axis=1).ravel()
    return Batch.csr(
        np.arange(n + 1) * 2, columns, np.ones(2 * n, np.float32), users + items,
        label=label, origin=Origin("ratings", "0"), position=np.arange(n),
    )  # fmt: skip


def bounds_of(n, rounds, first=None):
    """Cut n rows into windows that double from `first` up to n / rounds rows."""
    bounds, size = [0], n // rounds if first is None else first
    while bounds[-1] < n:
        bounds.append(min(n, bounds[-1] + min(size, -(-n // rounds))))
        size *= 2
    return bounds


def grown(spec, rows, anchor, batch_rows=4096):
    run = FM.grow(spec, FM.empty(spec), anchor)
    for i in range(0, len(rows), batch_rows):
        run.add(rows.take(slice(i, i + batch_rows)))
    return run.partial()


def learned(spec, rows, shards, passes=5, rounds=4, rule="search"):
    """Learn rows in windows of shards that start from one anchor; the first windows grow."""
    state, n = FM.init(spec), len(rows)
    for number in range(passes):
        for begin, end in itertools.pairwise(bounds_of(n, rounds, None if number else 512)):
            window, anchor = rows.take(slice(begin, end)), FM.anchor(spec, state)
            parts = np.array_split(np.arange(len(window)), shards)
            partials = [grown(spec, window.take(slice(p[0], p[-1] + 1)), anchor) for p in parts]
            merged = reduce(lambda a, b: FM.merge(spec, a, b), partials)
            state = FM.fold(spec, state, merged, Sample.of(spec, window).estimate(spec), rule)
    return state


def model_of(spec, state):
    kind = FM.models["regressor" if spec.task == "regression" else "classifier"]
    return kind.derive(spec, kind.spec(), state, None)


def loss(spec, state, rows):
    """Return the root of the mean squared error, or the log loss."""
    values = metrics.compute(FM.models["classifier"].measure(model_of(spec, state), rows))
    return values["log_loss"] if "log_loss" in values else values["mse"] ** 0.5
