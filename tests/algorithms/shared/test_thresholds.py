"""Thresholds by rule are those of all rows, whatever the seed, once workers know a model to rank rows by."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml import Batch, Learner, derive, fit, fm, linear, predict
from beam_ml.algorithms import algorithm_of
from beam_ml.algorithms.shared import thresholds
from beam_ml.core import metrics
from beam_ml.core.batch import Origin
from beam_ml.core.sample import Sample

N, RATE = 200_000, 0.006
RULE = linear.Threshold(by="recall_at_target_precision", target=0.7)


def rare(n: int = N, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < RATE).astype(float)
    x = rng.normal(size=(n, 5))
    x[:, :3] += label[:, None] * [1.5, 2.0, 2.5]
    return x, label


def learned(x: np.ndarray, label: np.ndarray, seed: int, step: int = 20_000) -> Learner:
    spec = linear.Newton(n_features=x.shape[1], seed=seed)
    origin = Origin("files", "rows")
    return fit(
        spec,
        [
            Batch.dense(
                x[at : at + step], label=label[at : at + step], origin=origin, position=np.arange(at, at + step)
            )
            for at in range(0, len(label), step)
        ],
    )


def reached(model: Any, x: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    taken = predict(model, Batch.dense(x))["predicted_label"] == 1
    return float(label[taken].mean()), float(label[taken].sum() / label.sum())


def test_a_precision_target_is_met_by_the_same_recall_whatever_the_seed() -> None:
    x, label = rare()
    found, stated = [], []
    for seed in range(10):
        learner = learned(x, label, seed)
        model = derive(learner, linear.Classifier(threshold=RULE))
        found.append(reached(model, x, label))
        stated.append(model.facts["reached"])
        assert len(learner.sample.ranked(learner.spec)) <= 6_144
    precision, recall = np.array(found).T
    assert np.ptp(recall) <= 0.1
    assert np.ptp(precision) <= 0.1
    best = thresholds.choose(RULE, predict(model, Batch.dense(x))["score"], label, np.ones(N))
    whole = (predict(model, Batch.dense(x))["score"] >= best)[label == 1].mean()
    assert np.abs(recall - whole).max() <= 0.07
    for name, values in (("precision", precision), ("recall", recall)):
        off = [abs(one[name] - value) / one[f"{name}_se"] for one, value in zip(stated, values, strict=True)]
        assert max(off) < 4.0  # the interval stated holds what all rows say
        assert np.median([one[f"{name}_se"] for one in stated]) < 0.05


GRADIENT = {
    "adagrad": (
        lambda seed: linear.AdaGrad(n_features=5, seed=seed, learning_rates=(0.1,), l1=(0.0,), l2=(0.0,)),
        linear.Classifier(threshold=RULE),
    ),
    "fm": (lambda seed: fm.Spec(n_features=5, n_factors=2, seed=seed), fm.Classifier(threshold=RULE)),
}


@pytest.mark.parametrize("name", GRADIENT)
def test_gradient_learners_rank_the_rows_they_draw_too(name: str) -> None:
    """The cut that the sample chooses for one model, by many seeds of the sample, with the workers' model and without."""
    make, model_spec = GRADIENT[name]
    x, label = rare(100_000, seed=6)
    origin = Origin("files", "rows")
    batches = [
        Batch.dense(x[at : at + 5_000], label=label[at : at + 5_000], origin=origin, position=np.arange(at, at + 5_000))
        for at in range(0, len(label), 5_000)
    ]
    learner = fit(make(0), batches)
    algorithm = algorithm_of(learner.spec)
    assert algorithm.scorer is not None
    scorer = algorithm.scorer(learner.spec, algorithm.anchor(learner.spec, learner.state))
    assert scorer is not None
    model = derive(learner, model_spec)
    score = predict(model, Batch.dense(x))["score"]
    np.testing.assert_allclose(
        scorer(batches[0]), score[:5_000], rtol=1e-9
    )  # one variant, no mean of parameters better
    recalls: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(8):
        spec = make(seed)
        for known, found in recalls.items():
            sample = Sample.merge_all(
                [Sample.of(spec, batch, None, scorer if known else None) for batch in batches], spec
            )
            rows = sample.ranked(spec)
            assert rows is not None
            at = thresholds.choose(RULE, predict(model, rows)["score"], rows.label, rows.weights)
            found.append(float((score >= at)[label == 1].mean()))
    assert np.ptp(recalls[True]) <= 0.1
    assert np.ptp(recalls[True]) < 0.6 * np.ptp(recalls[False])


def test_no_model_to_rank_by_where_there_are_not_two_classes() -> None:
    rng = np.random.default_rng(0)
    x, value = rng.normal(size=(3_000, 4)), rng.integers(0, 3, 3_000).astype(float)
    for spec in (
        linear.Newton(n_features=4, loss="squared"),
        linear.AdaGrad(n_features=4, task="regression"),
        linear.AdaGrad(n_features=4, task="multiclass", n_classes=3),
        fm.Spec(n_features=4, task="regression"),
    ):
        learner = fit(spec, [Batch.dense(x, label=value)] * 2)
        assert learner.sample.top is None


def test_without_a_model_to_rank_by_the_interval_says_how_little_is_known() -> None:
    x, label = rare()
    spec = linear.Newton(n_features=5)
    rows = Sample.of(spec, Batch.dense(x, label=label)).estimate(spec)
    ranked = learned(x, label, 0).sample.ranked(spec)
    model = derive(learned(x, label, 0), linear.Classifier())
    assert rows is not None
    assert ranked is not None

    def precision_se(batch: Batch) -> float:
        score = predict(model, batch)["score"]
        return metrics.compute(metrics.binary(score, batch.label, batch.weights, 0.3))["precision_se"]

    assert precision_se(rows) > 2.0 * precision_se(ranked)


def test_a_threshold_that_was_given_states_nothing() -> None:
    x, label = rare(4_000)
    learner = learned(x, label, 0, step=2_000)
    assert "reached" not in derive(learner, linear.Classifier(threshold=0.3)).facts
    line = fit(linear.Newton(n_features=5, loss="squared"), [Batch.dense(x, label=x[:, 0])])
    assert line.sample.top is None
    assert "reached" not in derive(line, linear.Regressor()).facts


@pytest.mark.parametrize("seed", [0, 3])
def test_the_same_rows_and_batches_give_the_same_threshold_to_the_bit(seed: int) -> None:
    x, label = rare(30_000)
    models = [derive(learned(x, label, seed, step=3_000), linear.Classifier(threshold=RULE)).arrays for _ in range(2)]
    assert models[0].threshold.tobytes() == models[1].threshold.tobytes()


LEVELS = (0.0, 0.25, 0.5, float(np.nextafter(0.5, 1.0)), 0.75, 1.0)
RULES = st.sampled_from(
    [
        linear.Threshold(by="accuracy"),
        *(linear.Threshold(by="f_beta", beta=beta) for beta in (0.5, 1.0, 2.0)),
        *(linear.Threshold(by="precision_at_target_recall", target=target) for target in (0.25, 0.5, 0.75, 1.0)),
        *(linear.Threshold(by="recall_at_target_precision", target=target) for target in (0.25, 0.5, 0.75, 1.0)),
    ]
)


def quality(rule: linear.Threshold, rows: list[tuple[float, int, int]], taken: list[float]) -> tuple[Fraction, ...]:
    """What a rule says of predicting some scores, exactly; larger is better."""
    hits = sum(weight for score, label, weight in rows if score in taken and label)
    everything, ones = (sum(weight for _, label, weight in rows if label or not part) for part in (False, True))
    predicted = sum(weight for score, _, weight in rows if score in taken)
    recall, precision = Fraction(hits, ones), Fraction(hits, predicted) if predicted else Fraction(0)
    if rule.by == "accuracy":
        return (Fraction(hits + everything - ones - (predicted - hits)),)
    if rule.by == "f_beta":
        square = Fraction(rule.beta) ** 2
        below = square * precision + recall
        return ((1 + square) * precision * recall / below if below else Fraction(0),)
    wanted, other = (recall, precision) if rule.by.startswith("precision") else (precision, recall)
    reached = bool(taken) and wanted >= Fraction(rule.target)
    return (Fraction(1), other) if reached else (Fraction(0), wanted)


@given(
    rule=RULES,
    rows=st.lists(st.tuples(st.sampled_from(LEVELS), st.integers(0, 1), st.integers(1, 7)), min_size=2, max_size=9),
)
@settings(deadline=None, max_examples=300)
def test_the_cut_is_the_best_of_all_cuts(rule: linear.Threshold, rows: list[tuple[float, int, int]]) -> None:
    """Weights are whole numbers, so that equally good cuts are equal, of which the one that takes fewest rows wins."""
    score, label, weight = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    found = thresholds.choose(rule, score, label, weight)
    if label.min() == label.max():
        assert found == 0.5
        return
    falling = sorted({one for one, _, _ in rows}, reverse=True)
    cuts = [falling[:k] for k in range(len(falling) + 1)]
    best = max(range(len(cuts)), key=lambda k: (quality(rule, rows, cuts[k]), -k))
    assert [one for one in falling if one >= found] == cuts[best]
    assert best < len(falling) or found == 0.0
