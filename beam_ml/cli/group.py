"""The group of all commands. Each is imported when it is called: what needs no engine does not wait for one."""

import importlib
from typing import NamedTuple

import click

from beam_ml.core.meant import did_you_mean

__all__ = ["COMMANDS", "algorithms_named", "main"]


class _Command(NamedTuple):
    where: str
    help: str


COMMANDS = {
    "demo": _Command("demo:main", "Simulate card transactions, then learn day after day."),
    "new-job": _Command("new_job:main", "Write a job file to begin with, and its schema for editors."),
    "inspect": _Command("inspect:main", "Look at the first rows of files: columns, and what each may be for."),
    "convert": _Command("convert:main", "Write files of one format as one file of another."),
    "consistency": _Command("consistency:main", "Compare features as served with those computed again, by id."),
    "train": _Command("train:main", "Train a job in rounds, once or until it is stopped."),
    "stream": _Command("stream:main", "Train a job as one unbounded pipeline, until it is stopped."),
    "replay": _Command("replay:main", "Send files to a Kafka topic in order of event time."),
    "score": _Command("score:main", "Add a model's predictions to the rows of files."),
    "evaluate": _Command("evaluate:main", "Measure a model on labelled files."),
    "registry": _Command("registry:registry", "Look at versions and choose the served one."),
    "ledger": _Command("ledger:ledger", "Models of any range of time, or without a day or file; drift."),
    "derive": _Command("learners:derive", "Derive another model from a stored learner."),
    "merge": _Command("learners:merge", "Merge two stored learners."),
}
"""Command → module and name in this package, and what the list of commands says of it."""


class _AtFirstUse(click.Group):
    """Imports a command when it is called; the list of all commands imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].where.partition(":")
        found: click.Command = getattr(importlib.import_module(f"beam_ml.cli.{module}"), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            meant = did_you_mean(name, COMMANDS) or f" Commands: {', '.join(COMMANDS)}."
            ctx.fail(f"There is no command {name!r}.{meant}")
        return super().resolve_command(ctx, args)


@click.group(cls=_AtFirstUse)
@click.version_option(package_name="beam_ml")
@click.option(
    "--algorithm",
    "algorithms",
    multiple=True,
    metavar="MODULE:ATTRIBUTE",
    help="An algorithm of your own that stored learners and models may be of: it is imported. Repeat it for several.",
)
@click.pass_context
def main(context: click.Context, algorithms: tuple[str, ...]) -> None:
    """Streaming machine learning: train, score, and look after versions, models and merges."""
    context.obj = algorithms


def algorithms_named() -> tuple[str, ...]:
    """Return the algorithms outside the package that the command line names."""
    context = click.get_current_context(silent=True)
    found: tuple[str, ...] | None = None if context is None else context.find_root().obj
    return found or ()
