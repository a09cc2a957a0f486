"""Ranking metrics whatever the scores look like, over any number of windows, and the noise that they state."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as peer

from beam_ml.algorithms.linear import Newton
from beam_ml.core import metrics, ranking
from beam_ml.core.arrays import close, identical
from beam_ml.core.batch import Batch
from beam_ml.core.sample import Sample


def rows(n, rate, seed=0, shift=1.4):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < rate).astype(np.float64)
    return rng.normal(size=n) + shift * label, label, rng.uniform(0.2, 4.0, n)


def figures(score, label, weight, at_k=None):
    return metrics.compute(metrics.binary(score, label, weight), at_k)


SQUEEZED = {
    "to one in 200,000 of the range": lambda z: 0.3 + 5e-6 * expit(z),
    "to 16 … 40 log-odds below": lambda z: expit(z * 4.0 - 28.0),
    "to the last digits below 1": lambda z: 1.0 - 1e-12 * expit(-z),
    "to tiny numbers": lambda z: 1e-200 * expit(z),
    "cubed": lambda z: expit(z**3),
}


@pytest.mark.parametrize("how", SQUEEZED)
@pytest.mark.parametrize(("n", "rate"), [(3_000, 0.2), (60_000, 0.2), (60_000, 0.004)])
def test_squeezed_scores_rank_as_well_as_any(how, n, rate):
    z, label, weight = rows(n, rate)
    score = SQUEEZED[how](z)
    found = figures(score, label, weight)
    assert found["auc"] == pytest.approx(peer.roc_auc_score(label, score, sample_weight=weight), abs=5e-4)
    exact = peer.average_precision_score(label, score, sample_weight=weight)
    assert found["average_precision"] == pytest.approx(exact, abs=2e-3)


def test_a_rising_transform_changes_no_bit():
    z, label, weight = rows(20_000, 0.1)
    assert figures(expit(z), label, weight)["auc"] == figures(0.5 + 1e-4 * expit(z), label, weight)["auc"]


@pytest.mark.parametrize("windows", [30, 300])
@pytest.mark.parametrize("factor", [1.0, 0.9])
def test_many_windows_merge_to_the_figures_of_all_rows(windows, factor):
    z, label, weight = rows(windows * 500, 0.02, seed=windows)
    score = expit(z + np.linspace(-2, 2, z.size))  # scores move, so that early cells lie among late ones
    total, scaled = None, weight * factor ** np.repeat(np.arange(windows)[::-1], 500)
    for at in range(0, z.size, 500):
        one = metrics.binary(score[at : at + 500], label[at : at + 500], weight[at : at + 500])
        total = one if total is None else metrics.merge(metrics.scale(total, factor), one)
    assert total.score.size <= ranking.MOST
    found = metrics.compute(total, at_k=200.0)
    assert found["auc"] == pytest.approx(peer.roc_auc_score(label, score, sample_weight=scaled), abs=2e-3)
    exact = peer.average_precision_score(label, score, sample_weight=scaled)
    assert found["average_precision"] == pytest.approx(exact, abs=4e-3)
    order = np.argsort(-score)
    taken = np.cumsum(scaled[order])
    share = np.clip((200.0 - (taken - scaled[order])) / scaled[order], 0, 1)
    assert found["precision_at_k"] == pytest.approx(float((share * scaled[order]) @ label[order]) / 200.0, abs=0.02)


def test_summaries_merge_in_any_order():
    z, label, weight = rows(24_000, 0.1)
    parts = [metrics.binary(expit(z[i::6]), label[i::6], weight[i::6]) for i in range(6)]
    assert identical(metrics.merge(parts[0], parts[1]), metrics.merge(parts[1], parts[0]))
    one, other = parts[0], parts[5]
    for part in parts[1:]:
        one = metrics.merge(one, part)
    for part in parts[4::-1]:
        other = metrics.merge(part, other)
    a, b = metrics.compute(one, 50.0), metrics.compute(other, 50.0)
    assert a["auc"] == pytest.approx(b["auc"], abs=1e-3)
    assert a["average_precision"] == pytest.approx(b["average_precision"], abs=2e-3)
    assert a["log_loss"] == pytest.approx(b["log_loss"], rel=1e-12)


def test_ties_stay_ties_among_many_scores():
    z, label, weight = rows(40_000, 0.1)
    score = np.where(np.arange(z.size) % 2 == 0, 0.5, expit(z))  # half of all rows at one score
    found = figures(score, label, weight)
    assert found["auc"] == pytest.approx(peer.roc_auc_score(label, score, sample_weight=weight), abs=1e-3)


def test_what_fades_to_nothing_leaves_the_summary():
    z, label, weight = rows(100, 0.3)
    record = metrics.binary(expit(z), label, weight)
    gone = metrics.scale(record, 0.0)
    assert gone.score.size == 0
    assert metrics.compute(gone) == {}
    assert close(metrics.merge(gone, record), record)


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_standard_errors_are_how_far_samples_differ(rate):
    """Each sample of 4,096 of 150,000 rows, negatives standing for many rows, against those of other seeds."""
    n = 150_000
    z, label, _ = rows(n, rate, seed=1)
    batch = Batch.dense(expit(z - 3.0)[:, None], label=label, position=np.arange(n))
    found = []
    for seed in range(40):
        spec = Newton(n_features=1, seed=seed)
        drawn = Sample.of(spec, batch).estimate(spec)
        found.append(figures(drawn.X[:, 0].astype(float), drawn.label, drawn.weights, at_k=0.02 * n))
    for name in ("auc", "average_precision", "log_loss", "precision_at_k", "recall_at_k"):
        spread = np.std([one[name] for one in found])
        stated = np.mean([one[f"{name}_se"] for one in found])
        # Not less than the spread, nor more than the rows that every sample holds (rare positives) can account for.
        assert 0.75 * spread < stated < 2.2 * spread, (name, spread, stated)


def test_standard_errors_of_rows_drawn_anew():
    names = ("auc", "average_precision", "log_loss", "accuracy", "recall")
    found = []
    for seed in range(60):
        z, label, weight = rows(1_500, 0.2, seed=seed)
        found.append(figures(expit(z - 2.0), label, weight))
    for name in names:
        spread, stated = np.std([one[name] for one in found]), np.mean([one[f"{name}_se"] for one in found])
        assert 0.6 * spread < stated < 1.5 * spread, (name, spread, stated)


def test_weights_count_by_their_squares():
    """Rows of weight 9 in every tenth place are fewer rows than the same weight spread evenly."""
    z, label, _ = rows(2_000, 0.3)
    even, uneven = np.full(z.size, 1.8), np.where(np.arange(z.size) % 10 == 0, 9.0, 1.0)
    few, many = figures(expit(z), label, uneven), figures(expit(z), label, even)
    for name in ("auc_se", "average_precision_se", "log_loss_se", "recall_se"):
        assert few[name] > 1.3 * many[name], name


def test_errors_of_a_mean_are_those_of_the_textbook():
    rng = np.random.default_rng(2)
    label = rng.normal(size=4_000)
    found = metrics.compute(metrics.regression(np.zeros(4_000), label, np.full(4_000, 3.0)))
    assert found["mse_se"] == pytest.approx(np.std(label**2) / np.sqrt(4_000), rel=1e-3)
    assert found["mae_se"] == pytest.approx(np.std(np.abs(label)) / np.sqrt(4_000), rel=1e-3)
    spread = metrics.compute(metrics.distortion(label**2, np.full(4_000, 3.0)))
    assert spread["msd_se"] == pytest.approx(found["mse_se"], rel=1e-9)


def test_few_rows_are_not_without_noise():
    score, label = np.array([0.1, 0.2, 0.9]), np.array([0.0, 0.0, 1.0])
    found = figures(score, label, np.ones(3), at_k=1)
    for name in ("auc", "average_precision", "log_loss", "accuracy", "recall", "precision_at_k"):
        assert found[f"{name}_se"] > 0.01, name
    assert metrics.compute(metrics.regression(np.ones(1), np.zeros(1), np.ones(1)))["mse_se"] == pytest.approx(1.0)


def test_huge_errors_leave_the_figures_finite():
    found = metrics.compute(metrics.regression(np.array([1e120, 0.0]), np.array([0.0, 1.0]), np.ones(2)))
    assert found["mse"] == pytest.approx(5e239)


def test_a_cell_has_the_score_of_its_heaviest_row():
    score = np.linspace(0.0, 1.0, 40_000)
    heavy = np.arange(score.size) % 20 == 7
    found = ranking.table(score, np.arange(score.size) % 2 == 0, np.where(heavy, 1_000.0, 1.0))
    assert found.score.size <= ranking.MOST
    assert np.isin(found.score[found.ones + found.zeros >= 1_000.0], score[heavy]).all()


def test_equal_scores_of_either_sign_merge_in_any_order():
    a, b = (ranking.table(np.array([zero, 1.0]), np.array([True, False]), np.ones(2)) for zero in (-0.0, 0.0))
    assert all(x.tobytes() == y.tobytes() for x, y in zip(ranking.joined(a, b), ranking.joined(b, a), strict=True))


def test_the_error_of_average_precision_is_that_of_its_slopes():
    rng = np.random.default_rng(4)
    score, is_one = rng.permutation(150).astype(float), rng.random(150) < 0.3
    ones = float(is_one.sum())

    def value(weight):
        """Return Σ recall gained · precision, times the mass of class 1."""
        found = ranking.table(score, is_one, weight)
        return ranking.average_precision(found)[0] * float(found.ones.sum())

    slope = np.array([(value(1.0 + h) - value(1.0 - h)) / 2e-4 for h in 1e-4 * np.eye(150)])
    variance = 0.0
    for mine, unknown in ((slope[is_one], ones / 150.0), (slope[~is_one], 0.0)):
        variance += np.square(mine - mine.mean()).sum() + 0.5 * (unknown - mine.mean()) ** 2
    found = ranking.average_precision(ranking.table(score, is_one, np.ones(150)))[1]
    assert found == pytest.approx(np.sqrt(variance) / ones, rel=1e-5)


def test_what_a_row_pushes_out_goes_by_the_rows_around_the_cut():
    rank = np.arange(10_000)
    found = ranking.table(-rank.astype(float), rank < 100, np.ones(10_000))
    hits, error = ranking.at_k(found, 1_000.0)
    assert hits == 100.0
    assert error == np.sqrt(ranking.share_above(100.0, 100.0, 100.0, 100.0)), "of class 1 there is none near the cut"


def test_a_cut_above_all_rows_of_a_class_is_not_without_noise():
    half, share = 0.5, 0.5 / 11.0
    assert ranking.share_above(0.0, 0.0, 10.0, 10.0) == pytest.approx(
        half * (1.0 - share) ** 2 + (10.0 + half) * share**2
    )
