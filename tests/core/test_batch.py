"""Batches: dense and CSR, checked when built; take and concat agree with the dense picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.core.batch import ROW_COLUMNS, Batch, Origin
from beam_ml.errors import InvalidBatch

FILE = Origin("folder", "a.parquet")


def columns(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "label": rng.normal(size=n),
        "weight": rng.random(n),
        "time": rng.integers(0, 10**15, n),
        "origin": FILE,
        "position": np.arange(n) * 10,
        "position_end": np.arange(n) * 10 + 7,
    }


def dense(n, d=3, seed=0, dtype=np.float64):
    return Batch.dense(np.random.default_rng(seed).normal(size=(n, d)).astype(dtype), **columns(n, seed))


def csr(n, d=4, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, d + 1, n)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    indices = np.concatenate([np.sort(rng.permutation(d)[:c]) for c in counts]) if n else np.zeros(0)
    return Batch.csr(indptr, indices, rng.normal(size=counts.sum()).astype(dtype), d, **columns(n, seed))


def picture(batch):
    """The dense matrix that a batch stands for."""
    if batch.is_dense:
        return batch.dense_x
    out = np.zeros((len(batch), batch.n_features))
    rows = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
    out[rows, batch.indices] = batch.values
    return out


@pytest.mark.parametrize(("given_dtype", "kept"), [("f4", "f4"), ("f8", "f8"), ("i8", "f8"), ("?", "f8"), ("u1", "f8")])
def test_float_types_are_kept_and_other_numbers_become_float64(given_dtype, kept):
    assert Batch.dense(np.ones((2, 2), given_dtype)).dense_x.dtype == np.dtype(kept)
    assert Batch.csr([0, 1], [0], np.ones(1, given_dtype), 2).values.dtype == np.dtype(kept)


def test_nothing_is_copied_that_need_not_be():
    x, weight = np.ones((5, 2)), np.ones(5)
    batch = Batch.dense(x, weight=weight)
    assert np.shares_memory(batch.dense_x, x)
    assert np.shares_memory(batch.weight, weight)
    assert np.shares_memory(batch.take(slice(1, 3)).dense_x, x)


def test_strided_and_fortran_arrays_become_c_ordered():
    x = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    batch = Batch.dense(x, label=np.arange(8)[::2])
    assert batch.dense_x.flags.c_contiguous
    assert batch.label.flags.c_contiguous
    np.testing.assert_array_equal(batch.dense_x, x)
    np.testing.assert_array_equal(batch.label, [0, 2, 4, 6])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Batch.dense(np.ones(3)), r"Batch\.X must have two axes \(n, d\); got shape \(3,\)\."),
        (lambda: Batch.dense([["a", "b"]]), r"Batch\.X must be numbers; got 'a' \(<U1\)\."),
        (lambda: Batch.dense(np.ones((2, 1)), label=[1]), r"Batch\.label must have shape \(2,\); got \(1,\)\."),
        (lambda: Batch.dense(np.ones((2, 1)), weight=[[1], [1]]), r"Batch\.weight must have shape \(2,\)"),
        (lambda: Batch.dense(np.ones((2, 1)), time=[1, 2, 3]), r"Batch\.time must have shape \(2,\); got \(3,\)\."),
        (lambda: Batch.dense(np.ones((2, 1)), position=[1]), r"Batch\.position must have shape"),
        (lambda: Batch.csr([1, 2], [0], [1.0], 2), r"Batch\.indptr must start at 0 and never fall\."),
        (lambda: Batch.csr([0, 2, 1], [0], [1.0], 2), r"Batch\.indptr must start at 0 and never fall\."),
        (lambda: Batch.csr([], [], [], 2), r"Batch\.indptr must start at 0 and never fall\."),
        (lambda: Batch.csr([0, 2], [0], [1.0], 2), r"must have shape \(2,\); got \(1,\), \(1,\)\."),
        (lambda: Batch.csr([0, 1], [0], [1.0, 2.0], 2), r"must have shape \(1,\); got \(1,\), \(2,\)\."),
        (lambda: Batch.csr([0, 2], [0, 2], [1.0, 1.0], 2), r"Batch\.indices must lie in \[0, 2\); got 0 to 2\."),
        (lambda: Batch.csr([0, 1], [-1], [1.0], 2), r"Batch\.indices must lie in \[0, 2\); got -1 to -1\."),
        (lambda: Batch.concat([]), r"Batch\.concat needs at least one batch\."),
        (lambda: Batch.concat([dense(1), csr(1)]), r"needs batches of one form"),
        (lambda: Batch.concat([dense(1, d=2), dense(1, d=3)]), r"one width"),
        (lambda: csr(2).dense_x, r"takes dense features; got a CSR batch\."),
    ],
)
def test_what_does_not_make_a_batch_is_refused(build, sentence):
    with pytest.raises(InvalidBatch, match=sentence):
        _ = build()


def test_missing_weights_are_ones():
    np.testing.assert_array_equal(Batch.dense(np.ones((3, 1))).weights, [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(Batch.dense(np.ones((2, 1)), weight=[2, 3]).weights, [2.0, 3.0])


def test_bytes_are_counted():
    assert Batch.dense(np.ones((4, 2))).nbytes == 64
    assert Batch.csr([0, 1, 1], [1], [2.0], 3, label=[0, 1]).nbytes == 24 + 4 + 8 + 16


@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize("make", [dense, csr])
def test_length_and_width(make, n):
    batch = make(n)
    assert len(batch) == n
    assert picture(batch).shape == (n, batch.n_features)


@pytest.mark.parametrize("make", [dense, csr])
@pytest.mark.parametrize(
    "rows",
    [
        slice(2, 5),
        slice(0, 0),
        slice(None, None, 2),
        np.array([3, 0, 3]),
        np.zeros(0, np.int64),
        np.array([True, False] * 4),
        np.zeros(8, bool),
        np.array([-1]),
    ],
)
def test_take_gives_those_rows_with_all_their_columns(make, rows):
    batch = make(8, seed=3)
    taken = batch.take(rows)
    np.testing.assert_array_equal(picture(taken), picture(batch)[rows])
    for name in ROW_COLUMNS:
        np.testing.assert_array_equal(getattr(taken, name), getattr(batch, name)[rows])
    assert taken.origin == FILE
    assert taken.n_features == batch.n_features


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.booleans())
def test_concat_of_pieces_is_the_whole(sizes, sparse):
    make = csr if sparse else dense
    parts = [make(n, seed=i) for i, n in enumerate(sizes)]
    whole = Batch.concat(parts)
    np.testing.assert_array_equal(picture(whole), np.concatenate([picture(p) for p in parts]))
    for name in ROW_COLUMNS:
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(p, name) for p in parts]))
    start = 0
    for part in parts:
        again = whole.take(slice(start, start + len(part)))
        np.testing.assert_array_equal(picture(again), picture(part))
        start += len(part)


def test_concat_fills_weights_and_drops_columns_that_one_part_lacks():
    a, b = Batch.dense(np.ones((2, 1)), weight=[3, 4], label=[0, 1]), Batch.dense(np.zeros((1, 1)))
    joined = Batch.concat([a, b])
    np.testing.assert_array_equal(joined.weight, [3.0, 4.0, 1.0])
    assert joined.label is None
    assert Batch.concat([b, b]).weight is None


def test_concat_of_different_origins_forgets_positions():
    a = dense(2)
    b = dense(2).replace(origin=Origin("folder", "b.parquet"))
    joined = Batch.concat([a, b])
    assert joined.origin is None
    assert joined.position is None
    assert joined.position_end is None


def test_concat_fills_missing_position_ends():
    a = Batch.dense(np.ones((2, 1)), origin=FILE, position=[0, 1])
    b = Batch.dense(np.ones((1, 1)), origin=FILE, position=[10], position_end=[15])
    np.testing.assert_array_equal(Batch.concat([a, b]).position_end, [1, 2, 15])


def test_concat_of_one_is_itself_and_generators_are_taken():
    one = dense(3)
    assert Batch.concat([one]) is one
    assert len(Batch.concat(dense(2, seed=i) for i in range(3))) == 6


def test_mixed_float_types_concat_to_the_wider():
    assert Batch.concat([dense(1, dtype=np.float32), dense(1)]).dense_x.dtype == np.float64
    assert Batch.concat([dense(1, dtype=np.float32), dense(2, dtype=np.float32)]).dense_x.dtype == np.float32


def test_replace_exchanges_one_field():
    batch = dense(3)
    other = batch.replace(weight=np.zeros(3))
    assert np.shares_memory(other.dense_x, batch.dense_x)
    assert other.weights.sum() == 0.0


def test_origins_sort_by_source_then_partition():
    assert sorted([Origin("b", "0"), Origin("a", "1"), Origin("a", "0")]) == [
        Origin("a", "0"),
        Origin("a", "1"),
        Origin("b", "0"),
    ]


@pytest.mark.parametrize("widths", [[3, 3, 3, 3, 3], [2, 0, 5, 1, 3], [0, 0, 0, 0, 0]])
def test_rows_of_csr_are_the_same_by_slice_by_number_and_by_mask(widths):
    indptr = np.concatenate([[0], np.cumsum(widths)])
    values = np.arange(indptr[-1], dtype=np.float32)
    batch = Batch.csr(indptr, np.arange(indptr[-1]) % 7, values, 7, label=np.arange(5.0))
    for some in (slice(1, 4), slice(None), slice(4, 2), slice(0, 5, 2), slice(-2, None)):
        numbers = np.arange(5)[some]
        mask = np.isin(np.arange(5), numbers)
        for taken in (batch.take(some), batch.take(numbers), batch.take(mask)):
            assert taken.indptr.tolist() == [0, *np.cumsum(np.array(widths, int)[numbers])]
            assert taken.label.tolist() == numbers.tolist()
            rows = [values[indptr[i] : indptr[i + 1]] for i in numbers]
            assert taken.values.tolist() == (np.concatenate(rows).tolist() if rows else [])
            assert not np.shares_memory(taken.values, batch.values)
    assert batch.take(np.array([3, 3, 0])).values.size == 2 * widths[3] + widths[0]
