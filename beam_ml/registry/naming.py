"""Names that are safe as one segment of a path on every store."""

import re

from beam_ml.errors import InvalidValue

__all__ = ["LONGEST_NAME", "check_name", "is_name"]

LONGEST_NAME = 200
"""Letters of a name: a folder of it, or a file with some letters more, must have a place on every store."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def is_name(text: str) -> bool:
    """Return whether it is a plain path segment.

    >>> is_name("fraud-eu.2"), is_name("../x"), is_name("")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None


def check_name(what: str, text: str, *, nested: bool = False) -> str:
    """Return the text back if it is a plain path segment (nested: several, parted by slashes).

    Raises:
        InvalidValue: it is not.
    """
    if not all(is_name(part) for part in (text.split("/") if nested else [text])):
        message = f"{what} must be made of letters, digits, '.', '_' and '-', and not begin with '.'; got {text!r}."
        raise InvalidValue(message)
    return text
