"""Files as the input of a command that needs no engine: which there are, of which format, with which of its options."""

import json
from typing import Any

from beam_ml import formats
from beam_ml.core.cursors import FileId
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue
from beam_ml.formats.table import NO_ROLES, Roles

__all__ = ["as_mapping", "read_with"]


def as_mapping(option: str, text: str) -> dict[str, Any]:
    """Read an option that is a JSON object.

    >>> as_mapping("--file-options", '{"delimiter": ";"}')
    {'delimiter': ';'}
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        message = f"{option} must be a JSON object; got {text!r}."
        raise InvalidValue(message)
    return value


def read_with(
    called: tuple[str, str], source: str, format: str | None, options: str, roles: Roles = NO_ROLES
) -> tuple[list[FileId], formats.Format, Settings | None]:
    """Return the files of a file, folder or pattern, their format, and its options.

    Args:
        called: the names of the options of the command that choose a format and its options.
        source: the files.
        format: a key of FORMATS, or 'module:attribute'; None: by the files' names.
        options: the format's own, as JSON.
        roles: of columns, by a model's features.

    Raises:
        NoInput: there is no such file.
        InvalidValue: the files are of several formats.
    """
    files = formats.list_files(source, format)
    named = sorted({format or formats.format_of(file.path) for file in files})
    if len(named) > 1:
        message = f"Files must be of one format, or {called[0]} must choose one; got {' and '.join(named)} in {source}."
        raise InvalidValue(message)
    record = formats.of_files(named[0])
    return files, record, record.options(as_mapping(called[1], options), roles)
