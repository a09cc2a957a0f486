"""Files that cannot be read, or are no longer what was read: set aside with a count, where the job wants that."""

import dataclasses
from collections.abc import Iterable

from beam_ml import formats
from beam_ml.core.cursors import FileCursor, FileId
from beam_ml.errors import InputChanged, MissingColumn, SourceError, UnreadableInput

__all__ = ["ASIDE", "file_of", "set_aside"]

ASIDE = "file set aside"
"""Why what is left of a file is never read: counted once per file, since nobody knows its rows."""


def file_of(error: SourceError, paths: Iterable[str]) -> str | None:
    """Return the file that an error is about; None where it is about none of them, or about all.

    >>> file_of(UnreadableInput("in/a.csv.gz cannot be read: …"), ["in/a.csv", "in/a.csv.gz"])
    'in/a.csv.gz'
    >>> file_of(UnreadableInput("a.csv must start with a line that names …; got b'/in/a.csv'"), ["/in/a.csv", "a.csv"])
    'a.csv'
    """
    if not isinstance(error, InputChanged | MissingColumn | UnreadableInput):
        return None
    text = str(error)
    # Errors begin with their file; what comes behind may quote the file, and that may name others.
    return min((path for path in paths if path in text), key=lambda path: (text.index(path), -len(path)), default=None)


def set_aside(cursor: FileCursor, path: str) -> FileCursor:
    """Take a file as read to its end, in the form that it has now."""
    known = cursor.done.get(path) or cursor.part.get(path, (None, 0))[0]
    try:
        now: FileId | None = formats.stat(path)
    except SourceError:
        now = known
    part = {one: at for one, at in cursor.part.items() if one != path}
    done = dict(cursor.done) if now is None else {**cursor.done, path: now}
    return dataclasses.replace(cursor, part=part, done=done)
