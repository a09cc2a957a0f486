"""Every hyperparameter of the tables, by name: mapped ones change what they say, others say why they do not."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import beam_ml
from beam_ml import Batch, deepar, derive, fit, fm, kmeans, linear, ntm, pca, predict
from beam_ml.beam.job import Job
from beam_ml.core.passes import EarlyStopping
from beam_ml.errors import InvalidValue
from beam_ml.sagemaker import TABLES, Found, Name, hyperparameters
from beam_ml.sagemaker.names import anything, metric_list, one_of, read, real, truth, whole

BINARY = {"predictor_type": "binary_classifier", "feature_dim": "20"}
MULTI = {"predictor_type": "multiclass_classifier", "feature_dim": "20", "num_classes": "4"}
REAL = {"predictor_type": "regressor", "feature_dim": "20"}
STEPS = {"num_models": "1"}  # asks for gradient steps, and so for AdaGrad
FACTORS = {"predictor_type": "binary_classifier", "feature_dim": "20", "num_factors": "8"}
KMEANS = {"feature_dim": "6", "k": "3"}
PCA = {"feature_dim": "40", "num_components": "12"}
NTM = {"feature_dim": "40", "num_topics": "5"}
DEEPAR = {"time_freq": "H", "context_length": "24", "prediction_length": "12", "epochs": "20"}
CRITERION = "binary_classifier_model_selection_criteria"

# As published; what is not in a table here would be refused as unknown.
PUBLISHED = {
    "linear-learner": """predictor_type num_classes feature_dim mini_batch_size epochs loss optimizer learning_rate momentum
        beta_1 beta_2 wd l1 use_bias bias_lr_mult bias_wd_mult use_lr_scheduler lr_scheduler_step lr_scheduler_factor
        lr_scheduler_minimum_lr init_method init_scale init_sigma init_bias normalize_data normalize_label unbias_data
        unbias_label num_point_for_scaler num_models num_calibration_samples binary_classifier_model_selection_criteria
        target_recall target_precision f_beta positive_example_weight_mult balance_multiclass_weights accuracy_top_k margin
        quantile loss_insensitivity huber_delta early_stopping_patience early_stopping_tolerance
        _tuning_objective_metric""",
    "factorization-machines": """feature_dim num_factors predictor_type mini_batch_size epochs bias_lr linear_lr factors_lr
        bias_wd linear_wd factors_wd bias_init_method linear_init_method factors_init_method bias_init_sigma
        linear_init_sigma factors_init_sigma bias_init_scale linear_init_scale factors_init_scale bias_init_value
        linear_init_value factors_init_value clip_gradient eps rescale_grad use_bias use_linear _optimizer _learning_rate
        _wd batch_metrics_publish_interval _kvstore _use_full_symbolic _tuning_objective_metric""",
    "kmeans": """feature_dim k mini_batch_size epochs init_method extra_center_factor half_life_time_size
        local_lloyd_init_method local_lloyd_max_iter local_lloyd_tol local_lloyd_num_trials eval_metrics _kvstore
        _num_kv_servers _num_slices force_dense _tuning_objective_metric _enable_profiler _disable_wait_to_read""",
    "pca": """feature_dim num_components mini_batch_size algorithm_mode extra_components subtract_mean epochs force_dense
        _kvstore""",
    "ntm": """feature_dim num_topics encoder_layers encoder_layers_activation epochs mini_batch_size optimizer learning_rate
        weight_decay clip_gradient rescale_gradient batch_norm sub_sample num_patience_epochs tolerance""",
    "forecasting-deepar": """context_length epochs prediction_length time_freq cardinality dropout_rate early_stopping_patience
        embedding_dimension learning_rate likelihood mini_batch_size num_cells num_dynamic_feat num_eval_samples num_layers
        test_quantiles""",
}
BASE = {
    "linear-learner": BINARY, "factorization-machines": FACTORS, "kmeans": KMEANS, "pca": PCA, "ntm": NTM,
    "forecasting-deepar": DEEPAR,
}  # fmt: skip
MAY_BE_EMPTY = ("cardinality", "num_dynamic_feat")


def rows(kind: str) -> list[Any]:
    return [
        pytest.param(algorithm, row, id=f"{algorithm}.{row.name}")
        for algorithm, table in TABLES.items()
        for row in table
        if row.kind == kind
    ]


def field(found: Found, path: str) -> Any:
    value: Any = found
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part)
    return value


# algorithm, name, what else is given, a value, and the field that it changes: from, to
MAPPED: list[tuple[str, str, dict[str, str], str, str, Any, Any]] = [
    ("linear-learner", "predictor_type", BINARY, "regressor", "spec.loss", "logistic", "squared"),
    ("linear-learner", "predictor_type", BINARY, "regressor", "model.kind", "classifier", "regressor"),
    ("linear-learner", "predictor_type", BINARY | STEPS, "regressor", "spec.task", "binary", "regression"),
    ("linear-learner", "predictor_type", MULTI, "multiclass_classifier", "spec.loss", "softmax", "softmax"),
    ("linear-learner", "num_classes", MULTI, "7", "spec.n_classes", 4, 7),
    ("linear-learner", "feature_dim", BINARY, "21", "spec.n_features", 20, 21),
    ("linear-learner", "feature_dim", BINARY, "500", "spec.algorithm", "linear.newton", "linear.newton"),
    ("linear-learner", "feature_dim", BINARY, "501", "spec.algorithm", "linear.newton", "linear.adagrad"),
    ("linear-learner", "mini_batch_size", BINARY | STEPS, "1000", "spec.mini_batch_rows", 16, 1000),
    ("linear-learner", "mini_batch_size", BINARY, "16", "spec.algorithm", "linear.newton", "linear.adagrad"),
    ("linear-learner", "loss", BINARY | STEPS, "logistic", "spec.loss", "logistic", "logistic"),
    ("linear-learner", "loss", BINARY | STEPS, "hinge_loss", "spec.loss", "logistic", "hinge"),
    ("linear-learner", "loss", MULTI, "softmax_loss", "spec.loss", "softmax", "softmax"),
    ("linear-learner", "loss", MULTI, "hinge_loss", "spec.loss", "softmax", "hinge"),
    ("linear-learner", "loss", REAL, "squared_loss", "spec.loss", "squared", "squared"),
    ("linear-learner", "loss", REAL, "absolute_loss", "spec.loss", "squared", "absolute"),
    ("linear-learner", "loss", REAL, "quantile_loss", "spec.loss", "squared", "quantile"),
    ("linear-learner", "loss", REAL, "huber_loss", "spec.loss", "squared", "huber"),
    ("linear-learner", "loss", REAL, "eps_insensitive_squared_loss", "spec.loss", "squared", "eps_insensitive_squared"),
    ("linear-learner", "loss", REAL, "eps_insensitive_absolute_loss", "spec.loss", "squared", "eps_insensitive_absolute"),
    ("linear-learner", "learning_rate", BINARY | STEPS, "0.03", "spec.learning_rates", (0.5,), (0.03,)),
    ("linear-learner", "learning_rate", BINARY, "0.03", "spec.algorithm", "linear.newton", "linear.adagrad"),
    ("linear-learner", "wd", BINARY, "0.25", "model.l2", 0.0, 0.25),
    ("linear-learner", "wd", REAL, "0.25", "model.l2", 0.0, 0.25),
    ("linear-learner", "wd", MULTI, "0.25", "spec.l2", (0.0, 1e-5), (0.25,)),
    ("linear-learner", "wd", MULTI, "0", "spec.l2", (0.0, 1e-5), (0.0,)),
    ("linear-learner", "l1", BINARY, "0.25", "model.l1", 0.0, 0.25),
    ("linear-learner", "l1", REAL | {"normalize_label": "false"}, "0.25", "model.l1", 0.0, 0.25),
    ("linear-learner", "l1", REAL, "0.25", "spec.algorithm", "linear.newton", "linear.adagrad"),
    ("linear-learner", "l1", REAL, "0", "spec.algorithm", "linear.newton", "linear.newton"),
    ("linear-learner", "l1", MULTI, "0.25", "spec.l1", (0.0, 1e-5), (0.25,)),
    ("linear-learner", "use_bias", BINARY | STEPS, "False", "spec.use_bias", True, False),
    ("linear-learner", "use_bias", BINARY, "false", "spec.algorithm", "linear.newton", "linear.adagrad"),
    ("linear-learner", "bias_lr_mult", BINARY | STEPS, "2.5", "spec.bias_rate", 10.0, 2.5),
    ("linear-learner", "bias_lr_mult", BINARY, "10", "spec.algorithm", "linear.newton", "linear.adagrad"),
    ("linear-learner", "normalize_data", BINARY, "false", "model.standardize", True, False),
    ("linear-learner", "normalize_data", REAL, "False", "model.standardize", True, False),
    ("linear-learner", "normalize_data", MULTI, "false", "spec.normalize", True, False),
    ("linear-learner", "normalize_data", MULTI, "auto", "spec.normalize", True, True),
    ("linear-learner", "normalize_label", REAL | STEPS, "false", "spec.normalize_label", True, False),
    ("linear-learner", "unbias_data", BINARY | STEPS, "false", "spec.sparse", False, True),
    ("linear-learner", "unbias_data", BINARY | {"feature_dim": "2001"}, "true", "spec.sparse", True, False),
    ("linear-learner", "unbias_data", BINARY, "false", "spec.algorithm", "linear.newton", "linear.adagrad"),
    ("linear-learner", "num_models", MULTI, "1", "spec.n_variants", 32, 1),
    ("linear-learner", "num_models", BINARY, "2", "spec.algorithm", "linear.newton", "linear.adagrad"),
    ("linear-learner", CRITERION, BINARY, "loss_function", "model.threshold.by", "accuracy", "loss"),
    ("linear-learner", CRITERION, BINARY, "cross_entropy_loss", "model.threshold.by", "accuracy", "loss"),
    ("linear-learner", CRITERION, BINARY | STEPS, "f_beta", "model.threshold.by", "accuracy", "f_beta"),
    ("linear-learner", CRITERION, BINARY | {"f_beta": "3"}, "f1", "model.threshold.beta", 1.0, 1.0),
    ("linear-learner", "target_recall", BINARY | {CRITERION: "precision_at_target_recall"}, ".9", "model.threshold.target", 0.8, 0.9),
    ("linear-learner", "target_precision", BINARY | {CRITERION: "recall_at_target_precision"}, "0.7", "model.threshold.target", 0.8, 0.7),
    ("linear-learner", "f_beta", BINARY | {CRITERION: "f_beta"}, "2", "model.threshold.beta", 1.0, 2.0),
    ("linear-learner", "positive_example_weight_mult", BINARY, "3", "spec.positive_weight", 1.0, 3.0),
    ("linear-learner", "positive_example_weight_mult", BINARY | STEPS, "balanced", "spec.positive_weight", 1.0, "balanced"),
    ("linear-learner", "positive_example_weight_mult", BINARY, "auto", "spec.positive_weight", 1.0, 1.0),
    ("linear-learner", "balance_multiclass_weights", MULTI, "true", "spec.balance_multiclass_weights", False, True),
    ("linear-learner", "accuracy_top_k", MULTI, "2", "model.top_k", 3, 2),
    ("linear-learner", "margin", BINARY | {"loss": "hinge_loss"}, "0.5", "spec.margin", 1.0, 0.5),
    ("linear-learner", "quantile", REAL | {"loss": "quantile_loss"}, "0.9", "spec.quantile", 0.5, 0.9),
    ("linear-learner", "loss_insensitivity", REAL | {"loss": "eps_insensitive_squared_loss"}, "0.1", "spec.loss_insensitivity", 0.01, 0.1),
    ("linear-learner", "huber_delta", REAL | {"loss": "huber_loss"}, "2", "spec.huber_delta", 1.0, 2.0),
    ("linear-learner", "epochs", BINARY | STEPS, "20", "job.passes", None, 20),
    ("linear-learner", "epochs", MULTI, "2", "job.early_stopping", None, {"patience": 3, "tolerance": 0.001}),
    ("linear-learner", "early_stopping_patience", MULTI | {"epochs": "9"}, "4", "job.early_stopping", {"patience": 3, "tolerance": 0.001}, {"patience": 4, "tolerance": 0.001}),
    ("linear-learner", "early_stopping_tolerance", MULTI | {"epochs": "9"}, "0.01", "job.early_stopping", {"patience": 3, "tolerance": 0.001}, {"patience": 3, "tolerance": 0.01}),
    ("factorization-machines", "feature_dim", FACTORS, "30", "spec.n_features", 20, 30),
    ("factorization-machines", "num_factors", FACTORS, "64", "spec.n_factors", 8, 64),
    ("factorization-machines", "predictor_type", FACTORS, "regressor", "spec.task", "binary", "regression"),
    ("factorization-machines", "predictor_type", FACTORS, "regressor", "model.kind", "classifier", "regressor"),
    ("factorization-machines", "epochs", FACTORS, "20", "job.passes", None, 20),
    ("factorization-machines", "bias_lr", FACTORS, "0.3", "spec.bias_lr", 0.1, 0.3),
    ("factorization-machines", "linear_lr", FACTORS, "0.001", "spec.linear_lr", 0.1, 0.001),
    ("factorization-machines", "factors_lr", FACTORS, "0.0001", "spec.factors_lr", 0.1, 0.0001),
    ("factorization-machines", "bias_wd", FACTORS, "0.01", "spec.bias_wd", 0.0, 0.01),
    ("factorization-machines", "linear_wd", FACTORS, "0", "spec.linear_wd", None, 0.0),
    ("factorization-machines", "factors_wd", FACTORS, "0.00001", "spec.factors_wd", None, 0.00001),
    *(
        ("factorization-machines", f"{group}_init_{part}", FACTORS | {f"{group}_init_method": method}, value, f"spec.{group}_init_{part}", before[group], float(value))
        for part, method, value, before in (
            ("sigma", "normal", "0.5", {"bias": 0.01, "linear": 0.01, "factors": 0.1}),
            ("scale", "uniform", "0.25", {"bias": 0.01, "linear": 0.01, "factors": 0.1}),
            ("value", "constant", "-0.125", {"bias": 0.0, "linear": 0.0, "factors": 0.01}),
        )
        for group in ("bias", "linear", "factors")
    ),
    ("factorization-machines", "bias_init_method", FACTORS, "normal", "spec.bias_init_method", "constant", "normal"),
    ("factorization-machines", "linear_init_method", FACTORS, "uniform", "spec.linear_init_method", "constant", "uniform"),
    ("factorization-machines", "factors_init_method", FACTORS, "constant", "spec.factors_init_method", "normal", "constant"),
    ("factorization-machines", "linear_init_sigma", FACTORS, "0.01", "spec.linear_init_method", "constant", "normal"),
    ("factorization-machines", "clip_gradient", FACTORS, "5", "spec.clip_gradient", None, 5.0),
    ("factorization-machines", "use_bias", FACTORS, "false", "spec.use_bias", True, False),
    ("factorization-machines", "use_linear", FACTORS, "False", "spec.use_linear", True, False),
    ("kmeans", "feature_dim", KMEANS, "7", "spec.n_features", 6, 7),
    ("kmeans", "k", KMEANS, "5", "spec.k_max", 3, 5),
    ("kmeans", "k", KMEANS, "5", "model.k", 3, 5),
    ("kmeans", "extra_center_factor", KMEANS, "10", "spec.extra_center_factor", 20, 10),
    ("kmeans", "local_lloyd_init_method", KMEANS, "random", "model.init", "kmeans++", "random"),
    ("kmeans", "local_lloyd_max_iter", KMEANS, "7", "model.max_iter", 300, 7),
    ("kmeans", "local_lloyd_tol", KMEANS, "0.5", "model.tol", 1e-4, 0.5),
    ("kmeans", "local_lloyd_num_trials", KMEANS, "4", "model.restarts", 10, 4),
    ("pca", "feature_dim", PCA, "41", "spec.n_features", 40, 41),
    ("pca", "num_components", PCA, "13", "model.n_components", 12, 13),
    ("pca", "num_components", PCA | {"algorithm_mode": "randomized"}, "13", "spec.sketch_rows", 24, 26),
    ("pca", "algorithm_mode", PCA, "randomized", "spec.mode", "exact", "sketch"),
    ("pca", "extra_components", PCA | {"algorithm_mode": "randomized"}, "3", "spec.sketch_rows", 24, 15),
    ("pca", "extra_components", PCA | {"algorithm_mode": "randomized"}, "-1", "spec.sketch_rows", 24, 24),
    ("pca", "subtract_mean", PCA, "False", "model.center", True, False),
    ("ntm", "feature_dim", NTM, "41", "spec.n_features", 40, 41),
    ("ntm", "num_topics", NTM, "6", "spec.num_topics", 5, 6),
    ("ntm", "encoder_layers", NTM, "15, 10", "spec.layers", (128,), (15, 10)),
    ("ntm", "encoder_layers", NTM, "auto", "spec.layers", (128,), (128,)),
    ("ntm", "encoder_layers_activation", NTM, "sigmoid", "spec.encoder_layers_activation", "softplus", "sigmoid"),
    ("ntm", "epochs", NTM, "50", "spec.passes_per_refresh", ntm.Spec(n_features=1).passes_per_refresh, 50),
    ("ntm", "mini_batch_size", NTM, "256", "spec.mini_batch_size", 32, 256),
    ("ntm", "optimizer", NTM, "rmsprop", "spec.optimizer", "adam", "rmsprop"),
    ("ntm", "optimizer", NTM, "adadelta", "spec.learning_rate", ntm.Spec(n_features=1).learning_rate, 1.0),
    ("ntm", "learning_rate", NTM, "0.001", "spec.learning_rate", ntm.Spec(n_features=1).learning_rate, 0.001),
    ("ntm", "weight_decay", NTM, "0.5", "spec.weight_decay", 0.0, 0.5),
    ("ntm", "clip_gradient", NTM, "Infinity", "spec.clip_gradient", 50.0, None),
    ("ntm", "clip_gradient", NTM, "2", "spec.clip_gradient", 50.0, 2.0),
    ("ntm", "rescale_gradient", NTM, "0.5", "spec.rescale_gradient", 1.0, 0.5),
    ("ntm", "batch_norm", NTM, "false", "spec.batch_norm", True, False),
    ("ntm", "sub_sample", NTM, "0.5", "spec.sub_sample", 1.0, 0.5),
    ("forecasting-deepar", "time_freq", DEEPAR, "15min", "spec.time_freq", "H", "15min"),
    ("forecasting-deepar", "context_length", DEEPAR, "48", "spec.context_length", 24, 48),
    ("forecasting-deepar", "prediction_length", DEEPAR, "48", "spec.prediction_length", 12, 48),
    ("forecasting-deepar", "epochs", DEEPAR, "60", "spec.passes_per_refresh", 20, 60),
    ("forecasting-deepar", "likelihood", DEEPAR, "beta", "spec.likelihood", "student-T", "beta"),
    ("forecasting-deepar", "num_cells", DEEPAR, "30", "spec.num_cells", 40, 30),
    ("forecasting-deepar", "num_layers", DEEPAR, "3", "spec.num_layers", 2, 3),
    ("forecasting-deepar", "dropout_rate", DEEPAR, "0.1", "spec.dropout_rate", 0.0, 0.1),
    ("forecasting-deepar", "learning_rate", DEEPAR, "0.001", "spec.learning_rate", 0.003, 0.001),
    ("forecasting-deepar", "mini_batch_size", DEEPAR, "128", "spec.mini_batch_size", 32, 128),
    ("forecasting-deepar", "embedding_dimension", DEEPAR, "5", "spec.embedding_dimension", 10, 5),
    ("forecasting-deepar", "cardinality", DEEPAR, "[2, 3]", "spec.cardinality", (), (2, 3)),
    ("forecasting-deepar", "cardinality", DEEPAR | {"cardinality": "[2]"}, "ignore", "spec.cardinality", (2,), ()),
    ("forecasting-deepar", "cardinality", DEEPAR | {"cardinality": "[2]"}, "", "spec.cardinality", (2,), ()),
    ("forecasting-deepar", "cardinality", DEEPAR, "auto", "spec.cardinality", (), ()),
    ("forecasting-deepar", "num_dynamic_feat", DEEPAR, "4", "spec.num_dynamic_feat", 0, 4),
    ("forecasting-deepar", "num_dynamic_feat", DEEPAR | {"num_dynamic_feat": "4"}, "ignore", "spec.num_dynamic_feat", 4, 0),
    ("forecasting-deepar", "num_dynamic_feat", DEEPAR | {"num_dynamic_feat": "4"}, "", "spec.num_dynamic_feat", 4, 0),
    ("forecasting-deepar", "num_dynamic_feat", DEEPAR, "auto", "spec.num_dynamic_feat", 0, 0),
    ("forecasting-deepar", "num_eval_samples", DEEPAR, "50", "model.num_samples", 100, 50),
    ("forecasting-deepar", "test_quantiles", DEEPAR, "[0.05, 0.95]", "model.quantiles", deepar.Forecast().quantiles, (0.05, 0.95)),
]  # fmt: skip

# algorithm, name → values that are good but without effect
NOTED = {
    ("linear-learner", "use_lr_scheduler"): "False",
    ("linear-learner", "lr_scheduler_step"): "100",
    ("linear-learner", "lr_scheduler_factor"): "0.99",
    ("linear-learner", "lr_scheduler_minimum_lr"): "1e-05",
    ("linear-learner", "init_method"): "normal",
    ("linear-learner", "init_scale"): "0.07",
    ("linear-learner", "init_sigma"): "0.01",
    ("linear-learner", "init_bias"): "-0.5",
    ("linear-learner", "unbias_label"): "true",
    ("linear-learner", "num_point_for_scaler"): "20000",
    ("linear-learner", "num_calibration_samples"): "10000000",
    ("linear-learner", "_tuning_objective_metric"): "validation:objective_loss",
    ("factorization-machines", "mini_batch_size"): "1000",
    ("factorization-machines", "eps"): "1e-8",
    ("factorization-machines", "rescale_grad"): "0.001",
    ("factorization-machines", "batch_metrics_publish_interval"): "500",
    ("factorization-machines", "_kvstore"): "auto",
    ("factorization-machines", "_use_full_symbolic"): "true",
    ("factorization-machines", "_tuning_objective_metric"): "test:rmse",
    ("kmeans", "mini_batch_size"): "500",
    ("kmeans", "epochs"): "2",
    ("kmeans", "init_method"): "kmeans++",
    ("kmeans", "eval_metrics"): '["msd","ssd"]',
    ("kmeans", "_kvstore"): "auto",
    ("kmeans", "_num_kv_servers"): "1",
    ("kmeans", "_num_slices"): "1",
    ("kmeans", "force_dense"): "true",
    ("kmeans", "_tuning_objective_metric"): "test:msd",
    ("kmeans", "_enable_profiler"): "false",
    ("kmeans", "_disable_wait_to_read"): "false",
    ("pca", "mini_batch_size"): "500",
    ("pca", "epochs"): "1",
    ("pca", "force_dense"): "true",
    ("pca", "_kvstore"): "dist_sync",
    ("ntm", "num_patience_epochs"): "3",
    ("ntm", "tolerance"): "0.001",
    ("forecasting-deepar", "early_stopping_patience"): "10",
}
# algorithm, name → a value that cannot be honoured, and words of the reason
REFUSED = {
    ("linear-learner", "optimizer"): ("adam", "add up over shards"),
    ("linear-learner", "momentum"): ("0.9", "no running mean of gradients"),
    ("linear-learner", "beta_1"): ("0.9", "belongs to Adam"),
    ("linear-learner", "beta_2"): ("0.999", "belongs to Adam"),
    ("linear-learner", "bias_wd_mult"): ("1", "the bias carries no penalty"),
    ("factorization-machines", "_optimizer"): ("adam", "add up over shards"),
    ("factorization-machines", "_learning_rate"): ("0.5", "given by group"),
    ("factorization-machines", "_wd"): ("2", "given by group"),
    ("kmeans", "half_life_time_size"): ("1000", "kmeans.Spec.half_life"),
}


def test_the_tables_hold_every_published_name_once() -> None:
    for algorithm, names in PUBLISHED.items():
        assert sorted(row.name for row in TABLES[algorithm]) == sorted(names.split())
    for table in TABLES.values():
        for row in table:
            assert sum(map(bool, (row.to, row.note, row.refused))) == 1, row.name
            assert not row.default or row.values.parse(row.default) is not None, row.name
            assert bool(row.harmless) == bool(row.refused)


def test_the_cases_cover_every_name() -> None:
    assert {case[:2] for case in MAPPED} == {(p.values[0], p.values[1].name) for p in rows("mapped")}
    assert set(NOTED) == {(p.values[0], p.values[1].name) for p in rows("noted")}
    assert set(REFUSED) == {(p.values[0], p.values[1].name) for p in rows("refused")}


@pytest.mark.parametrize("case", MAPPED, ids=lambda case: f"{case[0]}.{case[1]}={case[3]}")
def test_a_mapped_name_sets_its_field(case: tuple[str, str, dict[str, str], str, str, Any, Any]) -> None:
    algorithm, name, base, value, path, before, after = case
    assert field(hyperparameters(algorithm, base), path) == pytest.approx(before)
    found = hyperparameters(algorithm, base | {name: value})
    assert field(found, path) == pytest.approx(after)
    assert not [note for note in found.notes if note.startswith(f"{name} ")]


@pytest.mark.parametrize(("algorithm", "row"), rows("mapped"))
def test_a_mapped_name_changes_something(algorithm: str, row: Name) -> None:
    cases = [case for case in MAPPED if case[:2] == (algorithm, row.name)]
    assert any(case[5] != case[6] for case in cases)


@pytest.mark.parametrize(("algorithm", "row"), rows("noted"))
def test_a_noted_name_is_accepted_with_its_reason_and_changes_nothing(algorithm: str, row: Name) -> None:
    plain = hyperparameters(algorithm, BASE[algorithm])
    found = hyperparameters(algorithm, BASE[algorithm] | {row.name: NOTED[algorithm, row.name]})
    assert plain.notes == ()
    assert found.notes == (f"{row.name} has no effect: {row.note}.",)
    assert (found.spec, found.model) == (plain.spec, plain.model)


@pytest.mark.parametrize(("algorithm", "row"), rows("refused"))
def test_a_refused_name_says_why_unless_its_value_is_harmless(algorithm: str, row: Name) -> None:
    value, words = REFUSED[algorithm, row.name]
    with pytest.raises(InvalidValue) as caught:
        hyperparameters(algorithm, BASE[algorithm] | {row.name: value})
    text = str(caught.value)
    assert text.startswith(f"{algorithm}.{row.name} may only be ")
    assert words in text
    assert text.endswith(f"; got {value!r}.")
    for harmless in row.harmless:
        assert hyperparameters(algorithm, BASE[algorithm] | {row.name: harmless}) == hyperparameters(
            algorithm, BASE[algorithm]
        )


@pytest.mark.parametrize(
    ("algorithm", "row"),
    [p for p in rows("mapped") + rows("noted") + rows("refused") if p.values[1].values.text != "text"],
)
def test_a_value_that_is_none_is_refused_by_name_and_rule(algorithm: str, row: Name) -> None:
    for bad in (
        "[" if row.name in MAY_BE_EMPTY else "",
        "nan",
        "inf",
        "1e999",
        "none",
        "1;5" if row.name == "encoder_layers" else "1,5",
        "[]",
        "0x10",
        "1_0",
        "--7" if row.name.endswith(("init_bias", "init_value")) else "-7",
    ):
        with pytest.raises(InvalidValue) as caught:
            hyperparameters(algorithm, BASE[algorithm] | {row.name: bad})
        assert str(caught.value) == f"{algorithm}.{row.name} must be {row.values.text}; got {bad!r}."


@pytest.mark.parametrize(
    ("algorithm", "row"), [p for p in rows("mapped") if not p.values[1].default], ids=lambda x: getattr(x, "name", x)
)
def test_a_name_without_a_default_must_be_given(algorithm: str, row: Name) -> None:
    given = {name: value for name, value in BASE[algorithm].items() if name != row.name}
    with pytest.raises(InvalidValue, match=rf"^{algorithm}\.{row.name} must be given, .*\.$"):
        hyperparameters(algorithm, given)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidValue) as caught:
        hyperparameters("linear-learner", BINARY | {"mini_batch_siz": "10"})
    assert str(caught.value) == "linear-learner has no hyperparameter 'mini_batch_siz'. Did you mean 'mini_batch_size'?"
    with pytest.raises(InvalidValue, match=r"Did you mean 'k'\?$"):
        hyperparameters("kmeans", KMEANS | {"kk": "3"})
    with pytest.raises(
        InvalidValue,
        match=r"^algorithm must be one of linear-learner, factorization-machines, kmeans, pca, ntm, forecasting-deepar; got 'k-means'\. Did you mean 'kmeans'\?$",
    ):
        hyperparameters("k-means", KMEANS)


def test_a_width_of_auto_is_refused_with_the_reason() -> None:
    with pytest.raises(
        InvalidValue, match=r"feature_dim must be a whole number .* before the first row; got 'auto'\.$"
    ):
        hyperparameters("linear-learner", BINARY | {"feature_dim": "auto"})


@pytest.mark.parametrize(
    ("given", "note"),
    [
        (BINARY | {"num_classes": "2"}, "num_classes has no effect with predictor_type 'binary_classifier'."),
        (BINARY | {"margin": "2"}, "margin has no effect with loss 'auto'."),
        (REAL | {"huber_delta": "2", "loss": "squared_loss"}, "huber_delta has no effect with loss 'squared_loss'."),
        (BINARY | {"normalize_label": "true"}, "normalize_label has no effect with predictor_type 'binary_classifier'."),
        (MULTI | {CRITERION: "f_beta"}, f"{CRITERION} has no effect with predictor_type 'multiclass_classifier'."),
        (BINARY | {"target_recall": "0.9"}, f"target_recall has no effect with {CRITERION} 'accuracy'."),
        (BINARY | {"f_beta": "2", CRITERION: "f1"}, f"f_beta has no effect with {CRITERION} 'f1'."),
        (REAL | {"positive_example_weight_mult": "2"}, "positive_example_weight_mult has no effect with predictor_type 'regressor'."),
        (BINARY | {"epochs": "9"}, "epochs has no effect: linear.newton takes in all that rows hold in one pass."),
        (BINARY | {"early_stopping_patience": "2"}, "early_stopping_patience has no effect: linear.newton takes in all that rows hold in one pass."),
        (MULTI | {"early_stopping_patience": "2"}, "early_stopping_patience has no effect without epochs above 1."),
        (MULTI | {"early_stopping_tolerance": "2", "epochs": "1"}, "early_stopping_tolerance has no effect without epochs above 1."),
        (BINARY | {"accuracy_top_k": "2"}, "accuracy_top_k has no effect with predictor_type 'binary_classifier'."),
        (REAL | {"balance_multiclass_weights": "true"}, "balance_multiclass_weights has no effect with predictor_type 'regressor'."),
    ],
    ids=lambda x: x.split()[0] if isinstance(x, str) else "",
)  # fmt: skip
def test_a_name_that_does_not_matter_here_is_noted_and_changes_nothing(given: dict[str, str], note: str) -> None:
    found = hyperparameters("linear-learner", given)
    name = note.split()[0]
    plain = hyperparameters("linear-learner", {key: value for key, value in given.items() if key != name})
    assert found.notes == (note,)
    assert (found.spec, found.model, found.job) == (plain.spec, plain.model, plain.job)


def test_the_settings_of_a_job_are_such() -> None:
    """Epochs and early stopping are what a job reads, beside the spec that they go with."""
    found = hyperparameters("linear-learner", MULTI | {"epochs": "9", "early_stopping_patience": "2"})
    job = Job.parse(
        {
            "name": "n", "registry": "r", "features": {"numeric": [f"f{i}" for i in range(20)], "label": "y"},
            "spec": found.spec.to_dict(), "models": {"best": found.model.to_dict()}, **found.job,
        }
    )  # fmt: skip
    assert (job.passes, job.early_stopping) == (9, EarlyStopping(patience=2, tolerance=0.001))
    assert job.algorithm_spec() == found.spec


def test_extra_components_matter_to_the_randomized_mode_alone() -> None:
    found = hyperparameters("pca", PCA | {"extra_components": "5"})
    assert found.notes == ("extra_components has no effect with algorithm_mode 'regular'.",)
    assert found.spec == pca.Spec(n_features=40)


@pytest.mark.parametrize(
    ("algorithm", "given", "rule"),
    [
        ("linear-learner", BINARY | {"loss": "squared_loss"}, "loss must be one of auto, logistic, hinge_loss with"),
        ("linear-learner", MULTI | {"loss": "logistic"}, "loss must be one of auto, softmax_loss, hinge_loss with"),
        ("linear-learner", REAL | {"loss": "softmax_loss"}, "loss must be one of auto, squared_loss, absolute_loss,"),
        ("linear-learner", MULTI | {"num_classes": "2"}, "num_classes must be >= 3 with"),
        ("linear-learner", {k: MULTI[k] for k in ("predictor_type", "feature_dim")}, "num_classes must be >= 3 with"),
        ("linear-learner", MULTI | {"unbias_data": "true", "normalize_data": "false"}, "unbias_data must be auto or false"),
        ("linear-learner", REAL | {"use_bias": "false", "unbias_label": "true"}, "unbias_label must be auto or false where use_bias"),
        ("linear-learner", BINARY | {"use_bias": "false", "unbias_data": "true"}, "unbias_data must be auto or false where use_bias"),
        ("factorization-machines", FACTORS | {"factors_init_method": "constant", "factors_init_value": "0"}, "factors_init_value must not be 0"),
        ("pca", PCA | {"num_components": "41"}, "num_components must be <= feature_dim, 40; got 41"),
        ("pca", {"feature_dim": "90000", "num_components": "60000", "algorithm_mode": "randomized"}, "extra_components must"),
    ],
)  # fmt: skip
def test_names_that_do_not_go_together_are_refused(algorithm: str, given: dict[str, str], rule: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        hyperparameters(algorithm, given)
    assert str(caught.value).startswith(f"{algorithm}.{rule}")
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("group", ["bias", "linear", "factors"])
def test_a_start_of_another_method_is_noted_and_changes_nothing(group: str) -> None:
    for part, method in (("sigma", "uniform"), ("scale", "normal"), ("value", "uniform")):
        given = FACTORS | {f"{group}_init_method": method}
        found = hyperparameters("factorization-machines", given | {f"{group}_init_{part}": "0.7"})
        assert found.notes == (f"{group}_init_{part} has no effect with {group}_init_method {method!r}.",)
        assert found.spec == hyperparameters("factorization-machines", given).spec


def test_factorization_machines_learn_from_their_names() -> None:
    assert hyperparameters("factorization-machines", FACTORS) == Found(
        fm.Spec(n_features=20, n_factors=8), fm.Classifier(), ()
    )
    found = hyperparameters(
        "factorization-machines", FACTORS | {"predictor_type": "regressor", "clip_gradient": "None"}
    )
    assert found == Found(fm.Spec(n_features=20, n_factors=8, task="regression"), fm.Regressor(), ())
    rng = np.random.default_rng(0)
    x = (rng.random((2_000, 20)) < 0.3).astype(float)
    batch = Batch.dense(x, label=x[:, 0] * x[:, 1] + x[:, 2])
    out = predict(derive(fit(found.spec, [batch]), found.model), batch)
    assert set(out) == {"score"}
    assert np.corrcoef(out["score"], batch.label)[0, 1] > 0.8


def test_defaults() -> None:
    assert hyperparameters("linear-learner", BINARY) == Found(
        linear.Newton(n_features=20), linear.Classifier(threshold=linear.Threshold(by="accuracy")), ()
    )
    assert hyperparameters("linear-learner", REAL) == Found(
        linear.Newton(n_features=20, loss="squared"), linear.Regressor(), ()
    )
    found = hyperparameters("linear-learner", MULTI)
    rates = tuple(0.5 * 2.0**i for i in range(-4, 4))
    assert found.spec == linear.AdaGrad(
        n_features=20, task="multiclass", n_classes=4, learning_rates=rates, l1=(0, 1e-5), l2=(0, 1e-5), bias_rate=10
    )
    assert found.model == linear.Variant()
    assert hyperparameters("kmeans", KMEANS) == Found(kmeans.Spec(n_features=6, k_max=3), kmeans.Clusters(k=3), ())
    assert hyperparameters("forecasting-deepar", DEEPAR) == Found(
        deepar.Spec(time_freq="H", context_length=24, prediction_length=12, passes_per_refresh=20),
        deepar.Forecast(),
        (),
    )
    assert hyperparameters("pca", PCA) == Found(pca.Spec(n_features=40), pca.Components(n_components=12), ())


@pytest.mark.parametrize("models", range(1, 65))
def test_there_are_as_many_variants_as_models_and_the_given_rate_is_one(models: int) -> None:
    for more in ({}, {"l1": "0.001"}, {"l1": "0", "wd": "0.01"}):
        given = BINARY | {"num_models": str(models), "learning_rate": "0.03"} | more
        spec = hyperparameters("linear-learner", given).spec
        assert isinstance(spec, linear.AdaGrad)
        assert spec.n_variants == models
        assert 0.03 in spec.learning_rates
        assert all(0.03 / 17 < rate < 0.03 * 17 for rate in spec.learning_rates)
        if more:
            assert spec.l1 == (float(more["l1"]),)


@pytest.mark.parametrize("width", [2_000, 2_001, 1_000_000, 16_000_000, 100_000_000])
def test_auto_takes_as_many_models_as_there_is_room_for(width: int) -> None:
    spec = hyperparameters("linear-learner", BINARY | {"feature_dim": str(width)}).spec
    assert isinstance(spec, linear.AdaGrad)
    assert spec.n_variants == {16_000_000: 16, 100_000_000: 2}.get(width, 32)
    assert spec.sparse == (width > 2_000)


def test_auto_takes_one_model_where_there_is_no_room_for_two() -> None:
    spec = hyperparameters("linear-learner", MULTI | {"feature_dim": "50000000"}).spec
    assert isinstance(spec, linear.AdaGrad)
    assert spec.variants == ((0.5, 0.0, 0.0),)
    with pytest.raises(InvalidValue, match=r"^linear\.AdaGrad\.n_features × variants × outputs must be at most"):
        hyperparameters("linear-learner", MULTI | {"feature_dim": "100000000"})


def test_a_bias_does_what_centring_labels_would() -> None:
    for more in ({}, STEPS, {"normalize_label": "false"}, {"normalize_label": "false"} | STEPS):
        for value in ("true", "false"):
            found = hyperparameters("linear-learner", REAL | more | {"unbias_label": value})
            assert found.spec == hyperparameters("linear-learner", REAL | more).spec
            assert [note.split()[0] for note in found.notes] == ["unbias_label"]
    for scaled in (True, False):
        agreed = REAL | {"use_bias": "false", "normalize_label": str(scaled), "unbias_label": "false"}
        assert hyperparameters("linear-learner", agreed).spec.to_dict()["normalize_label"] is scaled


def test_numbers_and_truth_values_are_read_as_their_text() -> None:
    text = hyperparameters("linear-learner", BINARY | {"wd": "0.5", "use_bias": "True"})
    given: Any = {"predictor_type": "binary_classifier", "feature_dim": 20, "wd": 0.5, "use_bias": True}
    assert hyperparameters("linear-learner", given) == text
    with pytest.raises(InvalidValue, match=r"^kmeans\.k must be a whole number in \[1, 100000\]; got None\.$"):
        hyperparameters("kmeans", {"feature_dim": "3", "k": None})  # type: ignore[dict-item]


def test_values() -> None:
    assert [whole(0, None).parse(x) for x in ("0", "+7", "1.0", "1e3", "9" * 30, "٣")] == [0, 7, None, None, None, None]
    assert [real(0, 1, open_low=True).parse(x) for x in ("0", "1", "1e-7", ".5", "1.1")] == [None, 1.0, 1e-7, 0.5, None]
    assert [truth("auto").parse(x) for x in ("true", "False", "auto", "1", "TRUE")] == [True, False, "auto", None, None]
    assert [real(0, 1, open_high=True).parse(x) for x in ("0", "0.99", "1", "-0.1")] == [0.0, 0.99, None, None]
    assert one_of("a", "b").parse("c") is None
    assert metric_list("msd", "ssd").parse('["ssd"]') == ("ssd",)
    assert [metric_list("msd").parse(x) for x in ("msd", "[1]", '["rmse"]', '["msd","msd"]', '"msd"')] == [None] * 5
    assert anything().parse("x") == "x"
    assert read("t", (Name("a", whole(0, 9), "3", to="x"),), {})["a"] == 3


def test_what_comes_out_learns_and_predicts() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3_000, 20))
    label = (x[:, 0] - x[:, 1] > 0).astype(float)
    for more in ({}, STEPS, {"unbias_data": "false"}):
        found = hyperparameters("linear-learner", BINARY | more)
        model = derive(fit(found.spec, [Batch.dense(x, label=label)]), found.model)
        hit = predict(model, Batch.dense(x))["predicted_label"] == label
        assert hit.mean() > 0.95
    for algorithm, given in (("kmeans", KMEANS | {"feature_dim": "20"}), ("pca", PCA | {"feature_dim": "20"})):
        found = hyperparameters(algorithm, given)
        derive(fit(found.spec, [Batch.dense(x)]), found.model)


@pytest.mark.parametrize(
    "penalty", [{"wd": "0.3"}, {"l1": "0.02"}, {"wd": "0.1", "l1": "0.02", "normalize_label": "auto"}]
)
def test_the_unit_of_the_label_does_not_matter_to_a_penalty(penalty: dict[str, str]) -> None:
    """What normalize_label promises; linear.Newton keeps it for wd but not for l1, which goes to linear.AdaGrad."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(2_000, 20))
    label = x @ rng.normal(size=20) + rng.normal(size=2_000)
    found = hyperparameters("linear-learner", REAL | penalty)
    one, hundred = (
        predict(derive(fit(found.spec, [Batch.dense(x, label=label * unit)]), found.model), Batch.dense(x))["score"]
        for unit in (1.0, 100.0)
    )
    assert np.abs(one).max() > 1.0
    np.testing.assert_allclose(hundred, 100.0 * one, rtol=1e-6, atol=1e-6)


def test_it_is_imported_at_its_first_use() -> None:
    code = (
        "import sys, beam_ml; assert 'beam_ml.sagemaker' not in sys.modules; "
        "print(beam_ml.sagemaker.hyperparameters('kmeans', {'feature_dim': '2', 'k': '1'}).model.k)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "1\n"
    with pytest.raises(AttributeError, match="no attribute 'sagemakers'"):
        beam_ml.sagemakers  # type: ignore[attr-defined]  # noqa: B018


REQUIRED = {
    "linear-learner": {"predictor_type": "regressor", "feature_dim": "20"},
    "factorization-machines": {"predictor_type": "regressor", "feature_dim": "20", "num_factors": "4"},
    "kmeans": {"feature_dim": "20", "k": "4"},
    "pca": {"feature_dim": "20", "num_components": "4"},
    "forecasting-deepar": DEEPAR,
}
LOGGED = {
    "_kvstore": "dist_async",
    "_num_kv_servers": "auto",
    "_num_slices": "1",
    "_num_gpus": "auto",
    "_log_level": "info",
    "_ftp_port": "8999",
    "_enable_profiler": "false",
    "_disable_wait_to_read": "false",
    "_use_full_symbolic": "true",
    "_tuning_objective_metric": "",
    "force_dense": "true",
}


@pytest.mark.parametrize("name", LOGGED)
@pytest.mark.parametrize("algorithm", REQUIRED)
def test_a_name_of_the_engine_that_a_container_logs_is_noted_and_changes_nothing(algorithm: str, name: str) -> None:
    plain = hyperparameters(algorithm, REQUIRED[algorithm])
    found = hyperparameters(algorithm, {**REQUIRED[algorithm], name: LOGGED[name]})
    assert (found.spec, found.model, found.job) == (plain.spec, plain.model, plain.job)
    assert found.notes[0].startswith(f"{name} has no effect: ")


@pytest.mark.parametrize(
    ("algorithm", "given", "sentence"),
    [
        (
            "linear-learner",
            {"optimizer": "adam"},
            r"linear-learner.optimizer may only be auto: only the steps of AdaGrad",
        ),
        (
            "factorization-machines",
            {"num_factors": "512"},
            r"num_factors must be a whole number in \[2, 256\]: a row's",
        ),
        ("kmeans", {"_kvstor": "auto"}, "no hyperparameter '_kvstor'. Did you mean '_kvstore'?"),
        (
            "forecasting-deepar",
            {"time_freq": "2Q"},
            r"time_freq must be M, W, D, H or min, after a whole number in \[1, 1200\] if any; got '2Q'\.$",
        ),
        ("forecasting-deepar", {"time_freq": "0H"}, r"time_freq must be .* got '0H'\.$"),
        ("forecasting-deepar", {"cardinality": "[2, 0]"}, r"cardinality must be a JSON list of .* got '\[2, 0\]'\.$"),
        ("forecasting-deepar", {"cardinality": "[true]"}, r"cardinality must be a JSON list of .* got '\[true\]'\.$"),
        ("forecasting-deepar", {"test_quantiles": "[0.5, 1.0]"}, r"test_quantiles must be .* numbers in \(0, 1\)"),
        ("pca", {"_num_gpus": "many"}, "pca._num_gpus must be a whole number >= 0 or auto; got 'many'"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(algorithm: str, given: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        hyperparameters(algorithm, {**REQUIRED[algorithm], **given})
