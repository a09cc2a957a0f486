"""A name's ledger: what each closed window was learned from, kept beside the versions.

::

    <root>/<name>/ledger/<start>-<end>-<sha256>.safetensors   a window's accumulation, or several windows' merged
                         index-<sha256>.json                  what there is; a version's manifest names one

Files first, then the index, then the manifest that names it: until then nothing of them counts, and from then on all does.
A file is never changed; the next version's index names it again. Times are µs since the epoch.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from beam_ml.core.spec import Settings, canonical_json
from beam_ml.errors import CorruptArtefact, InvalidValue, UnsupportedVersion, VersionNotFound
from beam_ml.registry.manifest import File, Manifest, ledger_path
from beam_ml.registry.store import Objects
from beam_ml.registry.whole import whole

__all__ = ["Index", "Kept", "Window", "index_of", "named_files", "read_index", "read_window", "window_of"]

LOGGER = logging.getLogger("beam_ml.registry")


class Window(Settings):
    """One file of the ledger.

    Attributes:
        start, end: of its span, µs.
        windows: how many closed windows are merged in it; 1: it is one.
        rows: learned from.
        file: where, with its digest and size.
    """

    start: int
    end: int
    windows: Annotated[int, Field(ge=1)] = 1
    rows: Annotated[int, Field(ge=0)]
    file: File


class Index(Settings):
    """What a ledger holds as of one version.

    Attributes:
        fingerprint: of the spec that all of it is of.
        size: length of a window, µs.
        through: end of the last window folded, µs.
        since: what ends at or before this time may have been removed, µs; None: nothing has.
        windows: by start, the longest first.
    """

    format: Literal[1] = 1
    fingerprint: str
    size: Annotated[int, Field(ge=1)]
    through: int
    since: int | None = None
    windows: tuple[Window, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of all its files."""
        return sum(window.file.bytes for window in self.windows)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a publish adds to the ledger.

    Attributes:
        index: the file of the index that the version names.
        files: path → bytes of what is new, the index among it.
        content: what the index holds; None: what it held before.
    """

    index: File
    files: Mapping[str, bytes] = field(default_factory=dict)
    content: Index | None = None


def window_of(name: str, span: tuple[int, int], windows: int, rows: int, data: bytes) -> Window:
    """Return the entry of a window's bytes."""
    digest = hashlib.sha256(data).hexdigest()
    path = ledger_path(name, f"{span[0]}-{span[1]}-{digest}.safetensors")
    return Window(
        start=span[0], end=span[1], windows=windows, rows=rows, file=File(path=path, sha256=digest, bytes=len(data))
    )


def index_of(name: str, index: Index) -> tuple[File, bytes]:
    """Return where an index goes, and its bytes."""
    data = (canonical_json(index.to_dict()) + "\n").encode()
    digest = hashlib.sha256(data).hexdigest()
    return File(path=ledger_path(name, f"index-{digest}.json"), sha256=digest, bytes=len(data)), data


def read_index(objects: Objects, manifest: Manifest) -> Index:
    """Return the index that a version names.

    Raises:
        VersionNotFound: the version has no ledger, or its index is gone.
        CorruptArtefact, UnsupportedVersion: the index is damaged, or of a newer format.
    """
    try:
        return Index.parse(_index_json(objects, manifest))
    except (ValueError, InvalidValue, RecursionError) as error:
        raise _unknown(manifest, error) from error


def _index_json(objects: Objects, manifest: Manifest) -> Any:
    title = f"{manifest.name} version {manifest.number}"
    if manifest.ledger is None:
        message = f"{title} has no ledger: it was trained without [ledger] in its job."
        raise VersionNotFound(message)
    data = _whole(objects, manifest.ledger, f"the ledger's index of {title}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unknown(manifest, error) from error


def _unknown(manifest: Manifest, error: Exception) -> UnsupportedVersion:
    path = "" if manifest.ledger is None else manifest.ledger.path
    return UnsupportedVersion(f"The ledger's index {path} holds what this library does not know: {error}")


def read_window(objects: Objects, window: Window) -> bytes:
    """Return a window's bytes, their SHA-256 verified.

    Raises:
        VersionNotFound: the file is gone.
        CorruptArtefact: it is damaged.
    """
    return _whole(objects, window.file, "a window of the ledger")


def _whole(objects: Objects, file: File, what: str) -> bytes:
    gone = f"The registry at {objects.where} no longer has {file.path}, {what}."
    return whole(objects, file, gone, f"{file.path}, {what}, is damaged: its bytes do not match their SHA-256.")


def named_files(objects: Objects, manifests: Iterable[Manifest]) -> set[str] | None:
    """Return the files that the ledgers of some versions name; None: one cannot be read, so that it is not known."""
    named: set[str] = set()
    for path, manifest in {one.ledger.path: one for one in manifests if one.ledger is not None}.items():
        named.add(path)
        try:
            named.update(_paths_in(objects, manifest))
        except (VersionNotFound, CorruptArtefact, UnsupportedVersion) as error:
            LOGGER.warning("The ledger is not tidied: %s", error)
            return None
    return named


def _paths_in(objects: Objects, manifest: Manifest) -> list[str]:
    """Return the files of a version's ledger; each index names nearly the same, so that no entry is parsed for that."""
    index = _index_json(objects, manifest)
    try:
        if index["format"] == 1:
            return [window["file"]["path"] for window in index["windows"]]
    except (TypeError, KeyError):
        pass
    return [window.file.path for window in read_index(objects, manifest).windows]
