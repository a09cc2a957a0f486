"""Files as the input of a command: read into blocks by the format that the option or their names say."""

import json
from collections.abc import Sequence
from typing import Any

from beam_ml import formats
from beam_ml.beam import ReadAvro, ReadCsv, ReadParquet
from beam_ml.errors import InvalidValue
from beam_ml.formats.csv import Options as CsvOptions

__all__ = ["as_mapping", "read_files"]

_READERS = {"avro": ReadAvro, "csv": ReadCsv, "parquet": ReadParquet}


def as_mapping(option: str, text: str) -> dict[str, Any]:
    """Read an option that is a JSON object.

    >>> as_mapping("--csv", '{"delimiter": ";"}')
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


def read_files(
    source: str, format: str | None, csv: str, categories: Sequence[str] = ()
) -> ReadAvro | ReadCsv | ReadParquet:
    """Return the transform that reads a file, folder or pattern.

    Args:
        source: the files.
        format: a key of FORMATS; None: by the files' names.
        csv: how CSV is to be understood, as JSON.
        categories: columns that a model hashes.

    Raises:
        NoInput: there is no such file.
        InvalidValue: the files are of several formats.
    """
    files = formats.list_files(source, format)
    named = sorted({format or formats.format_of(file.path) for file in files})
    if len(named) > 1:
        message = (
            f"--source must name files of one format, or --file-format must choose one; got {' and '.join(named)}."
        )
        raise InvalidValue(message)
    options = None
    if named == ["csv"]:
        given = CsvOptions.parse(as_mapping("--csv", csv))
        options = given.model_copy(update={"categories": tuple(dict.fromkeys((*given.categories, *categories)))})
    return _READERS[named[0]](source, options=options)
