"""The algorithms that the laws are checked on, each with a small spec."""

import dataclasses
from typing import Any

from toy_mean import TOY_MEAN, MeanSpec
from toy_sample import TOY_SAMPLE, SampleSpec
from toy_series import as_series
from toy_sgd import TOY_SGD, SgdSpec

from beam_ml.algorithms import deepar, distinct, fm, kmeans, linear, ntm, pca, quantile, target, vocabulary
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.testing.strategies import Rows

EXAMPLES = 20


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    algorithm: Algorithm
    spec: Spec
    models: tuple[ModelSpec, ...] = ()
    rows: Rows | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.algorithm, self.spec, self.models


SUBJECTS = (
    Case("pca", pca.PCA, pca.Spec(n_features=3), (pca.Components(n_components=2, whiten=True),)),
    Case(
        "pca_sketch",
        pca.PCA_SKETCH,
        pca.Spec(n_features=8, mode="sketch", sketch_rows=3),
        (pca.Components(n_components=2),),
    ),
    Case("kmeans", kmeans.KMEANS, kmeans.Spec(n_features=3, k_max=6), (kmeans.Clusters(k=4),)),
    Case("logistic", linear.NEWTON, linear.Newton(n_features=3), (linear.Classifier(), linear.ClassifierWithErrors())),
    Case(
        "balanced", linear.NEWTON, linear.Newton(n_features=2, positive_weight="balanced"), (linear.Classifier(l2=0.1),)
    ),
    Case(
        "squared",
        linear.NEWTON,
        linear.Newton(n_features=3, loss="squared"),
        (linear.Regressor(), linear.RegressorWithErrors()),
    ),
    Case(
        "adagrad",
        linear.ADAGRAD,
        linear.AdaGrad(n_features=3, learning_rates=(0.1, 0.4), l1=(0.0, 1e-4), l2=0.0),
        (linear.Variant(index=0), linear.Variant(index=3), linear.Variant()),
    ),
    Case(
        "softmax",
        linear.ADAGRAD,
        linear.AdaGrad(n_features=4, task="multiclass", n_classes=3, learning_rates=0.2, l1=0.0, l2=0.0),
        (linear.Classifier(),),
    ),
    Case(
        "huber",
        linear.ADAGRAD,
        linear.AdaGrad(n_features=3, task="regression", loss="huber", learning_rates=0.2, l1=0.0, l2=1e-4),
        (linear.Regressor(),),
    ),
    Case("fm", fm.FM, fm.Spec(n_features=4, n_factors=2), (fm.Classifier(),)),
    Case("fm_real", fm.FM, fm.Spec(n_features=3, n_factors=3, task="regression"), (fm.Regressor(),)),
    Case("quantile", quantile.QUANTILE, quantile.Spec(n_features=3, max_buckets=256)),
    Case(
        "deepar",
        deepar.DEEPAR,
        deepar.Spec(
            time_freq="5H",
            context_length=2,
            prediction_length=2,
            max_length=16,
            num_cells=4,
            num_layers=1,
            mini_batch_size=16,
            learning_rate=0.02,
            passes_per_refresh=2,
            gather_bytes=8192,
        ),
        (deepar.Forecast(num_samples=10, quantiles=(0.25, 0.5, 0.75)),),
        as_series,
    ),
    Case("distinct", distinct.DISTINCT, distinct.Spec(n_features=3, precision=5)),
    Case("vocabulary", vocabulary.VOCABULARY, vocabulary.Spec(n_features=3, capacity=20)),
    Case("target", target.TARGET, target.Spec(n_features=1, buckets=32)),
    Case("ntm", ntm.NTM, ntm.Spec(n_features=3, num_topics=3, encoder_layers=(6,), gather_bytes=8192)),
    Case("toy_mean", TOY_MEAN, MeanSpec(n_features=2)),
    Case("toy_sgd", TOY_SGD, SgdSpec(n_features=2)),
    Case("toy_sample", TOY_SAMPLE, SampleSpec(n_features=2)),
)
