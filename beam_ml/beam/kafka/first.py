"""The first messages of a topic, to be looked at: nothing is committed, and no group is joined."""

import math
import time
from collections.abc import Iterator

from kafka.structs import TopicPartition

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.poll import messages_block, poll_partition
from beam_ml.errors import NoInput
from beam_ml.formats.block import Block

__all__ = ["first_messages"]

_BYTES = 8 << 20
_POLL_S = 1.0


def first_messages(source: KafkaSource, most: int, seconds: float) -> Iterator[Block]:
    """Read the first messages that each partition still holds, raw, as many of each.

    Args:
        source: settings.
        most: messages, about.
        seconds: how long brokers are waited for: to answer, and then to send.

    Raises:
        NoInput: there is no such topic, or it holds nothing.
        SourceUnavailable, SourceRefused: the brokers do not answer, or refuse this user.
    """
    where = f"topic {source.topic} at {source.brokers}"
    seconds = min(seconds, source.timeout)
    consumer = client.consumer(Connection(source.brokers, dict(source.client), source.isolation, seconds))
    try:
        state = client.topic_state(consumer, source.topic, seconds)
        held = {p: (state.starts[p], end) for p, end in sorted(state.ends.items()) if end > state.starts[p]}
        if not held:
            message = f"{where} must hold messages to be looked at; it is empty."
            raise NoInput(message)
        name = client.source_name(source.cluster or state.cluster, source.topic)
        each, until, found = math.ceil(most / len(held)), time.monotonic() + seconds, False
        for partition, (at, end) in held.items():
            tp, stop = TopicPartition(source.topic, partition), min(end, at + each)
            consumer.assign([tp])
            while at < stop and (left_s := until - time.monotonic()) > 0:
                messages, reached = poll_partition(consumer, tp, at, stop, _BYTES, min(_POLL_S, left_s))
                if messages:
                    found = True
                    yield messages_block(name, partition, messages, at, reached)
                at = reached
        if not found:
            message = f"{where} must return messages to be looked at; none came in {seconds:g} s."
            raise NoInput(message)
    finally:
        consumer.close(autocommit=False)
