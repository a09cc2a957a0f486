"""Nothing is served that predicts worse than the prior on the newest window, unless a rule allows it."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from beam_ml.algorithms import fm, kmeans, linear, pca
from beam_ml.beam.transforms.train import Train
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.batch import Batch
from beam_ml.core.champions import check_gate
from beam_ml.core.gate import ANYWAY, OPEN, Gate
from beam_ml.core.learner import Learner
from beam_ml.core.prior import BEHIND
from beam_ml.core.refresh import Plan, Refresh, refresh
from beam_ml.errors import InvalidValue

HOUR = 3_600_000_000
LINE = linear.Newton(n_features=2, loss="squared", half_life="10m")
LOGISTIC = linear.Newton(n_features=2)


def window(spec: Any, number: int, slope: float, label: str = "real", n: int = 400) -> Batch:
    rng = np.random.default_rng(number)
    x = rng.normal(size=(n, 2))
    if label == "real":
        y = slope * x[:, 0] + 0.3 * rng.normal(size=n)
    else:
        y = (rng.random(n) < 1.0 / (1.0 + np.exp(-slope * x[:, 0]))).astype(float)
    return Batch.dense(x, label=y, time=np.full(n, number * HOUR), position=np.arange(n) + number * n)


def run(
    spec: Any, batches: list[Batch], plan: Plan, algorithm: Algorithm = linear.NEWTON
) -> list[tuple[Learner, Refresh]]:
    learner, out = learners.new(algorithm, spec), []
    for i, batch in enumerate(batches):
        accumulator = Accumulator(algorithm, spec, learner.version, algorithm.anchor(spec, learner.state))
        accumulator.add(batch)
        learner, done = refresh(algorithm, learner, (i + 1) * HOUR, accumulator.result(), plan)
        out.append((learner, done))
    return out


def frozen(after: int) -> Algorithm:
    """Newton that learns nothing any more after so many folds."""
    folds = []

    def fold(spec: Any, state: Any, partial: Any, *samples: Any) -> Any:
        folds.append(1)
        return linear.NEWTON.fold(spec, state, partial, *samples) if len(folds) <= after else state

    return dataclasses.replace(linear.NEWTON, fold=fold)


@pytest.mark.parametrize("rules", [(), ("rows >= 10",), ("log_loss <= 100",)])
def test_a_learner_that_stopped_learning_is_not_served_once_the_world_has_turned(rules: tuple[str, ...]) -> None:
    slopes = [2.0, 2.0, 2.0, -2.0, -2.0]
    batches = [window(LOGISTIC, i, slope, "class") for i, slope in enumerate(slopes)]
    plan = Plan({"m": linear.Classifier()}, Gate(rules))
    done = [one for _, one in run(LOGISTIC, batches, plan, frozen(3))]
    if "log_loss <= 100" not in rules:  # which is not known of the first
        assert all(one.verdict.accepted for one in done[:3])
    for one in done[3:]:
        assert not one.verdict.accepted
        found = one.refitted["m"]
        assert found["log_loss"] > found["prior_log_loss"] + found["log_loss_se"]
        said = (
            f"log_loss {found['log_loss']:.6g} ± {found['log_loss_se']:.2g}, the prior's {found['prior_log_loss']:.6g}"
        )
        assert one.verdict.reasons == (
            f"the model is worse than the prior on the newest window, from which it has learned: {said}",
        )
        assert one.to_dict()["reasons"] == list(one.verdict.reasons)
        assert one.to_dict()["refitted"]["m"] == found
    allowed = run(LOGISTIC, batches, Plan(plan.models, Gate((*rules[:0], ANYWAY))), frozen(3))
    assert all(one.verdict.accepted for _, one in allowed)
    assert all(one.refitted == {} for _, one in allowed)


def test_a_model_that_has_learned_the_turn_is_served() -> None:
    done = run(
        LINE,
        [window(LINE, i, slope) for i, slope in enumerate([2.0, 2.0, -2.0, -2.0])],
        Plan({"m": linear.Regressor()}),
    )
    turned = done[2][1]
    assert turned.measured["m"]["mse"] > 2 * turned.measured["m"]["prior_mse"]
    assert turned.refitted["m"]["mse"] < 0.2 * turned.refitted["m"]["prior_mse"]
    assert [one.verdict.accepted for _, one in done] == [True] * 4
    assert [BEHIND in learner.history[-1] for learner, _ in done] == [False, False, True, False]


def test_a_model_that_never_holds_for_the_next_window_is_not_served() -> None:
    done = run(
        LINE,
        [window(LINE, i, slope) for i, slope in enumerate([2.0, -2.0, 2.0, -2.0])],
        Plan({"m": linear.Regressor()}),
    )
    assert [one.verdict.accepted for _, one in done] == [True, True, False, False]
    assert (
        done[2][1]
        .verdict.reasons[0]
        .startswith("the model was worse than the prior on the next window twice in a row: mse ")
    )


def test_a_model_that_learned_no_better_than_the_prior_of_a_turn_is_not_served() -> None:
    spec = linear.Newton(n_features=2, loss="squared")  # forgets nothing: after the turn it is between the two
    done = run(spec, [window(spec, i, slope) for i, slope in enumerate([2.0, -2.0])], Plan({"m": linear.Regressor()}))
    verdict = done[1][1].verdict
    assert not verdict.accepted
    assert verdict.reasons[0].startswith("the model before was worse than the prior on the newest window: mse ")
    assert "after learning from it, mse " in verdict.reasons[0]


def test_a_window_of_one_class_has_no_prior_to_hold_to() -> None:
    batches = [window(LOGISTIC, i, 2.0, "class") for i in range(2)]
    ones = batches[1].replace(label=np.ones(len(batches[1])))
    done = run(LOGISTIC, [batches[0], ones], Plan({"m": linear.Classifier()}))
    assert done[1][1].measured["m"]["prior_log_loss"] == 0.0
    assert done[1][1].verdict.accepted


def test_scores_that_are_no_probabilities_are_judged_by_rank() -> None:
    spec = linear.Newton(n_features=2, positive_weight=40.0)
    batches = [window(spec, i, 2.0, "class") for i in range(3)]
    plan = Plan({"m": linear.Classifier()})
    fine = run(spec, batches, plan)[-1][1]
    assert fine.refitted["m"]["log_loss"] > fine.refitted["m"]["prior_log_loss"]  # as asked: class 1 counts forty times
    assert fine.verdict.accepted
    turned = [*batches, window(spec, 3, -2.0, "class")]
    bad = run(spec, turned, plan, frozen(3))[-1][1]
    assert "auc 0." in bad.verdict.reasons[0]
    assert not bad.verdict.accepted


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        (linear.Newton(n_features=1), True),
        (linear.Newton(n_features=1, positive_weight="balanced"), False),
        (linear.AdaGrad(n_features=1), True),
        (linear.AdaGrad(n_features=1, loss="hinge"), False),
        (linear.AdaGrad(n_features=1, positive_weight=3.0), False),
        (linear.AdaGrad(n_features=1, task="regression"), True),
        (linear.AdaGrad(n_features=1, task="regression", loss="quantile"), False),
        (linear.AdaGrad(n_features=1, task="multiclass", n_classes=3, balance_multiclass_weights=True), False),
        (fm.Spec(n_features=1), True),
    ],
)
def test_specs_say_whether_their_scores_are_means(spec: Any, meant: bool) -> None:
    assert spec.aims_at_mean is meant


CASES = {
    "binary": (linear.NEWTON, linear.Newton(n_features=1), linear.Classifier(), "average_precision", "mse"),
    "regression": (linear.NEWTON, linear.Newton(n_features=1, loss="squared"), linear.Regressor(), "prior_mse", "auc"),
    "multiclass": (
        linear.ADAGRAD,
        linear.AdaGrad(n_features=1, task="multiclass", n_classes=4),
        linear.Variant(),
        "macro_f",
        "average_precision",
    ),
    "adagrad": (linear.ADAGRAD, linear.AdaGrad(n_features=1), linear.Variant(), "auc", "macro_f"),
    "clusters": (kmeans.KMEANS, kmeans.Spec(n_features=1, k_max=2), kmeans.Clusters(k=2), "sse", "log_loss"),
    "components": (pca.PCA, pca.Spec(n_features=1), pca.Components(n_components=1), "msd", "explained"),
}


@pytest.mark.parametrize("case", CASES)
def test_rules_about_metrics_that_no_model_has_are_refused(case: str) -> None:
    algorithm, spec, model, has, lacks = CASES[case]
    check_gate(algorithm, spec, {"m": model}, Gate((f"{has} of the window >= 0.1", "rows >= 3", ANYWAY)))
    with pytest.raises(InvalidValue) as caught:
        check_gate(algorithm, spec, {"m": model}, Gate(("rows >= 3", ANYWAY, f"{lacks} of the window >= 0.1")))
    said = str(caught.value)
    assert said.startswith(f"gate must be about metrics that models of {algorithm.name} have (")
    assert said.endswith(
        f"rows_weight{', sse' if case in ('clusters', 'components') else ''}"
        f"{', top_k_accuracy' if case == 'multiclass' else ''}); got '{lacks} of the window >= 0.1'."
    )
    assert has in said.partition("); got")[0]


def test_errors_are_metrics_too_where_there_are_any() -> None:
    algorithm, spec, model, *_ = CASES["binary"]
    check_gate(algorithm, spec, {"m": model}, Gate(("auc_se <= 0.01",)))
    with pytest.raises(InvalidValue, match="got 'base_rate_se < 1'"):
        check_gate(algorithm, spec, {"m": model}, Gate(("base_rate_se < 1",)))
    check_gate(algorithm, spec, {}, Gate(("nonsense < 1",)))
    check_gate(algorithm, spec, {"m": model}, OPEN)


def test_a_pipeline_with_such_a_gate_is_refused_when_it_is_built() -> None:
    with pytest.raises(InvalidValue, match=r"^gate must be about metrics .*; got 'mse <= 1'\.$"):
        Train(LOGISTIC, {"m": linear.Classifier()}, gate=("mse <= 1",))


@pytest.mark.parametrize("case", ["binary", "regression", "multiclass", "adagrad", "clusters", "components"])
def test_the_metrics_named_are_those_that_are_measured(case: str) -> None:
    """What a model's measure gives, once every class has rows, is exactly what rules may be about."""
    algorithm, spec, model, *_ = CASES[case]
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4 if case == "multiclass" else 2, 300).astype(float)
    batches = [Batch.dense(rng.normal(size=(300, 1)) + label[:, None], label=label, position=np.arange(300) + 300 * i)
               for i in range(2)]  # fmt: skip
    found = run(spec, batches, Plan({"m": model}), algorithm)[-1][1].measured["m"]
    names = {name.removesuffix("_se") for name in found}
    for name in names:
        check_gate(algorithm, spec, {"m": model}, Gate((f"{name} >= 0",)))
    with pytest.raises(InvalidValue) as caught:
        check_gate(algorithm, spec, {"m": model}, Gate(("none >= 0",)))
    told = str(caught.value).partition("have (")[2].partition(")")[0].split(", ")
    assert set(told) == names | {"rows"}
    for name in found:
        check_gate(algorithm, spec, {"m": model}, Gate((f"{name} >= 0",)))
