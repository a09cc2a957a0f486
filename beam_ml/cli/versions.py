"""Names, versions and learners as the commands take them."""

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.core.learner import Learner
from beam_ml.errors import InvalidValue, VersionNotFound
from beam_ml.registry import Manifest, Registry

__all__ = ["learner_of", "manifest_of", "number_of", "open_registry"]


def open_registry(url: str) -> Registry:
    """Open a registry that is there."""
    return Registry(url, create=False)


def number_of(text: str | None) -> int | None:
    """Read ``v12`` or ``12``.

    >>> number_of("v12"), number_of(None)
    (12, None)
    """
    if text is None:
        return None
    digits = text.removeprefix("v")
    if not digits.isdigit():
        message = f"version must be a number such as 12 or v12; got {text!r}."
        raise InvalidValue(message)
    return int(digits)


def manifest_of(registry: Registry, name: str, version: str | None) -> Manifest:
    """Return the manifest of a version; None: of the newest."""
    number = number_of(version)
    found = registry.head(name) if number is None else registry.manifest(name, number)
    if found is None:
        message = f"The registry has no version of {name}."
        raise VersionNotFound(message)
    return found


def learner_of(url: str, name: str, version: str | None) -> tuple[Manifest, Learner]:
    """Return a stored learner and its manifest."""
    store = open_registry(url)
    manifest = manifest_of(store, name, version)
    return manifest, decode_learner(store.read(name, manifest.number), find)
