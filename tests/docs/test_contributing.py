"""CONTRIBUTING says what is true: every law with a bug that is really planted, every field of the record."""

import dataclasses
import re
from pathlib import Path

from beam_ml.core.algorithm import Algorithm
from beam_ml.testing.laws import LAWS
from beam_ml.testing.mutations import MUTATIONS

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
LEFT_OUT_OR_OPTIONAL = {
    field.name for field in dataclasses.fields(Algorithm) if field.default is not dataclasses.MISSING
}


def test_every_law_stands_in_one_line_with_a_bug_planted_for_it() -> None:
    table = TEXT.partition("| law | equation |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[2:]]
    assert [row[0].removeprefix("| ") for row in rows] == list(LAWS)
    planted = {(mutation.law, mutation.text) for mutation in MUTATIONS}
    for row in rows:
        assert len(row) == 4
        assert (row[0].removeprefix("| "), row[3].removesuffix(" |")) in planted


def test_every_required_field_of_an_algorithm_is_explained() -> None:
    table = TEXT.partition("### What the record needs")[2].partition("###")[0]
    named = set(re.findall(r"\b(\w+)", " ".join(re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE))))
    assert {field.name for field in dataclasses.fields(Algorithm)} - LEFT_OUT_OR_OPTIONAL <= named
