"""The linear learner's hyperparameters: `linear.AdaGrad` with `linear.Variant`, or `linear.Newton` with its models.

One rule chooses. The product's many passes aim at the least penalised loss, and `linear.Newton` finds just that in one
pass; so it is taken wherever it means the same: logistic or squared loss, at most 500 features, nothing given that steers
gradient steps (mini_batch_size; a number for learning_rate, num_models or bias_lr_mult; use_bias or unbias_data false), and
no L1 on a normalised label. `linear.AdaGrad` is taken everywhere else.

Its variants are the product's parallel models: the penalties that are given (0 and 1e-5 for one that is not, from 8 models
on), and learning rates at equal ratios around the one given (0.5 where none is), at most a factor of 16 away. The
progressive loss chooses among them; one model is the one given. Both learners take penalties as
``wd/2·Σβ²`` and ``l1·Σ|β|`` of scaled features beside the mean loss; the scale is AdaGrad's own, or Newton's standard
deviation.
"""

from types import MappingProxyType

from beam_ml.algorithms import linear
from beam_ml.algorithms.linear.adagrad.spec import MAX_VARIANTS
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.sagemaker.names import Given, Name, anything, one_of, real, truth, whole

__all__ = ["TABLE", "build"]

_NEWTON_FEATURES = 500
_DENSE_FEATURES = 2000
_ENTRIES = 1 << 28
_RATE, _RATES, _OCTAVES = 0.5, 8, 8
_PENALTIES = (0.0, 1e-5)
_BIAS_RATE = 10.0

_TASKS = MappingProxyType(
    {"binary_classifier": "binary", "multiclass_classifier": "multiclass", "regressor": "regression"}
)
_LOSSES = MappingProxyType(
    {
        "binary_classifier": ("logistic", "hinge_loss"),
        "multiclass_classifier": ("softmax_loss", "hinge_loss"),
        "regressor": (
            "squared_loss",
            "absolute_loss",
            "eps_insensitive_squared_loss",
            "eps_insensitive_absolute_loss",
            "quantile_loss",
            "huber_loss",
        ),
    }
)
_CRITERIA = MappingProxyType(
    {
        "accuracy": "accuracy",
        "f_beta": "f_beta",
        "f1": "f_beta",
        "precision_at_target_recall": "precision_at_target_recall",
        "recall_at_target_precision": "recall_at_target_precision",
        "loss_function": "loss",
        "cross_entropy_loss": "loss",
    }
)
_CRITERION = "binary_classifier_model_selection_criteria"
_BINARY = ("predictor_type", ("binary_classifier",))
_MULTICLASS = ("predictor_type", ("multiclass_classifier",))
_REGRESSION = ("predictor_type", ("regressor",))

_CONVEX = "learning starts from 0, and a convex loss has the same minimum from everywhere"
_FALLS = "AdaGrad's rates fall by themselves, with the gradients seen, and Newton has none"
_OPTIMISERS = "only the steps of AdaGrad and Newton add up over shards without loss"
_ANY_BIAS = "the bias carries no penalty"

TABLE: tuple[Name, ...] = (
    Name("predictor_type", one_of(*_TASKS), None, to="AdaGrad.task; with loss, Newton.loss; Classifier or Regressor"),
    Name("num_classes", whole(1, 1_000_000), "1", to="AdaGrad.n_classes", when=(_MULTICLASS,)),
    Name(
        "feature_dim",
        whole(1, 100_000_000, because=", since the state has its shape before the first row"),
        None,
        to="Spec.n_features; above 500: AdaGrad",
    ),
    Name(
        "mini_batch_size",
        whole(1, 65_536),
        "1000",
        to="AdaGrad.mini_batch_rows; 16 where it is not given, since 1000 rows per step go with many passes",
    ),
    Name("epochs", whole(1, None), "15", to="passes of the job with AdaGrad; 1 where it is not given"),
    Name(
        "loss",
        one_of("auto", *dict.fromkeys(loss for losses in _LOSSES.values() for loss in losses)),
        "auto",
        to="AdaGrad.loss, or Newton.loss",
    ),
    Name("optimizer", one_of("auto", "adam", "sgd", "rmsprop"), "auto", refused=_OPTIMISERS, harmless=("auto",)),
    Name("learning_rate", real(0, None, "auto", open_low=True), "auto", to="AdaGrad.learning_rates; auto: around 0.5"),
    Name(
        "momentum",
        real(0, 1, "auto", open_high=True),
        "auto",
        refused="AdaGrad keeps no running mean of gradients",
        harmless=("auto", "0"),
    ),
    Name(
        "beta_1",
        real(0, 1, "auto", open_high=True),
        "auto",
        refused="it belongs to Adam, whose moments do not add up over shards",
        harmless=("auto",),
    ),
    Name(
        "beta_2",
        real(0, 1, "auto", open_high=True),
        "auto",
        refused="it belongs to Adam, whose moments do not add up over shards",
        harmless=("auto",),
    ),
    Name("wd", real(0, None, "auto"), "auto", to="AdaGrad.l2 (auto: 0 and 1e-5), or l2 of Newton's model (auto: 0)"),
    Name("l1", real(0, None, "auto"), "auto", to="AdaGrad.l1 (auto: 0 and 1e-5), or l1 of Newton's model (auto: 0)"),
    Name("use_bias", truth(), "true", to="AdaGrad.use_bias"),
    Name("bias_lr_mult", real(0, None, "auto", open_low=True), "auto", to="AdaGrad.bias_rate; auto: 10"),
    Name("bias_wd_mult", real(0, None, "auto"), "auto", refused=_ANY_BIAS, harmless=("auto", "0")),
    Name("use_lr_scheduler", truth(), "true", note=_FALLS),
    Name("lr_scheduler_step", whole(1, None, "auto"), "auto", note=_FALLS),
    Name("lr_scheduler_factor", real(0, 1, "auto", open_low=True), "auto", note=_FALLS),
    Name("lr_scheduler_minimum_lr", real(0, None, "auto", open_low=True), "auto", note=_FALLS),
    Name("init_method", one_of("uniform", "normal"), "uniform", note=_CONVEX),
    Name("init_scale", real(0, None), "0.07", note=_CONVEX),
    Name("init_sigma", real(0, None), "0.01", note=_CONVEX),
    Name("init_bias", real(-float("inf"), None), "0", note=_CONVEX),
    Name("normalize_data", truth("auto"), "true", to="AdaGrad.normalize, or standardize of Newton's model; auto: true"),
    Name("normalize_label", truth("auto"), "auto", to="AdaGrad.normalize_label; auto: true", when=(_REGRESSION,)),
    Name("unbias_data", truth("auto"), "auto", to="AdaGrad.sparse, its contrary; auto: true up to 2000 features"),
    Name(
        "unbias_label",
        truth("auto"),
        "auto",
        note="labels are centred with normalize_label, and the bias does the same",
    ),
    Name("num_point_for_scaler", whole(1, None), "10000", note="scales are running moments of every row"),
    Name("num_models", whole(1, MAX_VARIANTS, "auto"), "auto", to="AdaGrad.learning_rates × l1 × l2; auto: up to 32"),
    Name(
        "num_calibration_samples",
        whole(1, None, "auto"),
        "auto",
        note="thresholds are chosen on the learner's own sample, whose size is the job's",
    ),
    Name(_CRITERION, one_of(*_CRITERIA), "accuracy", to="threshold.by of the model", when=(_BINARY,)),
    Name(
        "target_recall",
        real(0, 1, open_low=True, open_high=True),
        "0.8",
        to="threshold.target of the model",
        when=(_BINARY, (_CRITERION, ("precision_at_target_recall",))),
    ),
    Name(
        "target_precision",
        real(0, 1, open_low=True, open_high=True),
        "0.8",
        to="threshold.target of the model",
        when=(_BINARY, (_CRITERION, ("recall_at_target_precision",))),
    ),
    Name(
        "f_beta",
        real(0, None, open_low=True),
        "1.0",
        to="threshold.beta of the model",
        when=(_BINARY, (_CRITERION, ("f_beta",))),
    ),
    Name(
        "positive_example_weight_mult",
        real(0, None, "balanced", "auto", open_low=True),
        "1.0",
        to="AdaGrad.positive_weight, or Newton.positive_weight; auto: 1, as the threshold does the rest",
        when=(_BINARY,),
    ),
    Name("balance_multiclass_weights", truth(), "false", to="AdaGrad.balance_multiclass_weights", when=(_MULTICLASS,)),
    Name("accuracy_top_k", whole(1, 1_000_000), "3", to="Variant.top_k", when=(_MULTICLASS,)),
    Name("margin", real(0, None, open_low=True), "1.0", to="AdaGrad.margin", when=(("loss", ("hinge_loss",)),)),
    Name(
        "quantile",
        real(0, 1, open_low=True, open_high=True),
        "0.5",
        to="AdaGrad.quantile",
        when=(("loss", ("quantile_loss",)),),
    ),
    Name(
        "loss_insensitivity",
        real(0, None),
        "0.01",
        to="AdaGrad.loss_insensitivity",
        when=(("loss", ("eps_insensitive_squared_loss", "eps_insensitive_absolute_loss")),),
    ),
    Name(
        "huber_delta", real(0, None, open_low=True), "1.0", to="AdaGrad.huber_delta", when=(("loss", ("huber_loss",)),)
    ),
    Name("early_stopping_patience", whole(1, None), "3", to="early_stopping.patience of the job, with epochs above 1"),
    Name(
        "early_stopping_tolerance",
        real(0, None),
        "0.001",
        to="early_stopping.tolerance of the job, with epochs above 1",
    ),
    Name("_tuning_objective_metric", anything(), "", note="every metric is measured"),
)


def build(given: Given) -> tuple[Spec, ModelSpec]:
    """Build the spec and the model spec from what was read.

    Raises:
        InvalidValue: names that contradict each other.
    """
    loss = _loss(given)
    enough = given["predictor_type"] != "multiclass_classifier" or given["num_classes"] >= 3
    given.require(enough, "num_classes", "must be >= 3 with predictor_type 'multiclass_classifier'")
    return _newton(given, loss) if _is_newtons(given, loss) else _adagrad(given, loss)


def _loss(given: Given) -> str:
    kind = given["predictor_type"]
    known = _LOSSES[kind]
    if given["loss"] == "auto":
        return known[0].removesuffix("_loss")
    rule = f"must be one of auto, {', '.join(known)} with predictor_type {kind!r}"
    given.require(given["loss"] in known, "loss", rule)
    return str(given["loss"]).removesuffix("_loss")


def _is_newtons(given: Given, loss: str) -> bool:
    """Return whether `linear.Newton` means the same; the module's docstring states the rule."""
    auto = all(given[name] == "auto" for name in ("learning_rate", "num_models", "bias_lr_mult"))
    free = auto and "mini_batch_size" not in given.named
    centred = given["use_bias"] and given["unbias_data"] is not False
    l1_in_label_units = given["l1"] not in ("auto", 0.0) and loss == "squared" and given["normalize_label"] is not False
    narrow = given["feature_dim"] <= _NEWTON_FEATURES
    return loss in ("logistic", "squared") and narrow and free and centred and not l1_in_label_units


def _newton(given: Given, loss: str) -> tuple[Spec, ModelSpec]:
    penalties = {
        "l1": 0.0 if given["l1"] == "auto" else given["l1"],
        "l2": 0.0 if given["wd"] == "auto" else given["wd"],
        "standardize": given["normalize_data"] is not False,
    }
    if loss == "squared":
        return linear.Newton(n_features=given["feature_dim"], loss="squared"), linear.Regressor(**penalties)
    spec = linear.Newton(n_features=given["feature_dim"], positive_weight=_positive_weight(given))
    return spec, linear.Classifier(threshold=_threshold(given), **penalties)


def _adagrad(given: Given, loss: str) -> tuple[Spec, ModelSpec]:
    task = _TASKS[given["predictor_type"]]
    n_features, n_classes = given["feature_dim"], given["num_classes"] if task == "multiclass" else 2
    normalize = given["normalize_data"] is not False
    sparse = n_features > _DENSE_FEATURES if given["unbias_data"] == "auto" else not given["unbias_data"]
    given.require(
        normalize or given["unbias_data"] is not True,
        "unbias_data",
        "must be auto or false with normalize_data false: scaling and centring are one",
    )
    normalize_label = given["normalize_label"] is not False
    for name in ("unbias_data", *(("unbias_label",) if task == "regression" else ())):
        given.require(
            given["use_bias"] or given[name] is not True,
            name,
            "must be auto or false where use_bias is false: nothing is centred without a bias",
        )
    outputs = n_classes if task == "multiclass" else 1
    rates, l1, l2 = _variants(given, most=_ENTRIES // ((n_features + 1) * outputs))
    of_task = {
        "binary": {"positive_weight": _positive_weight(given)},
        "multiclass": {
            "n_classes": n_classes,
            "balance_multiclass_weights": given["balance_multiclass_weights"],
        },
        "regression": {"normalize_label": normalize_label},
    }[task]
    shapes = {
        name: given[name] for name in ("margin", "quantile", "loss_insensitivity", "huber_delta") if name in given.named
    }
    batch = {"mini_batch_rows": given["mini_batch_size"]} if "mini_batch_size" in given.named else {}
    spec = linear.AdaGrad(
        n_features=n_features,
        task=task,
        loss=loss,
        learning_rates=rates,
        l1=l1,
        l2=l2,
        use_bias=given["use_bias"],
        bias_rate=_BIAS_RATE if given["bias_lr_mult"] == "auto" else given["bias_lr_mult"],
        normalize=normalize,
        sparse=sparse,
        **of_task,
        **shapes,
        **batch,
    )
    of_model = {"binary": {"threshold": _threshold(given)}, "multiclass": {"top_k": given["accuracy_top_k"]}}
    return spec, linear.Variant(**of_model.get(task, {}))


def _variants(given: Given, most: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return learning rates, L1 and L2: as many combinations as num_models says, at most `most` where it says auto."""
    open_l1, open_l2 = given["l1"] == "auto", given["wd"] == "auto"
    models = given["num_models"]
    if models == "auto":
        models = _RATES * (1 + open_l1) * (1 + open_l2)
        while models > max(1, most):
            models //= 2
    l1: tuple[float, ...] = (0.0,) if open_l1 else (given["l1"],)
    l2: tuple[float, ...] = (0.0,) if open_l2 else (given["wd"],)
    count = models
    if open_l2 and count >= _RATES and count % 2 == 0:
        l2, count = _PENALTIES, count // 2
    if open_l1 and count >= _RATES and count % 2 == 0:
        l1, count = _PENALTIES, count // 2
    middle = _RATE if given["learning_rate"] == "auto" else given["learning_rate"]
    step = min(1.0, _OCTAVES / count)
    return tuple(middle * 2.0 ** ((i - count // 2) * step) for i in range(count)), l1, l2


def _positive_weight(given: Given) -> float | str:
    value: float | str = given["positive_example_weight_mult"]
    return 1.0 if value == "auto" else value


def _threshold(given: Given) -> linear.Threshold:
    criterion = given[_CRITERION]
    target = given["target_precision" if criterion == "recall_at_target_precision" else "target_recall"]
    return linear.Threshold(by=_CRITERIA[criterion], target=target, beta=given["f_beta"])
