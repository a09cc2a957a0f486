"""The factorization machines' hyperparameters: `fm.Spec` with `fm.Classifier` or `fm.Regressor`.

Rates that are not given are this library's, not SageMaker's, which belong to Adam: AdaGrad's rates fall by themselves with
the gradients seen, so they start higher. So are penalties and starts that are not given: SageMaker's go with those rates,
and the penalties of linear weights and factors adapt to the data.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from beam_ml.algorithms import fm
from beam_ml.sagemaker.names import Given, Name, anything, one_of, real, truth, whole

__all__ = ["TABLE", "build"]

_TASKS: Mapping[str, str] = MappingProxyType({"binary_classifier": "binary", "regressor": "regression"})
_GROUPS = ("bias", "linear", "factors")
_SIZES: Mapping[str, str] = MappingProxyType({"normal": "sigma", "uniform": "scale", "constant": "value"})
_POSITIVE = real(0, None, open_low=True)
_NONE = "None"
_ADAPTS: Mapping[str, str] = MappingProxyType({"linear": ", which adapts", "factors": ", which adapts"})
_ALONE = "Adam's rates and penalties are given by group here"
_SERVERS = "it placed the product's parameter servers; here partials are merged"
_MOST_FACTORS = 256

# SageMaker's defaults, by group: rate, penalty, sigma
_DEFAULTS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {"bias": ("0.1", "0.01", "0.01"), "linear": ("0.001", "0.001", "0.01"), "factors": ("0.0001", "0.00001", "0.001")}
)


def _group(group: str) -> tuple[Name, ...]:
    """Return the rows of one group of parameters."""
    rate, penalty, sigma = _DEFAULTS[group]
    method = f"{group}_init_method"
    positive = group == "factors"  # of 0 they would never move
    return (
        Name(f"{group}_lr", _POSITIVE, rate, to=f"Spec.{group}_lr; not given: its default, of AdaGrad"),
        Name(f"{group}_wd", real(0, None), penalty, to=f"Spec.{group}_wd; not given: its default{_ADAPTS.get(group, '')}"),
        Name(method, one_of(*_SIZES), "normal", to=f"Spec.{method}; not given, and no sigma either: its default"),
        Name(
            f"{group}_init_sigma", real(0, None, open_low=positive), sigma, to=f"Spec.{group}_init_sigma",
            when=((method, ("normal",)),),
        ),
        Name(
            f"{group}_init_scale", real(0, None, _NONE, open_low=positive), _NONE, to=f"Spec.{group}_init_scale",
            when=((method, ("uniform",)),),
        ),
        Name(
            f"{group}_init_value", real(-math.inf, None, _NONE), _NONE, to=f"Spec.{group}_init_value",
            when=((method, ("constant",)),),
        ),
    )  # fmt: skip


TABLE: tuple[Name, ...] = (
    Name("feature_dim", whole(1, 100_000_000), None, to="Spec.n_features"),
    Name(
        "num_factors",
        whole(2, _MOST_FACTORS, because=": a row's factors are worked through at once"),
        None,
        to="Spec.n_factors",
    ),
    Name("predictor_type", one_of(*_TASKS), None, to="Spec.task; Classifier or Regressor"),
    Name(
        "mini_batch_size",
        whole(1, None),
        "1000",
        note="every row is a step, and workers exchange what they have learned once per window",
    ),
    Name("epochs", whole(1, None), "1", to="passes of the job"),
    *(name for group in _GROUPS for name in _group(group)),
    Name("clip_gradient", real(0, None, _NONE, open_low=True), _NONE, to="Spec.clip_gradient"),
    Name("eps", real(0, None, _NONE), _NONE, note="AdaGrad divides by the gradients that it has met, never by 0"),
    Name(
        "rescale_grad",
        real(0, None, _NONE, open_low=True),
        _NONE,
        note="AdaGrad's steps are the same whatever gradients are multiplied by",
    ),
    Name("use_bias", truth(), "true", to="Spec.use_bias"),
    Name("use_linear", truth(), "true", to="Spec.use_linear"),
    Name(
        "_optimizer",
        one_of("adam", "sgd", "adagrad", "rmsprop"),
        "adam",
        refused="only the steps of AdaGrad add up over shards without loss",
        harmless=("adagrad",),
    ),
    Name("_learning_rate", _POSITIVE, "1.0", refused=_ALONE, harmless=("1.0",)),
    Name("_wd", real(0, None), "1.0", refused=_ALONE, harmless=("1.0",)),
    Name("batch_metrics_publish_interval", whole(1, None), "500", note="metrics are reported at every refresh"),
    Name("_kvstore", one_of("auto", "local", "device", "dist_sync", "dist_async"), "auto", note=_SERVERS),
    Name("_use_full_symbolic", truth(), "true", note="it steered the product's own engine"),
    Name("_tuning_objective_metric", anything(), "", note="every metric is measured"),
)


def build(given: Given) -> tuple[fm.Spec, fm.Classifier | fm.Regressor]:
    """Build the spec and the model spec from what was read.

    Raises:
        InvalidValue: too many entries, or factors that could never move.
    """
    task = _TASKS[given["predictor_type"]]
    of_groups: dict[str, float | str] = {}
    for group in _GROUPS:
        method = given[f"{group}_init_method"]
        size = f"{group}_init_{_SIZES[method]}"
        names = [f"{group}_lr", f"{group}_wd", f"{group}_init_method", size]
        of_groups |= {name: given[name] for name in names if name in given.named and given[name] != _NONE}
        if size in of_groups:
            of_groups[f"{group}_init_method"] = method
    given.require(
        of_groups.get("factors_init_value") != 0.0,
        "factors_init_value",
        "must not be 0: factors of 0 never move",
    )
    spec = fm.Spec(
        n_features=given["feature_dim"],
        n_factors=given["num_factors"],
        task=task,
        use_bias=given["use_bias"],
        use_linear=given["use_linear"],
        clip_gradient=None if given["clip_gradient"] == _NONE else given["clip_gradient"],
        **of_groups,
    )
    return spec, fm.Regressor() if task == "regression" else fm.Classifier()
