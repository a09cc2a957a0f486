"""How brokers are reached: settings as data, secrets by name, and what the library's errors mean."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, Literal

import kafka.errors as reasons
from kafka import KafkaConsumer, KafkaProducer

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.core import secrets
from beam_ml.core.spec import canonical_json
from beam_ml.errors import BeamMLError, InvalidValue, NoInput, SourceRefused, SourceUnavailable, UnreadableInput

__all__ = ["Connection", "consumer_options", "producer_options", "refused", "resolve", "said", "translate"]

Option = str | int | float | bool

_CONSUMER, _PRODUCER = frozenset(KafkaConsumer.DEFAULT_CONFIG), frozenset(KafkaProducer.DEFAULT_CONFIG)

_RESERVED = frozenset(
    {
        "acks", "auto_offset_reset", "bootstrap_servers", "enable_auto_commit", "group_id", "group_instance_id",
        "isolation_level", "key_deserializer", "key_serializer", "transactional_id", "value_deserializer",
        "value_serializer",
    }
)  # fmt: skip
"""Options that exactness hangs on: they are not the user's."""

_RECONNECT_MS = 1000
"""The library's own 30 s would keep a reader waiting long after its broker is back."""
_FETCH_BYTES = 4 << 20
_LINGER_MS = 5
_FETCH_WAIT_MS = 100
"""How long a broker holds an empty answer back, and so how long a seek at a topic's end may take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a cluster, without any secret in it: it travels in pipelines.

    Attributes:
        brokers: host:port, several by commas.
        client: options of kafka-python; '$NAME' is read from the environment of the process that connects, '$$'
            begins a text with a dollar sign.
        isolation: `read_committed` or `read_uncommitted`.
        timeout_s: s to wait for brokers before it is an error.

    >>> Connection.parse(Connection("a:9092", {"security_protocol": "SSL"}).to_json()).brokers
    'a:9092'
    """

    brokers: str
    client: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        secrets.brokers(self.brokers)

    @classmethod
    def of(cls, source: KafkaSource) -> "Connection":
        """Return the connection of a job's source."""
        return cls(source.brokers, dict(source.client), source.isolation, source.timeout)

    def to_json(self) -> str:
        """Return it as JSON with sorted keys: equal settings yield equal text."""
        return canonical_json(
            {
                "brokers": self.brokers,
                "client": dict(self.client),
                "isolation": self.isolation,
                "timeout_s": self.timeout_s,
            }
        )

    @classmethod
    def parse(cls, text: str) -> "Connection":
        """Read the JSON of `to_json`."""
        return cls(**json.loads(text))


def resolve(options: Mapping[str, Option]) -> dict[str, Option]:
    """Put the environment's values in for '$NAME'.

    Raises:
        InvalidValue: the environment has no such variable.

    >>> resolve({"client_id": "trainer", "sasl_plain_username": "$$me"})
    {'client_id': 'trainer', 'sasl_plain_username': '$me'}
    """
    return {name: _value(name, value) for name, value in options.items()}


def _value(name: str, value: Option) -> Option:
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    if value.startswith("$$"):
        return value[1:]
    found = os.environ.get(value[1:])
    if found is None:
        # A password may begin with a dollar sign: what was given is not shown.
        shown = "one" if "password" in name or "secret" in name else repr(value)
        message = (
            f"source.client.{name} must name a variable of the process's environment; got {shown} that is not set ('$$' "
            "begins a text with a dollar sign)."
        )
        raise InvalidValue(message)
    return found


def _given(connection: Connection, mine: frozenset[str]) -> dict[str, Option]:
    """Return the user's options that this kind of client knows."""
    for name in connection.client:
        if name in _RESERVED:
            message = f"source.client must leave {name!r} to beam_ml; got {sorted(connection.client)}."
            raise InvalidValue(message)
        if name not in _CONSUMER | _PRODUCER:
            message = f"source.client must hold options of kafka-python only; got {name!r}."
            raise InvalidValue(message)
    return resolve({name: value for name, value in connection.client.items() if name in mine})


def _common(connection: Connection) -> dict[str, Any]:
    wait_ms = max(1, round(connection.timeout_s * 1000))
    return {
        "bootstrap_timeout_ms": wait_ms,
        "request_timeout_ms": min(30_000, max(2 * _FETCH_WAIT_MS, wait_ms)),
        "reconnect_backoff_max_ms": _RECONNECT_MS,
        "metrics_enabled": False,
    }


def consumer_options(connection: Connection) -> dict[str, Any]:
    """Return the options of a consumer that is assigned by hand and never commits or resets by itself."""
    return {
        **_common(connection),
        "max_partition_fetch_bytes": _FETCH_BYTES,
        "fetch_max_wait_ms": _FETCH_WAIT_MS,
        **_given(connection, _CONSUMER),
        "bootstrap_servers": connection.brokers.split(","),
        "isolation_level": connection.isolation,
        "auto_offset_reset": "none",
        "enable_auto_commit": False,
    }


def producer_options(connection: Connection) -> dict[str, Any]:
    """Return the options of a producer whose writes are acknowledged by all replicas, and retried without repeats."""
    wait_ms = max(1, round(connection.timeout_s * 1000))
    return {
        **_common(connection),
        "max_block_ms": wait_ms,
        "delivery_timeout_ms": max(wait_ms, 4 * _LINGER_MS),
        "request_timeout_ms": max(_LINGER_MS, min(30_000, wait_ms // 2)),
        "linger_ms": _LINGER_MS,
        "batch_size": 256 << 10,
        "max_request_size": 8 << 20,
        **_given(connection, _PRODUCER),
        "bootstrap_servers": connection.brokers.split(","),
        "acks": "all",
    }


_REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (reasons.SaslAuthenticationFailedError, "must accept the user and password given"),
    (reasons.UnsupportedSaslMechanismError, "must offer the sasl_mechanism given"),
    (reasons.TopicAuthorizationFailedError, "must authorise this user for the topic"),
    (reasons.GroupAuthorizationFailedError, "must authorise this user for the consumer group"),
    (reasons.AuthorizationError, "must authorise this user"),
)


def refused(error: Exception) -> bool:
    """Return whether brokers answered that this user may not: to wait would change nothing."""
    return isinstance(error, tuple(kind for kind, _ in _REFUSALS))


def translate(error: Exception, where: str) -> BeamMLError:
    """Say what an error of the library means.

    Args:
        error: as it was caught.
        where: what was asked for: brokers, topic, partition.

    Returns:
        The error to raise.
    """
    for kind, rule in _REFUSALS:
        if isinstance(error, kind):
            return SourceRefused(f"{where}: brokers {rule}; they refused ({said(error)}).")
    if isinstance(error, reasons.UnknownTopicOrPartitionError | reasons.InvalidTopicError):
        return NoInput(f"{where}: the topic must exist, and this user be allowed to see it; it is not there.")
    if isinstance(error, reasons.CorruptRecordError | reasons.UnsupportedCodecError):
        return UnreadableInput(f"{where}: messages must be whole and of a known compression; got {said(error)}.")
    if isinstance(error, reasons.KafkaConfigurationError | reasons.IllegalArgumentError | ValueError | AssertionError):
        return InvalidValue(f"source.client must hold options that kafka-python accepts; got {said(error)}.")
    return SourceUnavailable(f"{where}: brokers must answer; got {said(error)}.")


def said(error: Exception) -> str:
    """Return an error of the library as one phrase: its class and the beginning of its words.

    >>> said(reasons.KafkaTimeoutError("no answer."))
    'KafkaTimeoutError: no answer'
    """
    text = " ".join(str(error).split()).rstrip(".")
    name = type(error).__name__
    return text[:300] if name in text else f"{name}: {text}"[:300] if text else name
