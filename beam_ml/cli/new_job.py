"""A job file to begin with, and the JSON schema that an editor completes it by: ``beam-ml new-job my_job.toml``."""

import json as json_text
import tomllib
from pathlib import Path

import click

from beam_ml import formats
from beam_ml.beam.job import Job
from beam_ml.beam.job.learned import completed
from beam_ml.beam.job.schema import job_schema
from beam_ml.cli.console import Command, Screen, as_json, print_json
from beam_ml.cli.jobs import SHIPPED
from beam_ml.cli.skeleton import skeleton
from beam_ml.core.meant import did_you_mean
from beam_ml.errors import InvalidValue

__all__ = ["main"]

SCHEMA = "job.schema.json"


@click.command(cls=Command)
@click.argument("path")
@click.option("--like", default="fraud_replay", show_default=True, help="Which of the examples to begin with.")
@click.option("--source", help="Files: their path is entered, and their columns are listed in a comment.")
@click.option("--algorithm", help="Print a job that learns by it from PATH, which then is a file, folder or pattern.")
@as_json
def main(path: str, like: str, source: str | None, algorithm: str | None, json: bool) -> None:
    """Write a job file to PATH, which must be new, and its JSON schema beside it, for editors.

    With --algorithm, PATH is what the job reads: it is looked at, and the job is printed.
    """
    if algorithm is not None:
        if source is not None:
            message = f"--source must be left out with --algorithm, whose PATH is the source; got {source!r}."
            raise InvalidValue(message)
        text = skeleton(path, algorithm)
        if json:
            print_json({"job": tomllib.loads(text)})
        else:
            click.echo(text, nl=False)
        return
    target, examples = Path(path), {one.stem: one for one in sorted((SHIPPED / "jobs").glob("*.toml"))}
    if like not in examples:
        message = f"--like must be one of {', '.join(examples)}; got {like!r}.{did_you_mean(like, examples)}"
        raise InvalidValue(message)
    if target.exists():
        message = f"PATH must be new: {target} is there already."
        raise InvalidValue(message)
    # Comments before the first setting are about the example.
    text = examples[like].read_text(encoding="utf-8")
    settings = text[text.index("name = ") :].replace(
        f'name = "{_name(text)}"', f"name = {json_text.dumps(target.stem)}", 1
    )
    head = [f"#:schema ./{SCHEMA}", f"# Check it: beam-ml train --check {path}; every setting: docs/jobs.md"]
    if source is not None:
        head.append(f"# Columns of {source}: {', '.join(_columns(source))}")
        settings = _with_path(settings, source)
    Job.parse(completed(tomllib.loads(settings)))  # so that nothing is written which is refused when it is loaded
    target.write_text("\n".join([*head, "", settings]), encoding="utf-8")
    schema = target.with_name(SCHEMA)
    schema.write_text(json_text.dumps(job_schema(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if json:
        print_json({"job": str(target), "schema": str(schema)})
    else:
        Screen().say(f"Wrote {target} and {schema}. Next: beam-ml train --check {target}")


def _name(text: str) -> str:
    return text.partition('name = "')[2].partition('"')[0]


def _columns(source: str) -> list[str]:
    """Return the columns of the first file, with their types."""
    file = formats.list_files(source)[0]
    for piece in formats.ranges(file, 1 << 20):
        for block in formats.read(piece, max_rows=1_000):
            return [f"{field.name} {field.type}" for field in block.batch.schema]
    return []


def _with_path(settings: str, source: str) -> str:
    """Enter the path into the table of the source, in the place of the example's."""
    lines = settings.splitlines()
    at = lines.index("[source]") if "[source]" in lines else None
    entered = f"path = {json_text.dumps(source)}"
    if at is None:
        return "\n".join([*lines, "", "[source]", entered, ""])
    rest = [line for line in lines[at + 1 :] if not line.startswith("path = ")]
    return "\n".join([*lines[: at + 1], entered, *rest, ""])
