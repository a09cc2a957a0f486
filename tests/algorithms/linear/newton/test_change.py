"""`linear.Newton` in a world that changes: as good as the batch fit of all rows as weighted, from the first window on."""

import itertools
from functools import reduce

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from beam_ml import fit, merge
from beam_ml.algorithms.linear import NEWTON, Classifier, Newton, Partial
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator, merge_all
from beam_ml.core.arrays import array_fields, close, identical
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Plan, refresh
from beam_ml.core.sample import Sample

KIND = NEWTON.models["classifier"]
SLOPES = np.array([1.2, -0.7, 0.4])
MOVE, SAME = np.array([1.0, 0.0, -1.0]), np.zeros(3)


def draw(rng: np.random.Generator, n: int, mean: np.ndarray, slopes: np.ndarray, offset: float):
    z = rng.normal(size=(n, slopes.size))
    return z + mean, (rng.random(n) < expit(z @ slopes + offset)).astype(np.float64)


def learned(learner: Learner, x: np.ndarray, y: np.ndarray, first: int, shards: int = 1) -> Learner:
    """Fold a window, a row per second."""
    place = np.arange(first, first + y.size)
    rows = Batch.dense(x, label=y, time=place * 1_000_000, origin=Origin("test", "0"), position=place)
    at, parts = NEWTON.anchor(learner.spec, learner.state), []
    for cut in np.array_split(np.arange(y.size), shards):
        one = Accumulator(NEWTON, learner.spec, learner.version, at)
        one.add(rows.take(cut))
        parts.append(one.result())
    return refresh(NEWTON, learner, None, merge_all(NEWTON, learner.spec, parts), Plan(models={}))[0]


def score(learner: Learner, x: np.ndarray) -> np.ndarray:
    model = KIND.derive(learner.spec, Classifier(), learner.state, learner.sample.estimate(learner.spec))
    return KIND.predict(model, Batch.dense(x))["score"]


def batch_score(x: np.ndarray, y: np.ndarray, half_life_s: float | None, at: np.ndarray) -> np.ndarray:
    weight = np.ones(y.size) if half_life_s is None else np.exp2(-np.arange(y.size)[::-1] / half_life_s)
    scaler = StandardScaler().fit(x, sample_weight=weight)
    model = LogisticRegression(C=1e9, solver="newton-cholesky", tol=1e-9, max_iter=500)
    model.fit(scaler.transform(x), y, sample_weight=weight)
    return model.predict_proba(scaler.transform(at))[:, 1]


CHANGES = {
    "inputs move by 3": ((SAME, SLOPES, -1.0), (3 * MOVE, SLOPES, -1.0)),
    "inputs move by 12": ((SAME, SLOPES, -1.0), (12 * MOVE, SLOPES, -1.0)),
    "an attack begins": ((SAME, SLOPES, -4.5), (SAME, SLOPES, 0.5)),
    "an attack ends": ((SAME, SLOPES, 1.0), (SAME, SLOPES, -4.0)),
    "a slope turns over": ((SAME, SLOPES, -1.0), (SAME, SLOPES * [-1.0, 1.0, 1.0], -1.0)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("rows", "half_life", "shards"),
    [(120, None, 1), (120, 5.0, 3), (2_500, None, 8), (2_500, 1.5, 1), (9_000, 4.0, 16)],
)
def test_follows_the_batch_fit_from_the_first_window_on(
    change: str, rows: int, half_life: float | None, shards: int
) -> None:
    before, after = CHANGES[change]
    rng = np.random.default_rng(77)
    spec = Newton(n_features=3, half_life=None if half_life is None else half_life * rows)
    learner, seen_x, seen_y = learners.new(NEWTON, spec), [], []
    first, n_before = 0, max(2, 5_000 // rows)
    for number in range(n_before + 5):
        world = before if number < n_before else after
        x, y = draw(rng, rows, *world)
        learner = learned(learner, x, y, first, shards)
        seen_x.append(x)
        seen_y.append(y)
        first += rows
        if number < n_before:
            continue
        held, truth = draw(rng, 4_000, *world)
        best = batch_score(np.concatenate(seen_x), np.concatenate(seen_y), spec.half_life, held)
        ours = score(learner, held)
        assert log_loss(truth, ours) <= 1.03 * log_loss(truth, best), f"window {number - n_before + 1}"
        assert roc_auc_score(truth, ours) >= roc_auc_score(truth, best) - 0.02
    weight = np.ones(first) if half_life is None else np.exp2(-np.arange(first) / spec.half_life)
    assert NEWTON.weight(learner.state) == pytest.approx(weight.sum())


def test_lets_go_of_a_far_world_when_the_batch_fit_does() -> None:
    """Rows 20 deviations away hold the fit of a short half-life for some windows; then it turns all at once."""
    slopes, move = np.array([1.0, -1.0, 0.5, 0.0, 2.0, -0.3]), 20.0 * np.array([1.0, -1.0, 0.0, 0.0, 1.0, 0.0])
    rows, before = 48, 100
    for seed in (3, 4):
        rng = np.random.default_rng(seed)
        learner, seen = learners.new(NEWTON, Newton(n_features=6, half_life=float(rows))), []
        for number in range(before + 10):
            mean = move * (number >= before)
            x, y = draw(rng, rows, mean, slopes, -1.0)
            learner = learned(learner, x, y, rows * number)
            seen.append((x, y))
            if number >= before:
                held, truth = draw(rng, 4_000, mean, slopes, -1.0)
                best = batch_score(*(np.concatenate(part) for part in zip(*seen, strict=True)), float(rows), held)
                assert log_loss(truth, score(learner, held)) <= 1.03 * log_loss(truth, best), f"window {number}"


@pytest.mark.parametrize("balance", ["balanced", 4.0])
def test_class_weights_follow_too(balance: object) -> None:
    rng = np.random.default_rng(5)
    spec = Newton(n_features=3, positive_weight=balance)
    windows = [draw(rng, 6_000, SAME, SLOPES, -3.0), draw(rng, 6_000, 4 * MOVE, SLOPES, -0.5)]
    learner = learners.new(NEWTON, spec)
    for number, (x, y) in enumerate(windows):
        learner = learned(learner, x, y, 6_000 * number)
    x, y = (np.concatenate(part) for part in zip(*windows, strict=True))
    factor = (y == 0).sum() / (y == 1).sum() if balance == "balanced" else balance
    weight = np.where(y > 0, factor, 1.0)
    best = LogisticRegression(C=1e9, tol=1e-9, solver="newton-cholesky").fit(x, y, sample_weight=weight)
    losses = [log_loss(y, p, sample_weight=weight) for p in (score(learner, x), best.predict_proba(x)[:, 1])]
    assert losses[0] <= 1.005 * losses[1]


def categories(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one-hot rows of two columns with many rare categories."""
    rng = np.random.default_rng(seed)
    eta, columns = np.full(n, -1.5), []
    for size in (5, 60):
        share = 1.0 / np.arange(1, size + 1) ** 1.4
        chosen = rng.choice(size, size=n, p=share / share.sum())
        eta += 1.5 * rng.normal(size=size)[chosen]
        columns.append(np.eye(size)[chosen])
    return np.concatenate(columns, axis=1), (rng.random(n) < expit(eta)).astype(np.float64)


def test_rare_categories_do_not_depend_on_who_is_sampled() -> None:
    x, y = categories(9, 24_000)
    train = slice(0, 16_000)
    best = LogisticRegression(C=1.0, max_iter=2_000).fit(x[train], y[train]).predict_proba(x[16_000:])[:, 1]
    losses = []
    for seed in range(5):
        parts = [Batch.dense(x[i : i + 500], label=y[i : i + 500]) for i in range(0, 16_000, 500)]
        learner = fit(Newton(n_features=65, seed=seed), parts, refresh_rows=3_000)
        losses.append(log_loss(y[16_000:], score(learner, x[16_000:])) / log_loss(y[16_000:], best))
    assert max(losses) <= 1.01
    assert max(losses) - min(losses) <= 0.005


def test_a_category_that_is_wrong_about_itself_is_put_right() -> None:
    """A rare category of class 0 alone turns to class 1: its anchor has no curvature there, and few rows are sampled."""
    rng = np.random.default_rng(3)
    n = 60_000
    x = np.column_stack([rng.normal(size=n), rng.random(n) < 0.0008]).astype(np.float64)
    y = (rng.random(n) < expit(x[:, 0] - 1.0)).astype(np.float64)
    early = np.arange(n) < n // 2
    y[(x[:, 1] > 0) & early], y[(x[:, 1] > 0) & ~early] = 0.0, 1.0
    learner = learners.new(NEWTON, Newton(n_features=2))
    for number in range(4):
        part = slice(number * n // 4, (number + 1) * n // 4)
        learner = learned(learner, x[part], y[part], part.start)
    rare = np.array([[0.0, 1.0]])
    # As many of class 1 as of class 0; being sure of class 0, the early windows said little of how many there were.
    assert score(learner, rare)[0] > 0.3
    assert log_loss(y, score(learner, x)) <= 1.003 * log_loss(y, batch_score(x, y, None, x))


@pytest.mark.parametrize("apart", [0.0, 2.0, 8.0, 40.0])
def test_learners_merged_from_far_apart_are_as_good_as_the_joint_fit(apart: float) -> None:
    rng = np.random.default_rng(12)
    sides = [draw(rng, 15_000, mean, SLOPES, offset) for mean, offset in ((SAME, -2.0), (apart * MOVE, 0.5))]
    pair = [fit(Newton(n_features=3), [Batch.dense(x, label=y)]) for x, y in sides]
    both = merge(*pair)
    x, y = (np.concatenate(part) for part in zip(*sides, strict=True))
    ours = log_loss(y, score(both, x))
    assert ours <= 1.02 * log_loss(y, batch_score(x, y, None, x))
    assert ours <= min(log_loss(y, score(one, x)) for one in pair) + 1e-9
    assert NEWTON.weight(both.state) == pytest.approx(30_000)
    assert log_loss(y, score(merge(*pair[::-1]), x)) == pytest.approx(ours, rel=1e-6)


def test_the_same_rows_in_the_same_batches_give_the_same_model() -> None:
    x, y = categories(4, 9_000)
    parts = [Batch.dense(x[i : i + 700], label=y[i : i + 700]) for i in range(0, 9_000, 700)]
    models = [
        KIND.derive(one.spec, Classifier(), one.state, None)
        for one in (fit(Newton(n_features=65), parts) for _ in "ab")
    ]
    assert identical(*models)


class TestPartials:
    def test_slope_and_anchor_travel_with_the_sums(self) -> None:
        rng = np.random.default_rng(8)
        spec, at = Newton(n_features=3), NEWTON.anchor_type(SLOPES, np.asarray(0.3), np.ones(3))
        x, y = draw(rng, 500, MOVE, SLOPES, 0.0)
        whole = NEWTON.accumulate(spec, NEWTON.empty(spec), Batch.dense(x, label=y), at)
        pull = y - expit(0.3 + (x - 1.0) @ SLOPES)
        assert whole.pull == pytest.approx([pull.sum()])
        assert whole.pull_by[0] == pytest.approx((x - whole.origin).T @ pull)
        pieces = [
            NEWTON.accumulate(spec, NEWTON.empty(spec), Batch.dense(x[p], label=y[p]), at)
            for p in np.array_split(range(500), 9)
        ]
        merged = reduce(lambda a, b: NEWTON.merge(spec, a, b), pieces)
        assert close(merged, whole, rtol=1e-10)
        assert merged.start == pytest.approx(SLOPES)
        assert merged.start_bias == pytest.approx(0.3 + (whole.origin - 1.0) @ SLOPES)
        assert float(merged.started) == 500.0

    def test_anchors_of_several_versions_are_weighed_by_their_rows(self) -> None:
        rng = np.random.default_rng(8)
        spec = Newton(n_features=3)
        first, second = (NEWTON.anchor_type(k * SLOPES, np.asarray(0.0), np.zeros(3)) for k in (1.0, 2.0))
        x, y = draw(rng, 400, SAME, SLOPES, 0.0)
        a = NEWTON.accumulate(spec, NEWTON.empty(spec), Batch.dense(x[:100], label=y[:100]), first)
        b = NEWTON.accumulate(spec, NEWTON.empty(spec), Batch.dense(x[100:], label=y[100:]), second)
        assert NEWTON.merge(spec, a, b).start == pytest.approx(1.75 * SLOPES)

    def test_a_state_has_no_anchor_of_its_own(self) -> None:
        rng = np.random.default_rng(8)
        learner = learners.new(NEWTON, Newton(n_features=3))
        for number in range(2):
            learner = learned(learner, *draw(rng, 5_000, SAME, SLOPES, 0.0), 5_000 * number)
        state: Partial = learner.state
        assert float(state.started) == 0.0
        assert not any(value.any() for value in (state.pull, state.pull_by, state.start, state.start_bias))


class TestBadInput:
    def test_one_class_for_a_week(self) -> None:
        rng = np.random.default_rng(2)
        learner, loss, seen = learners.new(NEWTON, Newton(n_features=3, half_life=4_000.0)), [], []
        for number, offset in enumerate([-2.0, -2.0, *[-60.0] * 7, -2.0, -2.0]):
            x, y = draw(rng, 3_000, SAME, SLOPES, offset)
            learner = learned(learner, x, y, 3_000 * number)
            seen.append((x, y))
            held, truth = draw(rng, 5_000, SAME, SLOPES, offset)
            loss.append(log_loss(truth, score(learner, held), labels=[0, 1]))
        x, y = (np.concatenate(part) for part in zip(*seen, strict=True))
        best = log_loss(truth, batch_score(x, y, 4_000.0, held))
        assert max(loss[4:9]) < 0.05  # two windows without a positive row
        assert loss[-1] <= 1.02 * best

    def test_a_window_of_one_row(self) -> None:
        rng = np.random.default_rng(2)
        learner = learned(learners.new(NEWTON, Newton(n_features=3)), *draw(rng, 6_000, SAME, SLOPES, -1.0), 0)
        held, truth = draw(rng, 5_000, SAME, SLOPES, -1.0)
        before = log_loss(truth, score(learner, held))
        for number in range(6):
            learner = learned(learner, np.full((1, 3), 3.0), np.array([0.0]), 6_000 + number)
        assert log_loss(truth, score(learner, held)) == pytest.approx(before, rel=0.01)
        assert NEWTON.weight(learner.state) == 6_006

    @pytest.mark.parametrize("size", [1e6, 1e12])
    def test_an_outlier_is_outlived(self, size: float) -> None:
        rng = np.random.default_rng(6)
        learner = learners.new(NEWTON, Newton(n_features=3, half_life=3_000.0))
        for number in range(12):
            x, y = draw(rng, 2_000, SAME, SLOPES, -1.0)
            if number == 3:
                x[100], y[100] = size, 0.0
            learner = learned(learner, x, y, 2_000 * number)
            state = learner.state
            assert all(
                np.isfinite(getattr(state, f.name)).all() for f in array_fields(state) if f.name != "pending_key"
            )
        held, truth = draw(rng, 5_000, SAME, SLOPES, -1.0)
        assert log_loss(truth, score(learner, held)) <= 1.05 * log_loss(truth, expit(held @ SLOPES - 1.0))

    def test_rows_of_no_weight_change_nothing(self) -> None:
        rng = np.random.default_rng(6)
        x, y = draw(rng, 6_000, SAME, SLOPES, -1.0)
        weight = np.ones(6_000)
        x[10], weight[10] = 1e9, 0.0
        kept = weight > 0
        one = fit(Newton(n_features=3), [Batch.dense(x, label=y, weight=weight)])
        other = fit(Newton(n_features=3), [Batch.dense(x[kept], label=y[kept])])
        assert score(one, x[kept]) == pytest.approx(score(other, x[kept]), rel=1e-6)


def test_without_a_sample_one_step_is_taken_as_it_is() -> None:
    rng = np.random.default_rng(1)
    spec = Newton(n_features=3)
    x, y = draw(rng, 12_000, SAME, SLOPES, -1.0)
    cut = list(itertools.pairwise((0, 6_000, 12_000)))
    state = NEWTON.fold(
        spec,
        NEWTON.init(spec),
        NEWTON.accumulate(spec, NEWTON.empty(spec), Batch.dense(x[:6_000], label=y[:6_000]), None),
        None,
    )
    rows = Batch.dense(x[slice(*cut[1])], label=y[slice(*cut[1])])
    partial = NEWTON.accumulate(spec, NEWTON.empty(spec), rows, NEWTON.anchor(spec, state))
    blind = NEWTON.fold(spec, state, partial, None)
    seen = NEWTON.fold(spec, state, partial, Sample.of(spec, rows).estimate(spec))
    assert blind.scatter == pytest.approx(seen.scatter, rel=0.05)
    assert NEWTON.weight(blind) == NEWTON.weight(seen) == 12_000
