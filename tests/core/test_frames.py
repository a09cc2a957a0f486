"""Batches from frames of pandas and Arrow, and from sparse matrices of scipy."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse

from beam_ml import Batch, derive, fit, linear, predict
from beam_ml.errors import InvalidBatch

COLUMNS = {"b": [1.0, 2.0, 3.0], "y": [0, 1, 1], "a": [1, 2, 3], "w": [1.0, 0.5, 2.0], "t": [0, 1, 2]}
FRAME = pd.DataFrame({**COLUMNS, "t": pd.to_datetime(COLUMNS["t"], unit="s")}, index=["p", "q", "r"])
TABLE = pa.table({**COLUMNS, "t": pa.array(COLUMNS["t"], pa.timestamp("s", tz="Europe/Paris"))})


@pytest.mark.parametrize("batch", [
    Batch.from_pandas(FRAME, label="y", weight="w", time="t"),
    Batch.from_arrow(TABLE, label="y", weight="w", time="t"),
    Batch.from_arrow(TABLE.to_batches()[0], label="y", weight="w", time="t"),
    Batch.from_arrow(TABLE.select(["b", "a"]), label=[0, 1, 1], weight=np.array([1.0, 0.5, 2.0]), time=[0, 10**6, 2 * 10**6]),
    Batch.from_pandas(FRAME[["b", "a"]].set_index(pd.Index([5, 6, 7])), [0, 1, 1], [1.0, 0.5, 2.0], FRAME["t"].to_numpy()),
])  # fmt: skip
def test_columns_beside_the_features_are_named_or_given(batch: Batch) -> None:
    assert batch.dense_x.tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    assert batch.names == ("b", "a")
    assert [one.tolist() for one in (batch.label, batch.weight, batch.time) if one is not None] == [
        [0.0, 1.0, 1.0], [1.0, 0.5, 2.0], [0, 1_000_000, 2_000_000]
    ]  # fmt: skip


def test_missing_values_of_pandas_are_nan() -> None:
    frame = pd.DataFrame({"x": pd.array([1, None], dtype="Int64"), "z": [None, 2.5], "y": [1.0, None]})
    batch = Batch.from_pandas(frame, label="y")
    np.testing.assert_array_equal(batch.dense_x, [[1.0, np.nan], [np.nan, 2.5]])
    np.testing.assert_array_equal(batch.label, [1.0, np.nan])


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array", "csc_array", "lil_matrix"])
def test_sparse_matrices_of_every_form(kind: str) -> None:
    given = getattr(scipy.sparse, kind)(np.array([[0.0, 2.0], [3.0, 0.0]]))
    batch = Batch.from_scipy(given, label=[1, 0], weight=[1, 2])
    assert (batch.indptr.tolist(), batch.indices.tolist(), batch.values.tolist()) == ([0, 1, 2], [1, 0], [2.0, 3.0])
    assert (batch.label.tolist(), batch.weights.tolist()) == ([1.0, 0.0], [1.0, 2.0])
    twice = scipy.sparse.coo_array(([1.0, 4.0], ([0, 0], [1, 1])), shape=(1, 2))
    assert Batch.from_scipy(twice).values.tolist() == [5.0]


def test_a_frame_learns_and_predicts_whatever_the_order_of_its_columns() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300)})
    frame["y"] = (frame.a > 0).astype(int)
    model = derive(fit(linear.Newton(n_features=2), Batch.from_pandas(frame, label="y")), "classifier")
    turned = predict(model, frame[["b", "a"]])["score"]
    np.testing.assert_array_equal(turned, predict(model, frame[["a", "b"]])["score"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batch.from_arrow(TABLE, label="z"), r"^Batch\.label must be a column of the frame, \['b', 'y', .*\]; got 'z'\.$"),
        (lambda: Batch.from_pandas(FRAME.assign(y=["a", "b", "c"]), label="y", time="t"), r"^Batch\.label must be numbers; its column 'y' is .*string"),
        (lambda: Batch.from_pandas(FRAME), r"^Batch\.X must be numbers; its column 't' is timestamp"),
        (lambda: Batch.from_arrow([1, 2]), r"^Rows must be a frame whose columns are of one kind each; got list: "),
        (lambda: Batch.from_scipy([[1.0]]), r"^Batch\.from_scipy takes sparse matrices of scipy; got list\.$"),
        (lambda: Batch.from_scipy(scipy.sparse.coo_array([1.0, 0.0])), r"\(n, d\); got an array of shape \(2,\)\.$"),
        (lambda: Batch.from_scipy(scipy.sparse.eye_array(2), label=[1]), r"^Batch\.label must"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(make: Any, message: str) -> None:
    with pytest.raises(InvalidBatch, match=message):
        make()
