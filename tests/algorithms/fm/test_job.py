"""A job of rounds over files on Beam: identifiers by hash, learned by a factorization machine."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml import Registry
from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.formats.block import Block
from beam_ml.predictor import Predictor
from tests.algorithms.fm.support import ratings

DAY_US = 86_400_000_000
DAYS, ROWS = 4, 3_000


@pytest.fixture(scope="module")
def tables():
    rows = ratings(0, DAYS * ROWS, "binary", users=200, items=100)
    user, item = rows.indices.reshape(-1, 2).T
    time = np.arange(DAYS * ROWS) * (DAY_US // ROWS)
    whole = pa.table(
        {
            "user": [f"u{number}" for number in user],
            "item": item,
            "hour": (time // 3_600_000_000) % 24,
            "likes": rows.label.astype(np.int64),
            "time": pa.array(time, pa.timestamp("us", tz="UTC")),
        }
    )
    return [whole.slice(day * ROWS, ROWS) for day in range(DAYS)]


def test_a_job_with_hashed_identifiers_learns_publishes_and_scores(tmp_path, tables):
    (tmp_path / "data").mkdir()
    for day, table in enumerate(tables[:-1]):
        pq.write_table(table, tmp_path / "data" / f"{day}.parquet")
    job = Job.parse(
        {
            "name": "likes",
            "registry": str(tmp_path / "registry"),
            "refresh": "1d",
            "source": {"path": str(tmp_path / "data"), "round_files": 1},
            "features": {
                "numeric": ["hour"],
                "hashed": [{"column": "user", "buckets": 4096}, {"column": "item", "buckets": 1024}],
                "label": "likes",
                "time": "time",
            },
            "spec": {"algorithm": "fm", "n_factors": 4, "half_life": "30d"},
            "models": {"plain": {"kind": "classifier"}},
        }
    )
    assert job.algorithm_spec().n_features == 1 + 4096 + 1024
    registry = Registry(job.registry)
    rounds = list(train(job, registry, Mode("once", close=True)))
    refreshes = [one for each in rounds for one, _ in each.refreshes]
    assert [one.number for one in refreshes] == [1, 2, 3]
    # Test-then-train: each day is measured by the model of the days before.
    assert refreshes[1].measured["plain"]["log_loss"] < 0.68
    assert refreshes[2].measured["plain"]["auc"] > 0.6

    learner = decode_learner(registry.latest("likes").data, find)
    assert learner.progress.rows == (DAYS - 1) * ROWS
    touched = np.flatnonzero(learner.state.squares.any(axis=1))
    assert touched.size <= 1 + 200 + 100 + 1  # hour, users, items and the bias

    found = Predictor(registry, "likes").predict(Block(tables[-1].to_batches()[0]))
    label = tables[-1]["likes"].to_numpy()
    assert (found["predicted_label"] == label).mean() > 0.6
    assert found["score"][label == 1].mean() > found["score"][label == 0].mean() + 0.05
