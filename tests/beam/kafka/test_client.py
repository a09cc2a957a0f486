"""Settings of connections, what errors mean, kept clients, and batches unpacked as the library unpacks records."""

import threading
from types import SimpleNamespace

import hypothesis.strategies as st
import kafka.errors as reasons
import pyarrow as pa
import pytest
from hypothesis import given, settings
from kafka.consumer.fetcher import Fetcher
from kafka.future import Future
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import TopicPartition

from beam_ml import kernels
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.connection import consumer_options, producer_options, resolve, translate
from beam_ml.beam.kafka.poll import messages_block
from beam_ml.beam.kafka.pool import Pool
from beam_ml.beam.kafka.records import Messages, Run, _Batches
from beam_ml.core.batch import Origin
from beam_ml.errors import InvalidValue, NoInput, SourceRefused, SourceUnavailable, UnreadableInput
from beam_ml.formats.messages import PLACES

TP = TopicPartition("t", 0)
assert kernels.kafka_records.index  # loaded here: that takes longer than one example may


def test_a_connection_is_the_source_without_the_rest() -> None:
    source = KafkaSource(
        kind="kafka", brokers="a:1,b:2", topic="t", client={"sasl_plain_password": "$SECRET"}, timeout=5
    )
    connection = Connection.of(source)
    assert connection == Connection("a:1,b:2", {"sasl_plain_password": "$SECRET"}, "read_committed", 5.0)
    assert Connection.parse(connection.to_json()) == connection
    assert (
        Connection("a:1", {"x": 1, "y": 2}).to_json()
        == Connection("a:1", dict(reversed({"x": 1, "y": 2}.items()))).to_json()
    )


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "$inside")
    assert resolve({"a": "$SECRET", "b": "$$SECRET", "c": "plain", "d": 3, "e": True}) == {
        "a": "$inside", "b": "$SECRET", "c": "plain", "d": 3, "e": True
    }  # fmt: skip
    with pytest.raises(InvalidValue, match=r"source\.client\.a must name a variable .*; got '\$GONE'"):
        resolve({"a": "$GONE"})
    for name in ("sasl_plain_password", "ssl_password"):
        with pytest.raises(InvalidValue, match=rf"source\.client\.{name} must name a variable") as refusal:
            resolve({name: "$hunter2"})
        assert "hunter2" not in str(refusal.value)


def test_options_that_exactness_hangs_on_are_not_the_users() -> None:
    options = consumer_options(Connection("a:1,b:2", {"check_crcs": False, "compression_type": "lz4"}))
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert (options["auto_offset_reset"], options["enable_auto_commit"], options["check_crcs"]) == (
        "none",
        False,
        False,
    )
    assert "compression_type" not in options  # a producer's
    assert "check_crcs" not in consumer_options(Connection("a:1"))  # the library's default holds: they are checked
    sending = producer_options(Connection("a:1", {"check_crcs": False, "compression_type": "lz4"}))
    assert (sending["acks"], sending["compression_type"]) == ("all", "lz4")
    assert "check_crcs" not in sending
    for name in ("group_id", "enable_auto_commit", "auto_offset_reset", "acks", "value_deserializer"):
        with pytest.raises(InvalidValue, match=f"leave '{name}' to beam_ml"):
            consumer_options(Connection("a:1", {name: "x"}))
    with pytest.raises(InvalidValue, match="options of kafka-python only; got 'no_such'"):
        producer_options(Connection("a:1", {"no_such": 1}))


@pytest.mark.parametrize(
    ("error", "kind", "rule"),
    [
        (reasons.SaslAuthenticationFailedError("no"), SourceRefused, "must accept the user and password"),
        (reasons.TopicAuthorizationFailedError({"t"}), SourceRefused, "must authorise this user for the topic"),
        (reasons.UnknownTopicOrPartitionError(), NoInput, "the topic must exist"),
        (reasons.CorruptRecordError("crc"), UnreadableInput, "messages must be whole"),
        (reasons.KafkaConfigurationError("odd"), InvalidValue, "options that kafka-python accepts; got .*odd"),
        (reasons.KafkaTimeoutError("late"), SourceUnavailable, "brokers must answer; got .*late"),
    ],
)
def test_what_errors_mean(error: Exception, kind: type, rule: str) -> None:
    found = translate(error, "Topic t at a:1")
    assert type(found) is kind
    with pytest.raises(kind, match=rule):
        raise found
    assert str(found).endswith(".")


def test_a_refusal_outlives_the_hang_ups_that_follow_it() -> None:
    def attempt() -> SimpleNamespace:
        return SimpleNamespace(init_future=Future())

    attempts = [attempt() for _ in range(3)]
    manager, failures = SimpleNamespace(get_connection=lambda: attempts.pop(0)), []
    client._watch(manager, failures)
    gone, refused, after = (manager.get_connection() for _ in range(3))
    gone.init_future.failure(reasons.KafkaConnectionError("gone"))
    assert [type(one) for one in failures] == [reasons.KafkaConnectionError]
    refused.init_future.failure(reasons.SaslAuthenticationFailedError("no"))
    after.init_future.failure(reasons.KafkaConnectionError("socket disconnected"))
    assert [type(one) for one in failures] == [reasons.SaslAuthenticationFailedError]
    with pytest.raises(reasons.SaslAuthenticationFailedError):
        manager.get_connection()


def test_sources_are_named_by_cluster_and_topic() -> None:
    assert client.source_name("c", "t") == "kafka://c/t"


class Client:
    """What a pool keeps: it notes when it is closed."""

    def __init__(self) -> None:
        self.at = 0
        self.closed = threading.Event()


def close(one: Client) -> None:
    one.closed.set()
    message = "closing fails, too"
    raise OSError(message)


def test_a_pool_lends_to_one_user_at_a_time() -> None:
    pool = Pool(close)
    with pool.borrowed("k", Client) as first, pool.borrowed("k", Client) as second, pool.borrowed("other", Client):
        assert first is not second
        first.at, second.at = 10, 20
    assert len(pool) == 3
    for at, expected in ((10, first), (20, second)):
        with pool.borrowed("k", Client, lambda one, at=at: one.at == at) as suiting:
            assert suiting is expected
    with pool.borrowed("k", Client, lambda one: False) as any_of_them:
        assert any_of_them in (first, second)
    with pytest.raises(KeyError), pool.borrowed("k", Client, lambda one: one.at == 10):
        raise KeyError
    assert first.closed.is_set()
    assert not second.closed.is_set()
    pool.clear()
    assert second.closed.is_set()
    assert len(pool) == 0


def test_a_generator_that_is_left_closes_its_client() -> None:
    pool, used = Pool(close), []

    def reading():
        with pool.borrowed("k", Client) as one:
            used.append(one)
            yield 1
            yield 2

    going = reading()
    assert next(going) == 1
    going.close()
    assert used[0].closed.is_set()
    assert len(pool) == 0


def test_a_pool_closes_the_idle_and_the_many() -> None:
    pool = Pool(close, idle_s=0.05)
    with pool.borrowed("k", Client) as one:
        pass
    assert one.closed.wait(5)
    assert len(pool) == 0
    small, made = Pool(close, most=2), [Client() for _ in range(4)]
    for one in made:
        small.release("k", one)
    assert [one.closed.is_set() for one in made] == [True, True, False, False]
    small.clear()


parts = st.one_of(st.none(), st.binary(max_size=300))
headers = st.lists(st.tuples(st.text(max_size=5), parts), max_size=3)
record = st.tuples(st.integers(0, 5), st.integers(-(2**40), 2**40), parts, parts, headers)
batch = st.tuples(st.lists(record, min_size=1, max_size=8), st.sampled_from([0, 1, 3, 4]), st.integers(0, 9))


def fetched(batches: list) -> tuple[bytes, int]:
    """Return the bytes of batches as a broker sends them: offsets with holes."""
    out, base = b"", 100
    for records, codec, hole in batches:
        builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 30)
        delta = 0
        for gap, time_ms, key, value, marks in records:
            delta += gap
            builder.append(delta, 1_700_000_000_000 + time_ms, key, value, marks)
            delta += 1
        data = builder.build()
        data[:8] = base.to_bytes(8, "big")
        out += bytes(data)
        base += delta + hole
    return out, base


def unpacked(kind: type, data: bytes, at: int) -> tuple[list, int]:
    part = kind(at, TP, MemoryRecords(data), isolation_level=IsolationLevel.READ_COMMITTED)
    return part.take(10_000), part.next_fetch_offset


@settings(deadline=None)
@given(st.lists(batch, min_size=1, max_size=4), st.data())
def test_batches_hold_what_the_library_finds_in_them(batches: list, data: st.DataObject) -> None:
    raw, end = fetched(batches)
    at = data.draw(st.integers(100, end))
    stop = data.draw(st.integers(at, end))
    records, reached = unpacked(Fetcher.PartitionRecords, raw, at)
    runs, also = unpacked(_Batches, raw, at)
    assert reached == also
    expected = [one for one in records if one.offset < stop]
    found = messages_block("s", 3, Messages(runs).before(stop), at, stop, headers=True)
    found.batch.validate(full=True)
    assert found.batch.column("value").to_pylist() == [one.value for one in expected]
    assert found.batch.column("key").to_pylist() == [one.key for one in expected]
    assert found.batch.column("timestamp").cast(pa.int64()).to_pylist() == [one.timestamp for one in expected]
    marks = [[{"key": key, "value": value} for key, value in one.headers] for one in expected]
    assert found.batch.column("headers").to_pylist() == marks
    assert found.position.tolist() == [one.offset * PLACES for one in expected]
    assert found.position_end.tolist() == [(one.offset + 1) * PLACES for one in expected]
    assert (found.start, found.stop, found.origin) == (at * PLACES, stop * PLACES, Origin("s", "3"))


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1])
def test_old_message_formats(magic: int, codec: int) -> None:
    builder = MemoryRecordsBuilder(magic, codec, 1 << 20)
    rows = [(5000 + i, None if i % 2 else b"k%d" % i, b"" if i == 3 else b"v%d" % i) for i in range(6)]
    for time_ms, key, value in rows:
        builder.append(time_ms, key, value)
    builder.close()
    runs, reached = unpacked(_Batches, bytes(builder.buffer()), 2)
    assert reached == 6
    messages = Messages(runs)
    assert messages.offsets.tolist() == [2, 3, 4, 5]
    assert messages.keys().to_pylist() == [key for _, key, _ in rows[2:]]
    assert messages.values().to_pylist() == [value for *_, value in rows[2:]]
    assert messages.times.tolist() == [-1 if magic == 0 else time_ms for time_ms, *_ in rows[2:]]
    assert messages.headers().to_pylist() == [[]] * 4


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=8), st.data())
def test_damage_is_found(noise: bytes, data: st.DataObject) -> None:
    raw, _ = fetched([([(0, i, b"key", b"value %d" % i, []) for i in range(20)], 0, 0)])
    at = data.draw(st.integers(61, len(raw) - len(noise)))
    damaged = raw[:at] + noise + raw[at + len(noise) :]
    if damaged != raw:
        with pytest.raises(reasons.CorruptRecordError, match="checksum"):
            unpacked(_Batches, damaged, 100)
    part = _Batches(100, TP, MemoryRecords(damaged), check_crcs=False)
    try:  # without checksums: anything may come, or an error of this kind, but nothing else
        found = Messages(part.take(10))
        found.values().validate(full=True)
        assert len(found) <= 20  # those whose offset became too small count as not asked for
        assert len(found) == 20 or damaged != raw
    except reasons.CorruptRecordError:
        assert damaged != raw


def test_no_messages_make_a_block_with_a_span() -> None:
    block = messages_block("s", 0, Messages(), 5, 9, headers=True)
    assert len(block) == 0
    assert (block.start, block.stop) == (5 * PLACES, 9 * PLACES)
    assert block.batch.schema.names == ["value", "key", "timestamp", "headers"]


def test_what_lies_behind_the_stop_is_left_out() -> None:
    runs, _ = unpacked(_Batches, fetched([([(1, i, None, b"%d" % i, [])] * 4, 0, 0) for i in range(3)])[0], 100)
    messages = Messages(runs)
    assert messages.offsets.tolist() == [101, 103, 105, 107, 109, 111, 113, 115, 117, 119, 121, 123]
    for stop in range(99, 126):
        assert messages.before(stop).offsets.tolist() == [one for one in messages.offsets.tolist() if one < stop]
    assert all(isinstance(run, Run) for run in runs)
