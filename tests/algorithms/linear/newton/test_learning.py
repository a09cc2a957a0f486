"""Learning with `linear.Newton`: cold blocks, anchors, class weights, data that goes wrong."""

from functools import reduce

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from beam_ml.algorithms.linear import NEWTON, Classifier, Newton, Partial, Regressor
from beam_ml.core.algorithm import LawKind
from beam_ml.core.arrays import array_fields, close
from beam_ml.core.batch import Batch
from beam_ml.core.sample import Sample

KIND = NEWTON.models["classifier"]


def draw(n: int, d: int, seed: int, bias: float = -2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    x[:, : d // 2] = np.exp(x[:, : d // 2])
    beta = np.linspace(-0.6, 0.6, d)
    return x, (rng.random(n) < expit(x @ beta + bias)).astype(np.float64)


def grown(spec: Newton, x: np.ndarray, y: np.ndarray, at: object = None, batch_rows: int = 1000) -> Partial:
    partial = NEWTON.empty(spec)
    for start in range(0, y.size, batch_rows):
        part = slice(start, start + batch_rows)
        partial = NEWTON.accumulate(spec, partial, Batch.dense(x[part], label=y[part]), at)
    return partial


def sampled(spec: Newton, x: np.ndarray, y: np.ndarray) -> Batch | None:
    return Sample.of(spec, Batch.dense(x, label=y)).estimate(spec)


def window(spec: Newton, state: Partial, x: np.ndarray, y: np.ndarray, shards: int) -> Partial:
    at = NEWTON.anchor(spec, state)
    parts = [grown(spec, x[p], y[p], at) for p in np.array_split(np.arange(y.size), shards)]
    return NEWTON.fold(spec, state, reduce(lambda a, b: NEWTON.merge(spec, a, b), parts), sampled(spec, x, y))


def scores(spec: Newton, state: Partial, x: np.ndarray, model_spec: Classifier | None = None) -> np.ndarray:
    model = KIND.derive(spec, model_spec or Classifier(), state, None)
    return KIND.predict(model, Batch.dense(x))["score"]


def all_finite(record: object) -> bool:
    values = [getattr(record, field.name) for field in array_fields(record)]
    return all(np.isfinite(value).all() for value in values if value.dtype.kind == "f")


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    x, y = draw(60_000, 8, 1)
    scaler = StandardScaler().fit(x[:40_000])
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(scaler.transform(x[:40_000]), y[:40_000])
    reference = log_loss(y[40_000:], peer.predict_proba(scaler.transform(x[40_000:]))[:, 1])
    return x[:40_000], y[:40_000], x[40_000:], y[40_000:], float(reference)


class TestLaw:
    def test_depends_on_the_loss(self) -> None:
        squared, logistic = (NEWTON.law(Newton(n_features=2, loss=loss)) for loss in ("squared", "logistic"))
        assert squared.kind is LawKind.EXACT
        assert logistic.kind is LawKind.ANCHORED
        assert logistic.homomorphic
        assert logistic.across_anchors


class TestQuality:
    @pytest.mark.parametrize("shards", [1, 3, 9, 40, 400])
    def test_cold_shards_reach_the_converged_fit(self, data, shards: int) -> None:
        x, y, x_test, y_test, reference = data
        spec = Newton(n_features=8)
        state = window(spec, NEWTON.init(spec), x, y, shards)
        assert log_loss(y_test, scores(spec, state, x_test)) <= reference * 1.002
        assert float(state.underdetermined) == 0.0
        assert NEWTON.weight(state) == 40_000

    def test_anchored_windows_reach_the_converged_fit(self, data) -> None:
        x, y, x_test, y_test, reference = data
        spec = Newton(n_features=8)
        state = NEWTON.init(spec)
        for part in np.array_split(np.arange(y.size), 8):
            state = window(spec, state, x[part], y[part], 16)
        assert log_loss(y_test, scores(spec, state, x_test)) <= reference * 1.0005

    def test_one_large_shard_holds_few_rows_at_any_time(self, data) -> None:
        x, y, *_ = data
        spec = Newton(n_features=8)
        partial, most = NEWTON.empty(spec), 0
        for start in range(0, y.size, 500):
            part = slice(start, start + 500)
            partial = NEWTON.accumulate(spec, partial, Batch.dense(x[part], label=y[part]), None)
            most = max(most, partial.pending_key.size)
        assert most < 4096
        assert float(partial.information[0]) > 0

    def test_a_rare_class_waits_for_ten_events_a_parameter(self) -> None:
        spec = Newton(n_features=8)
        x, y = draw(6000, 8, 3)
        y[:] = 0.0
        y[:89] = 1.0
        assert grown(spec, x, y).pending_key.size == 6000
        y[89] = 1.0
        assert grown(spec, x, y, batch_rows=6000).pending_key.size == 0


class TestAnchor:
    def test_exists_once_a_block_has_closed(self) -> None:
        spec = Newton(n_features=8)
        x, y = draw(8000, 8, 2)
        state = NEWTON.fold(spec, NEWTON.init(spec), grown(spec, x[:3000], y[:3000]), None)
        assert NEWTON.anchor(spec, NEWTON.init(spec)) is None
        assert NEWTON.anchor(spec, state) is None
        state = NEWTON.fold(spec, state, grown(spec, x[3000:], y[3000:]), None)
        assert all_finite(NEWTON.anchor(spec, state))
        assert state.pending_key.size == 0

    def test_squared_loss_needs_none(self) -> None:
        spec = Newton(n_features=2, loss="squared")
        x = np.random.default_rng(0).normal(size=(50, 2))
        assert NEWTON.anchor(spec, grown(spec, x, x[:, 0])) is None

    def test_a_few_cold_rows_join_a_grown_state_at_once(self) -> None:
        spec = Newton(n_features=8)
        x, y = draw(8010, 8, 4)
        state = NEWTON.fold(spec, NEWTON.init(spec), grown(spec, x[:8000], y[:8000]), None)
        later = NEWTON.fold(spec, state, grown(spec, x[8000:], y[8000:]), None)
        assert later.pending_key.size == 0
        assert NEWTON.weight(later) == 8010


class TestClassWeights:
    @pytest.mark.parametrize("factor", [0.3, 1.0, 8.0])
    def test_equal_row_weights(self, factor: float) -> None:
        x, y = draw(6000, 8, 7)
        weighted, plain = Newton(n_features=8, positive_weight=factor), Newton(n_features=8)
        a = NEWTON.accumulate(weighted, NEWTON.empty(weighted), Batch.dense(x, label=y), None)
        rows = Batch.dense(x, label=y, weight=np.where(y == 1, factor, 1.0))
        b = NEWTON.accumulate(plain, NEWTON.empty(plain), rows, None)
        assert scores(weighted, a, x) == pytest.approx(scores(plain, b, x), rel=0.01)

    def test_balanced_equals_the_explicit_factor_at_any_sharding(self) -> None:
        x, y = draw(9000, 8, 8)
        spec = Newton(n_features=8, positive_weight="balanced")
        explicit = Newton(n_features=8, positive_weight=float((y == 0).sum() / (y == 1).sum()))
        cold = NEWTON.fold(explicit, NEWTON.init(explicit), grown(explicit, x, y), None)
        at = NEWTON.anchor(explicit, cold)
        # Shards sorted by class: each sees another ratio, or one class only.
        order = np.argsort(y, kind="stable")
        parts = [grown(spec, x[p], y[p], at) for p in np.array_split(order, 13)]
        a = NEWTON.fold(spec, NEWTON.init(spec), reduce(lambda u, v: NEWTON.merge(spec, u, v), parts), None)
        b = NEWTON.fold(explicit, NEWTON.init(explicit), grown(explicit, x, y, at), None)
        assert scores(spec, a, x) == pytest.approx(scores(explicit, b, x), rel=1e-9)
        assert NEWTON.anchor(spec, a).coefficients == pytest.approx(NEWTON.anchor(explicit, b).coefficients, rel=1e-8)

    def test_balanced_equals_scikit_learn(self) -> None:
        x, y = draw(30_000, 8, 9)
        spec = Newton(n_features=8, positive_weight="balanced")
        state = window(spec, NEWTON.init(spec), x, y, 50)
        scaled = StandardScaler().fit_transform(x)
        peer = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-10, max_iter=1000).fit(scaled, y)
        assert scores(spec, state, x) == pytest.approx(peer.predict_proba(scaled)[:, 1], abs=2e-3)


class TestCap:
    def test_closes_early_and_says_so(self) -> None:
        spec = Newton(n_features=8, pending_bytes=1 << 16)
        x, y = draw(3000, 8, 10, bias=-6.0)
        partial = grown(spec, x, y, batch_rows=100)
        assert partial.pending_key.size * 8 * 11 <= 1 << 16
        assert 0 < float(partial.underdetermined) <= 3000
        assert NEWTON.weight(partial) == 3000
        assert np.isfinite(scores(spec, partial, x)).all()

    def test_holds_when_merging(self) -> None:
        spec = Newton(n_features=8, pending_bytes=1 << 16)
        x, y = draw(3000, 8, 11)
        parts = [grown(spec, x[p], y[p]) for p in np.array_split(np.arange(3000), 30)]
        merged = reduce(lambda a, b: NEWTON.merge(spec, a, b), parts)
        assert merged.pending_key.size * 8 * 11 <= 1 << 16
        assert NEWTON.weight(merged) == 3000


def degenerate() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(12)
    x, y = draw(6000, 4, 12)
    collinear = np.column_stack([x, x[:, 0] + x[:, 1], 2.0 * x[:, 2]])
    line = rng.normal(size=(6000, 1))
    return {
        "one row": (x[:1], y[:1]),
        "two equal rows of both classes": (np.ones((2, 3)), np.array([0.0, 1.0])),
        "one class, few rows": (x[:50], np.zeros(50)),
        "one class, many rows": (x, np.ones(6000)),
        "constant column": (np.column_stack([x, np.full(6000, 1e8 + 0.1)]), y),
        "all columns constant": (np.full((6000, 3), 7.7), y),
        "collinear columns": (collinear, y),
        "collinear columns at offset 1e8": (np.round(collinear * 1024) / 1024 + 1e8, y),
        "separable": (line, (line[:, 0] > 0).astype(np.float64)),
        "separable, few rows": (line[:20], (line[:20, 0] > 0).astype(np.float64)),
        "more columns than rows": (rng.normal(size=(5, 40)), np.array([0.0, 1.0, 0.0, 1.0, 1.0])),
        "huge and tiny columns": (x * [1e-12, 1e12, 1.0, 1e-5], y),
    }


@pytest.mark.parametrize("case", degenerate())
@pytest.mark.parametrize("weighting", [1.0, "balanced"])
@pytest.mark.parametrize("shards", [1, 7])
def test_degenerate_data_gives_finite_sensible_models(case: str, weighting: object, shards: int) -> None:
    x, y = degenerate()[case]
    spec = Newton(n_features=x.shape[1], positive_weight=weighting)
    state = NEWTON.init(spec)
    for _ in range(3):  # the second and third window go on from an anchor where there is one
        state = window(spec, state, x, y, min(shards, y.size))
        assert all_finite(state)
    assert NEWTON.weight(state) == 3 * y.size
    for model_spec in (Classifier(), Classifier(l2=0.1), Classifier(l1=0.01, l2=0.01)):
        model = KIND.derive(spec, model_spec, state, sampled(spec, x, y))
        assert all_finite(model)
        score = KIND.predict(model, Batch.dense(x))["score"]
        factor = 1.0
        if weighting == "balanced" and 0 < y.sum() < y.size:
            factor = float((y == 0).sum() / y.sum())
        weight = np.where(y == 1, factor, 1.0)
        rate = np.clip(np.average(y, weights=weight), 1e-6, 1 - 1e-6)
        prior = log_loss(y, np.full(y.size, rate), sample_weight=weight, labels=[0, 1])
        mine = log_loss(y, np.clip(score, 1e-15, 1 - 1e-15), sample_weight=weight, labels=[0, 1])
        assert mine <= prior * 1.01 + (0.7 if y.size < 60 else 0.01)


def test_collinear_columns_fit_as_well_as_without_them() -> None:
    x, y = draw(8000, 4, 13)
    wide = np.column_stack([x, x[:, 0] + x[:, 1]])
    narrow, broad = Newton(n_features=4), Newton(n_features=5)
    a = window(narrow, NEWTON.init(narrow), x, y, 5)
    b = window(broad, NEWTON.init(broad), wide, y, 5)
    assert log_loss(y, scores(broad, b, wide)) == pytest.approx(log_loss(y, scores(narrow, a, x)), rel=1e-5)


def test_offset_1e8_changes_nothing() -> None:
    x, y = draw(12_000, 4, 14)
    x = np.round(x * 1024) / 1024  # so that adding the offset is exact
    spec = Newton(n_features=4)
    plain, far = (window(spec, NEWTON.init(spec), x + offset, y, 3) for offset in (0.0, 1e8))
    # Not to the last digit: pending rows keep the order of a hash, so the steps start elsewhere.
    assert scores(spec, far, x + 1e8) == pytest.approx(scores(spec, plain, x), abs=1e-3)


def test_separable_data_separates() -> None:
    rng = np.random.default_rng(15)
    x = rng.normal(size=(20_000, 3))
    y = (x @ [1.0, -2.0, 0.5] > 0.3).astype(np.float64)
    spec = Newton(n_features=3)
    state = NEWTON.init(spec)
    for part in np.array_split(np.arange(20_000), 4):
        state = window(spec, state, x[part], y[part], 4)
    score = scores(spec, state, x)
    assert np.mean((score >= 0.5) == y) > 0.99
    assert np.abs(KIND.derive(spec, Classifier(), state, None).coefficients).max() < 1e4


def test_rows_too_large_to_square_leave_a_state_that_is_not_finite() -> None:
    spec = Newton(n_features=1, loss="squared")
    state = grown(spec, np.array([[1e200], [-1e200]]), np.array([1.0, 2.0]))
    assert not all_finite(state)


def test_states_of_two_learners_add() -> None:
    x, y = draw(20_000, 8, 16)
    spec = Newton(n_features=8)
    one = window(spec, NEWTON.init(spec), x[:10_000], y[:10_000], 4)
    two = window(spec, NEWTON.init(spec), x[10_000:], y[10_000:], 4)
    both, whole = NEWTON.merge(spec, one, two), window(spec, NEWTON.init(spec), x, y, 4)
    assert close(both, NEWTON.merge(spec, two, one), rtol=1e-12)
    assert log_loss(y, scores(spec, both, x)) <= log_loss(y, scores(spec, whole, x)) * 1.0005
    young = grown(spec, x[:500], y[:500])
    assert np.isfinite(scores(spec, NEWTON.merge(spec, one, young), x)).all()


@pytest.mark.parametrize(("condition", "offset"), [(10.0, 0.0), (1e4, 0.0), (1e4, 1e3), (1e2, 1e8)])
def test_least_squares_equals_lstsq(condition: float, offset: float) -> None:
    rng = np.random.default_rng(17)
    n, d = 20_000, 12
    z = np.linalg.qr(rng.normal(size=(n, d)))[0]
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    x = z @ (np.geomspace(1.0, 1.0 / condition, d)[:, None] * rotation)
    x = x / x.std(axis=0)
    y = x @ rng.normal(size=d) + rng.normal(size=n)
    x = x + offset
    spec = Newton(n_features=d, loss="squared")
    parts = [grown(spec, x[p], y[p]) for p in np.array_split(np.arange(n), 11)]
    state = reduce(lambda a, b: NEWTON.merge(spec, a, b), parts)
    model = NEWTON.models["regressor"].derive(spec, Regressor(), state, None)
    wanted = np.linalg.lstsq(np.column_stack([x - x[0], np.ones(n)]), y, rcond=None)[0]
    assert np.linalg.norm(model.coefficients - wanted[:d]) <= 1e-8 * np.linalg.norm(wanted[:d])


class TestAging:
    @pytest.mark.parametrize("anchored", [True, False], ids=["at an anchor", "cold"])
    def test_scaled_rows_are_rows_of_smaller_weight(self, anchored: bool) -> None:
        x, y = draw(6_000, 4, 5)
        spec = Newton(n_features=4)
        at = NEWTON.anchor(spec, window(spec, NEWTON.init(spec), x, y, 1)) if anchored else None
        x, y = x[:900], y[:900]
        whole = NEWTON.scale(spec, grown(spec, x, y, at), 0.25)
        rows = Batch.dense(x, label=y, weight=np.full(y.size, 0.25))
        assert close(whole, NEWTON.accumulate(spec, NEWTON.empty(spec), rows, at), rtol=1e-9)


class TestRowsOfOtherWorkers:
    def test_cold_rows_beside_rows_at_an_anchor_are_learned_at_their_weight(self) -> None:
        """A worker that had no anchor yet: what it holds is not in the sums, which alone are learned at a new place."""
        x, y = draw(10_000, 4, 6)
        spec = Newton(n_features=4)
        state = window(spec, NEWTON.init(spec), x, y, 1)
        moved, labels = draw(9_000, 4, 7, bias=2.0)  # another rate, far from the anchor
        at = NEWTON.anchor(spec, state)
        some, others = slice(0, 6_000), slice(6_000, 9_000)
        both = NEWTON.merge(
            spec, grown(spec, moved[some], labels[some], at), grown(spec, moved[others], labels[others])
        )
        assert both.pending_key.size == 3_000
        state = NEWTON.fold(spec, state, both, sampled(spec, moved, labels), sampled(spec, x, y))
        peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        peer.fit(np.concatenate([x, moved]), np.concatenate([y, labels]))
        test = draw(4_000, 4, 8, bias=0.0)[0]
        found = scores(spec, state, test)
        assert np.abs(found - peer.predict_proba(test)[:, 1]).mean() < 0.02
