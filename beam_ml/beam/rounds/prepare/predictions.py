"""Predictions of raw rows by the version served when they were read: one file per round, with the version it led to."""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from beam_ml import formats
from beam_ml.beam.job.job import Job
from beam_ml.beam.transforms.score import as_columns
from beam_ml.core.threads import one_thread
from beam_ml.errors import VersionNotFound
from beam_ml.formats.block import Block
from beam_ml.formats.files import replacing
from beam_ml.formats.stacked import stacked
from beam_ml.predictor import Predictor
from beam_ml.registry import Manifest, Registry, drop_round, put_round, read_round, round_files

__all__ = ["Scorer", "deliver"]

_FILE = "predictions"


class Scorer:
    """Scores the rows of rounds with the version that is served when each round begins.

    Args:
        job: names the model and the columns that stay beside predictions.
        registry: where its versions are.
        ttl_s: seconds until it looks for a newer version again.
    """

    def __init__(self, job: Job, registry: Registry, ttl_s: float = 0.0) -> None:
        self._job, self._registry, self._ttl_s = job, registry, ttl_s
        self._predictor: Predictor | None = None
        self._looked = float("-inf")

    def score(self, blocks: Sequence[Block]) -> tuple[pa.RecordBatch | None, int, int]:
        """Return the rows that can be scored with their predictions, None where there are none; how many, and how many not.

        Args:
            blocks: of rows with all that the features need but labels.
        """
        n = sum(map(len, blocks))
        predictor = self._served()
        if predictor is None or n == 0:
            return None, 0, n
        found = [self._of(predictor, block) for block in blocks]
        rows = [one for one in found if one.num_rows]
        scored = sum(one.num_rows for one in rows)
        return (stacked(rows) if rows else None), scored, n - scored

    def _served(self) -> Predictor | None:
        now = time.monotonic()
        if now - self._looked < self._ttl_s:
            return self._predictor
        self._looked = now
        if self._predictor is not None:
            self._predictor.refresh()
            return self._predictor
        try:
            self._predictor = Predictor(self._registry, self._job.name, algorithms=[self._job.algorithm()])
        except VersionNotFound:
            return None
        return self._predictor

    def _of(self, predictor: Predictor, block: Block) -> pa.RecordBatch:
        with one_thread():
            scored = predictor.score(block)
        kept = block.batch.select(self._columns(block)).take(pa.array(scored.rows))
        columns = dict(zip(kept.schema.names, kept.columns, strict=True))
        return pa.record_batch(columns | as_columns(scored.predictions, scored.version, int(scored.rows.size)))

    def _columns(self, block: Block) -> list[str]:
        job = self._job
        assert job.predictions is not None  # noqa: S101
        wanted = [*([] if job.labels is None else [job.labels.id]), *job.predictions.columns]
        if job.predictions.features and job.rolling is not None:
            wanted += job.rolling.names
        return [name for name in dict.fromkeys(wanted) if name in block.batch.schema.names]


def put_predictions(job: Job, registry: Registry, round_id: str, rows: pa.RecordBatch) -> None:
    """Write the predictions of a round among its files: they are delivered once its version exists."""
    assert job.predictions is not None  # noqa: S101
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, _FILE)
        formats.write(path, [rows], job.predictions.format)
        put_round(registry, job.name, round_id, _FILE, Path(path).read_bytes())


def deliver(job: Job, registry: Registry, manifest: Manifest) -> str | None:
    """Put the predictions of a published round into their folder; return the path, None where there are none to deliver.

    Done again after a kill at any instant, it has the same effect.
    """
    if (
        job.predictions is None
        or job.predictions.path is None
        or _FILE not in round_files(registry, job.name, manifest.round_id)
    ):
        return None
    ending = formats.of_files(job.predictions.format).endings[0]
    os.makedirs(job.predictions.path, exist_ok=True)
    path = os.path.join(job.predictions.path, f"{job.name}-{manifest.number:08d}{ending}")
    data = read_round(registry, job.name, manifest.round_id, _FILE)
    with replacing(path) as unfinished:
        Path(unfinished).write_bytes(data)
    drop_round(registry, job.name, manifest.round_id, [_FILE])
    return path
