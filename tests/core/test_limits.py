"""One absurd value stops nothing and spoils nothing; data that really move are followed."""

import itertools
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_ml import Batch, Learner, derive, fit, fm, kmeans, linear, load, pca, predict, save
from beam_ml.algorithms import find
from beam_ml.core import decay
from beam_ml.core.admit import admit
from beam_ml.core.arrays import array_fields
from beam_ml.core.limits import (
    ABSOLUTE,
    CLIPPED,
    FAR_BEYOND,
    Limits,
    Seen,
    _extremes,
    _matrix,
    far_beyond,
    feature_name,
)
from beam_ml.core.rejects import warning
from beam_ml.core.sample import Sample
from beam_ml.errors import InvalidValue

DAY = 86_400_000_000
SPECS: dict[str, Any] = {
    "newton": linear.Newton(n_features=3, half_life="1d"),
    "line": linear.Newton(n_features=3, loss="squared", half_life="1d"),
    "adagrad": linear.AdaGrad(n_features=3, half_life="1d"),
    "fm": fm.Spec(n_features=3, n_factors=2, half_life="1d"),
    "kmeans": kmeans.Spec(n_features=3, k_max=4, half_life="1d"),
    "pca": pca.Spec(n_features=3, half_life="1d"),
    "sketch": pca.Spec(n_features=3, mode="sketch", sketch_rows=2, half_life="1d"),
}


def rows(n: int, seed: int = 0, shift: float = 0.0, time: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    label = (rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float)
    return Batch.dense(x + shift, label=label, time=time + np.arange(n) * 1_000_000)


def finite(learner: Learner) -> bool:
    values = [getattr(learner.state, field.name) for field in array_fields(learner.state)]
    return all(np.isfinite(value).all() for value in values if value.dtype.kind == "f")


def far_of(batch: Batch, seen: Seen | None = None, deviations: float = 1000.0) -> dict[str, list[int]]:
    return {reason: np.flatnonzero(mask).tolist() for reason, mask in far_beyond(batch, deviations, seen, ["amount"])}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("absurd", [1e31, 1e80, 1e200, -1.7e308])
def test_one_absurd_value_a_window_stops_no_learner(name: str, absurd: float) -> None:
    learner = None
    for window in range(4):
        batch = rows(300, window, time=window * DAY)
        batch.dense_x[17, 1] = absurd
        learner = fit(SPECS[name], [batch], learner=learner)
        assert learner.discarded == 0
    assert learner is not None
    assert learner.progress.rejected == {"feature 1 beyond 1e+30": 4}
    assert finite(learner)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("half_lives", [330, 333, 1022, 1073, 1074, 1075, 3000])
def test_rows_a_thousand_half_lives_old_leave_a_finite_state(name: str, half_lives: int) -> None:
    spec = SPECS[name]
    old, new = rows(200, 0), rows(200, 1, time=half_lives * DAY)
    once = fit(spec, [Batch.concat([old, new])])
    after = fit(spec, [new], learner=fit(spec, [old]))
    before = fit(spec, [old, new])
    assert [one.progress.rows for one in (once, after, before)] == [400] * 3
    assert [one.discarded for one in (once, after, before)] == [0, 0, 0]
    assert all(map(finite, (once, after, before)))


@pytest.mark.parametrize("name", SPECS)
def test_tiny_weights_are_refused_and_the_rest_is_learned(name: str) -> None:
    weight = np.ones(300)
    weight[:150] = 5e-324
    learner = fit(SPECS[name], [rows(300).replace(weight=weight)])
    assert learner.progress.rejected == {"weight below 1e-100": 150}
    assert finite(learner)
    assert finite(fit(SPECS[name], [rows(300).replace(weight=np.full(300, 1e-99))]))


def test_weights_are_aged_to_0_before_they_lose_their_digits() -> None:
    spec = SPECS["newton"]
    batch = rows(2).replace(time=np.array([0, 400 * DAY]), weight=np.array([1.0, 2.0]))
    assert decay.weight_at(spec, batch, 400 * DAY).weights.tolist() == [0.0, 2.0]
    assert decay.weight_at(spec, batch, 300 * DAY).weights[0] == 2.0**-300


def test_a_summary_is_aged_to_nothing_before_it_loses_its_digits() -> None:
    spec, algorithm = SPECS["pca"], find("pca")
    learner = fit(spec, [rows(100)])
    then = learner.dated.time + 332 * DAY  # type: ignore[operator]
    assert algorithm.weight(decay.advance(algorithm, spec, learner.dated, then).summary) > 0
    then += 8 * DAY
    assert algorithm.weight(decay.advance(algorithm, spec, learner.dated, then).summary) == 0


def test_a_value_far_beyond_its_batch_is_found() -> None:
    batch = rows(500)
    batch.dense_x[40, 0], batch.dense_x[50, 2], batch.dense_x[51, 2] = 1e10, -1e7, 9e6
    assert far_of(batch) == {f"feature amount {FAR_BEYOND}": [40], f"feature 2 {FAR_BEYOND}": [50, 51]}
    assert far_of(batch, deviations=1e11) == {}


def test_a_value_far_below_is_as_far_as_one_above() -> None:
    batch = rows(500)
    batch.dense_x[40, 0], batch.dense_x[41, 1] = -1e10, 1e10
    seen = Seen.of(rows(400))
    for known in (None, seen):
        assert far_of(batch, known) == {f"feature amount {FAR_BEYOND}": [40], f"feature 1 {FAR_BEYOND}": [41]}


def test_what_one_in_a_hundred_share_is_refused_and_what_more_share_is_learned() -> None:
    batch = rows(200)
    batch.dense_x[:2, 0] = 1e10
    assert far_of(batch) == {f"feature amount {FAR_BEYOND}": [0, 1]}
    batch.dense_x[2, 0] = 1e10
    assert far_of(batch) == {}


def test_rows_looked_at_that_are_odder_than_most_hide_nothing() -> None:
    """Every fourth of these rows is looked at; all of those that lie far out are among them."""
    x = np.random.default_rng(0).uniform(-1.0, 1.0, 4096)
    x[: 4 * 20 : 4] = 3.0
    x[1] = 2000.0
    assert far_of(Batch.dense(x[:, None])) == {f"feature amount {FAR_BEYOND}": [1]}


def test_labels_are_judged_by_those_seen_before() -> None:
    batch = Batch.dense(np.zeros((200, 1)), label=np.append(np.zeros(199), 5e4))
    few = Seen.of(Batch.dense(np.zeros((50, 1)), label=np.append(np.zeros(49), 100.0)))
    assert few is not None
    assert few.label == (0.0, 100.0)
    assert far_of(batch, few) == {}
    assert far_of(batch.replace(label=batch.label * 3), few) == {f"label {FAR_BEYOND}": [199]}


def test_one_row_says_nothing_of_how_far_others_may_lie() -> None:
    assert Seen.of(rows(1)) is None
    assert Seen.of(rows(2)) is not None


def test_what_was_seen_of_other_columns_is_not_gone_by() -> None:
    batch = rows(500)
    batch.dense_x[40, 2] = 1e10
    assert far_of(batch, Seen.of(Batch.dense(np.zeros((50, 2))))) == {f"feature 2 {FAR_BEYOND}": [40]}


def test_columns_are_named_up_to_a_bound() -> None:
    assert [feature_name(column, []) for column in (999, 1000)] == ["feature 999", "feature"]


def test_a_row_on_its_own_is_judged_by_what_was_seen() -> None:
    seen = Seen.of(rows(400))
    assert seen is not None
    again = Seen.from_json(seen.to_json())
    one = Batch.dense([[0.0, 1e6, 0.0]])
    assert far_of(one) == {}
    assert far_of(one, again) == {f"feature 1 {FAR_BEYOND}": [0]}
    assert far_of(Batch.dense([[0.0, 20.0, 0.0]]), again) == {}


@pytest.mark.parametrize("shift", [2.0, 5.0, 20.0, 900.0, 1e7])
@pytest.mark.parametrize("n", [2, 30, 1000])
def test_moves_that_rows_share_are_followed(shift: float, n: int) -> None:
    """However far they go: what a batch's rows share is no error of one of them."""
    seen = Seen.of(rows(400))
    assert far_of(rows(n, 1, shift), seen) == {}
    spec = linear.Newton(n_features=3)
    before = fit(spec, [rows(500)], limits=Limits())
    after = fit(spec, [rows(n, 1, shift)], learner=before, limits=Limits())
    assert after.progress.rejected == {}


def test_columns_that_awake_and_rare_columns_are_learned() -> None:
    still = Batch.dense(np.column_stack([np.zeros(400), np.ones(400)]))
    seen = Seen.of(still)
    moving = Batch.dense(np.column_stack([np.eye(400)[0] * 1e6, np.random.default_rng(0).normal(size=400)]))
    assert far_of(moving, seen) == {}
    assert far_of(moving) == {}


def test_heavy_tails_are_learned() -> None:
    rng = np.random.default_rng(1)
    amounts = np.exp(rng.normal(4.0, 2.0, size=(50_000, 1)))
    assert far_of(Batch.dense(amounts)) == {}
    assert far_of(Batch.dense(amounts), Seen.of(Batch.dense(amounts[:4096]))) == {}


def test_labels_that_are_numbers_are_judged_and_classes_are_not() -> None:
    batch = rows(300)
    label = np.random.default_rng(0).normal(size=300)
    label[7] = 1e9
    real = linear.Newton(n_features=3, loss="squared")
    _, rejected, _ = admit(real, batch.replace(label=label), Limits())
    assert {reason: at.tolist() for reason, at in rejected.items()} == {f"label {FAR_BEYOND}": [7]}
    rare = batch.replace(label=(np.arange(300) == 5).astype(float))
    assert admit(linear.Newton(n_features=3), rare, Limits())[1] == {}


def test_sparse_rows_are_judged_by_the_columns_that_have_names() -> None:
    n = 300
    amount = np.random.default_rng(0).normal(size=n)
    amount[3] = 1e8
    values = np.column_stack([amount, np.ones(n)]).ravel()
    indices = np.column_stack([np.zeros(n), 1 + np.arange(n) % 40]).ravel()
    batch = Batch.csr(np.arange(n + 1) * 2, indices.astype(int), values, 50)
    assert far_of(batch) == {f"feature amount {FAR_BEYOND}": [3]}


def test_places_of_rows_far_beyond_are_those_of_the_batch() -> None:
    batch = rows(300)
    batch.dense_x[2, 0], batch.dense_x[9, 1], batch.dense_x[20, 2] = np.nan, 1e9, 1e40
    good, rejected, _ = admit(linear.Newton(n_features=3), batch, Limits())
    found = {reason: at.tolist() for reason, at in rejected.items()}
    assert found == {"non-finite feature": [2], "feature 2 beyond 1e+30": [20], f"feature 1 {FAR_BEYOND}": [9]}
    assert len(good) == 297


def test_fit_keeps_a_value_of_1e10_out_where_it_is_asked_to() -> None:
    batch = rows(2000)
    batch.dense_x[800, 0] = 1e10
    spec, clean = linear.Newton(n_features=3), rows(2000)
    learner = fit(spec, [batch], limits=Limits())
    assert learner.progress.rejected == {f"feature 0 {FAR_BEYOND}": 1}
    assert f"feature 0 {FAR_BEYOND} 1" in repr(learner)
    score = predict(derive(learner, linear.Classifier()), clean)["score"]
    assert clean.label is not None
    assert (score[clean.label == 1][:, None] > score[clean.label == 0]).mean() > 0.8
    assert fit(spec, [batch]).progress.rejected == {}


CLIP = Limits(far_values="clip")


def test_a_value_far_beyond_is_clipped_to_the_farthest_that_is_not() -> None:
    before = rows(300)
    batch = rows(300)
    batch.dense_x[9, 1], batch.dense_x[20, 2] = 1e9, -1e8
    given = batch.dense_x.copy()
    seen = Seen.of(before)
    assert seen is not None
    good, rejected, adjusted = admit(linear.Newton(n_features=3), batch, CLIP, seen, ["a", "b"])
    assert (len(good), rejected) == (300, {})
    assert adjusted == {f"feature b {CLIPPED}": 1, f"feature 2 {CLIPPED}": 1}
    assert good.dense_x[9, 1] == seen.centre[1] + seen.reach[1]
    assert good.dense_x[20, 2] == seen.centre[2] - seen.reach[2]
    changed = np.argwhere(good.dense_x != given).tolist()
    assert changed == [[9, 1], [20, 2]]
    np.testing.assert_array_equal(batch.dense_x, given)  # the caller's rows stay as they are
    np.testing.assert_array_equal(good.label, batch.label)


def test_a_clipped_value_stays_the_farthest_on_its_side() -> None:
    """Amounts are not negative, and some are a hundred times the usual one: 1 % is not where they end."""
    n = 1_000
    amounts = np.random.default_rng(0).exponential(size=n)
    amounts[:3] = 50.0, 80.0, 100.0
    for odd, kept in ((1e12, 100.0), (-1e12, amounts.min())):
        batch = Batch.dense(np.append(amounts, odd)[:, None], label=np.zeros(n + 1))
        good, _, adjusted = admit(linear.Newton(n_features=1), batch, CLIP)
        assert adjusted == {f"feature 0 {CLIPPED}": 1}
        assert good.dense_x[-1, 0] == kept
        np.testing.assert_array_equal(good.dense_x[:-1, 0], amounts)
    seen = Seen.of(Batch.dense(amounts[:, None]))
    assert seen is not None
    alone, _, _ = admit(linear.Newton(n_features=1), Batch.dense([[1e12]], label=[0.0]), CLIP, seen)
    assert alone.dense_x[0, 0] == seen.centre[0] + seen.reach[0] == pytest.approx(100.0)


@pytest.mark.parametrize("cuts", [[300], [10, 11, 150], [100, 200], list(range(50, 300, 50))])
def test_what_is_clipped_does_not_depend_on_how_rows_are_cut(cuts: list[int]) -> None:
    batch, seen = rows(300), Seen.of(rows(400))
    batch.dense_x[9, 1], batch.dense_x[120, 2], batch.dense_x[299, 0] = 1e9, -1e8, 1e7
    whole = admit(linear.Newton(n_features=3), batch, CLIP, seen)
    bounds = sorted({0, *cuts, 300})
    parts = [
        admit(linear.Newton(n_features=3), batch.take(slice(low, high)), CLIP, seen)
        for low, high in itertools.pairwise(bounds)
    ]
    np.testing.assert_array_equal(np.concatenate([one.rows.dense_x for one in parts]), whole.rows.dense_x)
    assert sum((Counter(one.adjusted) for one in parts), Counter()) == whole.adjusted
    assert sum(whole.adjusted.values()) == 3


def test_labels_and_sparse_rows_are_clipped_too() -> None:
    n, rng = 300, np.random.default_rng(0)
    amount, label = rng.normal(size=n), rng.normal(size=n)
    amount[3], label[7] = 1e8, -1e9
    values = np.column_stack([amount, np.ones(n)]).ravel()
    indices = np.column_stack([np.zeros(n), 1 + np.arange(n) % 40]).ravel().astype(int)
    batch = Batch.csr(np.arange(n + 1) * 2, indices, values, 50, label=label)
    good, rejected, adjusted = admit(linear.Newton(n_features=50, loss="squared"), batch, CLIP, None, ["amount"])
    assert rejected == {}
    assert adjusted == {f"feature amount {CLIPPED}": 1, f"label {CLIPPED}": 1}
    assert good.values is not None
    assert good.label is not None
    assert np.flatnonzero(good.values != values).tolist() == [6]
    assert np.flatnonzero(good.label != label).tolist() == [7]
    assert 1.0 < good.values[6] < 10.0
    assert -10.0 < good.label[7] < -1.0


@pytest.mark.parametrize("limits", [Limits(), CLIP])
def test_one_value_of_1e10_spoils_no_model_either_way(limits: Limits) -> None:
    batch, clean = rows(2000), rows(2000)
    batch.dense_x[800, 0] = 1e10
    learner = fit(linear.Newton(n_features=3), [batch], limits=limits)
    score = predict(derive(learner, linear.Classifier()), clean)["score"]
    assert clean.label is not None
    assert (score[clean.label == 1][:, None] > score[clean.label == 0]).mean() > 0.8


def test_what_was_clipped_is_counted_shown_and_kept(tmp_path: Path) -> None:
    batch = rows(2000)
    batch.dense_x[800, 0] = 1e10
    learner = fit(linear.Newton(n_features=3), [batch], limits=CLIP)
    assert (learner.progress.rows, learner.progress.rejected) == (2000, {})
    assert learner.progress.adjusted == {f"feature 0 {CLIPPED}": 1}
    assert f"1 adjusted (feature 0 {CLIPPED} 1)" in repr(learner)
    save(learner, tmp_path / "learner")
    assert load(tmp_path / "learner").progress.adjusted == learner.progress.adjusted  # type: ignore[union-attr]


def test_one_such_row_is_said() -> None:
    batch = rows(500)
    batch.dense_x[8, 0] = 1e10
    spec = linear.Newton(n_features=3)
    learner = fit(spec, [batch], limits=Limits())
    said = warning(spec, learner.progress, learner.sample)
    assert said is not None
    assert f"feature 0 {FAR_BEYOND} 1" in said
    assert warning(spec, fit(spec, [batch]).progress, Sample.empty(spec)) is None


def test_fit_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    batch = rows(500)
    batch.dense_x[8, 0] = 1e10
    with caplog.at_level(logging.WARNING):
        fit(linear.Newton(n_features=3), [batch], limits=Limits())
    assert f"1 rejected (feature 0 {FAR_BEYOND} 1)" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"), [("feature", 0.0), ("label", 1e61), ("weight", 1e16), ("deviations", 20.0)]
)
def test_limits_are_bounded(field: str, value: float) -> None:
    with pytest.raises(InvalidValue, match=rf"^limits\.{field}"):
        Limits.parse({field: value})
    assert ABSOLUTE.deviations == "any"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("none", r"^limits\.deviations must be a number or be 'any'; got 'none'\.$"),
        (3, r"^limits\.deviations must be >= 50\.0 or be 'any'; got 3\.$"),
    ],
)
def test_a_bad_bound_is_one_sentence_about_the_field(value: object, sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        Limits(deviations=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 200, 5_000])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_extremes_are_those_of_the_columns(n: int, kind: type) -> None:
    x = np.random.default_rng(n).normal(size=(n, 3)).astype(kind)
    low, high = _extremes(x)
    np.testing.assert_array_equal(low, x.min(axis=0))
    np.testing.assert_array_equal(high, x.max(axis=0))


@pytest.mark.parametrize("at", [0, 1, 4_321, 49_999])
def test_one_row_of_a_large_first_batch_is_found_wherever_it_is(at: int) -> None:
    batch = Batch.dense(np.random.default_rng(0).normal(size=(50_000, 3)) * [1.0, 1e-9, 1e9])
    batch.dense_x[at, 1] = 1e-3
    assert far_of(batch) == {"feature 1 far beyond what was seen": [at]}


def test_numbers_in_front_of_sparse_rows_are_judged_where_they_lie() -> None:
    rng = np.random.default_rng(3)
    X, buckets = rng.normal(size=(200, 3)), rng.integers(3, 1000, size=(200, 2))
    X[11, 1] = 1e9
    indices = np.hstack([np.broadcast_to(np.arange(3), (200, 3)), buckets]).astype(np.int32)
    values = np.hstack([X, np.ones((200, 2))])
    bounds = np.arange(0, 1001, 5)
    batch = Batch.csr(bounds, indices.ravel(), values.ravel(), 1000)
    assert batch.values is not None
    assert np.shares_memory(_matrix(batch, 3), batch.values)
    turned = Batch.csr(bounds, indices[:, ::-1].ravel(), values[:, ::-1].ravel(), 1000)
    ragged = Batch.csr(np.append(bounds, 1002), np.append(indices, [0, 1]), np.append(values, [0.5, 0.5]), 1000)
    assert np.array_equal(_matrix(turned, 3), X)
    assert np.array_equal(_matrix(ragged, 3), np.vstack([X, [0.5, 0.5, 0.0]]))
    assert np.array_equal(_matrix(batch, 3), X)
    names = ["a", "b", "c"]
    (found,), (again,) = (far_beyond(one, 1000.0, None, names) for one in (batch, turned))
    assert found[0] == again[0] == f"feature b {FAR_BEYOND}"
    assert np.flatnonzero(found[1]).tolist() == np.flatnonzero(again[1]).tolist() == [11]
