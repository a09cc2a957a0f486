"""A name's ledger: what each closed window was learned from, kept beside the versions.

::

    <root>/<name>/ledger/<start>-<end>-<sha256>.safetensors   a window's accumulation, or several windows' merged
                         entries-<sha256>.json                what some of these files are: written once, never changed
                         index-<sha256>.json                  what there is: the newest entries, and which files of entries
                                                              hold the others; a version's manifest names one

Files first, then the index, then the manifest that names it: until then nothing of them counts, and from then on all does.
A file is never changed; the next version's index names it again. Entries are sealed by the 64, and 16 files of them become
one, so that an index of n entries names some log(n) files, and a publish writes what is new. Times are µs since the epoch.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from beam_ml.core.spec import Settings, canonical_json
from beam_ml.errors import CorruptArtefact, InvalidValue, UnsupportedVersion, VersionNotFound
from beam_ml.registry.manifest import File, Manifest, Sha256, ledger_path
from beam_ml.registry.store import Objects
from beam_ml.registry.whole import whole

__all__ = [
    "Index", "Kept", "Sealed", "Window", "entries_in", "index_of", "left_of", "named_files", "place_of", "read_index",
    "read_window", "window_of",
]  # fmt: skip

LOGGER = logging.getLogger("beam_ml.registry")
_SEALED, _JOINED = 64, 16
"""Entries in the smallest file of entries, and how many files of one size become one."""


@dataclass(frozen=True, slots=True)
class Window:
    """One file of the ledger.

    Attributes:
        start, end: of its span, µs.
        windows: how many closed windows are merged in it; 1: it is one.
        rows: learned from.
        file: where, with its digest and size.
    """

    start: int
    end: int
    windows: int
    rows: int
    file: File


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file of entries.

    Attributes:
        file: where, with its digest and size.
        until: no entry in it ends later, µs.
        windows: its entries, those that are kept no longer among them.
    """

    file: File
    until: int
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """What a ledger holds as of one version.

    Attributes:
        fingerprint: of the spec that all of it is of.
        size: length of a window, µs.
        through: end of the last window folded, µs.
        since: what ends at or before this time may have been removed, µs; None: nothing has.
        kept_from: what ends at or before this time is kept no longer, µs; None: all is.
        fine_from: what lies within a longer span that ended at or before this time is kept no longer, µs; None: all is.
        rules: by which it is kept, as JSON values.
        removed: digests of the rows that were removed.
        windows: by start, the longest first.
        sealed: files of entries; those of `windows` in none of them are `fresh`, and stand in the index itself.
        fresh: in order of their publishes.
    """

    fingerprint: str
    size: int
    through: int
    since: int | None = None
    kept_from: int | None = None
    fine_from: int | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    sealed: tuple[Sealed, ...] = ()
    fresh: tuple[Window, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of all its windows' files."""
        return sum(window.file.bytes for window in self.windows)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a publish adds to the ledger.

    Attributes:
        index: the file of the index that the version names.
        files: path → bytes of what is new, the index among it.
        content: what the index holds; None: what it held before.
        facts: what the version's manifest says of the windows besides.
    """

    index: File
    files: Mapping[str, bytes] = field(default_factory=dict)
    content: Index | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


_Row = tuple[int, int, Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0)], Sha256, Annotated[int, Field(ge=0)]]
"""start, end, windows, rows, sha256 and bytes of an entry: its path follows from them."""


class _Entries(Settings):
    """A file of entries as it is stored."""

    format: Literal[1] = 1
    windows: tuple[_Row, ...]


class _SealedFile(Settings):
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    until: int
    windows: Annotated[int, Field(ge=1)]


class _IndexFile(Settings):
    """An index as it is stored."""

    format: Literal[1] = 1
    fingerprint: str
    size: Annotated[int, Field(ge=1)]
    through: int
    since: int | None = None
    kept_from: int | None = None
    fine_from: int | None = None
    rules: dict[str, Any] = Field(default_factory=dict)
    removed: tuple[Sha256, ...] = ()
    sealed: tuple[_SealedFile, ...] = ()
    windows: tuple[_Row, ...] = ()


def place_of(window: Window) -> tuple[int, int]:
    """Return what entries are ordered by: the start, and of one start the longest first."""
    return window.start, -window.end


def window_of(name: str, span: tuple[int, int], windows: int, rows: int, data: bytes) -> Window:
    """Return the entry of a window's bytes."""
    return _window(name, (*span, windows, rows, hashlib.sha256(data).hexdigest(), len(data)))


def _window(name: str, row: _Row) -> Window:
    start, end, windows, rows, digest, n_bytes = row
    path = ledger_path(name, f"{start}-{end}-{digest}.safetensors")
    return Window(start, end, windows, rows, File(path=path, sha256=digest, bytes=n_bytes))


def _row(window: Window) -> list[Any]:
    return [window.start, window.end, window.windows, window.rows, window.file.sha256, window.file.bytes]


def left_of(windows: Sequence[Window], kept_from: int | None, fine_from: int | None) -> tuple[Window, ...]:
    """Return the entries that are kept: a span stays whole until all of it is too old.

    Args:
        windows: by start, the longest first.
        kept_from: see `Index`.
        fine_from: see `Index`.
    """
    if kept_from is not None:
        windows = [one for one in windows if one.end > kept_from]
    if fine_from is not None:
        outer: list[Window] = []
        within = -(2**63)
        for one in windows:
            if one.end > within:
                outer.append(one)
            if one.end <= fine_from:
                within = max(within, one.end)
        windows = outer
    return tuple(windows)


def index_of(name: str, index: Index) -> tuple[File, dict[str, bytes], Index]:
    """Return where an index goes, path → bytes of it and of the entries that are sealed now, and the index with these."""
    kept_from = index.kept_from
    sealed = [one for one in index.sealed if kept_from is None or one.until > kept_from]
    fresh, files = index.fresh, {}
    while len(fresh) >= _SEALED:
        size = _SEALED
        while len(fresh) >= size * _JOINED:
            size *= _JOINED
        chunk, fresh = fresh[:size], fresh[size:]
        # Files of one size are joined before they are written.
        while len(same := sealed[-(_JOINED - 1) :]) == _JOINED - 1 and {_level(one) for one in same} == {
            _level_of(len(chunk))
        }:
            sealed = sealed[: -len(same)]
            chunk = _alive(index, tuple(window for one in same for window in one.windows)) + chunk
        made, data = _sealed_of(name, chunk)
        files[made.file.path] = data
        sealed.append(made)
    named = {one.file.path for one in sealed}
    stored = _IndexFile(
        fingerprint=index.fingerprint, size=index.size, through=index.through, since=index.since, kept_from=kept_from,
        fine_from=index.fine_from, rules=dict(index.rules), removed=index.removed,
    ).to_dict()  # fmt: skip
    stored["sealed"] = [
        {"sha256": one.file.sha256, "bytes": one.file.bytes, "until": one.until, "windows": len(one.windows)}
        for one in sealed
    ]
    stored["windows"] = [_row(one) for one in fresh]
    data = (canonical_json(stored) + "\n").encode()
    digest = hashlib.sha256(data).hexdigest()
    file = File(path=ledger_path(name, f"index-{digest}.json"), sha256=digest, bytes=len(data))
    files = {path: one for path, one in files.items() if path in named}
    return file, {**files, file.path: data}, replace(index, sealed=tuple(sealed), fresh=fresh)


def _alive(index: Index, windows: tuple[Window, ...]) -> tuple[Window, ...]:
    """Leave out what is kept no longer, where that is not the oldest alone."""
    if index.fine_from is None:
        return windows
    named = {one.file.path for one in index.windows}
    return tuple(one for one in windows if one.file.path in named)


def _level(one: Sealed) -> int:
    return _level_of(len(one.windows))


def _level_of(entries: int) -> int:
    level = 0
    while entries >= _SEALED * _JOINED ** (level + 1):
        level += 1
    return level


def _sealed_of(name: str, windows: tuple[Window, ...]) -> tuple[Sealed, bytes]:
    data = (canonical_json({"format": 1, "windows": [_row(one) for one in windows]}) + "\n").encode()
    digest = hashlib.sha256(data).hexdigest()
    file = File(path=ledger_path(name, f"entries-{digest}.json"), sha256=digest, bytes=len(data))
    return Sealed(file, max(one.end for one in windows), windows), data


def read_index(objects: Objects, manifest: Manifest, held: dict[str, Sealed] | None = None) -> Index:
    """Return the index that a version names.

    Args:
        objects: where.
        manifest: of the version.
        held: files of entries that need not be read again, by path; what is read is put there too.

    Raises:
        VersionNotFound: the version has no ledger, or its index is gone.
        CorruptArtefact, UnsupportedVersion: the index is damaged, or of a newer format.
    """
    stored, held = _index_file(objects, manifest), {} if held is None else held
    sealed = tuple(_read_sealed(objects, manifest, one, held) for one in stored.sealed)
    fresh = tuple(_window(manifest.name, row) for row in stored.windows)
    windows = sorted((window for part in (*(one.windows for one in sealed), fresh) for window in part), key=place_of)
    return Index(
        stored.fingerprint, stored.size, stored.through, stored.since, stored.kept_from, stored.fine_from,
        stored.rules, stored.removed, left_of(windows, stored.kept_from, stored.fine_from), sealed, fresh,
    )  # fmt: skip


def entries_in(objects: Objects, manifest: Manifest) -> int:
    """Return how many entries the index of a version has, those that are kept no longer among them.

    Raises:
        VersionNotFound, CorruptArtefact, UnsupportedVersion: see `read_index`.
    """
    stored = _index_file(objects, manifest)
    return len(stored.windows) + sum(one.windows for one in stored.sealed)


def _index_file(objects: Objects, manifest: Manifest) -> _IndexFile:
    title = f"{manifest.name} version {manifest.number}"
    if manifest.ledger is None:
        message = f"{title} has no ledger: it was trained without [ledger] in its job."
        raise VersionNotFound(message)
    data = _whole(objects, manifest.ledger, f"the ledger's index of {title}")
    try:
        return _IndexFile.parse(json.loads(data))
    except (ValueError, InvalidValue, RecursionError) as error:
        raise _unknown(manifest.ledger, error) from error


def _read_sealed(objects: Objects, manifest: Manifest, one: _SealedFile, held: dict[str, Sealed]) -> Sealed:
    path = ledger_path(manifest.name, f"entries-{one.sha256}.json")
    if path not in held:
        file = File(path=path, sha256=one.sha256, bytes=one.bytes)
        data = _whole(objects, file, f"entries of the ledger of {manifest.name} version {manifest.number}")
        try:
            rows = _Entries.parse(json.loads(data)).windows
        except (ValueError, InvalidValue, RecursionError) as error:
            raise _unknown(file, error) from error
        held[path] = Sealed(file, one.until, tuple(_window(manifest.name, row) for row in rows))
    return held[path]


def _unknown(file: File, error: Exception) -> UnsupportedVersion:
    return UnsupportedVersion(f"The ledger's index {file.path} holds what this library does not know: {error}")


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
    held: dict[str, Sealed] = {}
    for path, manifest in {one.ledger.path: one for one in manifests if one.ledger is not None}.items():
        named.add(path)
        try:
            index = read_index(objects, manifest, held)
        except (VersionNotFound, CorruptArtefact, UnsupportedVersion) as error:
            LOGGER.warning("The ledger is not tidied: %s", error)
            return None
        named.update(one.file.path for one in index.sealed)
        named.update(one.file.path for one in index.windows)
    return named
