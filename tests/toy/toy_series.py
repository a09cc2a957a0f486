"""Series of the numbers that laws draw: the first is the level, the others push it for a while."""

import numpy as np

from beam_ml.core.series import SeriesBatch


def as_series(spec, batch):
    x, steps, n = batch.dense_x.astype(np.float64), spec.max_length, len(batch)
    target, pushed = np.zeros((n, steps)), np.zeros(n)
    for step in range(steps):
        pushed = 0.9 * pushed + 0.1 * (x[:, step] - x[:, 0])
        target[:, step] = x[:, 0] + pushed
    none = np.zeros(n + 1, np.int64)
    series = SeriesBatch(
        spec.layout, np.arange(n + 1) * steps, target.ravel(), none, np.zeros((0, 0)), np.zeros((n, 0), np.int64),
        batch.time, batch.weights,
    )  # fmt: skip
    return series.to_batch(batch.origin, batch.position).replace(weight=batch.weight)
