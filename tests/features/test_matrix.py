"""All features of a record from one column: the same rows, dense or CSR, however they are stored."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.errors import InvalidBatch, InvalidValue, MissingColumn
from beam_ml.features import Features
from beam_ml.formats import Block

MAP, LIST = pa.map_(pa.int32(), pa.float64()), pa.list_(pa.float64())
ROWS = np.array([[0.0, 1.5, 0.0], [2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
STORED = {
    "list": pa.array(ROWS.tolist(), LIST),
    "large": pa.array(ROWS.tolist(), pa.large_list(pa.float64())),
    "fixed": pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 3),
    "map": pa.array([[(j, v) for j, v in enumerate(row) if v] for row in ROWS.tolist()], MAP),
}


def made(column: pa.Array, sparse: bool, **more: Any) -> tuple[Any, dict[str, list[int]]]:
    features = Features(matrix={"column": "x", "width": 3, "sparse": sparse}, label="y" if "y" in more else None)
    batch, rejected = features.to_batch(Block(pa.record_batch({"x": column, **more})))
    return batch, {one.reason: one.position.tolist() for one in rejected}


@pytest.mark.parametrize("stored", STORED)
def test_a_row_is_the_same_however_it_is_stored(stored: str) -> None:
    for column, rows in ((STORED[stored], ROWS), (STORED[stored].slice(1, 1), ROWS[1:2])):
        dense, rejected = made(column, False)
        assert dense.X.tolist() == rows.tolist()
        assert rejected == {}
        sparse, rejected = made(column, True)
        assert sparse.indptr.tolist() == [0, *np.cumsum((rows != 0).sum(axis=1)).tolist()]
        assert sparse.indices.tolist() == np.nonzero(rows)[1].tolist()
        assert sparse.values.tolist() == rows[rows != 0].tolist()
        assert (sparse.n_features, rejected) == (3, {})


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_that_cannot_be_used_are_rejected(sparse: bool) -> None:
    nan = float("nan")
    listed = pa.array([[1.0, 2.0, 3.0], [1.0], None, [1.0, nan, 0.0], [1.0, 2.0, 4.0]], LIST)
    batch, rejected = made(listed, sparse, y=np.arange(5.0))
    assert rejected == {"missing features": [2], "another number of features": [1], "non-finite feature": [3]}
    assert batch.label.tolist() == [0.0, 4.0]
    keyed = pa.array([[(0, 1.0)], [(3, 1.0)], [(-1, 1.0)], [(1, 1.0), (0, 2.0)], None, [(2, nan)], [(2, 5.0)]], MAP)
    batch, rejected = made(keyed, sparse, y=np.arange(7.0))
    assert rejected == {
        "missing features": [4],
        "a feature outside 0 … 2": [1, 2],
        "features that do not rise": [3],
        "non-finite feature": [5],
    }
    assert batch.label.tolist() == [0.0, 6.0]
    assert len(batch) == 2


def test_float32_stays_so_and_whole_numbers_become_float64() -> None:
    for kind, dtype in ((pa.float32(), np.float32), (pa.int64(), np.float64)):
        batch, _ = made(pa.array([[1, 2, 3]], pa.list_(kind)), False)
        assert batch.X.dtype == dtype


def test_what_lies_under_a_null_does_not_count() -> None:
    column = pa.ListArray.from_arrays(
        pa.array([0, 3, 6, 9], pa.int32()), pa.array([1.0, 2, 3, np.nan, 5, 6, 7, 8, 9]), mask=pa.array([False, True, False])
    )  # fmt: skip
    batch, rejected = made(column, False)
    assert batch.X.tolist() == [[1, 2, 3], [7, 8, 9]]
    assert rejected == {"missing features": [1]}


def test_other_columns_and_settings_are_refused() -> None:
    with pytest.raises(MissingColumn, match=r"Features\.matrix names the column 'x', which must be lists of numbers"):
        made(pa.array([1.0]), False)
    with pytest.raises(MissingColumn, match="no such column"):
        Features(matrix={"width": 3}).to_batch(Block(pa.record_batch({"x": [1.0]})))
    with pytest.raises(InvalidValue, match="all others, and sparse, must be left out with it; got \\['numeric'\\]"):
        Features.parse({"numeric": ["a"], "matrix": {"width": 3}})
    wide = Features(matrix={"column": "x", "width": 100_000_000})
    with pytest.raises(InvalidBatch, match="matrix must be sparse = true where 3 sparse rows"):
        wide.to_batch(Block(pa.record_batch({"x": STORED["map"]})))


def test_what_is_said_of_the_features() -> None:
    features = Features(matrix={"width": 7, "sparse": True}, label="label", weight="w")
    assert features.columns() == ["features", "w", "label"]
    assert (features.n_features, features.names, features.is_sparse) == (7, (), True)
    assert Features.parse(features.to_dict()) == features
