"""Consumers, producers, and what a topic looks like now. The library's errors become ours here.

A consumer belongs to no group and is assigned by hand: read positions are stored in learners and checkpoints, and an
missing offset is an error, never a silent jump.
"""

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.structs import OffsetAndMetadata, TopicPartition

from beam_ml.beam.kafka.connection import Connection, consumer_options, producer_options, refused, translate
from beam_ml.beam.kafka.poll import standing
from beam_ml.beam.kafka.pool import Pool
from beam_ml.beam.kafka.records import use
from beam_ml.errors import BeamMLError, NoInput, SourceRefused, SourceUnavailable

__all__ = [
    "Connection",
    "TopicState",
    "borrowed",
    "commit_lag",
    "consumer",
    "offsets_at",
    "producer",
    "source_name",
    "topic_state",
]

_LOOKS = 4
"""Looks for a topic before it is said not to exist: one made a moment ago is not known to every broker yet."""
_PAUSE_S = 0.1
_CLOSE_S = 5.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class TopicState:
    """A topic now.

    Attributes:
        cluster: id of the cluster.
        starts: partition → first offset that the log still holds.
        ends: partition → offset behind the last message that may be read: for `read_committed` behind the last one
            before the oldest open transaction.
        id: of the topic, another one for each that is made under its name; empty: the brokers do not say.
    """

    cluster: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    id: str = ""

    @property
    def identity(self) -> str:
        """Ids of cluster and topic, `cluster/topic`; empty if unknown."""
        return f"{self.cluster}/{self.id}" if self.id else ""


def consumer(connection: Connection, **overrides: Any) -> KafkaConsumer:
    """Make a consumer of no group, with nothing assigned, whose polls return batches (`records.use`); close it when done.

    Args:
        connection: settings.
        overrides: options of kafka-python that come before all others.

    Raises:
        InvalidValue: options that the library does not take, or a '$NAME' that is not set.
        SourceUnavailable: no broker answers in `timeout_s`.
        SourceRefused: they refuse this user.
    """
    made = _made(KafkaConsumer, connection, {**consumer_options(connection), **overrides})
    use(made)
    return made


def producer(connection: Connection, **overrides: Any) -> KafkaProducer:
    """Make a producer: acknowledged by all replicas, idempotent unless the user's options forbid it.

    Raises:
        InvalidValue, SourceUnavailable: as `consumer`.
    """
    return _made(KafkaProducer, connection, {**producer_options(connection), **overrides})


def _made(kind: Callable[..., Any], connection: Connection, options: dict[str, Any]) -> Any:
    clients: list[KafkaNetClient] = []
    failures: list[Exception] = []

    def client(**configs: Any) -> KafkaNetClient:
        one = KafkaNetClient(**configs)
        # The library does not hand the option down: a look at a topic that is not there would create it.
        one.cluster.config["allow_auto_create_topics"] = bool(options.get("allow_auto_create_topics", False))
        _watch(one._manager, failures)
        clients.append(one)
        return one

    try:
        return kind(**options, kafka_client=client)
    except (KafkaError, ValueError, AssertionError, OSError) as error:
        for one in clients:  # its threads would outlive the failed constructor
            with contextlib.suppress(Exception):
                one.close()
        explained = bool(failures) and (isinstance(error, KafkaTimeoutError) or refused(failures[-1]))
        raise translate(failures[-1] if explained else error, f"Brokers {connection.brokers}") from error


def _watch(manager: Any, failures: list[Exception]) -> None:
    """Note why connections fail, and stop at a refusal: the library would knock again until it is out of time."""
    connect = manager.get_connection

    def get_connection(*where: Any, **how: Any) -> Any:
        if failures and refused(failures[-1]):
            raise failures[-1]
        made = connect(*where, **how)
        if not made.init_future.is_done:
            made.init_future.add_errback(note)
        return made

    def note(error: Exception) -> None:
        # A broker that refuses hangs up, and other connections in the making then only hear that it is gone.
        if not (failures and refused(failures[-1])):
            failures[:] = [error]

    manager.get_connection = get_connection


def _close(one: KafkaConsumer) -> None:
    one.close(autocommit=False, timeout_ms=_CLOSE_S * 1000)


@functools.lru_cache(maxsize=1)
def consumers() -> Pool:
    """Return this process's consumers; `Pool` explains how they are shared."""
    return Pool(_close)


@contextlib.contextmanager
def borrowed(connection: Connection, topic: str, partition: int, offset: int) -> Iterator[KafkaConsumer]:
    """Lend this process's consumer of one partition for a block of code.

    Bundles are many and consumers expensive, so they outlive the steps: each is kept by connection, topic and partition,
    assigned to that partition, and keeps the messages it fetched ahead. One user has it at a time; of several idle ones
    the one at the wanted offset is lent, and only without one must `poll_partition` seek. A block that
    raises closes its consumer; idle ones are closed after a minute and at exit.

    Args:
        connection: settings.
        topic: its name.
        partition: its number.
        offset: where the user is going to resume reading.

    Raises:
        InvalidValue, SourceUnavailable: as `consumer`.
    """
    one = TopicPartition(topic, partition)

    def make() -> KafkaConsumer:
        made = consumer(connection)
        made.assign([one])
        made.seek(one, offset)
        return made

    def stands_there(other: KafkaConsumer) -> bool:
        try:
            return standing(other, one) == offset
        except KafkaError:
            return False

    with consumers().borrowed((connection.to_json(), topic, partition), make, stands_there) as lent:
        yield lent


def source_name(cluster: str, topic: str) -> str:
    """Name a topic as rows' origins do.

    >>> source_name("lkc-1", "payments")
    'kafka://lkc-1/payments'
    """
    return f"kafka://{cluster}/{topic}"


def brokers_of(one: KafkaConsumer) -> str:
    """Name the brokers that a consumer asks, for messages."""
    return ",".join(one.config["bootstrap_servers"])


def topic_state(one: KafkaConsumer, topic: str, timeout_s: float | None = None) -> TopicState:
    """Ask where all partitions of a topic begin and end, those made since the last look included.

    Args:
        one: a consumer; nothing need be assigned to it.
        topic: its name.
        timeout_s: s to wait for an answer; None: as long as the connection says.

    Raises:
        NoInput: there is no such topic, or none that this user may see.
        SourceUnavailable: the brokers do not answer in time.
        SourceRefused: they refuse this user.
    """
    deadline = time.monotonic() + (one.config["bootstrap_timeout_ms"] / 1000 if timeout_s is None else timeout_s)
    where = f"Topic {topic} at {brokers_of(one)}"
    partitions = _partitions(one, topic, where, deadline)
    wanted = [TopicPartition(topic, partition) for partition in sorted(partitions)]
    starts = _asked(functools.partial(one.beginning_offsets, wanted), where, deadline)
    ends = _asked(functools.partial(one.end_offsets, wanted), where, deadline)
    given = one._cluster.topic_id(topic)
    return TopicState(
        one._cluster.cluster_id or "",
        {tp.partition: int(offset) for tp, offset in starts.items()},
        {tp.partition: int(offset) for tp, offset in ends.items()},
        str(given) if given is not None and given.int else "",
    )


def _partitions(one: KafkaConsumer, topic: str, where: str, deadline: float) -> set[int]:
    """Ask for a topic's partitions again: the library's public way asks once, for all topics, and waits forever."""
    cluster = one._cluster
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_S)
        _refresh(one, topic, where, deadline)
        if topic in cluster.unauthorized_topics:
            message = f"{where}: brokers must authorise this user for the topic; they refused."
            raise SourceRefused(message)
        partitions = cluster.partitions_for_topic(topic)
        if partitions:
            return set(partitions)
    cluster._topics.discard(topic)  # or it would be asked for ten times a second from now on
    message = f"{where}: the topic must exist, and this user be allowed to see it; it is not there."
    raise NoInput(message)


def _refresh(one: KafkaConsumer, topic: str, where: str, deadline: float) -> None:
    """Wait for an answer about a topic; retry until the deadline."""
    last: Exception | None = None
    while time.monotonic() < deadline:
        done = threading.Event()
        try:
            one._cluster.add_topic(topic)
        except (TypeError, ValueError) as error:
            message = f"{where}: the topic must have a name that Kafka allows; got {topic!r}."
            raise NoInput(message) from error
        future = one._cluster.request_update()
        future.add_both(lambda _, done=done: done.set())
        if not done.wait(max(0.0, deadline - time.monotonic())):
            break
        last = future.exception
        if last is None or not one._cluster.need_update or _about_topic(last):
            return
        if refused(last):
            raise translate(last, where)
        time.sleep(_PAUSE_S)
    message = f"{where}: brokers must answer in time; they did not."
    raise SourceUnavailable(message) from last


def _about_topic(error: Exception) -> bool:
    """Return whether brokers did answer, about the topic."""
    return isinstance(translate(error, ""), NoInput)


def _asked(ask: Callable[..., Any], where: str, deadline: float) -> Any:
    """Ask for offsets until the deadline."""
    last: Exception | None = None
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            return ask(timeout_ms=max(1, round(left_s * 1000)))
        except KeyError as error:  # how the library says that a partition has no leader
            last = error
        except KafkaError as error:
            if not error.retriable:
                raise translate(error, where) from error
            last = error
        time.sleep(_PAUSE_S)
    message = f"{where}: brokers must report every partition's offsets in time; they did not ({last!r})."
    raise SourceUnavailable(message) from last


def offsets_at(one: KafkaConsumer, topic: str, time_ms: int) -> dict[int, int | None]:
    """Find where each partition's records reach a time.

    Args:
        one: a consumer that has seen the topic (`topic_state`).
        topic: its name.
        time_ms: ms since the epoch.

    Returns:
        partition → first offset whose record is dated then or later; None: no such record yet, or no leader to ask.

    Raises:
        SourceUnavailable: the brokers do not answer in time, or refuse this user.
    """
    deadline = time.monotonic() + one.config["bootstrap_timeout_ms"] / 1000
    where = f"Topic {topic} at {brokers_of(one)}"
    partitions = one._cluster.partitions_for_topic(topic) or _partitions(one, topic, where, deadline)
    wanted = {TopicPartition(topic, partition): max(0, time_ms) for partition in sorted(partitions)}
    found = _asked(functools.partial(one.offsets_for_times, wanted), where, deadline)
    return {tp.partition: None if at is None else int(at.offset) for tp, at in found.items()}


def commit_lag(connection: Connection, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Commit offsets in a group's name, for those who watch its lag; reading never resumes from them.

    A failure is only warned of.

    Args:
        connection: settings.
        group: the consumer group; it must have no members of its own.
        topic: its name.
        offsets: partition → next offset to be read.
    """
    if not offsets:
        return
    marks = {TopicPartition(topic, p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
    wait_ms = min(connection.timeout_s, 10.0) * 1000
    make = functools.partial(consumer, connection, group_id=group, bootstrap_timeout_ms=wait_ms)
    try:
        with consumers().borrowed((connection.to_json(), "group", group), make) as lent:
            lent.commit(marks, timeout_ms=wait_ms)
    except (BeamMLError, KafkaError) as error:
        _log.warning("group %s at %s: its lag could not be shown (%s).", group, connection.brokers, error)
