"""A look at a topic before a job runs: some messages from everywhere in it; no group is joined, nothing is committed."""

import time
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
from kafka.structs import TopicPartition

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.poll import messages_block, poll_partition
from beam_ml.formats import messages
from beam_ml.formats.block import Block

__all__ = ["pieces_of", "some_rows"]

_PIECES, _MESSAGES, _BYTES = 16, 4_096, 8 << 20
"""Pieces of a topic, and messages and about bytes of a piece."""
_SECONDS, _POLL_S = 10.0, 1.0
"""How long brokers may take to send all of it, and one poll."""


def pieces_of(held: Mapping[int, tuple[int, int]], pieces: int, most: int) -> list[tuple[int, int, int]]:
    """Return (partition, start, stop) in offsets: pieces of at most so many messages, evenly spread over all there are.

    >>> pieces_of({0: (0, 100), 1: (40, 50)}, 3, 10)
    [(0, 0, 10), (0, 50, 60), (1, 40, 50)]
    >>> pieces_of({0: (5, 25), 1: (7, 7)}, 3, 10)
    [(0, 5, 15), (0, 15, 25)]
    """
    cut = [
        (partition, at, min(at + most, stop))
        for partition, (start, stop) in sorted(held.items())
        for at in range(start, stop, most)
    ]
    if len(cut) <= pieces:
        return cut
    return [cut[i * (len(cut) - 1) // (pieces - 1)] for i in range(pieces)]


def some_rows(source: KafkaSource, columns: Sequence[str]) -> Iterator[Block]:
    """Read up to 65,536 messages from everywhere in what a topic holds, as rows; none: it is empty.

    Args:
        source: settings; brokers that do not answer are waited for as they say.
        columns: to decode.

    Raises:
        NoInput: there is no such topic.
        SourceUnavailable, SourceRefused: the brokers do not answer, or refuse this user.
        RowsLost, UnreadableInput: what is looked at was removed meanwhile, or is damaged.
        InvalidValue, MissingColumn: the format's options are wrong, or its schema has no such column.
    """
    decode = messages.decoder(source.format, source.options)
    decode(pa.array([], pa.binary()), [name for name in columns if name not in messages.MESSAGE_COLUMNS])
    consumer = client.consumer(Connection.of(source))
    try:
        state = client.topic_state(consumer, source.topic)
        name = client.source_name(source.cluster or state.cluster, source.topic)
        held = {partition: (state.starts[partition], end) for partition, end in state.ends.items()}
        until = time.monotonic() + _SECONDS
        for partition, start, stop in pieces_of(held, _PIECES, _MESSAGES):
            tp, at, left = TopicPartition(source.topic, partition), start, _BYTES
            consumer.assign([tp])
            while at < stop and left > 0 and (left_s := until - time.monotonic()) > 0:
                found, reached = poll_partition(consumer, tp, at, stop, left, min(_POLL_S, left_s))
                if found:
                    raw = messages_block(name, partition, found, at, reached)
                    left -= raw.batch.nbytes
                    yield from messages.to_blocks(raw, decode, columns)
                at = reached
    finally:
        consumer.close(autocommit=False)
