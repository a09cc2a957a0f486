"""Quantiles of many columns, within a stated relative error: any of them, intervals of equal weight, or a robust scale.

The state is a histogram of logarithmic buckets per column (module `histogram`): a sum over rows, whatever their order.
"""

from beam_ml.algorithms.quantile.histogram import accumulate, empty, law, merge, remove, scale, weight
from beam_ml.algorithms.quantile.model import BUCKETS, QUANTILES, SCALE
from beam_ml.algorithms.quantile.spec import (
    BucketModel,
    Buckets,
    Partial,
    QuantileModel,
    Quantiles,
    RobustScale,
    ScaleModel,
    Spec,
)
from beam_ml.core.algorithm import Algorithm

__all__ = [
    "QUANTILE",
    "BucketModel",
    "Buckets",
    "Partial",
    "QuantileModel",
    "Quantiles",
    "RobustScale",
    "ScaleModel",
    "Spec",
]

QUANTILE = Algorithm(
    name="quantile",
    version=1,
    spec=Spec,
    partial=Partial,
    law=law,
    empty=empty,
    accumulate=accumulate,
    merge=merge,
    scale=scale,
    weight=weight,
    models={"quantiles": QUANTILES, "buckets": BUCKETS, "robust_scale": SCALE},
    remove=remove,
)
"""Quantiles by logarithmic buckets: law EXACT, State is Partial.

>>> from beam_ml import Batch, derive, fit, predict
>>> learner = fit(Spec(n_features=1), [Batch.dense([[float(i)] for i in range(1, 101)])])
>>> derive(learner, Quantiles(q=[0.5, 0.99])).arrays.value.round(0).tolist()
[[50.0, 99.0]]
>>> predict(derive(learner, Buckets(n=4)), Batch.dense([[10.0], [60.0]]))["bucket"].ravel().tolist()
[0, 2]
"""
