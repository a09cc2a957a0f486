"""How a model does on labelled files: ``beam-ml evaluate registry fraud --source held-out/ [Beam options]``."""

import json as json_text
import tempfile
from pathlib import Path

import click
import pyarrow.parquet as pq

from beam_ml.beam import Evaluate, WriteParquet, new_pipeline, run
from beam_ml.beam.engine import refuse_unknown
from beam_ml.beam.transforms.reporting import FIGURES, Figures
from beam_ml.cli.console import Command, Screen, as_json, own_options, print_json
from beam_ml.cli.files import options_of_files, read_files
from beam_ml.cli.group import algorithms_named
from beam_ml.cli.layout import laid_out
from beam_ml.cli.score import named_or_option
from beam_ml.errors import NoInput
from beam_ml.formats.table import NO_ROLES
from beam_ml.predictor import as_reference, predictor_of

__all__ = ["main"]


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("where")
@click.argument("name", required=False)
@click.option("--source", required=True, help="File, folder or pattern of labelled rows.")
@options_of_files
@as_json
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED)
def main(
    where: str,
    name: str | None,
    source: str,
    which: str | None,
    file_format: str | None,
    file_options: str,
    json: bool,
    beam_options: tuple[str, ...],
) -> None:
    """Measure the served version of NAME in the registry WHERE, or the model file WHERE, on labelled rows.

    Rows that a learner would reject are left out.
    """
    name, options = named_or_option(name, beam_options)
    refuse_unknown(options, own_options())
    with tempfile.TemporaryDirectory() as folder:
        pipeline = new_pipeline(options)
        model = as_reference(where, name, which, algorithms_named())
        features = predictor_of(model).features  # of the one that workers in this process predict with
        blocks = pipeline | read_files(source, file_format, file_options, features.roles if features else NO_ROLES)
        measured = blocks | Evaluate(model)
        measured | Figures() | WriteParquet(f"{folder}/measured")
        run(pipeline)
        lines = [line for file in Path(folder).glob("*.parquet") for line in pq.read_table(file)[FIGURES].to_pylist()]
    if not lines:
        message = f"{source} must hold rows with a label and whole features to measure; it has none."
        raise NoInput(message)
    found = json_text.loads(lines[0])
    if json:
        print_json(found)
        return
    table = []
    for metric, value in found["metrics"].items():
        if not metric.endswith("_se"):
            error = found["metrics"].get(f"{metric}_se")
            table.append([metric, f"{value:.6g}", "" if error is None else f"{error:.2g}"])
    screen = Screen()
    screen.table(laid_out(["metric", "value", "standard error"], table))
    for version, rows in found["versions"].items():
        screen.say(f"{rows:,} rows measured" + ("" if version == "0" else f" by v{version}"))
