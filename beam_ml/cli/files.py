"""Files as the input of a command: read into blocks by the format that the option or their names say."""

from collections.abc import Callable

import click

from beam_ml.beam import ReadFiles
from beam_ml.cli.inputs import read_with
from beam_ml.formats.table import NO_ROLES, Roles

__all__ = ["options_of_files", "options_of_format", "read_files"]


def options_of_format(command: Callable[..., None]) -> Callable[..., None]:
    """Add to a command the options that say how its files are read: `file_format`, `file_options`."""
    for option in (
        click.option("--file-options", default="{}", help="The file format's options, as JSON."),
        click.option(
            "--file-format",
            help="Of the files read: parquet, csv, json, avro, recordio, libsvm, or one's own; else by their names.",
        ),
    ):
        command = option(command)
    return command


def options_of_files(command: Callable[..., None]) -> Callable[..., None]:
    """Add to a command the options of the files that it reads with a model: `which`, `file_format`, `file_options`."""
    model = click.option("--model", "which", help="Which of the version's models; its champion when not given.")
    return model(options_of_format(command))


def read_files(source: str, format: str | None, options: str, roles: Roles = NO_ROLES) -> ReadFiles:
    """Return the transform that reads a file, folder or pattern.

    Args:
        source: the files.
        format: a key of FORMATS, or 'module:attribute'; None: by the files' names.
        options: the format's own, as JSON.
        roles: of columns, by a model's features.

    Raises:
        NoInput: there is no such file.
        InvalidValue: the files are of several formats.
    """
    _, record, settings = read_with(("--file-format", "--file-options"), source, format, options, roles)
    return ReadFiles(source, options=settings, format=format or record.name)
