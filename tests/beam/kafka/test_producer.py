"""What a writer to a topic holds, counts and says, against a producer that is none."""

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, TopicAuthorizationFailedError, UnknownError

from beam_ml.beam.kafka.producer import TopicWriter, producers
from beam_ml.errors import InvalidValue, SourceRefused, SourceUnavailable
from tests.beam.kafka.support import NOBODY, Producer, writer


def test_a_writer_waits_for_the_oldest_beyond_its_bytes() -> None:
    producer = Producer(done_at_once=False)
    out = writer(producer, waiting_bytes=1_000)
    for i in range(25):
        out.send(b"x" * 90, b"k" * 10)
        under_way = sum(not one.is_done for one in producer.futures)
        assert under_way <= 10
        assert (out.messages, producer.waited) == (max(0, i - 9),) * 2
    out.settle()
    assert out.messages == 15
    out.flush()
    assert (out.messages, out.rows, out.bytes) == (25, 25, 2_500)


def test_a_message_larger_than_the_bound_still_goes() -> None:
    out = writer(Producer(done_at_once=False), waiting_bytes=10)
    out.send(b"x" * 100, rows=3)
    out.send(b"x" * 100, rows=3)
    assert out.finish() == 2
    assert out.rows == 6


def test_the_producer_is_left_to_the_next_writer_unless_something_failed() -> None:
    producer = Producer()
    idle = len(producers())
    with writer(producer, "kept") as out:
        out.send(b"a")
    assert len(producers()) == idle + 1
    with TopicWriter(NOBODY, "kept") as again:
        assert again.partitions() == [0, 1, 2]
        again.send(None, b"key")
    assert [(one["value"], one["key"]) for one in producer.sent] == [(b"a", None), (None, b"key")]
    assert not producer.closed
    with pytest.raises(KeyError), TopicWriter(NOBODY, "kept"):
        raise KeyError
    assert producer.closed
    assert len(producers()) == idle


def test_what_is_not_acknowledged_is_said_and_not_counted() -> None:
    producer = Producer(refuse_at=12)
    out = writer(producer)
    for _ in range(15):
        out.send(b"x", rows=2)
    sentence = (
        r"^Topic topic at nobody:1 \(after 12 messages of 24 rows that it acknowledged; of the 3 under way any may be "
        r"there\): brokers must acknowledge messages in time; got KafkaTimeoutError: no answer\.$"
    )
    with pytest.raises(SourceUnavailable, match=sentence):
        out.finish()
    assert out.messages == 12
    assert producer.closed


class Silent(Producer):
    """Acknowledges nothing."""

    def flush(self, timeout: float) -> None:
        for future in self.futures:
            future.silent = True
        message = f"nothing for {timeout} s"
        raise KafkaTimeoutError(message)


def test_the_wait_is_bounded() -> None:
    out = writer(Silent(done_at_once=False))
    out.send(b"x")
    with pytest.raises(SourceUnavailable, match=r"acknowledge messages in time; got .*no answer within 61 s\.$"):
        out.finish()


class Splitting(Producer):
    """Splits a batch in two while it flushes, as the library says it."""

    def flush(self, timeout: float) -> None:
        message = "Future not done"
        raise UnknownError(message)


def test_messages_of_a_batch_that_was_split_arrive() -> None:
    out = writer(Splitting(done_at_once=False))
    for _ in range(3):
        out.send(b"x")
    assert out.finish() == 3


def test_a_user_who_may_not_write_is_told_so() -> None:
    out = writer(Producer(refuse_at=0, error=TopicAuthorizationFailedError("topic")))
    out.send(b"x")
    with pytest.raises(SourceRefused, match="must authorise this user for the topic"):
        out.finish()


def test_messages_that_no_topic_takes_are_refused() -> None:
    producer = Producer()
    out = writer(producer)
    with pytest.raises(
        InvalidValue, match=r"Topic topic at nobody:1: a message must have a key or a value; got neither"
    ):
        out.send(None)
    with pytest.raises(InvalidValue, match=r"max_request_size; got 1,001 bytes \(send fewer rows per message"):
        out.send(b"x" * 1_001)
    assert producer.closed


def test_a_topic_that_refuses_a_size_is_named() -> None:
    out = writer(Producer(refuse_at=0, error=MessageSizeTooLargeError("over 1000")))
    out.send(b"x" * 900)
    with pytest.raises(SourceUnavailable, match=r"Topic topic at .*; got .*MessageSizeTooLarge"):
        out.finish()
