"""RecordIO beside SageMaker's own client: byte for byte what it writes, and it reads what we write."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse
from sagemaker_client import asked, client
from services.support import Unavailable

from beam_ml.formats import recordio


@pytest.fixture(scope="module", autouse=True)
def there() -> None:
    try:
        client()
    except Unavailable as error:
        pytest.skip(str(error))


def dense(kind: Any, rows: int = 300, d: int = 7) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(-(2**31), 2**31 - 1, (rows, d)) if kind is np.int64 else rng.normal(size=(rows, d)).astype(kind)


def sparse(kind: Any) -> Any:
    rng = np.random.default_rng(1)
    one = scipy.sparse.random(300, 5000, density=0.002, format="csr", rng=rng)
    one.data = rng.integers(-9, 10, one.nnz) if kind is np.int64 else rng.normal(size=one.nnz).astype(kind)
    return one


def as_rows(X: Any, label: np.ndarray | None) -> tuple[pa.RecordBatch, recordio.Options]:
    if scipy.sparse.issparse(X):
        features = pa.MapArray.from_arrays(
            pa.array(X.indptr, pa.int32()), pa.array(X.indices, pa.int32()), pa.array(X.data)
        )
        options = recordio.Options(width=X.shape[1])
    else:
        features, options = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1]), recordio.DEFAULT
    return pa.record_batch({"features": features} | ({} if label is None else {"label": label})), options


def save(path: Path, X: Any, label: np.ndarray | None) -> None:
    arrays = {} if label is None else {"label": label}
    if scipy.sparse.issparse(X):
        np.savez(path, data=X.data, indices=X.indices, indptr=X.indptr, shape=np.array(X.shape), **arrays)
    else:
        np.savez(path, X=X, **arrays)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("form", [dense, sparse])
@pytest.mark.parametrize("label_kind", [None, np.float32, np.float64, np.int64])
def test_bytes_go_both_ways(tmp_path: Path, kind: Any, form: Any, label_kind: Any) -> None:
    X = form(kind)
    label = None if label_kind is None else np.arange(X.shape[0]).astype(label_kind)
    save(tmp_path / "in.npz", X, label)
    asked("write", tmp_path / "in.npz", tmp_path / "theirs.rec")
    theirs = (tmp_path / "theirs.rec").read_bytes()
    rows, options = as_rows(X, label)
    assert recordio.encode(rows, options) == theirs
    block = recordio.decode(theirs, ["features", "label"], options)
    assert block.rejected == ()
    assert len(block) == X.shape[0]
    assert block.batch["label"].to_pylist() == ([None] * len(block) if label is None else label.tolist())
    values = block.batch["features"].items if form is sparse else block.batch["features"].values
    assert values.to_numpy().tolist() == (X.data if form is sparse else X.ravel()).astype(float).tolist()
    if form is sparse:
        assert block.batch["features"].keys.to_numpy().tolist() == X.indices.tolist()


def test_it_reads_what_we_write(tmp_path: Path) -> None:
    X, label = sparse(np.float32), np.arange(300, dtype=np.float32)
    rows, options = as_rows(X, label)
    uid = pa.array([None if i % 3 else f"é{i}" for i in range(300)])
    recordio.write(str(tmp_path / "ours.rec"), [rows.append_column("uid", uid)], options)
    asked("read", tmp_path / "ours.rec", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        assert found["values"].astype(np.float32).tolist() == X.data.tolist()
        assert found["keys"].tolist() == X.indices.tolist()
        assert found["counts"].tolist() == np.diff(X.indptr).tolist()
        assert found["shape"].tolist() == [[5000]] * 300
        assert found["label"].tolist() == label.tolist()
        assert found["uid"].tolist() == ["" if i % 3 else f"é{i}" for i in range(300)]
