"""Kafka: the only importer of the client library. One element is one poll of one partition: a block of raw messages.

For users' own pipelines: `ReadKafkaBlocks` (ranges of offsets), `ReadKafkaStream` (forever),
`beam_ml.beam.Decode` behind either, `WriteKafka` and `WriteAnnouncements`.
"""

from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.read import OffsetRange, OffsetRanges, ReadKafkaBlocks
from beam_ml.beam.kafka.stream.source import ReadKafkaStream
from beam_ml.beam.kafka.write import WriteAnnouncements, WriteKafka

__all__ = [
    "Connection",
    "OffsetRange",
    "OffsetRanges",
    "ReadKafkaBlocks",
    "ReadKafkaStream",
    "WriteAnnouncements",
    "WriteKafka",
]
