"""What messages never show: values of settings whose names speak of secrets, and passwords in URLs."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from beam_ml.errors import InvalidValue

__all__ = ["brokers", "has_password", "is_secret", "shown"]

_NAMES = re.compile(r"passw|secret|token|credential|api_?key|access_?key|private", re.IGNORECASE)
_IN_URL = re.compile(r"(?<=://)[^/@\s'\"]*:[^/\s'\"]*(?=@)")
_HIDDEN = "(not shown)"


def is_secret(names: Iterable[object]) -> bool:
    """Return whether one of a setting's names speaks of a secret.

    >>> is_secret(("source", "client", "sasl_plain_password"))
    True
    """
    return any(_NAMES.search(str(name)) for name in names)


def has_password(url: str) -> bool:
    """Return whether a URL holds a user and password.

    >>> has_password("s3://me:hunter2@bucket"), has_password("s3://bucket/a:b")
    (True, False)
    """
    return _IN_URL.search(url) is not None


def brokers(text: str) -> str:
    """Return addresses of brokers, if no user and password stand before them: messages show the addresses.

    Raises:
        InvalidValue: they do.

    >>> brokers("a:9092,b:9092")
    'a:9092,b:9092'
    """
    if "@" in text:
        message = (
            f"brokers must be host:port, several by commas, without a user and password; got "
            f"{'***@' + text.rpartition('@')[2]!r} (options of client name them, as sasl_plain_password = '$NAME' of the "
            "environment)."
        )
        raise InvalidValue(message)
    return text


def shown(value: Any, names: Iterable[object] = ()) -> str:
    """Return a value as messages show it.

    Args:
        value: what was given.
        names: of the setting, from the outside in.

    >>> shown({"client": {"sasl_plain_password": "hunter2", "acks": 1}})
    "{'client': {'sasl_plain_password': (not shown), 'acks': 1}}"
    """
    if is_secret(names):
        return _HIDDEN
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key!r}: {shown(one, (key,))}" for key, one in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    return _IN_URL.sub("***", repr(value))
