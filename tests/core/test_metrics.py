"""Mergeable metrics against scikit-learn, and what merging, forgetting and ties do to them."""

import numpy as np
import pytest
from sklearn import metrics as peer

from beam_ml.core import metrics
from beam_ml.core.arrays import close, identical
from beam_ml.errors import MergeRefused


def scored(n=5_000, seed=0, rate=0.3, sharpness=1.0, weighted=True):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < rate).astype(np.float64)
    logit = sharpness * (rng.normal(size=n) + 1.5 * label - 1.0)
    weight = rng.uniform(0.1, 3.0, n) if weighted else np.ones(n)
    return 1.0 / (1.0 + np.exp(-logit)), label, weight


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_ranking_agrees_with_scikit_learn(sharpness, rate):
    score, label, weight = scored(n=30_000, sharpness=sharpness, rate=rate)
    found = metrics.compute(metrics.binary(score, label, weight))
    assert found["auc"] == pytest.approx(peer.roc_auc_score(label, score, sample_weight=weight), abs=2e-4)
    exact = peer.average_precision_score(label, score, sample_weight=weight)
    assert found["average_precision"] == pytest.approx(exact, abs=2e-3)


def test_ranking_of_scores_that_already_tie_is_exact():
    score, label, weight = scored()
    score = np.round(score, 1).clip(0.1, 0.9)  # nine values, each a bin of its own
    found = metrics.compute(metrics.binary(score, label, weight))
    assert found["auc"] == pytest.approx(peer.roc_auc_score(label, score, sample_weight=weight), abs=1e-12)
    exact = peer.average_precision_score(label, score, sample_weight=weight)
    assert found["average_precision"] == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_thresholded_metrics_and_log_loss_equal_scikit_learns(threshold):
    score, label, weight = scored()
    found = metrics.compute(metrics.binary(score, label, weight, threshold))
    decided = score >= threshold
    expected = {
        "log_loss": peer.log_loss(label, score, sample_weight=weight),
        "accuracy": peer.accuracy_score(label, decided, sample_weight=weight),
        "precision": peer.precision_score(label, decided, sample_weight=weight),
        "recall": peer.recall_score(label, decided, sample_weight=weight),
        "rows_weight": weight.sum(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


def test_certain_scores_lose_a_finite_amount():
    found = metrics.compute(metrics.binary(np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0]), np.ones(3)))
    assert np.isfinite(found["log_loss"])
    assert found["auc"] == pytest.approx(peer.roc_auc_score([1, 1, 0], [0.0, 1.0, 1.0]))


def test_precision_at_k_equals_sorting():
    score, label, _ = scored(n=2_000, weighted=False)
    record = metrics.binary(score, label, np.ones(2_000))
    top = np.argsort(-score, kind="stable")[:200]
    found = metrics.compute(record, at_k=200)
    assert found["precision_at_k"] == pytest.approx(label[top].mean(), abs=0.02)
    assert found["recall_at_k"] == pytest.approx(label[top].sum() / label.sum(), abs=0.02)


def test_precision_at_k_beyond_the_rows_is_over_the_rows():
    found = metrics.compute(metrics.binary(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.ones(2)), at_k=100)
    assert found["precision_at_k"] == pytest.approx(0.5)
    assert found["recall_at_k"] == pytest.approx(1.0)


def test_ties_at_k_count_in_proportion():
    record = metrics.binary(np.full(4, 0.7), np.array([1.0, 0.0, 0.0, 1.0]), np.ones(4))
    assert metrics.compute(record, at_k=2)["precision_at_k"] == pytest.approx(0.5)


def test_regression_equals_scikit_learns():
    rng = np.random.default_rng(1)
    label, weight = rng.normal(size=500), rng.random(500)
    prediction = label + rng.normal(size=500)
    found = metrics.compute(metrics.regression(prediction, label, weight))
    assert found["mse"] == pytest.approx(peer.mean_squared_error(label, prediction, sample_weight=weight), rel=1e-12)
    assert found["mae"] == pytest.approx(peer.mean_absolute_error(label, prediction, sample_weight=weight), rel=1e-12)
    assert found["rmse"] == pytest.approx(found["mse"] ** 0.5)


def test_distortion_is_the_weighted_sum_and_mean():
    found = metrics.compute(metrics.distortion(np.array([1.0, 4.0]), np.array([2.0, 1.0])))
    assert {name: found[name] for name in ("rows_weight", "sse", "msd")} == {"rows_weight": 3.0, "sse": 6.0, "msd": 2.0}


def test_the_prior_of_a_regression_is_the_spread_of_its_labels():
    rng = np.random.default_rng(3)
    label, weight = rng.normal(1e6, 2.0, 700), rng.uniform(0.5, 2.0, 700)
    parts = [
        metrics.regression(np.zeros(n), label[at : at + n], weight[at : at + n]) for at, n in ((0, 300), (300, 400))
    ]
    found = metrics.compute(metrics.merge(*parts))
    mean = np.average(label, weights=weight)
    assert found["prior_mse"] == pytest.approx(np.average((label - mean) ** 2, weights=weight), rel=1e-9)


def test_a_row_exactly_at_the_threshold_is_predicted_positive():
    found = metrics.compute(metrics.binary(np.array([0.4, 0.4, 0.1]), np.array([1.0, 0.0, 0.0]), np.ones(3), 0.4))
    assert (found["recall"], found["precision"], found["accuracy"]) == pytest.approx((1.0, 0.5, 2 / 3))


def records(start, stop):
    score, label, weight = scored()
    part = slice(start, stop)
    return [
        metrics.binary(score[part], label[part], weight[part]),
        metrics.regression(score[part], label[part], weight[part]),
        metrics.distortion(score[part], weight[part]),
        metrics.likelihood(9.0 * score[part], 1.0 + label[part], weight[part]),
        metrics.quantiles(score[part, None] * [0.5, 1.5], np.array([0.2, 0.8]), label[part], weight[part]),
        metrics.mean(score[part], weight[part]),
    ]


@pytest.mark.parametrize("which", range(6))
def test_records_merge_as_their_rows_do(which):
    whole, a, b = records(0, 900)[which], records(0, 137)[which], records(137, 900)[which]
    assert close(metrics.merge(a, b), whole, rtol=1e-12)
    assert identical(metrics.merge(a, b), metrics.merge(b, a))
    assert close(metrics.merge(a, records(0, 0)[which]), a)
    assert metrics.finite(a)


@pytest.mark.parametrize("which", range(6))
def test_scaling_forgets_weight_and_leaves_the_averages(which):
    record = records(0, 900)[which]
    before, after = metrics.compute(record), metrics.compute(metrics.scale(record, 0.25))
    assert after["rows_weight"] == pytest.approx(before["rows_weight"] / 4)
    assert before.keys() == after.keys()
    for name in before.keys() - {"rows_weight", "sse", "tokens"}:
        assert after[name] == pytest.approx(before[name], rel=1e-9), name


@pytest.mark.parametrize("which", range(6))
def test_no_rows_give_no_metrics(which):
    assert metrics.compute(records(0, 0)[which]) == {}


def test_one_class_leaves_out_what_is_undefined():
    only_ones = metrics.compute(metrics.binary(np.array([0.3, 0.9]), np.ones(2), np.ones(2)))
    assert "auc" not in only_ones
    assert only_ones["recall"] == 0.5
    only_zeros = metrics.compute(metrics.binary(np.array([0.1]), np.zeros(1), np.ones(1)))
    assert not {"auc", "average_precision", "recall", "precision"} & only_zeros.keys()


def test_zero_weight_rows_count_for_nothing():
    score, label, weight = scored(n=300)
    weight[::3] = 0.0
    kept = weight > 0
    with_zero, without = (metrics.binary(score[k], label[k], weight[k]) for k in (slice(None), kept))
    assert close(with_zero, without, rtol=1e-12)


def test_records_of_two_kinds_do_not_merge():
    with pytest.raises(MergeRefused, match=r"^Metrics of one kind merge; got Binary and Regression\.$"):
        metrics.merge(records(0, 5)[0], records(0, 5)[1])


def test_perplexity_is_of_tokens_and_not_of_rows():
    found = metrics.compute(metrics.likelihood(np.array([8.0, 1.0]), np.array([4.0, 1.0]), np.array([1.0, 2.0])))
    assert found["nll"] == pytest.approx(10 / 6)
    assert found["perplexity"] == pytest.approx(np.exp(10 / 6))
    assert metrics.compute(metrics.likelihood(np.zeros(2), np.zeros(2), np.ones(2))) == {}


def test_weighted_quantile_loss_equals_twice_the_pinball_loss_over_the_magnitude():
    rng = np.random.default_rng(4)
    levels, value, weight = np.array([0.1, 0.5, 0.9]), rng.normal(3.0, 2.0, 200), rng.uniform(0.5, 2.0, 200)
    forecast = np.sort(rng.normal(3.0, 1.0, (200, 3)), axis=1)
    found = metrics.compute(metrics.quantiles(forecast, levels, value, weight))
    losses = [
        2.0 * peer.mean_pinball_loss(value, forecast[:, j], sample_weight=weight, alpha=levels[j]) for j in range(3)
    ]
    assert found["mean_wql"] == pytest.approx(np.mean(losses) / np.average(np.abs(value), weights=weight))
    shares = np.average(value[:, None] <= forecast, axis=0, weights=weight)
    assert found["coverage_gap"] == pytest.approx(np.abs(shares - levels).max())


def test_quantiles_of_other_levels_do_not_merge():
    one, two = (
        metrics.quantiles(np.ones((1, len(q))), np.array(q), np.ones(1), np.ones(1)) for q in ([0.5], [0.1, 0.9])
    )
    with pytest.raises(MergeRefused, match=r"^Metrics of the same levels merge; got \[0\.5\] and \[0\.1, 0\.9\]\.$"):
        metrics.merge(one, two)


@pytest.mark.parametrize(("which", "name"), [(3, "nll"), (3, "perplexity"), (4, "mean_wql"), (5, "score")])
def test_standard_errors_are_what_figures_move_by(which, name):
    def drawn(rng):
        score, size, weight = rng.gamma(2.0, 1.0, 400), rng.integers(1, 9, 400), rng.choice([1.0, 5.0], 400)
        value = score * size
        return (
            metrics.likelihood(0.3 * value, size, weight), metrics.quantiles(value[:, None] + [-1.0, 1.0],
            np.array([0.2, 0.8]), value + rng.normal(size=400), weight), metrics.mean(score, weight),
        )[which - 3]  # fmt: skip

    found = [metrics.compute(drawn(np.random.default_rng(seed))) for seed in range(200)]
    moved = np.std([one[name] for one in found])
    assert np.mean([one[f"{name}_se"] for one in found]) == pytest.approx(moved, rel=0.2)
