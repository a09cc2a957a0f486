"""`Predict`: rows with their features → predictions in a topic, by the version that is served when they are released."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from apache_beam import DoFn, ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.job.job import Job
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.rounds.prepare.predictions import Scorer
from beam_ml.beam.stream.prepare import job_of
from beam_ml.beam.telemetry import count, timed
from beam_ml.formats import messages
from beam_ml.formats.block import Block
from beam_ml.formats.matrix import is_matrix
from beam_ml.registry import Registry

__all__ = ["Predict"]

_MESSAGE = tuple[bytes | None, bytes | None]


@with_input_types(Block)
@with_output_types(_MESSAGE)
class _Predict(DoFn):
    """Yields a message per row that can be scored; rows before the first version, and those that lack features, are counted.

    Every worker follows the versions by itself: one may be a look behind another.
    """

    def __init__(self, job: str, registry: str, ttl_s: float) -> None:
        self._job_json, self._where, self._ttl_s = job, registry, ttl_s

    def setup(self) -> None:
        job = job_of(self._job_json)
        self._scorer = Scorer(job, Registry(self._where), self._ttl_s)
        self._id = None if job.labels is None else job.labels.id

    def process(self, element: Block) -> Iterator[Any]:
        with timed("predict_us"):
            rows, scored, not_scored = self._scorer.score([element])
        count("predicted", scored)
        count("not predicted", not_scored)
        if rows is not None:
            yield from zip(_keys(rows, self._id), _objects(rows), strict=True)


def _keys(rows: pa.RecordBatch, name: str | None) -> list[bytes | None]:
    if name is None:
        return [None] * rows.num_rows
    texts = rows.column(name).cast(pa.utf8()).to_pylist()
    return [None if one is None else str(one).encode() for one in texts]


def _objects(rows: pa.RecordBatch) -> list[bytes]:
    """Return rows as JSON objects; a prediction of several numbers is a list."""
    lists = [name for name in rows.schema.names if is_matrix(rows.schema.field(name).type)]
    plain = messages.encoder("json")(rows.drop_columns(lists))
    columns = [[f',"{name}":{json.dumps(one)}'.encode() for one in rows.column(name).to_pylist()] for name in lists]
    return [b"".join([text[:-1], *more, b"}"]) for text, *more in zip(plain, *columns, strict=True)]


class Predict(PTransform):
    """Rows with their features → messages in a topic; yields how many each bundle wrote.

    Each row is predicted at least once. After a restart the rows released since the last checkpoint are predicted again,
    with the same features, and maybe by a newer version: of several messages of an id, which is their key, each is valid.

    Args:
        job: the deployment, with `predictions.topic`; shipped as JSON.
        registry: where its versions are.
        ttl_s: seconds until a worker looks for a newer version again.
    """

    def __init__(self, job: Job, registry: str, ttl_s: float = 1.0) -> None:
        super().__init__()
        self._job, self._fn = job, _Predict(job.to_json(), registry, ttl_s)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Score each block where it is released, and send a message per row."""
        from beam_ml.beam.kafka.client import Connection  # loads the client library
        from beam_ml.beam.kafka.write import WriteKafka

        source, predictions = self._job.source, self._job.predictions
        assert isinstance(source, KafkaSource)  # noqa: S101 checked when the pipeline is built
        assert predictions is not None  # noqa: S101 likewise
        assert predictions.topic is not None  # noqa: S101 likewise
        return pcoll | "Score" >> ParDo(self._fn) | "Topic" >> WriteKafka(Connection.of(source), predictions.topic)
