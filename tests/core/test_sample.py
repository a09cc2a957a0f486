import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.core import sample as sample_module
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.identity import sorted_places
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec


class Two(Spec):
    algorithm: str = "two"
    label_rule = "class"

    @property
    def n_label_classes(self) -> int:
        return 2


PLAIN = Spec(algorithm="plain", n_features=2)
CLASSES = Two(n_features=2)
DECAYED = Two(n_features=2, half_life=100.0)


def rows(n: int, spec: Spec, start: int = 0, seed: int = 0, **columns: Any) -> Batch:
    rng = np.random.default_rng(seed)
    columns.setdefault("label", (rng.random(n) < 0.1).astype(float))
    columns.setdefault("time", rng.integers(0, 1_000_000_000, n))
    place = np.arange(start, start + n)
    return Batch.dense(rng.normal(size=(n, 2)), origin=Origin("s", "p"), position=place, **columns)


def same(a: Sample, b: Sample) -> bool:
    if (a.rows is None) != (b.rows is None):
        return False
    names = ("order", "identity", "kind", "tau")
    equal = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)
    equal &= (a.top is None) == (b.top is None) and (a.importance is None) == (b.importance is None)
    if a.top is not None and b.top is not None:
        equal &= same(a.top, b.top)
    if a.importance is not None and b.importance is not None:
        equal &= np.array_equal(a.importance, b.importance)
    if a.rows is not None and b.rows is not None:
        equal &= np.array_equal(a.rows.dense_x, b.rows.dense_x)
    return equal and bool(np.allclose(a.mass, b.mass, rtol=1e-12)) and a.time == b.time


@pytest.fixture(autouse=True)
def small_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "MAX_ROWS", 64)


@pytest.mark.parametrize("spec", [PLAIN, CLASSES, DECAYED])
@given(cuts=st.lists(st.integers(0, 500), max_size=6), seed=st.integers(0, 5), weighted=st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_split_and_order_of_merging_gives_the_same_sample(
    spec: Spec, cuts: list[int], seed: int, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 4, 500).astype(float) if weighted else None
    batch = rows(500, spec, seed=seed, weight=weight)
    whole = Sample.of(spec, batch)
    bounds = [0, *sorted(cuts), 500]
    parts = [Sample.of(spec, batch.take(slice(a, b))) for a, b in itertools.pairwise(bounds)]
    rng.shuffle(parts)  # type: ignore[arg-type]
    left = functools.reduce(lambda a, b: a.merge(b, spec), parts, Sample.empty(spec))
    right = functools.reduce(lambda a, b: b.merge(a, spec), reversed(parts), Sample.empty(spec))
    assert same(whole, left)
    assert same(whole, right)


def test_thresholds_known_beforehand_change_nothing() -> None:
    batch = rows(1000, CLASSES)
    first, second = batch.take(slice(0, 500)), batch.take(slice(500, 1000))
    begun = Sample.of(CLASSES, first)
    assert same(begun.merge(Sample.of(CLASSES, second, begun), CLASSES), Sample.of(CLASSES, batch))


def test_the_same_rows_twice_are_sampled_once() -> None:
    one = Sample.of(CLASSES, rows(50, CLASSES))
    both = one.merge(one, CLASSES)
    assert both.rows is not None
    assert one.rows is not None
    assert len(both.rows) == len(one.rows)


def test_both_classes_keep_their_share() -> None:
    found = Sample.of(CLASSES, rows(20_000, CLASSES))
    assert np.bincount(found.kind).tolist() == [32, 32]
    assert found.mass.sum() == 20_000


def test_zero_weight_rows_never_enter() -> None:
    weight = np.tile([0.0, 1.0], 100)
    found = Sample.of(PLAIN, rows(200, PLAIN, weight=weight))
    assert found.rows is not None
    assert found.rows.weight is not None
    assert (found.rows.weight == 1.0).all()


def test_estimates_are_unbiased_under_weights_and_decay() -> None:
    """The features go with weight and age, so that rows drawn too often, or counted too much, move the sum."""
    truth, guesses = 0.0, []
    for seed in range(200):
        spec = Two(n_features=2, half_life=300.0, seed=seed)
        rng = np.random.default_rng(7)
        batch = rows(3000, spec, seed=7, weight=rng.uniform(0.5, 3.0, 3000))
        assert batch.time is not None
        assert batch.weight is not None
        decayed = batch.weight * np.exp2(-(batch.time.max() - batch.time) / 300e6)
        batch = batch.replace(X=batch.dense_x + 2.0 * np.log(decayed)[:, None])
        truth = float(decayed @ batch.dense_x[:, 0] ** 2)
        estimate = Sample.of(spec, batch).estimate(spec)
        assert estimate is not None
        assert estimate.weight is not None
        assert estimate.weight.sum() == pytest.approx(decayed.sum(), rel=1e-9)
        guesses.append(float(estimate.weight @ estimate.dense_x[:, 0] ** 2))
    error = np.std(guesses) / np.sqrt(len(guesses))
    assert error < 0.02 * truth
    assert abs(np.mean(guesses) - truth) < 4 * error


@pytest.mark.parametrize("half_life", [None, 150.0])
def test_estimates_of_what_goes_with_weight_and_age_are_unbiased(half_life: float | None) -> None:
    """Heavy and new rows are drawn more often and must count for less: sums of the weight itself and of the age tell."""
    rng = np.random.default_rng(11)
    weight, n = np.exp(rng.normal(0.0, 1.5, 4_000)), 4_000
    time = rng.integers(0, 900_000_000, n)
    age = (time.max() - time) * 1e-6
    spec = Two(n_features=2, half_life=half_life)
    batch = rows(n, spec, seed=5, weight=weight, time=time)
    decayed = weight if half_life is None else weight * np.exp2(-age / half_life)
    assert batch.label is not None
    values = np.column_stack([np.minimum(weight, 3.0), age, (weight > 2.0) * batch.label])
    truth, guesses = decayed @ values, []
    for seed in range(250):
        estimate = Sample.of(spec.model_copy(update={"seed": seed}), batch).estimate(spec)
        assert estimate is not None
        assert estimate.weight is not None
        assert estimate.weight.sum() == pytest.approx(decayed.sum(), rel=1e-9)
        guesses.append(estimate.weight @ values[_places(batch, estimate)])
    error = np.std(guesses, axis=0) / np.sqrt(len(guesses))
    # A ratio of two estimates is off by a share of its own spread besides: at most a hundredth here.
    assert np.all(np.abs(np.mean(guesses, axis=0) - truth) < 4 * error + 0.01 * np.abs(truth))


def _places(batch: Batch, drawn: Batch) -> np.ndarray:
    """Which rows of a batch were drawn, by their features."""
    order = np.argsort(batch.dense_x[:, 0])
    return order[np.searchsorted(batch.dense_x[order, 0], drawn.dense_x[:, 0])]


def test_half_life_prefers_new_rows() -> None:
    spec = Spec(algorithm="plain", n_features=2, half_life=10.0)
    found = Sample.of(spec, rows(5000, spec))
    assert found.rows is not None
    assert found.rows.time is not None
    assert found.rows.time.min() > 850_000_000


def test_rows_over_a_sixty_fourth_of_the_cap_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "MAX_BYTES", 64 * 50)
    found = Sample.of(PLAIN, rows(10, PLAIN))
    assert found.rows is None
    assert found.too_wide == 10
    assert found.mass.tolist() == [10.0]


def test_byte_cap_cuts_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "MAX_BYTES", 64 * 56)
    found = Sample.of(PLAIN, rows(500, PLAIN))
    assert found.rows is not None
    assert len(found.rows) == 64
    monkeypatch.setattr(sample_module, "MAX_BYTES", 64 * 56 - 1)
    assert Sample.of(PLAIN, rows(500, PLAIN)).rows is None


def test_sparse_rows() -> None:
    indptr = np.arange(0, 301, 3)
    batch = Batch.csr(
        indptr, np.tile([0, 1, 2], 100), np.ones(300), 3, origin=Origin("s", "p"), position=np.arange(100)
    )
    spec = Spec(algorithm="plain", n_features=3)
    whole = Sample.of(spec, batch)
    halves = Sample.of(spec, batch.take(slice(0, 50))).merge(Sample.of(spec, batch.take(slice(50, 100))), spec)
    assert whole.rows is not None
    assert halves.rows is not None
    assert len(whole.rows) == 64
    assert np.array_equal(whole.identity, halves.identity)
    assert np.array_equal(whole.rows.indices, halves.rows.indices)


@pytest.mark.parametrize("size", [1, 37, 250])
def test_rows_too_wide_are_left_out_whatever_the_batches(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "MAX_BYTES", 64 * (48 + 12 * 5))
    rng = np.random.default_rng(3)
    counts = np.where(rng.random(1000) < 0.3, 6, 1)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    indices = np.concatenate([np.arange(k) for k in counts])
    weight = rng.integers(0, 3, 1000).astype(float)
    batch = Batch.csr(
        indptr, indices, np.ones(indices.size), 8, weight=weight, origin=Origin("s", "p"), position=np.arange(1000)
    )
    spec = Spec(algorithm="plain", n_features=8)
    whole = Sample.of(spec, batch)
    total = Sample.empty(spec)
    for start in range(0, 1000, size):
        fresh = Sample.of(spec, batch.take(slice(start, start + size)), total)
        total = total.merge(fresh, spec)
    assert whole.too_wide == total.too_wide == np.count_nonzero(counts == 6)
    assert np.array_equal(whole.identity, total.identity)
    assert np.array_equal(whole.tau, total.tau)
    assert whole.rows is not None
    assert len(whole.rows) == 64
    narrow = Sample.of(spec, batch.take(counts == 1))
    assert np.array_equal(whole.identity, narrow.identity)
    assert whole.mass.tolist() == [weight.sum()]


def scores(batch: Batch) -> np.ndarray:
    """Probabilities of class 1 by some model: rare, and right more often than not."""
    assert batch.label is not None
    return 1.0 / (1.0 + np.exp(-(3.0 * batch.dense_x[:, 0] + 2.0 * batch.label - 7.0)))


def drawn(spec: Spec, batch: Batch, cuts: list[int], known: list[bool]) -> list[Sample]:
    """One sample of each piece of a batch, by importance where a model is known."""
    parts = [batch.take(slice(a, b)) for a, b in itertools.pairwise([0, *cuts, len(batch)])]
    return [Sample.of(spec, part, None, scores if by else None) for part, by in zip(parts, known, strict=True)]


@pytest.mark.parametrize("spec", [CLASSES, DECAYED], ids=["plain", "half-life"])
def test_rows_drawn_by_importance_do_not_depend_on_how_they_were_split(spec: Spec) -> None:
    weight = np.random.default_rng(3).uniform(0.0, 2.0, 2_000)
    batch = rows(2_000, spec, weight=weight)
    whole = Sample.of(spec, batch, None, scores)
    assert whole.top is not None
    assert whole.top.rows is not None
    assert len(whole.top.rows) == 32
    assert not whole.top.kind.any()
    parts = drawn(spec, batch, [300, 310, 1_500], [True] * 4)
    for order in itertools.permutations(parts):
        assert same(Sample.merge_all(list(order), spec), whole)
        assert same(functools.reduce(lambda a, b: a.merge(b, spec), order), whole)
    grown = Sample.empty(spec)
    for start in range(0, 2_000, 90):
        part = batch.take(slice(start, start + 90))
        grown = grown.merge(Sample.of(spec, part, grown, scores), spec)
    assert same(grown, whole)
    assert Sample.empty(spec).merge(whole, spec).top is not None


def test_rows_of_before_any_model_have_their_place_among_those_drawn_by_importance() -> None:
    batch = rows(1_500, CLASSES)
    parts = drawn(CLASSES, batch, [200, 700], [False, True, False])
    orders = [Sample.merge_all(list(order), CLASSES) for order in itertools.permutations(parts)]
    first, second, third = parts
    orders.append(third.merge(first, CLASSES).merge(second, CLASSES))
    orders.append(
        Sample.of(CLASSES, batch.take(slice(700, 1_500)), first.merge(second, CLASSES))
        .merge(first, CLASSES)
        .merge(second, CLASSES)
    )
    for one in orders[1:]:
        assert same(one, orders[0])
    alone = Sample.of(CLASSES, batch)
    assert alone.top is None
    assert alone.ranked(CLASSES) is not None
    ranked, plain = alone.ranked(CLASSES), alone.estimate(CLASSES)
    assert ranked is not None
    assert plain is not None
    assert np.array_equal(ranked.weights, plain.weights)


def test_rows_of_before_any_model_weigh_the_same_where_none_was_drawn_by_one() -> None:
    weight = np.random.default_rng(5).uniform(0.1, 4.0, 1_000)
    before = Sample.of(CLASSES, rows(1_000, CLASSES, weight=weight))
    ones = Sample.of(CLASSES, rows(40, CLASSES, start=1_000, label=np.ones(40)), None, scores)
    both = before.merge(ones, CLASSES)
    ranked, plain = both.ranked(CLASSES), both.estimate(CLASSES)
    assert both.top is not None
    assert ranked is not None
    assert plain is not None
    found, expected = (np.sort(one.weights[one.label == 0]) for one in (ranked, plain))
    assert found == pytest.approx(expected, rel=1e-9)


def test_ranked_rows_are_in_an_order_that_no_identity_changes() -> None:
    sample = Sample.of(CLASSES, rows(1_000, CLASSES), None, scores)
    ranked = sample.ranked(CLASSES)
    assert sample.rows is not None
    assert ranked is not None
    zeros = sample.rows.take(sample.kind == 0).dense_x
    assert np.array_equal(ranked.dense_x[ranked.label == 0][: len(zeros)], zeros)


def test_the_bytes_of_rows_drawn_by_importance_count() -> None:
    sample = Sample.of(CLASSES, rows(1_000, CLASSES), None, scores)
    assert sample.top is not None
    assert sample.nbytes == dataclasses.replace(sample, top=None).nbytes + sample.top.nbytes


@pytest.mark.parametrize("half_life", [None, 200.0])
@pytest.mark.parametrize("known", [[True, True], [False, True]])
def test_ranked_rows_stand_for_all_rows(half_life: float | None, known: list[bool]) -> None:
    rng = np.random.default_rng(2)
    n = 4_000
    spec = Two(n_features=2, half_life=half_life)
    batch = rows(n, spec, seed=9, weight=rng.uniform(0.2, 2.0, n), time=rng.integers(0, 600_000_000, n))
    assert batch.label is not None
    assert batch.time is not None
    own = (
        batch.weights
        if half_life is None
        else batch.weights * np.exp2((batch.time - batch.time.max()) * 1e-6 / half_life)
    )
    by_score = scores(batch)
    zeros = batch.label == 0
    values = np.column_stack([by_score, batch.dense_x[:, 0], by_score > 0.2, batch.dense_x[:, 1] ** 2]) * zeros[:, None]
    truth, ranked, plain = own @ values, [], []
    for seed in range(200):
        sample = Sample.merge_all(drawn(spec.model_copy(update={"seed": seed}), batch, [1_000], known), spec)
        for estimate, guesses in ((sample.ranked(spec), ranked), (sample.estimate(spec), plain)):
            assert estimate is not None
            assert estimate.label is not None
            assert estimate.weights[estimate.label == 0].sum() == pytest.approx(own[zeros].sum(), rel=1e-9)
            assert estimate.weights[estimate.label == 1].sum() == pytest.approx(own[~zeros].sum(), rel=1e-9)
            guesses.append(estimate.weights @ values[_places(batch, estimate)])
    spread, before = np.std(ranked, axis=0), np.std(plain, axis=0)
    assert np.all(np.abs(np.mean(ranked, axis=0) - truth) < 4 * spread / np.sqrt(200) + 0.02 * np.abs(truth))
    top = 0.7 if known[0] else 0.95
    assert np.all(spread[[0, 2]] < top * before[[0, 2]])  # what lies at the top of the ranking is known better
    assert np.all(spread[[1, 3]] < 1.1 * before[[1, 3]])  # and the rest no worse


def test_a_model_that_ran_off_to_infinity_draws_like_none() -> None:
    batch = rows(800, CLASSES)
    found = Sample.of(CLASSES, batch, None, lambda some: np.where(np.arange(len(some)) % 2 == 0, np.nan, np.inf))
    level = Sample.of(CLASSES, batch, None, lambda some: np.zeros(len(some)))
    assert found.top is not None
    assert same(found, level)
    assert found.nbytes > Sample.of(CLASSES, batch).nbytes


def test_no_importance_where_labels_are_not_two_classes() -> None:
    batch = rows(100, PLAIN)
    assert Sample.of(PLAIN, batch, None, scores).top is None


def test_a_model_is_asked_about_rows_that_may_be_kept_alone() -> None:
    asked = []

    def counted(some: Batch) -> np.ndarray:
        asked.append(len(some))
        return np.full(len(some), 1e-4)

    batch = rows(60_000, CLASSES)
    whole = Sample.of(CLASSES, batch.take(slice(0, 50_000)), None, counted)
    asked.clear()
    late = whole.merge(Sample.of(CLASSES, batch.take(slice(50_000, 60_000)), whole, counted), CLASSES)
    assert 0 < sum(asked) < 5_000
    assert late.top is not None
    assert same(late, Sample.of(CLASSES, batch, None, lambda some: np.full(len(some), 1e-4)))


def test_rows_are_sorted_as_by_class_order_and_identity():
    rng = np.random.default_rng(12)
    for tied in (False, True):
        order = rng.normal(size=900)
        if tied:
            order = np.round(order, 1)
        identity, kind = rng.integers(0, 50, 900).astype(np.uint64), rng.integers(0, 3, 900).astype(np.int32)
        expected = np.lexsort((identity, order, kind))
        np.testing.assert_array_equal(sorted_places(order, identity, kind), expected)


def test_a_scorer_is_asked_about_each_row_once():
    rng, asked = np.random.default_rng(13), []
    batch = Batch.dense(
        np.arange(300.0)[:, None],
        label=(rng.random(300) < 0.1).astype(float),
        origin=Origin("s", ""),
        position=np.arange(300),
    )

    def scorer(rows):
        asked.extend(rows.X[:, 0].tolist())
        return np.full(len(rows), 0.25)

    found = Sample.of(Two(n_features=1), batch, None, scorer)
    assert sorted(asked) == list(range(300))
    assert (found.importance == 1 + 512 * 0.25).all()


class Many(Spec):
    algorithm: str = "many"
    label_rule = "class"
    kinds: int = 3

    @property
    def n_label_classes(self) -> int:
        return self.kinds


@pytest.mark.parametrize("half_life", [None, 200.0])
def test_masses_of_many_classes_are_their_weights_by_age(half_life: float | None) -> None:
    rng = np.random.default_rng(4)
    spec = Many(n_features=2, kinds=5, half_life=half_life)
    label, weight = rng.integers(0, 5, 300).astype(float), rng.uniform(0.1, 3.0, 300)
    batch = rows(300, spec, label=label, weight=weight)
    assert batch.time is not None
    own = weight if half_life is None else weight * 0.5 ** ((batch.time.max() - batch.time) * 1e-6 / half_life)
    found = Sample.of(spec, batch.take(slice(0, 100))).merge(Sample.of(spec, batch.take(slice(100, 300))), spec)
    np.testing.assert_allclose(found.mass, [own[label == k].sum() for k in range(5)], rtol=1e-12)
    assert np.bincount(found.kind).max() <= 64 // 5


@pytest.mark.parametrize(("kinds", "apart"), [(256, 256), (257, 1)])
def test_classes_are_kept_apart_up_to_256(kinds: int, apart: int) -> None:
    spec = Many(n_features=2, kinds=kinds)
    found = Sample.of(spec, rows(100, spec, label=np.arange(100.0)))
    assert found.mass.size == found.tau.size == apart
    assert found.mass.sum() == 100.0


def test_the_cap_of_bytes_is_shared_out_among_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "MAX_BYTES", 64 * 56)
    monkeypatch.setattr(sample_module, "MAX_ROWS", 4096)
    spec = Many(n_features=2, kinds=4)
    found = Sample.of(spec, rows(2_000, spec, label=np.arange(2_000) % 4.0))
    assert np.bincount(found.kind).tolist() == [16] * 4
    assert np.isfinite(found.tau).all()


def test_masses_brought_forward_fade_in_both_samples_and_carry_the_time() -> None:
    spec = Two(n_features=2, half_life=50.0)
    batch = rows(500, spec)
    assert batch.time is not None
    found = Sample.of(spec, batch, None, scores)
    now = int(batch.time.max()) + 100_000_000
    later = found.scale_mass_to(spec, now)
    for before, after in ((found, later), (found.top, later.top)):
        assert before is not None
        assert after is not None
        assert after.time == now
        np.testing.assert_allclose(after.mass, before.mass / 4.0, rtol=1e-12)
    assert same(later.scale_mass_to(spec, now - 5), later)


def test_rows_kept_have_no_place_and_all_that_is_held_counts() -> None:
    batch = rows(20, CLASSES)
    assert batch.position is not None
    found = Sample.of(CLASSES, batch.replace(position_end=batch.position + 1))
    assert found.rows is not None
    assert (found.rows.origin, found.rows.position, found.rows.position_end) == (None, None, None)
    assert found.nbytes == found.rows.nbytes + 20 * (8 + 8 + 4)
