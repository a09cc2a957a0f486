"""What algorithms share of rows, against plain oracles: the smallest one, CSR in canonical form, places in a table."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.algorithms.shared.origin import smaller_row, smallest_row
from beam_ml.algorithms.shared.places import features_of, place_of, places
from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidBatch


@given(
    d=st.sampled_from([1, 2, 15, 16, 17, 18, 33]),
    n=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    told_at=st.integers(0, 32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(deadline=None)
def test_the_origin_is_the_smallest_row_whichever_column_tells(
    d: int, n: int, seed: int, told_at: int, dtype: type
) -> None:
    """Rows are alike up to one column, and −0 counts as 0."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.array([-1.0, -0.0, 0.0, 2.0]), (n, d)).astype(dtype)
    rows[:, : min(told_at, d - 1)] = 1.0
    found = smallest_row(rows)
    assert found.tolist() == list(min(map(tuple, rows.tolist())))
    assert not np.signbit(found[found == 0.0]).any()
    assert found.dtype == np.float64
    first, second = rows[0], rows[-1]
    for a, b in ((first, second), (second, first)):
        assert tuple(smaller_row(a, b).tolist()) == min(tuple(first.tolist()), tuple(second.tolist()))


@given(counts=st.lists(st.integers(0, 6), max_size=8), seed=st.integers(0, 10_000), rising=st.booleans())
@settings(deadline=None)
def test_canonical_rows_are_those_of_scipy(counts: list[int], seed: int, rising: bool) -> None:
    rng = np.random.default_rng(seed)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    columns = [np.sort(rng.permutation(7)[:k]) if rising else rng.integers(0, 7, k) for k in counts]
    indices = np.concatenate([np.zeros(0, np.int32), *columns]).astype(np.int32)
    values = rng.integers(1, 9, indices.size).astype(np.float64)
    wanted = scipy.sparse.csr_matrix((values.copy(), indices.copy(), indptr.copy()), shape=(len(counts), 7))
    wanted.sum_duplicates()
    found = canonical(Batch.csr(indptr, indices, values, 7))
    for mine, theirs in zip(found, (wanted.indptr, wanted.indices, wanted.data), strict=True):
        assert mine.tolist() == theirs.tolist()
    dense = canonical(Batch.dense(wanted.toarray()))
    for mine, theirs in zip(dense, (wanted.indptr, wanted.indices, wanted.data), strict=True):
        assert mine.tolist() == theirs.tolist()


@given(
    held=st.sets(st.integers(0, 299), max_size=40),
    asked=st.lists(st.integers(0, 299), max_size=60),
    everything=st.booleans(),
)
@settings(deadline=None)
def test_places_are_those_of_a_dictionary(held: set[int], asked: list[int], everything: bool) -> None:
    numbers = np.arange(300) if everything else np.array(sorted(held), dtype=np.int64)
    at = {int(number): place for place, number in enumerate(numbers)}
    indices, expected = np.array(asked, dtype=np.int32), [at.get(one, -1) for one in asked]
    assert places(numbers, indices, 300).tolist() == expected
    assert place_of(numbers, indices).tolist() == expected


@pytest.mark.parametrize("last", [8, 10])
def test_rows_that_do_not_end_with_the_bias_are_refused(last: int) -> None:
    with pytest.raises(InvalidBatch, match=f"must end with the bias, numbered 9; got {last}"):
        features_of(9, np.array([2, last]))
