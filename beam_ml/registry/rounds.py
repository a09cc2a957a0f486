"""Files of a round, under ``<name>/rounds/<round id>/``: what its workers wrote, before a version makes it count."""

import uuid
from collections.abc import Iterable

from beam_ml.errors import VersionNotFound
from beam_ml.registry.naming import check_name
from beam_ml.registry.publishing import publishing
from beam_ml.registry.registry import Registry

__all__ = ["drop_round", "new_round_id", "put_round", "read_round", "round_files"]


def new_round_id(head: int) -> str:
    """Return an id for an attempt to publish on top of version `head` (0: nothing yet).

    It begins with the number that the attempt is for: `sweep` looks at that version to tell what became of it.
    """
    return f"{head + 1}-{uuid.uuid4().hex}"


def put_round(registry: Registry, name: str, round_id: str, file: str, data: bytes) -> str:
    """Write a file of a round whole or not at all, in the place of an earlier attempt's; return its path.

    Args:
        registry: where.
        name: the learner's.
        round_id: of the round.
        file: its name; may lie in folders.
        data: its bytes.

    Raises:
        PublishFailed: the store refused the write.
    """
    path = _path(name, round_id, file)
    with publishing(f"Writing {path}", registry.objects):
        registry.objects.put(path, data)
    return path


def read_round(registry: Registry, name: str, round_id: str, file: str) -> bytes:
    """Return a file of a round.

    Raises:
        VersionNotFound: there is no such file.
    """
    path = _path(name, round_id, file)
    data = registry.objects.get(path)
    if data is None:
        message = f"The registry at {registry.objects.where} has no {path}."
        raise VersionNotFound(message)
    return data


def round_files(registry: Registry, name: str, round_id: str) -> list[str]:
    """Return the files of a round, sorted."""
    prefix = _path(name, round_id)
    return [stat.path[len(prefix) + 1 :] for stat in registry.objects.walk(prefix)]


def drop_round(registry: Registry, name: str, round_id: str, files: Iterable[str]) -> None:
    """Remove files of a round; those that are not there are passed over."""
    registry.objects.delete([_path(name, round_id, file) for file in files])


def _path(name: str, round_id: str, file: str | None = None) -> str:
    folder = f"{check_name('name', name)}/rounds/{check_name('round_id', round_id)}"
    return folder if file is None else f"{folder}/{check_name('file', file, nested=True)}"
