"""A smaller sample of the same rows: what a file that is kept for years holds."""

import dataclasses

import numpy as np

from beam_ml.core.sample import Sample

__all__ = ["thinned"]


def thinned(sample: Sample, most: int) -> Sample:
    """Return the sample cut to so many rows, an even share for each class; it stands for all rows as before.

    The rows that stay come first in hash order, and the threshold of a class is the first that does not: what a sample
    bounded by so many rows would have been. `Sample.top` is cut alike, so that up to twice as many rows remain.

    >>> from beam_ml.core.batch import Batch
    >>> from beam_ml.core.spec import Spec
    >>> spec = Spec(algorithm="any", n_features=1)
    >>> small = thinned(Sample.of(spec, Batch.dense([[float(i)] for i in range(100)])), 10)
    >>> rows = small.estimate(spec)
    >>> len(rows), round(float(rows.weights.sum()))
    (10, 100)
    """
    share = max(1, most // sample.tau.size)
    tau, kept = sample.tau.copy(), np.ones(sample.order.size, dtype=bool)
    for kind in range(tau.size):
        mine = np.flatnonzero(sample.kind == kind)
        if mine.size > share:
            tau[kind] = sample.order[mine[share]]
            kept[mine[share:]] = False
    top = None if sample.top is None else thinned(sample.top, share * tau.size)
    if kept.all():
        return sample if top is sample.top else dataclasses.replace(sample, top=top)
    rows = None if sample.rows is None or not kept.any() else sample.rows.take(kept)
    return dataclasses.replace(
        sample, rows=rows, order=sample.order[kept], identity=sample.identity[kept], kind=sample.kind[kept], tau=tau,
        importance=None if sample.importance is None else sample.importance[kept], top=top,
    )  # fmt: skip
