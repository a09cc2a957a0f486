"""Predictions beside the rows of files: ``beam-ml score registry fraud --source new/ --out scored/part [Beam options]``."""

import time

import click

from beam_ml import formats
from beam_ml.beam import Score, WriteFiles, new_pipeline, run
from beam_ml.beam.engine import refuse_unknown
from beam_ml.beam.telemetry import NAMESPACE
from beam_ml.beam.transforms.reporting import REJECTED, CountRejects
from beam_ml.cli.console import Command, Screen, as_json, own_options, print_json, styled
from beam_ml.cli.files import options_of_files, read_files
from beam_ml.cli.group import algorithms_named
from beam_ml.formats.table import NO_ROLES
from beam_ml.predictor import as_reference, predictor_of

__all__ = ["main"]


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("where")
@click.argument("name", required=False)
@click.option("--source", required=True, help="File, folder or pattern of the rows.")
@click.option(
    "--out", required=True, help="How the files' names begin: scored/part becomes scored/part-00000-of-00001.parquet."
)
@click.option(
    "--out-format",
    default="parquet",
    show_default=True,
    help="Of the files written: parquet, csv, json, avro, or one's own.",
)
@options_of_files
@as_json
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED)
def main(
    where: str,
    name: str | None,
    source: str,
    out: str,
    which: str | None,
    out_format: str,
    file_format: str | None,
    file_options: str,
    json: bool,
    beam_options: tuple[str, ...],
) -> None:
    """Add predictions to rows: by the served version of NAME in the registry WHERE, or by the model file WHERE.

    A row keeps its columns, and gains the predictions and `model_version`. Rows that cannot be predicted are left out and
    counted by reason.
    """
    screen, begun = Screen(), time.monotonic()
    name, options = named_or_option(name, beam_options)
    refuse_unknown(options, own_options())
    pipeline = new_pipeline(options)
    model = as_reference(where, name, which, algorithms_named())
    features = predictor_of(model).features  # of the one that workers in this process predict with
    blocks = pipeline | read_files(source, file_format, file_options, features.roles if features else NO_ROLES)
    scored = blocks | Score(model)
    scored.predictions | WriteFiles(out, format=out_format)
    scored.rejected | CountRejects()
    counters = run(pipeline).result.metrics().query()["counters"]
    counted = {one.key.metric.name: one.result for one in counters if one.key.metric.namespace == NAMESPACE}
    rows, seconds = counted.get("predicted", 0), time.monotonic() - begun
    left_out = {why.removeprefix(REJECTED): n for why, n in sorted(counted.items()) if why.startswith(REJECTED)}
    if json:
        print_json({"out": out, "rows": rows, "rejected": left_out, "seconds": seconds})
        return
    screen.say(f"{rows:,} rows predicted into {out}-*{formats.of_files(out_format).endings[0]} in {seconds:.1f} s")
    for reason, n in left_out.items():
        screen.say(styled("left out", "yellow"), f": {n:,} rows, {reason}")


def named_or_option(name: str | None, options: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """Part a name that was left out from the first of Beam's options, which stands in its place.

    >>> named_or_option("--runner=PrismRunner", ())
    (None, ['--runner=PrismRunner'])
    """
    if name is not None and name.startswith("-"):
        return None, [name, *options]
    return name, [*options]
