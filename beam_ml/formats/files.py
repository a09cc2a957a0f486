"""Files as input: which there are, what identifies them, and pieces of them that are read in parallel.

A file is its path, size and modification time. The planner records all three, the reader compares them.
"""

import contextlib
import dataclasses
import errno
import glob
import os
import uuid
from collections.abc import Iterator, Mapping
from stat import S_ISDIR
from typing import Any

import pyarrow as pa

from beam_ml.core.cursors import FileId
from beam_ml.errors import InputChanged, InvalidValue, NoInput, UnreadableInput
from beam_ml.formats import lines
from beam_ml.formats.table import FORMATS, of_files

__all__ = ["FileRange", "check", "format_of", "list_files", "replacing", "stat", "writing"]

_UNFINISHED = (".tmp", ".inprogress", ".crc")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class FileRange:
    """A piece of one file.

    Attributes:
        path, size, mtime_ns: the file as the plan saw it.
        format: a key of FORMATS, or 'module:attribute'.
        start, stop: the places of the rows that belong to it: row numbers (Parquet, Avro) or byte offsets of the
            decompressed text (CSV). The ranges of a file tile its rows; a row's place never depends on the split.
        offset, offset_row: byte at which reading starts, and the row there (Avro; else 0).
    """

    path: str
    size: int
    mtime_ns: int
    format: str
    start: int
    stop: int
    offset: int = 0
    offset_row: int = 0

    @property
    def file(self) -> FileId:
        """The file's identity."""
        return FileId(self.path, self.size, self.mtime_ns)

    @property
    def n_rows(self) -> int | None:
        """Number of rows; None where places are bytes."""
        return self.stop - self.start if of_files(self.format).counts == "rows" else None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "FileRange":
        """Build from the plain JSON form.

        Raises:
            InvalidValue: fields are absent, unknown or of the wrong type.
        """
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        if set(value) != set(kinds) or any(type(value[name]) is not kind for name, kind in kinds.items()):
            message = f"FileRange must have exactly the fields {sorted(kinds)}; got {dict(value)!r}."
            raise InvalidValue(message)
        return cls(**value)


def stat(path: str) -> FileId:
    """Look at a file.

    Raises:
        UnreadableInput: there is no such regular file, or it may not be looked at.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}."
        raise UnreadableInput(message) from error
    if S_ISDIR(found.st_mode):
        message = f"{path} cannot be read: it is a directory."
        raise UnreadableInput(message)
    return FileId(path, found.st_size, found.st_mtime_ns)


def check(file: FileId | FileRange) -> None:
    """Refuse a file that is no longer what the plan saw.

    Raises:
        InputChanged: size or modification time differ.
        UnreadableInput: the file is gone.
    """
    now = stat(file.path)
    if (now.size, now.mtime_ns) != (file.size, file.mtime_ns):
        message = (
            f"{file.path} must not change once planned: "
            f"it had {file.size} bytes, modified at {file.mtime_ns} ns; got {now.size} bytes, {now.mtime_ns} ns."
        )
        raise InputChanged(message)


def format_of(path: str) -> str:
    """Return the format that a file's name ends in.

    Raises:
        InvalidValue: the ending is not known.

    >>> format_of("2024-01-31.csv.gz")
    'csv'
    """
    for name, endings in FORMATS.items():
        if path.lower().endswith(endings):
            return name
    endings = tuple(ending for each in FORMATS.values() for ending in each)
    message = f"format must be given where the file's name does not end in one of {endings}; got {path!r}."
    raise InvalidValue(message)


def _is_input(path: str) -> bool:
    name = os.path.basename(path)
    return not name.startswith((".", "_")) and not name.endswith(_UNFINISHED) and os.path.isfile(path)


def list_files(source: str, format: str | None = None) -> list[FileId]:
    """List the files of a directory, a glob pattern, or one file, in the order in which they are consumed: by path.

    Day files named by date are thus taken day by day. Hidden and unfinished files (names that start with ``.`` or
    ``_``, or end in ``.tmp``, ``.inprogress``, ``.crc``) are passed over; of a directory, only files directly in it
    that end like the format (any known format, when none is given) are taken, or else, of images, those in its folders.

    Args:
        source: directory, pattern (``**`` goes into sub-directories) or file.
        format: a key of FORMATS, or 'module:attribute'; None: by the files' names.

    Returns:
        Identities with absolute paths, so that a file has one name wherever a job is started.

    Raises:
        NoInput: there is no such file.
        InvalidValue: the format is not known.
    """
    endings = of_files(format).endings if format else tuple(ending for each in FORMATS.values() for ending in each)
    if os.path.isdir(source):
        paths = _ending(source, endings) or _in_folders(source, format)
        what = f"no file that ends in one of {endings}"
    else:
        paths = [source] if os.path.isfile(source) else glob.glob(source, recursive=True)
        what = "no file"
    found = sorted(os.path.abspath(path) for path in paths if _is_input(path))
    if not found:
        message = f"{source} must name input files; there is {what}."
        raise NoInput(message)
    if format is None:
        for path in found:
            format_of(path)
    return [one for one in map(_stat_if_there, found) if one is not None]


def _ending(folder: str, endings: tuple[str, ...]) -> list[str]:
    return [os.path.join(folder, name) for name in os.listdir(folder) if name.lower().endswith(endings)]


def _in_folders(source: str, format: str | None) -> list[str]:
    """Return the files that lie in the folders of a directory, of formats whose files lie in folders by label."""
    formats = [of_files(name) for name in ([format] if format else FORMATS)]
    endings = tuple(ending for each in formats if each.folders for ending in each.endings)
    if not endings:
        return []
    inside = [os.path.join(source, name) for name in os.listdir(source) if not name.startswith((".", "_"))]
    return [path for folder in inside if os.path.isdir(folder) for path in _ending(folder, endings)]


def _stat_if_there(path: str) -> FileId | None:
    """Look at a file that was listed; None when it has been moved away since."""
    try:
        return stat(path)
    except UnreadableInput:
        if os.path.lexists(path):
            raise
        return None


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Write a file whole or not at all: yields a hidden name beside `path`, renamed to it at the end.

    Raises:
        FileNotFoundError, NotADirectoryError: its folder is not there, or is none; the error names the path.
    """
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        number = errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT
        raise OSError(number, os.strerror(number), path)
    unfinished = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)


@contextlib.contextmanager
def writing(path: str) -> Iterator[pa.NativeFile]:
    """Write a file whole or not at all: yields the stream of its bytes, compressed as its name ends."""
    with replacing(path) as unfinished, pa.output_stream(unfinished, compression=lines.compression_of(path)) as out:
        yield out
