"""Distinct counts against the truth at every size, and where it is easy to get wrong."""

import itertools
from functools import reduce

import numpy as np
import pytest

from beam_ml.algorithms import distinct, spec_from
from beam_ml.algorithms.distinct import DISTINCT, _estimate
from beam_ml.core.arrays import identical
from beam_ml.core.batch import Batch
from beam_ml.core.mixing import mix64
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

KIND = DISTINCT.models["count"]


def partial(x, weight=None, **options):
    spec = distinct.Spec(n_features=x.shape[1], **options)
    return spec, DISTINCT.accumulate(spec, DISTINCT.empty(spec), Batch.dense(x, weight=weight), None)


def counts(spec, state):
    return KIND.derive(spec, distinct.Count(), state, None).count


def codes(n, seed):
    """Values as hashed categories have them: whole numbers below 2^53."""
    return np.random.default_rng(seed).choice(1 << 53, n, replace=False).astype(float)


@pytest.mark.parametrize("n", [1, 10, 100, 1_000, 3_000, 10_000, 100_000])
@pytest.mark.parametrize("precision", [6, 12])
def test_the_error_is_as_stated_at_every_size(n, precision):
    columns = np.stack([codes(n, seed) for seed in range(24)] + [np.arange(n) * 1.0, np.arange(n) * 1e-9], axis=1)
    spec, state = partial(columns, precision=precision)
    error = counts(spec, state) / n - 1.0
    assert np.abs(error).max() <= 4.5 * spec.standard_error
    assert np.sqrt(np.mean(error**2)) <= 1.4 * spec.standard_error
    assert abs(error.mean()) <= 4.0 * spec.standard_error / np.sqrt(error.size)  # no bias


def test_few_values_are_counted_nearly_exactly():
    spec, state = partial(np.arange(40.0).repeat(7)[:, None])
    assert counts(spec, state).round().tolist() == [40.0]


def test_repeats_and_weights_do_not_count():
    x = codes(500, 0)[:, None]
    _, once = partial(x)
    _, often = partial(np.tile(x, (3, 1)), np.tile([0.5, 2.0], 750))
    assert np.array_equal(once.registers, often.registers)
    weight = np.where(np.arange(500) < 100, 0.0, 1.0)
    _, some = partial(x, weight)
    _, without = partial(x[100:])
    assert np.array_equal(some.registers, without.registers)


def test_any_order_and_grouping_gives_the_same_registers():
    x = codes(4000, 1).reshape(-1, 2)
    spec, whole = partial(x)
    parts = [partial(part)[1] for part in np.array_split(x, 4)]
    for order in itertools.permutations(parts):
        merged = reduce(lambda a, b: DISTINCT.merge(spec, a, b), order)
        assert np.array_equal(merged.registers, whole.registers)
    a, b = parts[:2]
    assert identical(DISTINCT.merge(spec, a, b), DISTINCT.merge(spec, b, a))


def test_the_kernel_hashes_as_the_package_does():
    x, p = codes(2000, 2)[:, None], 5
    x[:3, 0] = 0.0, -0.0, -1.5
    _, state = partial(x, precision=p, seed=9)
    bits = (x[:, 0] + 0.0).view(np.uint64) + mix64(np.array([9], np.uint64))
    hashed = mix64(bits)
    expected = np.zeros(1 << p, np.uint8)
    for one in hashed.tolist():
        place, rest = one >> (64 - p), one & ((1 << (64 - p)) - 1)
        expected[place] = max(expected[place], 64 - p - rest.bit_length() + 1)
    assert state.registers[0].tolist() == expected.tolist()


def test_seeds_hash_differently_and_float32_counts_as_float64():
    x = codes(300, 3)[:, None]
    assert not np.array_equal(partial(x, seed=0)[1].registers, partial(x, seed=1)[1].registers)
    narrow = x.astype(np.float32)
    assert np.array_equal(partial(narrow)[1].registers, partial(narrow.astype(float))[1].registers)


def test_registers_all_empty_or_all_full_are_counted_without_a_crash():
    assert _estimate(np.zeros(16, np.uint8), 4) == 0.0
    assert _estimate(np.full(16, 61, np.uint8), 4) == 2.0**64


def test_forgetting_leaves_what_was_seen_until_no_weight_is_left():
    spec, state = partial(codes(100, 4)[:, None])
    aged = DISTINCT.scale(spec, state, 1e-3)
    assert DISTINCT.weight(aged) == pytest.approx(0.1)
    assert counts(spec, aged) == counts(spec, state)
    assert identical(DISTINCT.scale(spec, state, 0.0), DISTINCT.empty(spec))


def test_what_cannot_be_is_refused():
    spec, state = partial(np.ones((2, 2)))
    with pytest.raises(DeriveRefused, match=r"^distinct\.Count needs rows of positive weight; got none yet\.$"):
        counts(spec, DISTINCT.empty(spec))
    forged = distinct.Partial(**{**vars(state), "registers": np.full_like(state.registers, 200)})
    with pytest.raises(DeriveRefused, match=r"^distinct\.Count needs registers <= 53; got 200\.$"):
        counts(spec, forged)
    model = KIND.derive(spec, distinct.Count(), state, None)
    with pytest.raises(InvalidBatch, match=r"^A distinct model takes 2 columns; got a batch of 1\.$"):
        KIND.predict(model, Batch.dense([[1.0]]))
    with pytest.raises(InvalidValue, match=r"^distinct\.Spec\.precision must be <= 16; got 20\.$"):
        distinct.Spec(n_features=1, precision=20)
    assert spec_from({"algorithm": "distinct", "n_features": 2}) == distinct.Spec(n_features=2)


def test_a_row_is_told_the_counts_of_its_columns():
    spec, state = partial(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    found = KIND.predict(KIND.derive(spec, distinct.Count(), state, None), Batch.dense([[9.0, 9.0]]))["distinct"]
    assert found.tolist() == [[3, 1]]
