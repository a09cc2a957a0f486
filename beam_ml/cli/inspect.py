"""A look at a file before a job is written: ``beam-ml inspect transactions.csv``."""

import dataclasses
from typing import Any

import click

from beam_ml.cli.console import Command, Screen, as_json, print_json, styled
from beam_ml.cli.inputs import read_with
from beam_ml.cli.layout import laid_out
from beam_ml.features.guesses import Guesses, guessed
from beam_ml.formats.profile import Column, head, profiled

__all__ = ["main"]

_SHOWN = 24
"""Characters of a value."""


@click.command(cls=Command)
@click.argument("source", metavar="FILE")
@click.option(
    "--file-format", help="Of FILE: parquet, csv, json, avro, recordio, libsvm, or one's own; else by its name."
)
@click.option("--file-options", default="{}", help="The file format's options, as JSON.")
@click.option(
    "--rows", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="Looked at, the first."
)
@as_json
def main(source: str, file_format: str | None, file_options: str, rows: int, json: bool) -> None:
    """Look at the first rows of FILE, a file, folder or pattern: its columns, and what each may be for."""
    files, record, options = read_with(("--file-format", "--file-options"), source, file_format, file_options)
    found = head(files, record, options, rows)
    columns = profiled(found.rows)
    guesses = guessed(columns)
    if json:
        facts = {"format": record.name, "files": len(files), "rows_looked_at": found.rows.num_rows, "all": found.whole}
        facts |= {"rejected": dict(found.rejected), "columns": [dataclasses.asdict(one) for one in columns]}
        print_json(facts | {"guesses": dataclasses.asdict(guesses)})
        return
    screen = Screen()
    looked = "all" if found.whole else "the first"
    number = f"{len(files)} file{'s' * (len(files) != 1)}"
    screen.say(f"{source}: {record.name}, {number}, {looked} {found.rows.num_rows:,} rows looked at")
    for reason, n in found.rejected.most_common():
        screen.say(styled("rejected", "yellow"), f": {n:,} rows, {reason}")
    if columns:
        lines = [[_cut(one.name), _cut(one.type), f"{one.nulls:,}", _count(one), _values(one)] for one in columns]
        names = ["column", "type", "nulls", "distinct", "values"]
        screen.table(laid_out(names, lines, screen.limit, right=["nulls", "distinct"], spare=["distinct", "nulls"]))
    for line in _said(guesses):
        screen.say(line)


def _cut(text: str) -> str:
    plain = " ".join(text.split()) if text.strip() else repr(text)
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"


def _count(one: Column) -> str:
    return "" if one.distinct is None else f"{one.distinct:,}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _values(one: Column) -> str:
    """Say the range of numbers and times, and the most common of few values."""
    parts = []
    if one.widths is not None:
        parts.append(f"{one.widths[0]} to {one.widths[1]} numbers in a row")
    if one.low is not None and (one.distinct is None or one.distinct > len(one.common)):
        ends = [_number(value) for value in (one.low, one.high)]
        if one.type.startswith("timestamp"):
            ends = [text[: len("2024-01-31 12:00:00")] for text in ends]
        parts.append(" to ".join(ends))
    elif one.common:
        parts.append(", ".join(f"{_cut(_number(value))} ({n:,})" for value, n in one.common))
        parts += ["…"] if one.distinct is not None and one.distinct > len(one.common) else []
    return ", ".join(parts)


def _said(guesses: Guesses) -> list[str]:
    lines = [
        f"{what}: {found.column}: {found.rule}" if found else f"{what}: none found"
        for what, found in (("label", guesses.label), ("time", guesses.time))
    ]
    lines += [f"category: {one.column}: {one.rule}" for one in guesses.categories]
    lines += [f"text: {one.column}: {one.rule}" for one in guesses.texts]
    if guesses.matrix is not None:
        lines.append(f"features: all in {guesses.matrix}")
    if guesses.numbers:
        lines.append(f"numbers: {', '.join(guesses.numbers)}")
    return lines + [f"left out: {one.column}: {one.rule}" for one in guesses.left]
