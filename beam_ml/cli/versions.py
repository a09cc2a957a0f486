"""Names, versions and learners as the commands take them."""

import re

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_learner
from beam_ml.cli.group import algorithms_named
from beam_ml.core.learner import Learner
from beam_ml.core.meant import did_you_mean
from beam_ml.errors import InvalidValue, VersionNotFound
from beam_ml.registry import Manifest, Registry

__all__ = ["known_name", "learner_of", "manifest_of", "number_of", "open_registry"]

_NUMBER = re.compile(r"v?[1-9][0-9]{0,15}")


def open_registry(url: str) -> Registry:
    """Open a registry that is there."""
    return Registry(url, create=False)


def known_name(registry: Registry, name: str) -> str:
    """Return a name that has a version in the registry.

    Raises:
        VersionNotFound: it has none; the sentence names those that have.
    """
    if registry.head_number(name):
        return name
    names = registry.names()
    meant = did_you_mean(name, names) or f" Its names: {', '.join(names) or 'none yet'}."
    message = f"The registry has no version of {name}.{meant}"
    raise VersionNotFound(message)


def number_of(text: str | None) -> int | None:
    """Read ``v12`` or ``12``.

    >>> number_of("v12"), number_of(None)
    (12, None)
    """
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        message = f"version must be a number such as 12 or v12; got {text!r}."
        raise InvalidValue(message)
    return int(text.removeprefix("v"))


def manifest_of(registry: Registry, name: str, version: str | None) -> Manifest:
    """Return the manifest of a version; None: of the newest."""
    head = registry.head_number(known_name(registry, name))
    return registry.manifest(name, number_of(version) or head)


def learner_of(url: str, name: str, version: str | None) -> tuple[Manifest, Learner]:
    """Return a stored learner and its manifest."""
    store = open_registry(url)
    manifest = manifest_of(store, name, version)
    return manifest, decode_learner(store.read(name, manifest.number), finder(algorithms_named()))
