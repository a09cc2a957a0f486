"""`beam-ml ledger`: models of any range of time, from what each closed window was learned from."""

import click

from beam_ml import formats
from beam_ml.beam.versions.sized import features_of
from beam_ml.cli.console import Group, Screen, as_json, print_json
from beam_ml.cli.files import options_of_format
from beam_ml.cli.group import algorithms_named
from beam_ml.cli.inputs import read_with
from beam_ml.cli.layout import laid_out
from beam_ml.cli.learners import write_out
from beam_ml.cli.versions import known_name, number_of, open_registry
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidValue, NoInput
from beam_ml.ledger import Ledger, shown
from beam_ml.ledger.drift import drifts, sentence
from beam_ml.ledger.removing import removed

__all__ = ["ledger"]


@click.group(cls=Group)
def ledger() -> None:
    """Compose models of any range of time from stored windows."""


def _opened(url: str, name: str, version: str | None) -> Ledger:
    store = open_registry(url)
    return Ledger(store, known_name(store, name), number_of(version), algorithms_named())


@ledger.command("show")
@click.argument("url")
@click.argument("name")
@click.option("--version", help="As of which version (default: the newest).")
@as_json
def show(url: str, name: str, version: str | None, json: bool) -> None:
    """List what a ledger holds: one line per file, single windows and those merged over longer spans."""
    found = [
        {
            "from": shown(one.start),
            "until": shown(one.end),
            "windows": one.windows,
            "rows": one.rows,
            "bytes": one.file.bytes,
        }
        for one in _opened(url, name, version).index.windows
    ]
    if json:
        print_json(found)
        return
    header = ["from", "until", "windows", "rows", "bytes"]
    table = [[str(cell) if isinstance(cell, str) else f"{cell:,}" for cell in one.values()] for one in found]
    Screen().table(laid_out(header, table, Screen().limit, header[2:]))


@ledger.command("compose")
@click.argument("url")
@click.argument("name")
@click.option(
    "--from", "start", help="Where the range begins, such as 2018-05-01 (UTC; default: the ledger's beginning)."
)
@click.option("--until", "end", help="Where it ends, not in it (default: the ledger's end).")
@click.option("--version", help="As of which version (default: the newest).")
@click.option("--without-damaged", is_flag=True, help="Leave out windows whose files are damaged, and name them.")
@click.option("--out", required=True, help="File to write the learner to, or a name in the registry to publish under.")
@as_json
def compose(
    url: str,
    name: str,
    start: str | None,
    end: str | None,
    version: str | None,
    without_damaged: bool,
    out: str,
    json: bool,
) -> None:
    """Make the learner of a range of time, and the models that the version has of its own, without the data."""
    book = _opened(url, name, version)
    composed = book.compose(start, end, without_damaged=without_damaged)
    manifest = book.manifest
    facts = {
        "features": manifest.extra.get("features"),
        "from": f"the ledger of {name} v{manifest.number}, {shown(composed.start)} to {shown(composed.end)}",
        "left_out": list(composed.left_out),
    }
    models = book.models(composed.learner, facts)
    if not json:
        for sentence in composed.left_out:
            Screen().say(f"left out: {sentence}")
        rows = f"{composed.learner.progress.rows:,} rows of {composed.windows:,} windows"
        Screen().say(f"{shown(composed.start)} to {shown(composed.end)}: {rows}")
    write_out(url, out, composed.learner, models, facts, composed.learner, json)


@ledger.command("remove")
@click.argument("url")
@click.argument("name")
@click.option(
    "--window", "windows", multiple=True, help="A time in a window that must not have been learned; repeat it."
)
@click.option("--source", "sources", multiple=True, help="A file (or partition) that must not have been; repeat it.")
@click.option("--rows", help="File or folder of rows, as they were learned, that must not have been: a customer's.")
@options_of_format
@as_json
def remove(
    url: str,
    name: str,
    windows: tuple[str, ...],
    sources: tuple[str, ...],
    rows: str | None,
    file_format: str | None,
    file_options: str,
    json: bool,
) -> None:
    """Publish a version that never saw some windows, files or rows; training continues from it. Stop the trainer before."""
    book = _opened(url, name, None)
    given = None if rows is None else _rows_in(book, rows, file_format, file_options)
    done = removed(book, windows, sources, given)
    if json:
        print_json({"name": name, "version": done.manifest.number, "rows": done.rows, "windows": done.windows})
    else:
        Screen().say(f"published {name} v{done.manifest.number} without {done.rows:,} rows of {done.windows:,} windows")


def _rows_in(book: Ledger, where: str, format: str | None, options: str) -> Batch:
    """Return the rows of a file or a folder, read as a job reads them, with the features of the newest version."""
    features = features_of(book.manifest.extra.get("features"))
    if features is None:
        message = (
            f"{book.name} v{book.manifest.number} must say how its rows were made of columns, as a job's versions do."
        )
        raise InvalidValue(message)
    files, record, settings = read_with(("--file-format", "--file-options"), where, format, options, features.roles)
    found = []
    for file in files:
        for piece in formats.ranges(file, 1 << 20, record.name, settings):
            blocks = formats.read(piece, features.columns(), options=settings)
            found += [features.to_batch(block)[0] for block in blocks]
    if not found:
        message = f"{where} must hold rows to remove; it has none."
        raise NoInput(message)
    return Batch.concat(found)


@ledger.command("drift")
@click.argument("url")
@click.argument("name")
@click.option(
    "--past", type=int, default=7, show_default=True, help="How many windows before each it is compared with."
)
@click.option("--version", help="As of which version (default: the newest).")
@as_json
def drift(url: str, name: str, past: int, version: str | None, json: bool) -> None:
    """Say per window how likely its concept is that of the windows before it: small p-values are changes of coefficients."""
    found = drifts(_opened(url, name, version), past)
    if json:
        print_json(
            [
                {
                    "from": shown(one.start or 0),
                    "p_value": one.p_value,
                    "statistic": one.statistic,
                    "directions": one.directions,
                    "rows": one.rows,
                }
                for one in found
            ]
        )
        return
    for one in found:
        Screen().say(sentence(one))
