"""The steps that make a version: its payloads, then in one exclusive create the manifest that makes it exist."""

import contextlib
from collections.abc import Iterator, Mapping

from beam_ml.errors import CorruptArtefact, HeadMoved, PublishFailed, RegistryError, VersionNotFound
from beam_ml.registry.manifest import Manifest, manifest_path, parse_manifest, write_manifest
from beam_ml.registry.store import STORE_ERRORS, Objects, reason

__all__ = ["own_version", "publishing", "read_manifest", "write_version"]


@contextlib.contextmanager
def publishing(what: str, objects: Objects) -> Iterator[None]:
    """Turn a store's failure, to read or to write, into PublishFailed; other errors pass.

    Raises:
        PublishFailed: the store failed; its error is the cause.
    """
    try:
        yield
    except STORE_ERRORS as error:
        message = f"{what} into the registry at {objects.where} failed: {reason(error)}."
        raise PublishFailed(message) from error
    except RegistryError as error:
        if type(error) is not RegistryError:
            raise
        message = f"{what} failed. {error}"
        raise PublishFailed(message) from error.__cause__


def read_manifest(objects: Objects, name: str, number: int) -> Manifest:
    """Return a version's manifest.

    Raises:
        VersionNotFound: no such version.
        CorruptArtefact, UnsupportedVersion: it is damaged, or of a newer format.
    """
    path = manifest_path(name, number)
    data = objects.get(path)
    if data is None:
        message = f"{name} has no version {number} in the registry at {objects.where}."
        raise VersionNotFound(message)
    manifest = parse_manifest(data, path)
    if (manifest.name, manifest.number) != (name, number):
        message = f"The manifest {path} is of {manifest.name} version {manifest.number}: it was copied there."
        raise CorruptArtefact(message)
    return manifest


def own_version(objects: Objects, name: str, number: int, round_id: str) -> Manifest | None:
    """Return the version if this round has made it, else None.

    Raises:
        HeadMoved: another trainer has published it.
    """
    try:
        manifest = read_manifest(objects, name, number)
    except VersionNotFound:
        return None
    except CorruptArtefact as error:
        message = f"{name} version {number} exists already and is damaged: the head has moved."
        raise HeadMoved(message) from error
    if manifest.round_id != round_id:
        message = f"{name} version {number} was published first by round {manifest.round_id}: the head has moved."
        raise HeadMoved(message)
    return manifest


def write_version(
    objects: Objects, manifest: Manifest, payloads: Mapping[str, bytes], beside: Mapping[str, bytes]
) -> Manifest:
    """Write payloads, files beside the versions (path → bytes) and the manifest; return the version.

    An earlier attempt of the same round may have made it.

    A write whose answer was lost may have succeeded: the manifest that is there then decides.

    Raises:
        HeadMoved: another trainer has published the number first.
    """
    failure: Exception = FileExistsError("the number was taken, and its manifest then removed by hand")
    try:
        for what, data in payloads.items():
            objects.put(manifest.files[what].path, data)
        for path, data in beside.items():
            objects.put(path, data)
        if objects.create(manifest_path(manifest.name, manifest.number), write_manifest(manifest)):
            return manifest
    except STORE_ERRORS as error:
        failure = error
    try:
        own = own_version(objects, manifest.name, manifest.number, manifest.round_id)
    except RegistryError as second:
        if isinstance(second, HeadMoved):
            raise
        own = None
    if own is None:
        raise failure
    return own
