"""Linear models: `Newton` shapes the state; `Classifier` and `Regressor` are derived from it, with any penalty.

>>> from beam_ml.core.batch import Batch
>>> spec = Newton(n_features=1, loss="squared")
>>> batch = Batch.dense([[0.0], [1.0], [2.0]], label=[1.0, 3.0, 5.0])
>>> state = NEWTON.accumulate(spec, NEWTON.empty(spec), batch, None)
>>> model = NEWTON.models["regressor"].derive(spec, Regressor(), state, None)
>>> NEWTON.models["regressor"].predict(model, Batch.dense([[10.0]]))["score"].round(6).tolist()
[21.0]
"""

from beam_ml.algorithms.linear.derive import (
    Model,
    derive,
    measure_classifier,
    measure_regressor,
    predict_classifier,
    predict_regressor,
)
from beam_ml.algorithms.linear.newton import Anchor, accumulate, anchor, fold, identity, law, merge, scale, weight
from beam_ml.algorithms.linear.spec import Classifier, Newton, Regressor, Threshold
from beam_ml.algorithms.linear.sums import Partial
from beam_ml.core.algorithm import Algorithm, ModelKind

__all__ = ["NEWTON", "Anchor", "Classifier", "Model", "Newton", "Partial", "Regressor", "Threshold"]

NEWTON = Algorithm(
    name="linear.newton",
    version=1,
    spec=Newton,
    state=Partial,
    partial=Partial,
    law=law,
    init=identity,
    empty=identity,
    accumulate=accumulate,
    merge=merge,
    fold=fold,
    scale=scale,
    weight=weight,
    models={
        "classifier": ModelKind(Classifier, Model, derive, predict_classifier, measure_classifier),
        "regressor": ModelKind(Regressor, Model, derive, predict_regressor, measure_regressor),
    },
    anchor_type=Anchor,
    anchor=anchor,
)
"""Linear models by Newton steps; EXACT for squared loss, ANCHORED for logistic."""
