"""What the commands print: text as it is, with colours apart from it; errors as one sentence, on standard error."""

import errno
import json as json_text
import os
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any

import click
from rich.console import Console
from rich.text import Text

from beam_ml.errors import BeamMLError

__all__ = ["Command", "Group", "Screen", "as_json", "own_options", "print_json", "styled"]


class Screen(Console):
    """A console on which no text is markup: a path such as `tx_[a-c].csv` is printed as it is.

    Args:
        stderr: print to standard error, errors, and where JSON is asked for also what people read meanwhile.
        file: print there instead.
        width: of a line; None: that of the terminal.
        record: keep what is printed, for `export_text`.

    >>> Screen().say("tx_[a-c].csv and [/x] :smile:")
    tx_[a-c].csv and [/x] :smile:
    """

    def __init__(
        self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None, record: bool = False
    ) -> None:
        super().__init__(
            stderr=stderr, file=file, width=width, record=record, markup=False, emoji=False, highlight=False
        )

    def say(self, *parts: str | Text) -> None:
        """Print one line, however long: columns keep their place, and wrapping is left to the terminal."""
        self.print(Text.assemble(*parts), soft_wrap=True)

    @property
    def limit(self) -> int | None:
        """Characters of a line of a table: the terminal's, or those that COLUMNS names; None: any, as in a pipe."""
        return self.width if self.is_terminal or os.environ.get("COLUMNS", "").isdigit() else None

    def table(self, lines: Sequence[str]) -> None:
        """Print the lines of a table, the header in bold."""
        for i, line in enumerate(lines):
            self.say(styled(line, "" if i else "bold"))

    def waiting(self, text: str) -> Any:
        """Return a status line with a spinner, a context whose `update` takes a `Text`."""
        return self.status(Text(text))


def styled(text: str, style: str) -> Text:
    """Return text in a colour."""
    return Text(text, style)


as_json: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", is_flag=True, help="Print JSON, one value per line."
)
"""The option that every command has."""


def own_options() -> list[str]:
    """Return the names of the options of the command that runs."""
    return [name for one in click.get_current_context().command.params for name in one.opts if name.startswith("--")]


def print_json(value: Any, indent: int | None = None) -> None:
    """Print a value as JSON: on one line, unless it is indented."""
    click.echo(json_text.dumps(value, sort_keys=True, indent=indent, allow_nan=False))


class Command(click.Command):
    """A command whose users' mistakes end in one sentence on standard error, and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BeamMLError as error:
            complain(type(error).__name__, str(error))
        except OSError as error:
            if error.errno == errno.EPIPE or error.filename is None:
                raise
            complain(type(error).__name__, f"{error.filename} cannot be used: {error.strerror}.")
        sys.exit(1)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def complain(kind: str, sentence: str) -> None:
    """Print an error: its kind, and its sentence."""
    Screen(stderr=True).say(styled(kind, "bold red"), f": {sentence}")
