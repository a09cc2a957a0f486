"""K-means from a coreset: closed forms, conservation, quality beside scikit-learn, and where it is easy to get wrong."""

from functools import partial, reduce
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans

from beam_ml.algorithms import find, kmeans, spec_from
from beam_ml.algorithms.kmeans import KMEANS, Partial
from beam_ml.algorithms.kmeans.coreset import canonical, cells_of, locate
from beam_ml.algorithms.kmeans.coreset import reduce as shrink
from beam_ml.algorithms.kmeans.lloyd import _lloyd, _points
from beam_ml.core import metrics
from beam_ml.core.arrays import close, identical
from beam_ml.core.batch import Batch
from beam_ml.core.sample import Sample
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue
from beam_ml.testing.laws import laws_for

KIND = KMEANS.models["clusters"]
DATA = Path(__file__).parents[3].parent / "shared" / "data"


def state_of(x, k_max=4, weight=None, batch_rows=100_000, **options):
    spec = kmeans.Spec(n_features=x.shape[1], k_max=k_max, **options)
    state = KMEANS.empty(spec)
    for start in range(0, len(x), batch_rows):
        part = slice(start, start + batch_rows)
        batch = Batch.dense(x[part], weight=None if weight is None else weight[part])
        state = KMEANS.accumulate(spec, state, batch, None)
    return spec, state


def shards_of(spec, x, shards, batch_rows=1000):
    return [state_of(part, spec.k_max, batch_rows=batch_rows)[1] for part in np.array_split(x, shards)]


def derive(spec, state, k, **options):
    return KIND.derive(spec, kmeans.Clusters(k=k, **options), state, None)


def sse(model, x, weight=None):
    return float(KIND.measure(model, Batch.dense(x, weight=weight)).squared)


def mixture(n=6000, d=5, clusters=12, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, d)) * 6.0
    x = centres[rng.integers(0, clusters, n)] + rng.normal(size=(n, d))
    return np.round(x * 2**20) / 2**20 + offset  # exactly representable at 1e8 too


def total_scatter(x, weight=None):
    weight = np.ones(len(x)) if weight is None else weight
    z = x - x[0]
    return float(np.sum(weight[:, None] * (z - weight @ z / weight.sum()) ** 2))


def coreset_scatter(state):
    """Scatter of the rows about their mean as the coreset knows it: between centres and within."""
    return total_scatter(state.centres, state.weight) + float(state.scatter.sum())


@pytest.mark.parametrize(
    ("name", "law"),
    list(laws_for(KMEANS, kmeans.Spec(n_features=4, k_max=20), [kmeans.Clusters(k=8, restarts=3)], examples=12)),
)
def test_laws_hold_at_another_size(name, law):
    law()


def test_few_rows_give_the_clustering_in_closed_form():
    spec, state = state_of(np.array([[0.0], [2.0], [10.0], [12.0], [12.0]]))
    assert sorted(state.weight.tolist()) == [1.0, 1.0, 1.0, 2.0]  # equal rows share a centre
    model = derive(spec, state, 2)
    np.testing.assert_allclose(model.centres.ravel(), [34.0 / 3.0, 1.0])  # heaviest first
    np.testing.assert_array_equal(model.weight, [3.0, 2.0])
    np.testing.assert_allclose(model.sse, [8.0 / 3.0, 2.0])
    out = KIND.predict(model, Batch.dense([[4.0], [11.0]]))
    assert out["closest_cluster"].dtype == np.int64
    np.testing.assert_array_equal(out["closest_cluster"], [1, 0])
    np.testing.assert_allclose(out["distance_to_cluster"], [3.0, 1.0 / 3.0])


def test_weights_count_as_copies():
    x, weight = np.array([[0.0], [4.0], [20.0]]), np.array([3.0, 1.0, 1e12])
    spec, state = state_of(x, weight=weight)
    model = derive(spec, state, 2)
    np.testing.assert_allclose(model.centres.ravel(), [20.0, 1.0])
    np.testing.assert_allclose(model.weight, [1e12, 4.0])
    np.testing.assert_allclose(model.sse.sum(), 12.0)


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e8])
@pytest.mark.parametrize("batch_rows", [1, 64, 1500])
def test_weight_mean_and_scatter_are_exact_after_many_reductions(offset, batch_rows):
    x = mixture(n=1500, d=3, offset=offset)
    weight = np.random.default_rng(1).random(1500) * 3.0
    spec, state = state_of(x, weight=weight, batch_rows=batch_rows)
    assert state.weight.size <= spec.capacity < 1500
    np.testing.assert_allclose(KMEANS.weight(state), weight.sum(), rtol=1e-12)
    np.testing.assert_allclose(state.weight @ (state.centres - x[0]) / weight.sum(), weight @ (x - x[0]) / weight.sum(),
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(coreset_scatter(state), total_scatter(x, weight), rtol=1e-6)


def test_merging_keeps_weight_and_scatter_and_the_capacity():
    x = mixture(n=5000, d=4, offset=1e6)
    spec, _ = state_of(x[:1], k_max=10)
    merged = reduce(partial(KMEANS.merge, spec), shards_of(spec, x, 16))
    assert merged.weight.size == spec.capacity
    np.testing.assert_allclose(KMEANS.weight(merged), 5000.0, rtol=1e-12)
    np.testing.assert_allclose(coreset_scatter(merged), total_scatter(x), rtol=1e-9)


def test_merge_gives_the_same_bits_either_way_round():
    x = mixture(n=3000)
    spec, a = state_of(x[:1700], k_max=10)
    _, b = state_of(x[1700:], k_max=10)
    merged = KMEANS.merge(spec, a, b)
    assert a.weight.size + b.weight.size > spec.capacity
    assert identical(merged, KMEANS.merge(spec, b, a))
    assert identical(merged, KMEANS.fold(spec, a, b, None))
    assert identical(KMEANS.merge(spec, a, KMEANS.empty(spec)), a)
    assert identical(KMEANS.merge(spec, KMEANS.empty(spec), a), a)


def test_canonical_order_does_not_depend_on_how_centres_came():
    _, state = state_of(mixture(n=50), k_max=10)
    turned = np.random.default_rng(0).permutation(50)
    again = kmeans.Partial(
        centres=state.centres[turned] + 0.0, weight=state.weight[turned], scatter=state.scatter[turned]
    )
    assert identical(canonical(again), canonical(state))
    twice = kmeans.Partial(centres=np.array([[0.0], [-0.0]]), weight=np.ones(2), scatter=np.ones(2))
    assert canonical(twice).weight.tolist() == [2.0]


def test_learning_and_deriving_are_deterministic():
    x = mixture()
    spec, a = state_of(x, k_max=10, batch_rows=700)
    _, b = state_of(x.copy(), k_max=10, batch_rows=700)
    assert identical(a, b)
    assert identical(derive(spec, a, 10), derive(spec, b, 10))
    assert not identical(
        derive(spec, a, 10, restarts=1), derive(spec.model_copy(update={"seed": 1}), a, 10, restarts=1)
    )


@pytest.mark.parametrize("exponent", [-400, -100, -70, 64, 96, 400])
def test_units_of_a_power_of_two_change_no_bit(exponent):
    x = mixture(9000, d=3)
    for k_max in (10, 40):  # in one cell, and in many
        spec, state = state_of(x, k_max=k_max, batch_rows=3000)
        _, other = state_of(np.ldexp(x, exponent), k_max=k_max, batch_rows=3000)
        by = [np.lexsort(np.ldexp(one.centres, back).T) for one, back in ((state, 0), (other, -exponent))]
        np.testing.assert_array_equal(np.ldexp(other.centres, -exponent)[by[1]], state.centres[by[0]])
        np.testing.assert_array_equal(other.weight[by[1]], state.weight[by[0]])
        np.testing.assert_array_equal(np.ldexp(other.scatter, -2 * exponent)[by[1]], state.scatter[by[0]])
        model, scaled = derive(spec, state, 8), derive(spec, other, 8)
        assert scaled.sse.sum() == pytest.approx(np.ldexp(model.sse.sum(), 2 * exponent), rel=0.05)


def test_float32_and_float64_rows_learn_alike():
    x = mixture(n=4000).astype(np.float32)
    spec, narrow = state_of(x, k_max=10)
    _, wide = state_of(x.astype(np.float64), k_max=10)
    assert close(narrow, wide, rtol=1e-12)
    model = derive(spec, narrow, 10)
    one, other = (KIND.predict(model, Batch.dense(rows)) for rows in (x, x.astype(np.float64)))
    np.testing.assert_array_equal(one["distance_to_cluster"], other["distance_to_cluster"])


@pytest.mark.parametrize("shards", [1, 16, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_pass_is_as_good_as_batch_kmeans(shards, seed):
    x = mixture(n=20_000, d=8, clusters=40, seed=seed)
    spec = kmeans.Spec(n_features=8, k_max=40)
    state = reduce(partial(KMEANS.merge, spec), shards_of(spec, x, shards))
    for k, bound in ((5, 1.02), (40, 1.02)):
        peer = np.median([KMeans(k, n_init=1, random_state=s).fit(x).inertia_ for s in range(5)])
        model = derive(spec, state, k)
        assert sse(model, x) <= bound * peer
        assert sse(model, x) <= float(model.sse.sum()) * (1 + 1e-9)  # rows may be nearer another centre, never farther


@pytest.mark.parametrize("load", ["mnist", "kdd99"])
def test_one_pass_on_real_rows_is_as_good_as_batch_kmeans(load):
    file = DATA / load / {"mnist": "mnist.npz", "kdd99": "kddcup.data_10_percent.gz"}[load]
    if not file.exists():
        pytest.skip(f"{file} is absent")
    if load == "mnist":
        with np.load(file) as arrays:
            x = arrays["x_train"][:6000].reshape(6000, 784)[:, ::4] / 255.0
    else:
        x = np.genfromtxt(file, delimiter=",", usecols=[0, *range(4, 41)], max_rows=20_000)
        x = x[:, x.std(axis=0) > 0]
        x = (x - x.mean(axis=0)) / x.std(axis=0)
    spec = kmeans.Spec(n_features=x.shape[1], k_max=20)
    state = reduce(partial(KMEANS.merge, spec), shards_of(spec, x, 4))
    for k in (10, 20):
        peer = np.median([KMeans(k, n_init=1, random_state=s).fit(x).inertia_ for s in range(5)])
        assert sse(derive(spec, state, k), x) <= 1.03 * peer


def test_rows_that_come_sorted_and_far_apart_find_their_centres():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(2000, 2)) + 1000.0 * i for i in range(20)])
    spec, state = state_of(x, k_max=20, batch_rows=512)
    within = sum(total_scatter(part) for part in np.array_split(x, 20))
    np.testing.assert_allclose(sse(derive(spec, state, 20), x), within, rtol=1e-6)


def test_groups_a_hundred_million_apart_keep_their_own_shape():
    near = np.array([[0.0], [1.0], [5.0], [6.0]])
    x = np.tile(np.concatenate([near, near + 1e8]), (500, 1))
    spec, state = state_of(x, batch_rows=300)
    model = derive(spec, state, 4)
    np.testing.assert_allclose(np.sort(model.centres.ravel()), [0.5, 5.5, 1e8 + 0.5, 1e8 + 5.5], rtol=1e-15)
    np.testing.assert_allclose(model.sse.sum(), 1000.0, rtol=1e-7)


@pytest.mark.parametrize("rows", [1, 5, 3000])
def test_equal_rows_are_one_cluster_whatever_k(rows):
    x = np.tile([1e8, 2.0], (rows, 1))
    spec, state = state_of(x, batch_rows=1000)
    model = derive(spec, state, 3)
    np.testing.assert_array_equal(model.centres, [[1e8, 2.0]])
    np.testing.assert_array_equal(model.weight, [rows])
    np.testing.assert_array_equal(model.sse, [0.0])
    out = KIND.predict(model, Batch.dense([[1e8, 2.0], [1e8 + 3.0, 6.0]]))
    np.testing.assert_array_equal(out["distance_to_cluster"], [0.0, 5.0])


def test_fewer_distinct_rows_than_k_give_one_cluster_each():
    spec, state = state_of(np.array([[0.0], [1.0], [1.0], [7.0]]))
    assert sorted(derive(spec, state, 4).centres.ravel().tolist()) == [0.0, 1.0, 7.0]


def test_no_rows_zero_weights_and_empty_batches_change_nothing():
    spec, state = state_of(mixture(n=300, d=2))
    assert identical(KMEANS.accumulate(spec, state, Batch.dense(np.empty((0, 2))), None), state)
    assert identical(KMEANS.accumulate(spec, state, Batch.dense(np.ones((3, 2)), weight=np.zeros(3)), None), state)
    assert identical(KMEANS.scale(spec, state, 0.0), KMEANS.empty(spec))
    assert KMEANS.weight(KMEANS.empty(spec)) == 0.0
    out = KIND.predict(derive(spec, state, 2), Batch.dense(np.empty((0, 2))))
    assert {name: values.shape for name, values in out.items()} == {
        "closest_cluster": (0,),
        "distance_to_cluster": (0,),
    }


def test_no_rows_yet_is_refused():
    spec = kmeans.Spec(n_features=2, k_max=4)
    with pytest.raises(DeriveRefused, match=r"kmeans\.Clusters needs rows of positive weight; got none yet\."):
        derive(spec, KMEANS.init(spec), 1)


def test_more_clusters_than_k_max_are_refused():
    spec, state = state_of(np.ones((3, 1)))
    with pytest.raises(DeriveRefused, match=r"kmeans\.Clusters\.k must be <= 4, the spec's k_max; got 5\."):
        derive(spec, state, 5)


@pytest.mark.parametrize("k_max", [1, 200])
def test_rows_too_large_to_square_end_and_are_refused_at_derive(k_max):
    x = np.random.default_rng(0).normal(size=(9000, 2)) * 1e200
    spec, state = state_of(x, k_max=k_max)
    merged = KMEANS.merge(spec, state, state)
    assert state.weight.size <= spec.capacity
    assert not np.isfinite(merged.scatter).all()
    with pytest.raises(DeriveRefused, match="too large to square"):
        derive(spec, merged, 1)


def test_forgetting_scales_weight_and_scatter_and_new_rows_take_over():
    old, new = mixture(n=3000, d=2, seed=1), mixture(n=3000, d=2, seed=2) + 500.0
    spec, state = state_of(old)
    faded = KMEANS.scale(spec, state, 2.0**-40)
    np.testing.assert_allclose(coreset_scatter(faded), coreset_scatter(state) * 2.0**-40, rtol=1e-12)
    after = KMEANS.accumulate(spec, faded, Batch.dense(new), None)
    _, alone = state_of(new)
    assert sse(derive(spec, after, 4), new) <= 1.05 * sse(derive(spec, alone, 4), new)
    assert KMEANS.scale(spec, state, 1e-320).weight.min(initial=1.0) > 0  # what underflows to nothing is dropped


def test_arguments_are_left_alone_and_no_memory_is_kept():
    spec, state = state_of(mixture(n=500, d=2))
    rows = mixture(n=400, d=2, seed=5)
    held, before = rows.copy(), state.centres.copy()
    after = KMEANS.accumulate(spec, state, Batch.dense(rows), None)
    np.testing.assert_array_equal(rows, held)
    np.testing.assert_array_equal(state.centres, before)
    kept = after.centres.copy()
    rows[:] = np.nan
    np.testing.assert_array_equal(after.centres, kept)


def test_light_rows_open_no_centre_where_heavy_ones_do():
    """The price of a centre is scatter, weight times squared distance: of rows next to weightless none is worth it."""
    x, far = mixture(4000, d=3), mixture(200, d=3, seed=8, offset=100.0)
    spec, state = state_of(x, k_max=5)
    opened = []
    for weight in (1e-12, 1.0):
        after = KMEANS.accumulate(spec, state, Batch.dense(far, weight=np.full(len(far), weight)), None)
        assert after.weight.sum() == pytest.approx(4000 + 200 * weight)
        opened.append(int((after.centres.mean(axis=1) > 50.0).sum()))
    assert opened[0] == 0
    assert opened[1] > 10


def test_measure_is_the_sum_of_squares_that_the_centres_leave():
    x, weight = mixture(n=1000), np.random.default_rng(3).random(1000)
    spec, state = state_of(x, weight=weight)
    model = derive(spec, state, 3)
    apart = np.min(np.sum((x[:, None, :] - model.centres[None]) ** 2, axis=2), axis=1)
    found = metrics.compute(KIND.measure(model, Batch.dense(x, weight=weight)))
    np.testing.assert_allclose(found["sse"], weight @ apart, rtol=1e-12)
    np.testing.assert_allclose(found["rows_weight"], weight.sum())


def drawn(spec, x, weight=None, seed=0):
    """A sample of 4,096 rows, as a learner keeps one."""
    batch = Batch.dense(x, weight=weight, position=np.arange(len(x)))
    return Sample.of(spec.model_copy(update={"seed": seed}), batch).estimate(spec)


ROWS = {
    "even": lambda rng: rng.random((24_000, 3)),
    "normal": lambda rng: rng.normal(size=(24_000, 7)),
    "heavy tails": lambda rng: rng.standard_t(4, size=(24_000, 4)),
    "a sheet": lambda rng: rng.normal(size=(24_000, 2)) @ rng.normal(size=(2, 9)) + 0.1 * rng.normal(size=(24_000, 9)),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("k", [12, 40])
def test_the_sum_of_squares_is_that_of_the_rows(name, k):
    """At k = k_max a coreset centre often lies between two clusters, and some of its rows are nearer to the other."""
    rng = np.random.default_rng(21)
    x = ROWS[name](rng)
    weight = rng.uniform(0.5, 2.0, len(x))
    spec, state = state_of(x, k, weight, batch_rows=3_000)
    plain = derive(spec, state, k, restarts=2)
    model = KIND.derive(spec, kmeans.Clusters(k=k, restarts=2), state, drawn(spec, x, weight))
    true = sse(model, x, weight)
    assert model.sse.sum() == pytest.approx(true, rel=0.03)
    assert plain.sse.sum() >= 0.999 * true  # an upper bound
    assert abs(model.sse.sum() - true) < 0.5 * abs(plain.sse.sum() - true)
    np.testing.assert_allclose(model.weight.sum(), weight.sum(), rtol=1e-9)
    assert (np.diff(model.weight) <= 0).all()
    nearest = KIND.predict(model, Batch.dense(x))["closest_cluster"]
    mine = np.bincount(nearest, weights=weight, minlength=k)
    assert np.abs(model.weight - mine).sum() < 0.1 * weight.sum()


def test_where_no_row_goes_elsewhere_a_sample_changes_no_bit():
    x = mixture(n=9_000, clusters=5, d=4)
    spec, state = state_of(x, k_max=5)
    model = KIND.derive(spec, kmeans.Clusters(k=5), state, drawn(spec, x))
    assert identical(model, derive(spec, state, 5))


def test_a_cluster_without_a_sampled_row_keeps_what_the_coreset_says():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=(9_000, 2)), rng.normal(size=(2, 2)) + 500.0])
    spec, state = state_of(x, k_max=6)
    sample = drawn(spec, x[:9_000])
    model = KIND.derive(spec, kmeans.Clusters(k=6), state, sample)
    far = model.centres[:, 0] > 250
    assert far.any()
    np.testing.assert_allclose(model.weight[far].sum(), 2.0)
    np.testing.assert_allclose(model.sse.sum(), sse(model, x), rtol=0.05)


def test_equal_centres_join_with_their_scatter():
    two = Partial(
        centres=np.array([[1.0], [1.0], [4.0]]), weight=np.array([2.0, 3.0, 1.0]), scatter=np.array([0.5, 0.25, 7.0])
    )
    one = canonical(two)
    assert sorted(zip(one.centres.ravel(), one.weight, one.scatter, strict=True)) == [(1.0, 5.0, 0.75), (4.0, 1.0, 7.0)]


def test_one_cluster_is_the_mean_and_its_scatter():
    x = mixture(n=3000, offset=1e8)
    spec, state = state_of(x, batch_rows=333)
    model = derive(spec, state, 1)
    np.testing.assert_allclose(model.centres[0] - x[0], (x - x[0]).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(model.sse, total_scatter(x), rtol=1e-6)


def test_cells_seldom_miss_the_nearest_centre():
    x = mixture(n=8000, d=6, clusters=30)
    _, state = state_of(x, k_max=100)
    cells = cells_of(state.centres, len(x))
    assert cells.pivots.shape[0] > 1
    found = locate(x, state.centres, cells)
    apart = np.sum((x[:500, None, :] - state.centres[None]) ** 2, axis=2)
    chosen = apart[np.arange(500), found[:500]]
    assert np.mean(chosen <= apart.min(axis=1) * (1 + 1e-5)) > 0.9
    assert chosen.sum() <= 1.05 * apart.min(axis=1).sum()


@pytest.mark.parametrize(
    ("spread", "far"), [(1e-10, 1e30), (1e-10, 1e29), (1.0, 1e38), (1.0, 1e60), (1e-200, 1e150), (0.0, 1e60)]
)
@pytest.mark.parametrize("d", [1, 3, 40])
def test_rows_farther_off_than_float32_reaches_get_the_centre_farthest_along(spread, far, d):
    rng = np.random.default_rng(d)
    directions, centres = rng.normal(size=(50, d)), rng.normal(size=(8, d))
    near = rng.normal(size=(50, d))
    apart = np.sum((near[:, None, :] - centres[None]) ** 2, axis=2)
    x = np.empty((100, d))
    x[::2], x[1::2] = near * spread, directions * far
    found = locate(x, centres * spread, cells_of(centres * spread, len(x)))
    # At such a distance the squares of the centres do not count: the nearest is the one farthest in the row's direction.
    np.testing.assert_array_equal(found[1::2], np.argmax(directions @ centres.T, axis=1) if spread else 0)
    np.testing.assert_array_equal(found[::2], np.argmin(apart, axis=1) if spread else 0)


def test_reducing_merges_the_cheapest_pair():
    points = kmeans.Partial(
        centres=np.array([[0.0], [1.0], [5.0], [5.5]]), weight=np.array([1.0, 1.0, 8.0, 8.0]), scatter=np.ones(4)
    )
    left = shrink(points, 3)  # 1·1/2·1² = 0.5 is cheaper than 8·8/16·0.5² = 1
    np.testing.assert_array_equal(np.sort(left.centres.ravel()), [0.5, 5.0, 5.5])
    np.testing.assert_allclose(left.scatter.sum(), 4.5)
    both = shrink(points, 2)
    np.testing.assert_array_equal(np.sort(both.centres.ravel()), [0.5, 5.25])
    np.testing.assert_allclose(both.scatter.sum(), 5.5)


def test_far_centres_are_not_joined_while_near_ones_wait():
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(1800, 3)), rng.normal(size=(200, 3)) * 1e6
    points = kmeans.Partial(centres=np.concatenate([near, far]), weight=np.ones(2000), scatter=np.zeros(2000))
    left = shrink(points, 400)
    assert left.weight.size == 400
    assert {tuple(row) for row in far} <= {tuple(row) for row in left.centres}
    assert left.scatter.sum() < 1800 * 3


@pytest.mark.parametrize("init", ["kmeans++", "random"])
def test_each_seeding_ends_in_a_clustering_without_empty_clusters(init):
    x = mixture(n=3000)
    spec, state = state_of(x, k_max=30)
    model = derive(spec, state, 30, init=init, restarts=2)
    assert model.centres.shape == (30, 5)
    assert model.weight.min() > 0
    np.testing.assert_allclose(model.weight.sum(), 3000.0)


def test_a_seed_that_is_nearest_to_nothing_goes_where_it_saves_most():
    _, state = state_of(np.array([[0.0], [1.0], [10.0], [30.0]]))
    points, middle = _points(state)
    seeds = np.array([[0.0], [1e6], [2e6]]) - middle
    found = _lloyd(points, seeds, kmeans.Clusters(k=3))
    np.testing.assert_allclose(np.sort((found.centres + middle).ravel()), [0.5, 10.0, 30.0])
    assert sorted(found.weight.tolist()) == [1.0, 1.0, 2.0]


def test_more_restarts_are_never_worse():
    spec, state = state_of(mixture(n=5000, clusters=40, d=2), k_max=40)
    few, many = (derive(spec, state, 40, restarts=n).sse.sum() for n in (1, 20))
    assert many <= few


def test_no_iterations_leave_the_seeds_where_rows_are():
    x = np.arange(10.0)[:, None]
    spec, state = state_of(x)
    assert derive(spec, state, 3, max_iter=0).weight.sum() == 10.0


def test_a_coreset_too_large_for_a_table_is_clustered_all_the_same(monkeypatch):
    spec, state = state_of(mixture(), k_max=10)
    kept = derive(spec, state, 10)
    monkeypatch.setattr("beam_ml.algorithms.kmeans.lloyd._TABLE_POINTS", 1)
    assert derive(spec, state, 10).sse.sum() <= 1.02 * kept.sse.sum()


def test_a_batch_of_another_width_or_form_is_refused():
    spec, state = state_of(mixture(n=50, d=3))
    model = derive(spec, state, 1)
    wide = Batch.dense(np.ones((2, 4)))
    with pytest.raises(InvalidBatch, match=r"n_features is 3; got a batch of 4\."):
        KMEANS.accumulate(spec, state, wide, None)
    for use in (KIND.predict, KIND.measure):
        with pytest.raises(InvalidBatch, match=r"A kmeans model takes 3 features; got a batch of 4\."):
            use(model, wide)
    with pytest.raises(InvalidBatch, match="dense"):
        KMEANS.accumulate(spec, state, Batch.csr([0, 1], [0], [1.0], 3), None)


def test_settings_are_checked_and_name_the_algorithm():
    assert find("kmeans") is KMEANS
    spec = kmeans.Spec(n_features=4, k_max=10)
    assert spec_from(spec.to_dict()) == spec
    assert (spec.capacity, spec.target) == (200, 140)
    assert kmeans.Clusters(k="3").k == 3
    with pytest.raises(InvalidValue, match=r"kmeans\.Clusters\.k must be >= 1; got 0\."):
        kmeans.Clusters(k=0)
    with pytest.raises(InvalidValue, match=r"kmeans\.Spec\.k_max must be given\."):
        kmeans.Spec(n_features=2)
    with pytest.raises(InvalidValue, match=r"kmeans\.Clusters\.init must be one of"):
        kmeans.Clusters(k=2, init="best")
