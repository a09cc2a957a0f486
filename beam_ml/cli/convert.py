"""Files of one format as one file of another: ``beam-ml convert transactions.csv transactions.parquet``."""

import contextlib
import json as json_text
import os
import time
from collections.abc import Callable, Iterator

import click

from beam_ml import formats
from beam_ml.cli.console import Command, Screen, as_json, print_json, styled
from beam_ml.cli.inputs import as_mapping, read_with
from beam_ml.core.rejects import Reject
from beam_ml.errors import InvalidValue
from beam_ml.formats.conversion import Conversion
from beam_ml.formats.files import replacing
from beam_ml.formats.reject_records import reject_records

__all__ = ["main"]


@click.command(cls=Command)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(dir_okay=False))
@click.option("--from", "source_format", help="Format of IN; else by the ending of its files' names.")
@click.option("--to", "target_format", help="Format of OUT; else by the ending of its name.")
@click.option("--from-options", default="{}", help="Options of the format of IN, as JSON.")
@click.option("--to-options", default="{}", help="Options of the format of OUT, as JSON.")
@click.option("--columns", help="Columns to take, by commas; else all.")
@click.option("--label", help="Column of the label, where OUT has all features in one column; '': there is none.")
@click.option("--width", type=click.IntRange(1), help="Features of a row, where OUT has a column for each.")
@click.option("--rejects", type=click.Path(dir_okay=False), help="File for the rejected rows, one line of JSON each.")
@click.option(
    "--allow-rejects",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Rows that may be rejected. With more, OUT is not written, and the exit code is 1.",
)
@as_json
def main(
    source: str,
    target: str,
    source_format: str | None,
    target_format: str | None,
    from_options: str,
    to_options: str,
    columns: str | None,
    label: str | None,
    width: int | None,
    rejects: str | None,
    allow_rejects: int,
    json: bool,
) -> None:
    """Write the rows of IN, a file, folder or pattern, as the one file OUT, whole or not at all.

    Where OUT has all features in one column (libsvm, RecordIO), columns of numbers become one; where it cannot hold such a
    column (CSV), it becomes the columns f0, f1 and so on.
    """
    begun = time.monotonic()
    inputs, record, options = read_with(("--from", "--from-options"), source, source_format, from_options)
    out = formats.of_files(target_format or formats.format_of(target))
    taken = {os.path.realpath(one.path) for one in inputs}
    for name, path in (("OUT", target), ("--rejects", rejects)):
        if path is not None and os.path.realpath(path) in taken:
            message = f"{name} must be a file that is not read; got {path}."
            raise InvalidValue(message)
        taken |= {os.path.realpath(path)} if path is not None else set()
    wanted = None if columns is None else columns.split(",")
    written = out.options(as_mapping("--to-options", to_options))
    with _listing(rejects) as listed:
        run = Conversion(inputs, record, out, options, written, wanted, label, width, allow_rejects, listed)
        run.write(target)
    seconds = time.monotonic() - begun
    if json:
        print_json({"out": target, "rows": run.rows, "rejected": dict(run.rejected), "seconds": seconds})
        return
    screen = Screen()
    number = f"{len(inputs)} {record.name} file{'s' * (len(inputs) != 1)}"
    screen.say(f"{run.rows:,} rows of {number} written to {target} in {seconds:.1f} s")
    for reason, n in run.rejected.most_common():
        screen.say(styled("left out", "yellow"), f": {n:,} rows, {reason}")


@contextlib.contextmanager
def _listing(path: str | None) -> Iterator[Callable[[Reject], None]]:
    """Yield what writes each reject as lines of JSON; the file is there at the end, after a failure, too."""
    if path is None:
        yield lambda reject: None
        return
    with replacing(path) as unfinished:
        failure: BaseException | None = None
        with open(unfinished, "w", encoding="utf-8") as stream:
            try:
                yield lambda reject: stream.writelines(
                    json_text.dumps(one, sort_keys=True) + "\n" for one in reject_records(reject)
                )
            except Exception as error:
                failure = error
    if failure is not None:
        raise failure
