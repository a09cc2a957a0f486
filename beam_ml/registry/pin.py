"""`serving.json`: the version that a person has pinned. Where there is none, the newest accepted version is served."""

import json
import logging

from beam_ml.registry.store import Objects

__all__ = ["read_pin", "write_pin"]

LOGGER = logging.getLogger("beam_ml.registry")


def _path(name: str) -> str:
    return f"{name}/serving.json"


def read_pin(objects: Objects, name: str) -> int | None:
    """Return the pinned number; None if nothing is pinned. A damaged file counts as no pin, with a warning."""
    data = objects.get(_path(name))
    if data is None:
        return None
    try:
        number = json.loads(data)["pinned"]
        if number is None or (isinstance(number, int) and not isinstance(number, bool) and number >= 1):
            return number
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    LOGGER.warning("The pin %s is damaged; the newest accepted version is served.", _path(name))
    return None


def write_pin(objects: Objects, name: str, number: int | None, since: str) -> None:
    """Pin a version, or None: unpin; one atomic write."""
    objects.put(_path(name), (json.dumps({"pinned": number, "since": since}) + "\n").encode())
