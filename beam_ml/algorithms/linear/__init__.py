"""Linear models: `Newton` or `AdaGrad` shapes the state; `Classifier`, `Regressor` and `Variant` are derived from it.

Of `Newton` also `ClassifierWithErrors` and `RegressorWithErrors`, whose scores have bounds: ``predict(…, interval=0.95)``.

>>> from beam_ml.core.batch import Batch
>>> spec = Newton(n_features=1, loss="squared")
>>> batch = Batch.dense([[0.0], [1.0], [2.0]], label=[1.0, 3.0, 5.0])
>>> state = NEWTON.accumulate(spec, NEWTON.empty(spec), batch, None)
>>> model = NEWTON.models["regressor"].derive(spec, Regressor(), state, None)
>>> NEWTON.models["regressor"].predict(model, Batch.dense([[10.0]]))["score"].round(6).tolist()
[21.0]
"""

from beam_ml.algorithms.linear.adagrad import arrays, known, ranking, run, state
from beam_ml.algorithms.linear.adagrad import derive as adagrad_derive
from beam_ml.algorithms.linear.adagrad import fold as adagrad_fold
from beam_ml.algorithms.linear.adagrad import merge as adagrad_merge
from beam_ml.algorithms.linear.adagrad.derive import AdaGradModel, variants
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad, Variant
from beam_ml.algorithms.linear.models import Classifier, ClassifierWithErrors, Regressor, RegressorWithErrors
from beam_ml.algorithms.linear.newton.derive import (
    Model,
    derive,
    measure_classifier,
    measure_regressor,
    predict_classifier,
    predict_regressor,
)
from beam_ml.algorithms.linear.newton.errors import ModelWithErrors, bounded_classifier, bounded_regressor
from beam_ml.algorithms.linear.newton.errors import derive as derive_with_errors
from beam_ml.algorithms.linear.newton.information import information
from beam_ml.algorithms.linear.newton.learning import (
    Anchor,
    accumulate,
    anchor,
    fold,
    grown_from,
    identity,
    law,
    merge,
    merge_states,
    scale,
    settle,
    weight,
)
from beam_ml.algorithms.linear.newton.ranking import scorer
from beam_ml.algorithms.linear.newton.removal import remove
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import Partial
from beam_ml.algorithms.shared.thresholds import Threshold
from beam_ml.core.algorithm import Algorithm, ModelKind

__all__ = [
    "ADAGRAD",
    "NEWTON",
    "AdaGrad",
    "AdaGradModel",
    "Anchor",
    "Classifier",
    "ClassifierWithErrors",
    "Model",
    "ModelWithErrors",
    "Newton",
    "Partial",
    "Regressor",
    "RegressorWithErrors",
    "Threshold",
    "Variant",
    "variants",
]

NEWTON = Algorithm(
    name="linear.newton",
    version=1,
    spec=Newton,
    partial=Partial,
    law=law,
    empty=identity,
    accumulate=accumulate,
    merge=merge,
    fold=fold,
    scale=scale,
    weight=weight,
    models={
        "classifier": ModelKind(Classifier, Model, derive, predict_classifier, measure_classifier),
        "regressor": ModelKind(Regressor, Model, derive, predict_regressor, measure_regressor),
        "classifier_with_errors": ModelKind(
            ClassifierWithErrors,
            ModelWithErrors,
            derive_with_errors,
            predict_classifier,
            measure_classifier,
            bounded_classifier,
        ),
        "regressor_with_errors": ModelKind(
            RegressorWithErrors,
            ModelWithErrors,
            derive_with_errors,
            predict_regressor,
            measure_regressor,
            bounded_regressor,
        ),
    },
    anchor_type=Anchor,
    anchor=anchor,
    merge_states=merge_states,
    looks_back=True,
    scorer=scorer,
    information=information,
    grown_from=grown_from,
    settle=settle,
    remove=remove,
)
"""Linear models by Newton steps; EXACT for squared loss, ANCHORED for logistic."""

ADAGRAD = Algorithm(
    name="linear.adagrad",
    version=1,
    spec=AdaGrad,
    state=arrays.State,
    partial=arrays.Partial,
    law=state.law,
    init=state.init,
    empty=state.empty,
    accumulate=run.accumulate,
    merge=state.merge,
    fold=adagrad_fold.fold,
    scale=state.scale,
    weight=state.weight,
    models={
        name: ModelKind(kind, AdaGradModel, adagrad_derive.derive, adagrad_derive.predict, adagrad_derive.measure)
        for name, kind in (("variant", Variant), ("classifier", Classifier), ("regressor", Regressor))
    },
    anchor_type=arrays.Anchor,
    anchor=state.anchor,
    merge_states=adagrad_merge.merge_states,
    grow=run.Run,
    scorer=ranking.scorer,
    features_held=known.features_held,
)
"""Linear models by AdaGrad, many variants packed; ANCHORED."""
