"""The same rows in 1, 3 and 50 rounds, cut inside windows too, give the same learner."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.core.algorithm import LawKind
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import compute
from beam_ml.core.refresh import derive_all, measure_all
from beam_ml.registry import Registry

DAYS, ROWS = 10, 10_000
DAY_US = 86_400_000_000
ROUNDS = {"1": 10_000_000, "3": 34_000, "50": 2_000}
"""Rounds → rows a round; a day is 10,000 rows, so 34,000 and 2,000 cut inside windows."""

SPECS = {
    "pca": ({"algorithm": "pca", "half_life": "3d"}, {"kind": "components", "n_components": 2}),
    "linear.newton squared": ({"algorithm": "linear.newton", "loss": "squared"}, {"kind": "regressor"}),
    "linear.newton logistic": (
        {"algorithm": "linear.newton", "loss": "logistic", "half_life": "3d"},
        {"kind": "classifier"},
    ),
    "kmeans": ({"algorithm": "kmeans", "k_max": 10, "half_life": "3d"}, {"kind": "clusters", "k": 5}),
}


def columns() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    n = DAYS * ROWS
    X = rng.normal(size=(n, 4)) + rng.integers(0, 5, size=(n, 1)) * 4.0
    eta = X @ np.array([0.5, -0.5, 0.25, -0.4])
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(np.float64)
    time = np.sort(rng.integers(0, DAYS * DAY_US, n))
    return X, y, time


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    X, y, time = columns()
    folder = tmp_path_factory.mktemp("data")
    names = {f"x{i}": X[:, i] for i in range(4)}
    table = pa.table({**names, "y": y, "time": pa.array(time, type=pa.timestamp("us", tz="UTC"))})
    pq.write_table(table, folder / "all.parquet", row_group_size=10_000)
    return folder


def learn(data: Path, registry: Path, kind: str, round_rows: int) -> tuple[Learner, int]:
    spec, model = SPECS[kind]
    job = Job.parse(
        {
            "name": "same",
            "registry": str(registry),
            "refresh": "1d",
            "source": {"path": str(data), "round_rows": round_rows},
            "features": {"numeric": [f"x{i}" for i in range(4)], "label": "y", "time": "time"},
            "spec": spec,
            "models": {"m": model},
        }
    )
    store = Registry(registry)
    rounds = [one for one in train(job, store, Mode("once", close=True)) if one.progress.scanned]
    found = store.latest("same")
    assert found is not None
    return decode_learner(found.data, find), len(rounds)


@pytest.mark.parametrize("kind", SPECS)
def test_rounds_do_not_matter(kind: str, data: Path, tmp_path: Path) -> None:
    found = {name: learn(data, tmp_path / name, kind, rows) for name, rows in ROUNDS.items()}
    whole, _ = found["1"]
    algorithm = find(whole.spec.algorithm)
    law = algorithm.law(whole.spec)
    X, y, _ = columns()
    held = Batch.dense(X, label=y)
    plan = {"m": algorithm.models[SPECS[kind][1]["kind"]].spec.parse(SPECS[kind][1])}
    losses = {}
    for name, (learner, rounds) in found.items():
        if kind != "linear.newton logistic":
            # An anchored learner's cold rounds are smaller, on purpose.
            assert rounds == int(name)
        assert learner.pending == {}
        assert learner.refresh == DAYS
        assert learner.progress.rows == DAYS * ROWS
        assert learner.progress.summary()["rows"] == whole.progress.summary()["rows"]
        assert np.array_equal(learner.sample.identity, whole.sample.identity)
        if law.kind is LawKind.EXACT:
            assert close(learner.state, whole.state, rtol=law.rtol)
        metrics = measure_all(algorithm, derive_all(algorithm, learner, plan), plan, held)["m"]
        values = compute(metrics)
        losses[name] = next(values[key] for key in ("log_loss", "mse", "msd") if key in values)
    margin = {LawKind.EXACT: 1e-9, LawKind.SKETCH: law.bound, LawKind.ANCHORED: 5e-4}[law.kind]
    for name, loss in losses.items():
        assert loss == pytest.approx(losses["1"], rel=margin), (name, losses)
