"""A cold window of many shards goes on over its sample, as far as rows that it does not learn from bear it out."""

import statistics
from functools import reduce

import numpy as np
import pytest

from beam_ml import fm
from beam_ml.algorithms.fm.again import gone_on, half
from beam_ml.algorithms.fm.known import numbered
from beam_ml.algorithms.fm.rows import present
from beam_ml.core.sample import Sample
from tests.algorithms.fm.support import FM, grown, loss, ratings


def folded(spec, rows, shards, sample=None):
    """Fold one cold window of shards, and give the rows it is judged by."""
    parts = np.array_split(np.arange(len(rows)), shards)
    partial = reduce(
        lambda a, b: FM.merge(spec, a, b), [grown(spec, rows.take(slice(p[0], p[-1] + 1)), None) for p in parts]
    )
    state = FM.fold(spec, FM.init(spec), partial, sample)
    return state, numbered(state.rows, present(Sample.of(spec, rows).estimate(spec)))


def test_many_shards_of_one_cold_window_lose_less():
    excess = []
    for seed in (61, 62, 63):
        rows = ratings(seed, 15_000)
        train, test = rows.take(slice(11_000)), rows.take(slice(11_000, None))
        spec = fm.Spec(n_features=rows.n_features, n_factors=8, task="regression")
        sample = Sample.of(spec, train).estimate(spec)
        one, many = (loss(spec, folded(spec, train, shards, sample)[0], test) for shards in (1, 32))
        excess.append(many / one - 1.0)
    assert statistics.median(excess) <= 0.05


@pytest.mark.parametrize("shards", [2, 16])
def test_it_goes_on_only_as_far_as_other_rows_bear_it_out(shards):
    rows = ratings(64, 8_000)
    spec = fm.Spec(n_features=rows.n_features, n_factors=4, task="regression")
    state, data = folded(spec, rows, shards)
    after = gone_on(spec, state, data)
    again = gone_on(spec, state, data)
    np.testing.assert_array_equal(after.theta, again.theta)
    assert loss(spec, after, rows) < loss(spec, state, rows)
    shuffled = rows.replace(label=np.random.default_rng(65).normal(size=len(rows)))
    state, data = folded(spec, shuffled, shards)
    assert gone_on(spec, state, data) is state


def test_few_rows_are_not_gone_over_again():
    rows = ratings(66, 500)
    spec = fm.Spec(n_features=rows.n_features, n_factors=4, task="regression")
    state, data = folded(spec, rows, 4)
    assert gone_on(spec, state, data) is state


def test_halves_are_all_rows():
    rows = present(ratings(67, 101))
    first, second = half(rows, 0), half(rows, 1)
    np.testing.assert_array_equal(first.label, rows.label[::2])
    np.testing.assert_array_equal(second.label, rows.label[1::2])
    np.testing.assert_array_equal(second.indices.reshape(-1, 2), rows.indices.reshape(-1, 2)[1::2])
