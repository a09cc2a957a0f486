"""Walks over a name's versions, newest first: each ends, whatever the registry's JSON says.

A number is tried because the one above it was, or because there is a folder of it: a gap is crossed by one listing, so
that the steps are as many as the versions, not as large as a number that somebody wrote.
"""

import bisect
import logging
import re
from collections.abc import Iterator

from beam_ml.errors import CorruptArtefact, VersionNotFound
from beam_ml.registry.manifest import Manifest
from beam_ml.registry.pin import read_pin
from beam_ml.registry.publishing import read_manifest
from beam_ml.registry.store import Objects

__all__ = ["DAMAGE", "accepted", "descending", "numbers", "served"]

LOGGER = logging.getLogger("beam_ml.registry")
DAMAGE = (CorruptArtefact, VersionNotFound)
"""What makes a reader step back to an earlier version; a store that cannot be reached does not."""
_FOLDER = re.compile(r"v([1-9]\d{0,17})")


def numbers(objects: Objects, name: str) -> list[int]:
    """Return the numbers that have a folder, ascending."""
    matches = (_FOLDER.fullmatch(folder) for folder in objects.folders(name))
    return sorted(int(match[1]) for match in matches if match)


class _Steps:
    """Reads manifests of falling numbers."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects, self._name = objects, name
        self._known: list[int] | None = None

    def read(self, number: int) -> Manifest | None:
        """Return a manifest; None: it is damaged, or missing."""
        try:
            return read_manifest(self._objects, self._name, number)
        except DAMAGE as error:
            LOGGER.warning("Version skipped: %s", error)
            if isinstance(error, VersionNotFound) and self._known is None:
                self._known = numbers(self._objects, self._name)
            return None

    def below(self, number: int) -> int:
        """Return the next number to try below one; 0: there is none."""
        if self._known is None:
            return number - 1
        at = bisect.bisect_left(self._known, number)
        return self._known[at - 1] if at else 0


def descending(objects: Objects, name: str, head: int, above: int = 0) -> Iterator[Manifest]:
    """Return the manifests that are readable, from `head` down to just above `above`."""
    steps, number = _Steps(objects, name), head
    while number > above:
        manifest = steps.read(number)
        if manifest is not None:
            yield manifest
        number = steps.below(number)


def accepted(objects: Objects, name: str, head: int, above: int = 0) -> Iterator[Manifest]:
    """Return the manifests of accepted versions, newest first, jumping over runs of refused ones."""
    steps, number = _Steps(objects, name), head
    while number > above:
        manifest = steps.read(number)
        if manifest is None or manifest.verdict.accepted:
            if manifest is not None:
                yield manifest
            number = steps.below(number)
        else:
            number = manifest.last_accepted or 0  # of a refused version it is below the version's own number


def served(objects: Objects, name: str, head: int) -> Iterator[Manifest]:
    """Return the served version's manifest, then those to step back to.

    From a pinned version readers step to older ones, which a person had before that choice, and then to the newest.
    """
    pinned = read_pin(objects, name)
    if pinned is not None:
        manifest = _Steps(objects, name).read(pinned)
        if manifest is not None:
            yield manifest
        yield from accepted(objects, name, min(pinned - 1, head))
    yield from accepted(objects, name, head, pinned or 0)
