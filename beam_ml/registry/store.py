"""The object store under a registry: whole objects by path, on local disk, S3, GCS, Azure or in memory.

Every write is one atomic step on all of them: `Objects.create` fails when the path is taken, `Objects.put` replaces.
A killed process leaves the old object or the new one, never a part. On local disk a write is staged beside its place
and then linked or renamed; it is not flushed to the disk, so a power loss may take the last seconds' objects with it or
leave them damaged, which readers notice by their digests. Cloud stores acknowledge a write once it is durable.
"""

import contextlib
import dataclasses
import datetime
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import obstore.store
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError

from beam_ml.core.secrets import has_password, shown
from beam_ml.errors import RegistryError

__all__ = ["STORE_ERRORS", "Objects", "Stat", "Store", "open_objects", "reason", "utc_now"]

STORE_ERRORS = (BaseError, OSError)
"""What a store raises when it refuses or fails; NotFound is the builtin FileNotFoundError on some of them."""
_NOT_FOUND = (FileNotFoundError, NotFoundError)
_TAG = re.compile(r"<[^<>]*>")
_MAX_REASON = 600
_STAGED = re.compile(r"#\d+$")


class Store(Protocol):
    """The part of an obstore store that a registry uses; a wrapper of one will do."""

    def put(self, path: str, file: bytes, *, mode: Any = None) -> Any:
        """Write an object whole; ``mode="create"`` raises AlreadyExistsError where there is one."""

    def get(self, path: str) -> Any:
        """Return a result whose ``bytes()`` are the object."""

    def head(self, path: str) -> Any:
        """Return the object's size and time."""

    def list(self, prefix: str | None = None) -> Any:
        """Iterate over chunks of the objects under a prefix."""

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        """Return objects and folders right under a prefix."""

    def delete(self, paths: str | Sequence[str]) -> None:
        """Delete the objects."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stat:
    """One object: path, size, and when it was written by the store's clock (seconds since the epoch)."""

    path: str
    n_bytes: int
    written_s: float


def reason(error: BaseException) -> str:
    """Return a store's error as one line without its full stop: no debug dump, no XML of a server's answer."""
    text = " ".join(_TAG.sub(" ", str(error).partition("\n\nDebug source")[0]).split())
    return (text[:_MAX_REASON] or type(error).__name__).rstrip(".")


@dataclasses.dataclass(frozen=True, slots=True)
class Objects:
    """Objects of one store. Reads and deletes raise RegistryError; writes raise what the store raises.

    Attributes:
        store: the obstore store.
        where: its place, as messages name it.
        root: the folder, where the store is a local disk.
    """

    store: Store
    where: str
    root: Path | None = None

    def _failed(self, what: str, error: BaseException) -> RegistryError:
        return RegistryError(f"The registry at {self.where} could not be {what}: {reason(error)}.")

    def put(self, path: str, data: bytes) -> None:
        """Write an object whole, in the place of an older one."""
        self.store.put(path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write an object whole where there is none; False: there is one already."""
        try:
            self.store.put(path, data, mode="create")
        except (AlreadyExistsError, FileExistsError):
            return False
        return True

    def get(self, path: str) -> bytes | None:
        """Return the object's bytes; None if it does not exist."""
        try:
            return bytes(self.store.get(path).bytes())
        except _NOT_FOUND:
            return None
        except STORE_ERRORS as error:
            failure = self._failed("read", error)
            raise failure from error

    def size(self, path: str) -> int | None:
        """Return the object's size in bytes; None if it does not exist."""
        try:
            return int(self.store.head(path)["size"])
        except _NOT_FOUND:
            return None
        except STORE_ERRORS as error:
            failure = self._failed("read", error)
            raise failure from error

    def walk(self, prefix: str) -> list[Stat]:
        """Return every object under a folder, at any depth, in order of path."""
        try:
            found = [one for chunk in self.store.list(prefix) for one in chunk]
        except STORE_ERRORS as error:
            failure = self._failed("listed", error)
            raise failure from error
        stats = [Stat(one["path"], int(one["size"]), one["last_modified"].timestamp()) for one in found]
        return sorted(stats, key=lambda stat: stat.path)

    def folders(self, prefix: str | None = None) -> list[str]:
        """Return the names of the folders right under a folder (None: the root), sorted."""
        try:
            found = self.store.list_with_delimiter(prefix)["common_prefixes"]
        except STORE_ERRORS as error:
            failure = self._failed("listed", error)
            raise failure from error
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def delete(self, paths: Iterable[str]) -> None:
        """Remove objects; one that is gone already is no error."""
        for path in paths:
            try:
                self.store.delete(path)
            except _NOT_FOUND:
                continue
            except STORE_ERRORS as error:
                failure = self._failed("cleaned", error)
                raise failure from error

    def delete_staged(self, prefix: str, before_s: float) -> None:
        """Remove what killed writers left staged beside its place: local disks only, listings do not show it."""
        if self.root is None:
            return
        for folder, _, files in os.walk(self.root / prefix):
            for file in files:
                path = Path(folder, file)
                if _STAGED.search(file):
                    with contextlib.suppress(OSError):
                        if path.stat().st_mtime < before_s:
                            path.unlink()


def open_objects(where: "str | os.PathLike[str] | Store", *, create: bool = True, **options: Any) -> Objects:
    """Open a local folder, a URL (file, s3, gs, az, memory) or a ready store.

    Args:
        where: path, URL or store. ``memory://`` is a new empty store each time.
        create: make a local folder that is not there.
        options: of the cloud store, as `obstore.store.from_url` takes them.

    Raises:
        RegistryError: it cannot be opened.
    """
    if not isinstance(where, (str, os.PathLike)):
        return Objects(where, repr(where))
    text = os.fspath(where)
    if has_password(text):
        message = (
            f"A registry's URL must hold no user and password, which manifests and messages would repeat; got {shown(text)} "
            "(stores take them from the environment)."
        )
        raise RegistryError(message)
    try:
        if text.startswith("memory://"):
            return Objects(obstore.store.MemoryStore(), "memory://")
        if "://" in text and not text.startswith("file://"):
            return Objects(obstore.store.from_url(text, **options), text)
        if options:
            message = f"A local registry takes no store options; got {sorted(options)}."
            raise RegistryError(message)
        path = Path(_local_path(text)).expanduser().absolute()
        store = obstore.store.LocalStore(path, automatic_cleanup=True, mkdir=create)
    except (*STORE_ERRORS, ValueError, TypeError) as error:
        message = f"The registry at {text} cannot be opened: {reason(error)}."
        raise RegistryError(message) from error
    return Objects(store, str(path), path)


def _local_path(text: str) -> str:
    """Return the path of a file URL, or the path that it is already."""
    if not text.startswith("file://"):
        return text
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(text).path)


def utc_now(clock_s: float | None = None) -> str:
    """Return the time as ISO text in UTC."""
    moment = datetime.datetime.fromtimestamp(time.time() if clock_s is None else clock_s, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
