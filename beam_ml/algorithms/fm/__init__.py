"""Factorization machines (Rendle 2010): linear weights and pairwise products of factors, for sparse features.

>>> from beam_ml.core.batch import Batch
>>> spec = Spec(n_features=4, n_factors=2, task="regression")
>>> batch = Batch.csr([0, 2, 4], [0, 2, 1, 3], [1.0, 1.0, 1.0, 1.0], 4, label=[5.0, 1.0])
>>> state = FM.init(spec)
>>> for _ in range(50):
...     partial = FM.accumulate(spec, FM.empty(spec), batch, FM.anchor(spec, state))
...     state = FM.fold(spec, state, partial, None)
>>> model = FM.models["regressor"].derive(spec, Regressor(), state, None)
>>> FM.models["regressor"].predict(model, batch)["score"].round(1).tolist()
[5.0, 1.0]
"""

from beam_ml.algorithms.fm import growing, machine
from beam_ml.algorithms.fm.derive import Model, derive, measure, predict
from beam_ml.algorithms.fm.fold import fold
from beam_ml.algorithms.fm.known import features_held
from beam_ml.algorithms.fm.merging import merge_states
from beam_ml.algorithms.fm.ranking import scorer
from beam_ml.algorithms.fm.spec import Classifier, Regressor, Spec
from beam_ml.algorithms.shared.thresholds import Threshold
from beam_ml.core.algorithm import Algorithm, ModelKind

__all__ = ["FM", "Classifier", "Model", "Regressor", "Spec", "Threshold"]

FM = Algorithm(
    name="fm",
    version=1,
    spec=Spec,
    state=machine.State,
    partial=machine.Partial,
    law=machine.law,
    init=machine.init,
    empty=machine.empty,
    accumulate=growing.accumulate,
    merge=machine.merge,
    fold=fold,
    scale=machine.scale,
    weight=machine.weight,
    models={
        "classifier": ModelKind(Classifier, Model, derive, predict, measure),
        "regressor": ModelKind(Regressor, Model, derive, predict, measure),
    },
    anchor_type=machine.Anchor,
    anchor=machine.anchor,
    merge_states=merge_states,
    grow=growing.grow,
    scorer=scorer,
    features_held=features_held,
)
"""Second-order factorization machines by AdaGrad; ANCHORED."""
