"""Features as they were served beside those computed again: ``beam-ml consistency served/ again/ --id tx``."""

import sys

import click

from beam_ml.cli.console import Command, Screen, as_json, print_json, styled
from beam_ml.cli.inputs import read_with
from beam_ml.cli.layout import laid_out
from beam_ml.consistency import Log, Report, Tolerance, compare
from beam_ml.consistency.tally import Feature

__all__ = ["main"]


@click.command(cls=Command)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--id", "id_", required=True, help="Column of the rows' ids, in both.")
@click.option("--id-b", help="Column of the ids in B, if it is called otherwise there.")
@click.option("--columns", help="Features to compare, by commas; else all columns of either.")
@click.option(
    "--rtol", type=click.FloatRange(0), default=1e-6, show_default=True, help="Share that numbers may differ by."
)
@click.option(
    "--atol", type=click.FloatRange(0), default=0.0, show_default=True, help="What they may differ by as well."
)
@click.option(
    "--bound", type=click.FloatRange(0, 1), default=0.0, show_default=True,
    help="Largest rate of mismatches, missing or extra values or rows. With more, the exit code is 1.",
)  # fmt: skip
@click.option(
    "--examples", type=click.IntRange(0, 100), default=5, show_default=True, help="Of the worst, per feature."
)
@click.option("--memory", type=click.IntRange(1), default=256, show_default=True, help="MiB of rows held at once.")
@click.option("--format-a", help="Format of A; else by the ending of its files' names.")
@click.option("--format-b", help="Format of B; else by the ending of its files' names.")
@click.option("--options-a", default="{}", help="Options of the format of A, as JSON.")
@click.option("--options-b", default="{}", help="Options of the format of B, as JSON.")
@as_json
def main(
    a: str,
    b: str,
    id_: str,
    id_b: str | None,
    columns: str | None,
    rtol: float,
    atol: float,
    bound: float,
    examples: int,
    memory: int,
    format_a: str | None,
    format_b: str | None,
    options_a: str,
    options_b: str,
    json: bool,
) -> None:
    """Compare two logs of features by id: A, as they were served, and B, as they are computed again.

    A and B are files, folders or patterns, of any formats. A value is missing where only A has it, and extra where only B
    has it.
    """
    logs = [
        Log(*read_with((f"--format-{name}", f"--options-{name}"), source, format, options), column)
        for name, source, format, options, column in (
            ("a", a, format_a, options_a, id_),
            ("b", b, format_b, options_b, id_b or id_),
        )
    ]
    wanted = None if columns is None else columns.split(",")
    report = compare(logs[0], logs[1], wanted, Tolerance(rtol, atol), examples, memory << 20)
    holds = report.worst <= bound
    if json:
        print_json(report.to_dict() | {"bound": bound, "holds": holds})
    else:
        _say(Screen(), report, bound, holds)
    if not holds:
        sys.exit(1)


def _say(screen: Screen, report: Report, bound: float, holds: bool) -> None:
    rows, rates = report.rows, report.rates
    screen.say(f"A has {rows[0]:,} rows, B {rows[1]:,}; both have {report.both:,}")
    for name, where, ids in (("missing", "B", report.missing), ("extra", "A", report.extra)):
        if rates[name] or ids:
            screen.say(styled(name, "yellow"), f": {rates[name]:.4%} of rows are not in {where}: {', '.join(ids)}")
    for i, which in enumerate("AB"):
        if report.duplicates[i]:
            screen.say(styled("duplicates", "yellow"), f": {report.duplicates[i]:,} further rows of an id in {which}")
        for reason, n in report.rejected[i].most_common():
            screen.say(styled("rejected", "yellow"), f": {n:,} rows of {which}, {reason}")
    features = sorted(report.features.items(), key=lambda one: -one[1].rate)
    if features and report.both:
        header = ["feature", "mismatch", "missing", "extra", "largest difference"]
        lines = [[name, *_shares(one), f"{one.largest:.6g}"] for name, one in features]
        screen.table(laid_out(header, lines, screen.limit, right=header[1:]))
    for name, one in features:
        for rank, key, left, right in one.worst:
            screen.say(f"  {name} of {key}: A {left!r}, B {right!r}" + (f" ({rank:.3g} apart)" if rank < 1e300 else ""))
    verdict = styled("holds", "green") if holds else styled("exceeded", "bold red")
    screen.say(f"bound {bound:g}: the largest rate is {report.worst:.6g}: ", verdict)


def _shares(feature: Feature) -> list[str]:
    counts = (feature.mismatch, feature.missing, feature.extra)
    return [f"{n / feature.rows:.4%}" if feature.rows else "" for n in counts]
