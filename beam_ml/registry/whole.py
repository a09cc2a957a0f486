"""Reading a stored file whole, or not at all."""

import hashlib

from beam_ml.errors import CorruptArtefact, VersionNotFound
from beam_ml.registry.manifest import File
from beam_ml.registry.store import Objects

__all__ = ["whole"]


def whole(objects: Objects, file: File, gone: str, damaged: str) -> bytes:
    """Return a file's bytes, which are those that were written.

    Args:
        objects: where.
        file: its path, size and hash.
        gone: what an error says if it is not there.
        damaged: what one says if it has other bytes.

    Raises:
        VersionNotFound: it is gone.
        CorruptArtefact: it has other bytes.
    """
    data = objects.get(file.path)
    if data is None:
        raise VersionNotFound(gone)
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise CorruptArtefact(damaged)
    return data
