"""Jobs over files of whole records: dense and sparse learners train on them, and both forms give the same model."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import train
from beam_ml.errors import InvalidValue
from beam_ml.formats import libsvm, list_files, ranges, read, recordio
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry

D = 6
KINDS = {"linear.newton": "classifier", "linear.adagrad": "classifier", "fm": "classifier"}


def data(n: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = np.where(rng.random((n, D)) < 0.5, rng.normal(size=(n, D)), 0.0).astype(np.float32)
    y = (X @ np.array([2.0, -1.0, 0.5, 0.0, 1.0, -2.0]) + 0.3 * rng.normal(size=n) > 0).astype(np.float64)
    return X, y


def stored(sparse: bool) -> pa.RecordBatch:
    X, y = data()
    features = (
        pa.array([[(j, v) for j, v in enumerate(row) if v] for row in X.tolist()], pa.map_(pa.int32(), pa.float32()))
        if sparse
        else pa.array(X.tolist(), pa.list_(pa.float32()))
    )
    return pa.record_batch({"features": features, "label": y})


def in_recordio(folder: Path, sparse: bool) -> None:
    rows = stored(sparse)
    options = recordio.Options(width=D) if sparse else recordio.DEFAULT
    recordio.write(str(folder / "a.rec"), [rows.slice(0, 1_200)], options)
    recordio.write(str(folder / "b.rec.gz"), [rows.slice(1_200)], options)


def in_libsvm(folder: Path, sparse: bool) -> None:
    rows = stored(sparse)
    libsvm.write(str(folder / "a.libsvm"), [rows.slice(0, 1_200)])
    libsvm.write(str(folder / "b.libsvm.gz"), [rows.slice(1_200)])


WRITERS: dict[str, Any] = {"recordio": in_recordio, "libsvm": in_libsvm}


def job(tmp_path: Path, format: str, algorithm: str, sparse: bool, name: str = "one") -> Any:
    path = tmp_path / f"{name}.toml"
    path.write_text(f"""
name = "{name}"
registry = "{tmp_path / "registry"}"
[source]
path = "{tmp_path / "in"}"
format = "{format}"
[features]
matrix = {{ width = {D}, sparse = {str(sparse).lower()} }}
label = "label"
[spec]
algorithm = "{algorithm}"
[models.plain]
kind = "{KINDS[algorithm]}"
""")
    return load_job(path)


def blocks(tmp_path: Path, format: str) -> list[Any]:
    files = list_files(str(tmp_path / "in"), format)
    return [block for file in files for piece in ranges(file, 1 << 20, format) for block in read(piece)]


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize(
    ("algorithm", "stored_sparse", "sparse"),
    [
        ("linear.newton", False, False),
        ("linear.newton", True, False),
        ("linear.adagrad", True, True),
        ("fm", True, True),
    ],
)
def test_a_job_trains_and_its_model_scores_the_same_files(
    tmp_path: Path, format: str, algorithm: str, stored_sparse: bool, sparse: bool
) -> None:
    (tmp_path / "in").mkdir()
    WRITERS[format](tmp_path / "in", stored_sparse)
    one = job(tmp_path, format, algorithm, sparse)
    rounds = list(train(one, Registry(one.registry)))
    assert [(done.progress.rows, dict(done.progress.rejected)) for done in rounds] == [(2_000, {})]
    predictor = Predictor(one.registry, "one")
    right = []
    for block in blocks(tmp_path, format):
        scored = predictor.score(block)
        assert scored.rejected == ()
        right.append(scored.predictions["predicted_label"] == block.batch["label"].to_numpy(zero_copy_only=False))
    assert np.concatenate(right).size == 2_000
    assert np.concatenate(right).mean() > 0.9


def test_dense_and_sparse_files_give_the_same_model(tmp_path: Path) -> None:
    models = []
    for sparse in (False, True):
        folder = tmp_path / str(sparse)
        (folder / "in").mkdir(parents=True)
        in_recordio(folder / "in", sparse)
        one = job(folder, "recordio", "linear.newton", False)
        list(train(one, Registry(one.registry)))
        models.append(Predictor(one.registry, "one").model.arrays)
    assert all(
        np.array_equal(getattr(models[0], name), getattr(models[1], name)) for name in models[0].__dataclass_fields__
    )


def test_a_dense_learner_refuses_sparse_rows_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"features\.matrix\.sparse must be false with linear\.newton"):
        job(tmp_path, "recordio", "linear.newton", True)
