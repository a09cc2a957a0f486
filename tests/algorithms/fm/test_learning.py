"""Factorization machines from rows to models."""

import dataclasses
from functools import reduce

import numpy as np
import pytest

from beam_ml import Batch, derive, fit, fm, linear, load, merge, predict, save
from beam_ml.algorithms.fm.growing import grow
from beam_ml.algorithms.fm.machine import now
from beam_ml.algorithms.fm.start import starts
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.arrays import close, identical, nbytes
from beam_ml.core.limits import Limits
from beam_ml.core.refresh import Plan, refresh
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue, MergeRefused
from beam_ml.testing.laws import check_algorithm
from tests.algorithms.fm.support import FM, grown, learned, loss, model_of, ratings

REAL = fm.Spec(n_features=700, n_factors=4, task="regression")
BINARY = fm.Spec(n_features=700, n_factors=4)


def pieces(rows, size):
    return [rows.take(slice(i, i + size)) for i in range(0, len(rows), size)]


def test_every_law_holds_on_sparse_rows_too():
    check_algorithm(FM, fm.Spec(n_features=6, n_factors=2), [fm.Classifier()], examples=5, sparse=True)


@pytest.mark.parametrize("spec", [REAL, BINARY], ids=["real", "binary"])
def test_one_shard_in_windows_is_the_sequential_run(spec):
    """Penalties that adapt do so at folds; given ones are the same throughout."""
    spec = spec.model_copy(update={"linear_wd": 0.003, "factors_wd": 0.03})
    rows = ratings(0, 3_000, spec.task)
    whole = FM.fold(
        spec,
        FM.init(spec),
        reduce(lambda p, b: FM.accumulate(spec, p, b, None), pieces(rows, 100), FM.empty(spec)),
        None,
    )
    state = FM.init(spec)
    for window in pieces(rows, 1_000):
        partial = reduce(
            lambda p, b: FM.accumulate(spec, p, b, FM.anchor(spec, state)), pieces(window, 100), FM.empty(spec)
        )
        state = FM.fold(spec, state, partial, None)
    for name in ("theta", "squares", "sums", "label"):
        np.testing.assert_allclose(getattr(state, name), getattr(whole, name), rtol=1e-8, atol=1e-12, err_msg=name)
    assert (state.length == 1.0).all()


def test_it_learns_what_linear_weights_cannot():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 10, 20_000), 10 + rng.integers(0, 10, 20_000)
    rows = Batch.csr(np.arange(20_001) * 2, np.stack([a, b], 1).ravel(), np.ones(40_000), 20, label=(a + b) % 2)
    spec = fm.Spec(n_features=20, n_factors=2)
    model = derive(fit(spec, pieces(rows, 1_000)), fm.Classifier())
    assert (predict(model, rows)["predicted_label"] == rows.label).mean() > 0.99


def test_rows_of_a_rare_class_do_not_draw_the_level_to_it():
    """Rows of two identifiers each, 1 of 200 in class 1: held back alike, steps come to four times that rate."""
    rng, n, each = np.random.default_rng(26), 16_000, 3_000
    columns = np.stack([rng.integers(each, size=n), each + rng.integers(each, size=n)], axis=1)
    label = (rng.random(n) < 0.005).astype(float)
    rows = Batch.csr(np.arange(n + 1) * 2, columns.ravel(), np.ones(2 * n), 2 * each, label=label)
    spec = fm.Spec(n_features=2 * each, n_factors=4)
    first, second = pieces(rows, n // 2)
    state = FM.fold(spec, FM.init(spec), grown(spec, first, None), None)
    score = FM.models["classifier"].predict(model_of(spec, state), second)["score"]
    assert score.mean() < 2.5 * label.mean()


def test_untouched_rows_are_neither_moved_nor_sent():
    spec = fm.Spec(n_features=1_000_000, n_factors=16)
    rows = Batch.csr([0, 2, 4], [3, 999_999, 3, 17], np.ones(4), 1_000_000, label=[1.0, 0.0])
    partial = FM.accumulate(spec, FM.empty(spec), rows, None)
    assert partial.open_rows.tolist() == [3, 17, 999_999, 1_000_000]
    assert nbytes(partial) < 4_000
    merged = FM.merge(spec, partial, FM.accumulate(spec, FM.empty(spec), rows.take(slice(1)), None))
    assert merged.closed_rows.tolist() == [3, 17, 999_999, 1_000_000]
    few = np.array([3, 5, 17])
    np.testing.assert_array_equal(starts(spec, few), starts(spec, np.arange(18))[few])


def test_a_growing_partial_is_written_in_place():
    rows = ratings(1, 4_000)
    run = grow(REAL, FM.empty(REAL), None)
    run.add(rows)
    table = run._table
    for piece in pieces(rows, 10):
        run.add(piece)
    assert run._table is table  # nothing was written anew
    state = FM.fold(REAL, FM.init(REAL), run.partial(), None)
    before = state.theta.tobytes()
    grown(REAL, rows, FM.anchor(REAL, state))
    assert state.theta.tobytes() == before


def test_dense_rows_and_csr_rows_with_duplicates_in_any_order_are_the_same():
    spec = fm.Spec(n_features=4, n_factors=2)
    dense = Batch.dense([[0.0, 3.0, 0.0, 1.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], label=[1.0, 0.0, 1.0])
    rough = Batch.csr([0, 3, 5, 5], [3, 1, 1, 0, 0], np.array([1.0, 1.0, 2.0, 0.5, 1.5]), 4, label=[1.0, 0.0, 1.0])
    a, b = (FM.accumulate(spec, FM.empty(spec), rows, None) for rows in (dense, rough))
    assert close(a, b, rtol=1e-12)
    model = model_of(spec, FM.fold(spec, FM.init(spec), a, None))
    np.testing.assert_allclose(
        *(FM.models["classifier"].predict(model, rows)["score"] for rows in (dense, rough)), rtol=1e-12
    )


def test_a_model_is_rendles_equation_in_the_units_of_the_data():
    rng = np.random.default_rng(2)
    x = np.where(rng.random((400, 5)) < 0.6, rng.normal(size=(400, 5)) * [1, 10, 0.1, 1000, 1], 0.0)
    rows = Batch.dense(x, label=50 + 20 * rng.normal(size=400))
    spec = fm.Spec(n_features=5, n_factors=3, task="regression")
    model = derive(fit(spec, [rows]), fm.Regressor()).arrays
    v, w = model.factors, model.linear
    pairs = sum((v[i] @ v[j]) * x[:, i] * x[:, j] for i in range(5) for j in range(i))
    np.testing.assert_allclose(
        FM.models["regressor"].predict(model, rows)["score"], model.intercept + x @ w + pairs, rtol=1e-9
    )


def test_features_that_no_row_had_count_for_nothing():
    spec = fm.Spec(n_features=4, n_factors=2, linear_init_method="normal", linear_init_sigma=1.0)
    model = derive(fit(spec, [Batch.csr([0, 2], [0, 2], np.ones(2), 4, label=[1.0])]), fm.Classifier())
    assert model.arrays.features.tolist() == [0, 2]
    assert model.arrays.linear.astype(bool).all()
    assert model.arrays.factors.astype(bool).any(axis=1).all()
    new = Batch.csr([0, 1, 3], [0, 0, 3], np.ones(3), 4)
    assert len(set(predict(model, new)["score"].tolist())) == 1


def test_units_of_features_and_labels_do_not_matter():
    rng = np.random.default_rng(3)
    x = np.where(rng.random((3_000, 4)) < 0.7, rng.normal(size=(3_000, 4)), 0.0)
    y = x[:, 0] * x[:, 1] + x[:, 2]
    spec = fm.Spec(n_features=4, n_factors=2, task="regression")
    plain = predict(derive(fit(spec, [Batch.dense(x, label=y)]), fm.Regressor()), Batch.dense(x))["score"]
    other = x * [1e4, 1e-3, 7.0, 1.0]
    scaled = predict(derive(fit(spec, [Batch.dense(other, label=1e6 + 250 * y)]), fm.Regressor()), Batch.dense(other))
    np.testing.assert_allclose((scaled["score"] - 1e6) / 250, plain, rtol=1e-4, atol=1e-4)
    assert np.mean((plain - y) ** 2) < 0.3 * np.var(y)


def test_penalties_shrink_and_groups_have_rates_of_their_own():
    rows = ratings(4, 5_000)
    free = fm.Spec(n_features=700, n_factors=4, task="regression", linear_wd=0.0, factors_wd=0.0)
    tight = fm.Spec(n_features=700, n_factors=4, task="regression", linear_wd=1.0, factors_wd=0.0)
    sizes = [np.abs(learned(spec, rows, 1, passes=2).theta[:-1]).sum(axis=0) for spec in (free, tight)]
    assert sizes[1][0] < 0.8 * sizes[0][0]
    still = fm.Spec(
        n_features=700, n_factors=4, use_bias=False, use_linear=False, task="regression", bias_init_method="normal",
        linear_init_method="uniform",
    )  # fmt: skip
    state = learned(still, rows, 1, passes=1)
    theta = state.theta
    assert not theta[:, 0].any()
    assert np.abs(theta[:-1, 1:] - starts(still, state.rows[:-1])[:, 1:]).max() > 0.01


@pytest.mark.parametrize("method", ["normal", "uniform", "constant"])
def test_starts_are_what_the_spec_says(method):
    spec = fm.Spec(
        n_features=20_000, n_factors=4, seed=5, bias_init_method="constant", bias_init_value=0.25,
        linear_init_method=method, linear_init_sigma=0.5, linear_init_scale=0.5, linear_init_value=0.5,
        factors_init_method=method, factors_init_sigma=2.0, factors_init_scale=2.0, factors_init_value=2.0,
    )  # fmt: skip
    theta = starts(spec, np.arange(20_001))
    assert theta[-1].tolist() == [0.25, 0.0, 0.0, 0.0, 0.0]
    for values, size in ((theta[:-1, 0], 0.5), (theta[:-1, 1:], 2.0)):
        if method == "constant":
            assert (values == size).all()
            continue
        assert abs(values.mean()) < 0.02 * size
        assert values.std() == pytest.approx(size if method == "normal" else size / np.sqrt(3), rel=0.02)
        assert method == "normal" or np.abs(values).max() <= size
    if method != "constant":
        other = starts(spec.model_copy(update={"seed": 6}), np.arange(20_001))
        assert abs(np.corrcoef(other[:-1].ravel(), theta[:-1].ravel())[0, 1]) < 0.02


def test_one_length_for_all_groups_would_hold_the_factors_back():
    rows = ratings(5, 22_000)
    train, test = rows.take(slice(20_000)), rows.take(slice(20_000, None))
    state = learned(REAL, train, 32, passes=2)
    assert state.length[0] < state.length[4] == 1.0  # negative: along the mean of the runs
    assert loss(REAL, state, test) < 0.9 * np.std(test.label)


def test_parts_of_a_stale_anchor_are_folded_in_turn_and_do_no_harm():
    rows = ratings(6, 6_000)
    first, second, third = pieces(rows, 2_000)
    state = FM.fold(REAL, FM.init(REAL), grown(REAL, first, None), first)
    anchor = FM.anchor(REAL, state)
    a, b = grown(REAL, second, anchor), grown(REAL, third, anchor)
    once = FM.fold(REAL, state, a, second)
    twice = FM.fold(REAL, once, b, third)
    assert FM.weight(twice) == 6_000
    assert loss(REAL, twice, third) <= loss(REAL, once, third) + 1e-9


def test_forgetting_lets_steps_recover_and_keeps_parameters():
    rows = ratings(7, 2_000)
    state = FM.fold(REAL, FM.init(REAL), grown(REAL, rows, None), rows)
    faded = FM.scale(REAL, state, 0.25)
    np.testing.assert_array_equal(faded.theta, state.theta)
    assert np.shares_memory(faded.squares, state.squares)  # time goes by at no cost
    np.testing.assert_allclose(now(faded).squares, 0.25 * state.squares)
    assert FM.weight(faded) == 500.0
    moved = []
    for one in (state, faded):  # the window after the fading counts from what the last fold left, the next one recovers
        first, second = (rows.take(slice(begin, begin + 50)) for begin in (0, 50))
        before = FM.fold(REAL, one, grown(REAL, first, FM.anchor(REAL, one)), None)
        after = FM.fold(REAL, before, grown(REAL, second, FM.anchor(REAL, before)), None)
        moved.append(np.abs(after.theta - before.theta).sum())
    assert moved[1] > 1.5 * moved[0]


def test_tables_that_fade_late_fade_as_much():
    rows = ratings(7, 2_000)
    state = FM.fold(REAL, FM.init(REAL), grown(REAL, rows, None), rows)
    few = rows.take(slice(0, 50))
    state = FM.fold(REAL, state, grown(REAL, few, FM.anchor(REAL, state)), None)
    faded = FM.scale(REAL, state, 0.25)
    full = now(faded)
    for name in ("sums", "before"):
        weight, mean, square = np.moveaxis(getattr(state, name), -1, 0)
        assert weight.any()
        np.testing.assert_allclose(getattr(full, name), np.stack([0.25 * weight, mean, 0.25 * square], axis=-1))
    some = grown(REAL, few, FM.anchor(REAL, state))
    early, late = (FM.fold(REAL, one, some, None) for one in (full, faded))  # written out before the fold, or by it
    for name in ("sums", "before", "mass", "fresh", "label"):
        np.testing.assert_allclose(getattr(early, name), getattr(late, name), rtol=1e-9, err_msg=name)


def test_a_divergence_is_a_discarded_fold():
    algorithm, plan = FM, Plan({"m": fm.Regressor()})
    spec = fm.Spec(n_features=2, n_factors=2, task="regression", normalize=False, normalize_label=False)
    learner = learners.new(algorithm, spec)
    learner, _ = refresh(
        algorithm, learner, None, accumulated(spec, Batch.dense([[1.0, 2.0]] * 50, label=np.ones(50))), plan
    )
    before = learner.state
    huge = Batch.dense([[1e60, 1e60]] * 3, label=[1.0, 2.0, 3.0])
    learner, found = refresh(algorithm, learner, None, accumulated(spec, huge, learner), plan)
    assert found.discarded == "fm.Spec diverged: a parameter is not finite"
    assert not found.verdict.accepted
    assert identical(learner.state, before)
    assert learner.progress.rejected == {"fold discarded": 3}


def accumulated(spec, rows, learner=None):
    anchor = None if learner is None else FM.anchor(spec, learner.state)
    accumulator = Accumulator(
        FM, spec, 0 if learner is None else learner.refresh, anchor, limits=Limits(feature=1e60, deviations="any")
    )
    accumulator.add(rows)
    return accumulator.result()


def test_bad_rows_are_rejected_by_reason():
    accumulator = Accumulator(FM, fm.Spec(n_features=3, n_factors=2))
    rows = Batch.csr(
        np.arange(7), [0, 1, 2, 0, 1, 2], [1.0, np.nan, 1.0, 1.0, 1.0, 1.0], 3,
        label=[1, 1, 2, np.nan, 0, 0], weight=[1, 1, 1, 1, -1, np.nan],
    )  # fmt: skip
    rejected = {reason: len(bad) for reason, bad in accumulator.add(rows).items()}
    assert rejected == {
        "non-finite feature": 1,
        "missing label": 1,
        "label outside {0, 1}": 1,
        "weight not in [0, inf)": 2,
    }
    assert accumulator.result().parts[0].dated.summary.mass.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("indices", [[0, 3], [-1, 0]])
def test_features_outside_are_refused(indices):
    with pytest.raises(InvalidBatch, match=r"Batch.indices must lie in \[0, 3\); got"):
        Batch.csr([0, 2], indices, [1.0, 1.0], 3)


def test_another_width_is_refused():
    spec = fm.Spec(n_features=3, n_factors=2)
    with pytest.raises(InvalidBatch, match=r"^fm\.Spec\.n_features is 3; got a batch of 2\."):
        FM.accumulate(spec, FM.empty(spec), Batch.dense([[1.0, 2.0]], label=[1.0]), None)
    model = derive(fit(spec, [Batch.dense([[1.0, 0.0, 1.0]], label=[1.0])]), fm.Classifier())
    with pytest.raises(InvalidBatch, match=r"^fm\.Spec\.n_features is 3; got a batch of 2\."):
        predict(model, Batch.dense([[1.0, 2.0]]))
    with pytest.raises(InvalidBatch, match=r"A factorization machine takes 3 features; got a batch of 2\."):
        FM.models["classifier"].predict(model.arrays, Batch.dense([[1.0, 2.0]]))
    with pytest.raises(InvalidBatch, match=r"needs labels; got a batch without\."):
        FM.models["classifier"].measure(model.arrays, Batch.dense([[1.0, 2.0, 3.0]]))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_factors": 1}, r"^fm.Spec.n_factors must be >= 2; got 1\.$"),
        ({"n_factors": 257}, r"^fm.Spec.n_factors must be <= 256; got 257\.$"),
        ({"factors_lr": 0}, r"^fm.Spec.factors_lr must be > 0.0; got 0\.$"),
        ({"linear_wd": -1}, r"^fm.Spec.linear_wd must be >= 0.0; got -1\.$"),
        ({"bias_init_method": "zeros"}, r"^fm.Spec.bias_init_method must be one of 'normal', 'uniform' or 'constant'; got 'zeros'\.$"),
        ({"factors_init_sigma": 0}, r"^fm.Spec.factors_init_sigma must be > 0 with factors_init_method 'normal'"),
        ({"factors_init_method": "uniform", "factors_init_scale": 0}, r"^fm.Spec.factors_init_scale must be > 0"),
        ({"factors_init_method": "constant", "factors_init_value": 0}, r"^fm.Spec.factors_init_value must not be 0"),
        ({"n_features": 50_000_000}, r"^fm.Spec.n_features × \(n_factors \+ 1\) must be at most 268,435,456"),
        ({"clip_gradient": 0}, r"^fm.Spec.clip_gradient must be > 0.0; got 0\.$"),
        ({"task": "ranking"}, r"^fm.Spec.task must be one of 'binary' or 'regression'; got 'ranking'\.$"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_in_one_sentence(settings, sentence):
    with pytest.raises(InvalidValue, match=sentence):
        fm.Spec(**{"n_features": 10, **settings})


def test_a_model_spec_of_another_task_or_algorithm_is_refused():
    rows = ratings(8, 300, "binary")
    learner = fit(BINARY, [rows])
    with pytest.raises(DeriveRefused, match=r"^fm.Spec with task 'binary' derives fm.Classifier; got fm.Regressor\.$"):
        derive(learner, fm.Regressor())
    with pytest.raises(
        DeriveRefused, match=r"^fm derives classifier, regressor; got Classifier, whose kind is 'classifier'\.$"
    ):
        derive(learner, linear.Classifier())
    with pytest.raises(DeriveRefused, match="needs rows of positive weight"):
        FM.models["classifier"].derive(BINARY, fm.Classifier(), FM.init(BINARY), None)
    with pytest.raises(DeriveRefused, match=r"threshold needs sampled rows for the rule 'accuracy'; got none\.$"):
        FM.models["classifier"].derive(BINARY, fm.Classifier(threshold="accuracy"), learner.state, None)


def test_thresholds_follow_their_rule():
    rows = ratings(9, 4_000, "binary")
    learner = fit(BINARY, pieces(rows, 1_000))
    fixed, ruled = (
        derive(learner, fm.Classifier(threshold=0.9)),
        derive(learner, fm.Classifier(threshold="precision_at_target_recall(0.95)")),
    )
    out = predict(fixed, rows)
    np.testing.assert_array_equal(out["predicted_label"], (out["score"] >= 0.9).astype(np.int64))
    assert predict(ruled, rows)["predicted_label"][rows.label == 1].mean() > 0.93


def test_saved_loaded_and_gone_on_with_is_the_same(tmp_path):
    rows = ratings(10, 3_000)
    half = fit(REAL, pieces(rows.replace(origin=None, position=None), 500)[:3])
    save(half, tmp_path / "a.safetensors")
    assert identical(load(tmp_path / "a.safetensors").state, half.state)
    model = derive(half, fm.Regressor())
    save(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(
        predict(load(tmp_path / "m.safetensors"), rows)["score"], predict(model, rows)["score"]
    )


def test_learners_of_two_days_merge():
    rows = ratings(11, 24_000)
    both, test = pieces(rows.take(slice(20_000)), 10_000), rows.take(slice(20_000, None))
    days = [fit(REAL, pieces(day.replace(origin=None, position=None), 1_000)) for day in both]
    merged = merge(*days)
    assert merged.progress.rows == 20_000
    found = [loss(REAL, one.state, test) for one in (*days, merged)]
    assert found[2] < 1.02 * min(found[:2])
    with pytest.raises(MergeRefused):
        merge(days[0], fit(BINARY, [ratings(0, 10, "binary")]))
    new = learners.new(FM, REAL)
    assert identical(FM.merge_states(REAL, new.state, days[0].state), days[0].state)


@pytest.mark.parametrize("seed", range(12, 24))
@pytest.mark.parametrize(("level", "spread"), [(50.0, 1.0), (1_000.0, 1.0), (1e5, 1.0), (50.0, 20.0)])
def test_learners_merge_in_the_units_of_the_data(level, spread, seed):
    """Labels and features of another level and scale: the merged scores lie between the two learners'."""
    rng = np.random.default_rng(seed)
    x = (rng.random((12_000, 5)) < 0.5).astype(float)
    told = x[:, 0] * x[:, 1] + x[:, 2] - x[:, 3]
    spec = fm.Spec(n_features=5, n_factors=2, task="regression", normalize=False)
    label = np.concatenate([50.0 + told[:6_000], level + spread * told[6_000:]])
    days = [fit(spec, [Batch.dense(x[rows], label=label[rows])]) for rows in (slice(6_000), slice(6_000, None))]
    merged = merge(*days)
    a, b, both = (predict(derive(one, fm.Regressor()), Batch.dense(x))["score"] for one in (*days, merged))
    assert min(a.mean(), b.mean()) - 0.1 < both.mean() < max(a.mean(), b.mean()) + 0.1
    assert 0.95 * min(a.std(), b.std()) < both.std() < 1.05 * max(a.std(), b.std())
    assert np.corrcoef(both, told)[0, 1] > 0.98
    better = min(np.mean((one - label) ** 2) for one in (a, b))
    assert np.mean((both - label) ** 2) <= (1 + 1e-9) * better  # it may be one of them
    assert int(merged.state.folds) == max(int(one.state.folds) for one in days)


def test_without_a_bias_labels_are_not_centred():
    rng = np.random.default_rng(13)
    x = (rng.random((8_000, 5)) < 0.5).astype(float)
    rows = Batch.dense(x, label=100 * (x[:, 0] * x[:, 1] + x[:, 2] + 2 * x[:, 3]))
    spec = fm.Spec(n_features=5, n_factors=2, task="regression", use_bias=False)
    model = derive(fit(spec, pieces(rows, 1_000)), fm.Regressor())
    assert model.arrays.intercept == 0.0
    assert predict(model, Batch.dense(np.zeros((1, 5))))["score"].tolist() == [0.0]
    assert np.mean((predict(model, rows)["score"] - rows.label) ** 2) < 0.05 * np.var(rows.label)


def test_the_largest_draw_is_finite():
    """Where a place's 64 bits are all ones, as no seed is known to have it."""
    from beam_ml.algorithms.fm import start

    spec = fm.Spec(n_features=3, n_factors=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "mix64", lambda value: np.full_like(value, np.uint64(2**64 - 1)))
        assert np.isfinite(starts(spec, np.arange(4))).all()


def test_one_large_batch_is_learned_as_well_as_small_ones():
    rows = ratings(77, 16_000, users=300, items=250).replace(origin=None, position=None)
    spec, train, test = (
        fm.Spec(n_features=550, n_factors=8, task="regression"),
        rows.take(slice(12_000)),
        rows.take(slice(12_000, None)),
    )
    small, large = (loss(spec, fit(spec, pieces(train, size), passes=3).state, test) for size in (1_000, 12_000))
    assert large < 1.005 * small


def test_an_anchor_of_a_state_that_claims_a_weight_without_rows_is_finite():
    state = fit(fm.Spec(n_features=550, n_factors=2, task="regression"), [ratings(3, 500, users=300, items=250)]).state
    forged = dataclasses.replace(state, sums=np.zeros_like(state.sums), before=np.zeros_like(state.before))
    found = FM.anchor(fm.Spec(n_features=550, n_factors=2, task="regression"), forged)
    assert found is not None
    assert np.isfinite(found.often).all()
