"""Principal components: any number of them, chosen after training.

Two modes of one Spec. Exact keeps the whole scatter matrix, d² numbers (module `exact`). Sketch keeps 2·l rows of d by
frequent directions, within a stated bound (module `sketch`): for wide rows, d = 10,000 and more. Both centre exactly, at any
offset.

References: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979);
Jolliffe, "Principal Component Analysis" (2002); Liberty, "Simple and deterministic matrix sketching" (2013).
"""

from beam_ml.algorithms.pca import exact, sketch
from beam_ml.algorithms.pca.model import measure, predict
from beam_ml.algorithms.pca.spec import Components, Model, Partial, Sketch, Spec, randomized_rows
from beam_ml.core.algorithm import Algorithm, ModelKind

__all__ = ["PCA", "PCA_SKETCH", "Components", "Model", "Partial", "Sketch", "Spec", "randomized_rows"]

PCA = Algorithm(
    name="pca",
    version=1,
    spec=Spec,
    partial=Partial,
    law=exact.law,
    empty=exact.empty,
    accumulate=exact.accumulate,
    merge=exact.merge,
    scale=exact.scale,
    weight=exact.weight,
    models={"components": ModelKind(Components, Model, exact.derive, predict, measure)},
    remove=exact.remove,
)
"""Exact principal component analysis: law EXACT, State is Partial.

>>> from beam_ml.core.batch import Batch
>>> spec = Spec(n_features=2)
>>> batch = Batch.dense([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
>>> state = PCA.accumulate(spec, PCA.empty(spec), batch, None)
>>> model = PCA.models["components"].derive(spec, Components(n_components=1), state, None)
>>> model.explained_variance_ratio.round(6).tolist()
[1.0]
>>> PCA.models["components"].predict(model, batch)["projection"].round(4).ravel().tolist()
[-2.2361, 0.0, 2.2361]
"""

PCA_SKETCH = Algorithm(
    name="pca.sketch",
    version=1,
    spec=Spec,
    partial=Sketch,
    law=sketch.law,
    empty=sketch.empty,
    accumulate=sketch.accumulate,
    merge=sketch.merge,
    scale=sketch.scale,
    weight=sketch.weight,
    models={"components": ModelKind(Components, Model, sketch.derive, predict, measure)},
)
"""Principal component analysis by frequent directions: law SKETCH, State is Partial, here a Sketch.

>>> spec = Spec(n_features=2, mode="sketch", sketch_rows=1)
>>> state = PCA_SKETCH.accumulate(spec, PCA_SKETCH.empty(spec), batch, None)
>>> model = PCA_SKETCH.models["components"].derive(spec, Components(n_components=1), state, None)
>>> model.explained_variance_ratio.round(6).tolist(), model.components.round(4).tolist()
([1.0], [[0.4472, 0.8944]])
"""
