"""Writes to topics: messages of a pipeline, and announcements of published versions. Done means acknowledged by the brokers.

A bundle that is retried writes its messages again: readers of predictions see each at least once.
"""

import functools
from collections.abc import Callable, Iterator

import pyarrow as pa
from apache_beam import DoFn, Map, ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_output_types

from beam_ml.beam import telemetry
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.producer import TopicWriter
from beam_ml.beam.wire import coders
from beam_ml.core.importing import attribute_of
from beam_ml.core.spec import canonical_json
from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats.block import Block
from beam_ml.registry.manifest import Manifest, manifest_path, parse_manifest

__all__ = ["WriteAnnouncements", "WriteKafka", "announce", "announcement"]

Message = tuple[bytes | None, bytes | None]
Encode = Callable[[pa.RecordBatch], pa.Array]


@with_output_types(int)
class _Write(DoFn):
    """Yields the number of messages that each bundle wrote."""

    def __init__(self, connection: str, topic: str, encode: str | None, key: str | None) -> None:
        self._connection, self._topic, self._encode, self._key = connection, topic, encode, key
        self._out: TopicWriter | None = None

    def start_bundle(self) -> None:
        self.teardown()

    def process(self, element: Block | Message) -> None:
        if self._out is None:
            self._out = TopicWriter(Connection.parse(self._connection), self._topic)
        messages = self._encoded(element) if isinstance(element, Block) else (element,)
        for key, value in messages:
            self._out.send(value, key)

    def finish_bundle(self) -> None:
        if self._out is not None:
            out, self._out = self._out, None
            telemetry.count("messages_written", out.finish())

    def teardown(self) -> None:
        if self._out is not None:  # a bundle that ended before its time
            self._out.abandon()
            self._out = None

    def _encoded(self, block: Block) -> Iterator[Message]:
        if self._encode is None:
            message = "WriteKafka.encode must name a 'module:attribute' where blocks are written; got None."
            raise InvalidValue(message)
        values = _encoder(self._encode)(block.batch)
        if len(values) != len(block):
            message = (
                f"WriteKafka.encode must return one value per row, {len(block)}; got {len(values)} of {self._encode}."
            )
            raise InvalidValue(message)
        keys = [None] * len(block) if self._key is None else _keys(block.batch, self._key)
        return zip(keys, values.cast(pa.binary()).to_pylist(), strict=True)


def _keys(batch: pa.RecordBatch, name: str) -> list[bytes | None]:
    if name not in batch.schema.names:
        message = f"WriteKafka.key must name a column; got {name!r} of {batch.schema.names}."
        raise MissingColumn(message)
    column = batch.column(name)
    kind = column.type
    text = column if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else column.cast(pa.utf8())
    return text.cast(pa.binary()).to_pylist()


@functools.lru_cache(maxsize=32)
def _encoder(name: str) -> Encode:
    found: Encode = attribute_of("WriteKafka.encode", name)
    return found


class WriteKafka(PTransform):
    """Messages (key or None, value or None), or blocks → a topic.

    A bundle ends when the brokers have acknowledged its messages (all in-sync replicas); else it fails.

    Args:
        connection: how to reach the brokers; values '$NAME' are looked up by the workers.
        topic: where to; it must exist.
        encode: for blocks, 'module:attribute' of a function from a record batch to an array of one binary value per row.
        key: for blocks, the column whose value, as text where it is not binary, is a message's key; None: no key.

    >>> import apache_beam as beam
    >>> from beam_ml.beam import new_pipeline
    >>> pipeline = new_pipeline()
    >>> messages = pipeline | beam.Create([(b"key", b"value"), (None, b"value")])
    >>> _ = messages | WriteKafka(Connection(brokers="localhost:9092"), "scores")  # sent when the pipeline runs
    """

    def __init__(self, connection: Connection, topic: str, encode: str | None = None, key: str | None = None) -> None:
        super().__init__()
        if encode is not None:
            _encoder(encode)
        self._fn = _Write(connection.to_json(), topic, encode, key)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Send each bundle, and wait for its acknowledgements."""
        coders.install(pcoll.pipeline)
        return pcoll | "Write" >> ParDo(self._fn)


def announcement(manifest: Manifest) -> tuple[bytes, bytes]:
    """Return the message that announces a published version: key and value.

    The key is the learner's name, so that a compacted topic keeps the newest version of each. The value is JSON: name,
    version, created, accepted (whether the gate let it through), reasons, champion, rows, metrics (candidate → its
    figures on the newest window, before that was learned from) and path (of the manifest, under the registry's root).
    """
    newest = manifest.refreshes[-1] if manifest.refreshes else {}
    value = {
        "name": manifest.name,
        "version": manifest.number,
        "created": manifest.created,
        "accepted": manifest.verdict.accepted,
        "reasons": list(manifest.verdict.reasons),
        "champion": manifest.champion,
        "rows": manifest.progress.get("rows", 0),
        "metrics": newest.get("measured", {}),
        "path": manifest_path(manifest.name, manifest.number),
    }
    return manifest.name.encode(), canonical_json(value).encode()


def announce(connection: Connection, topic: str, manifest: Manifest) -> None:
    """Announce a published version on a topic; it is acknowledged when this returns.

    Raises:
        NoInput: there is no such topic.
        SourceUnavailable: the brokers do not answer, or refuse this user.
    """
    key, value = announcement(manifest)
    with TopicWriter(connection, topic) as out:
        out.send(value, key)


def _announcement_of(manifest: bytes) -> Message:
    return announcement(parse_manifest(manifest, "of an announcement"))


class WriteAnnouncements(PTransform):
    """Manifests, as `registry.manifest.write_manifest` returns them → announcements of their versions in a topic.

    Args:
        connection: how to reach the brokers.
        topic: where to; it must exist.

    >>> import apache_beam as beam
    >>> from beam_ml.beam import new_pipeline
    >>> from beam_ml.registry import Registry
    >>> from beam_ml.registry.manifest import write_manifest
    >>> manifest = Registry("memory://").publish("fraud", {"learner": b"bytes"}, parent=None, round_id="1-a")
    >>> pipeline = new_pipeline()
    >>> manifests = pipeline | beam.Create([write_manifest(manifest)])
    >>> _ = manifests | WriteAnnouncements(Connection(brokers="localhost:9092"), "models")
    """

    def __init__(self, connection: Connection, topic: str) -> None:
        super().__init__()
        self._write = WriteKafka(connection, topic)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Turn each manifest into a message, and send it."""
        messages = pcoll | "Tell" >> Map(_announcement_of).with_output_types(tuple[bytes, bytes])
        return messages | "Announce" >> self._write
