"""Each format offers what its record says, and no other is in the table."""

import importlib
from pathlib import Path

import pytest

import beam_ml.formats
from beam_ml.errors import InvalidValue
from beam_ml.formats import FORMATS, TABLE
from beam_ml.formats.csv import Options
from beam_ml.formats.table import MESSAGE_FORMATS, Format, Roles, of_files

OF_FILES = {"ranges", "read", "write", "encode", "decode"}
OF_MESSAGES = {"message_decoder", "message_encoder"}
OF_PIPES = {"ends"}


def test_every_package_is_in_the_table() -> None:
    folder = Path(beam_ml.formats.__file__).parent
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_package_offers_what_its_record_says(name: str) -> None:
    offered = set(importlib.import_module(f"beam_ml.formats.{name}").__all__)
    record = TABLE[name]
    assert record.name == name
    assert (OF_FILES <= offered) == bool(record.endings)
    assert (OF_MESSAGES <= offered) == record.messages
    assert offered <= OF_FILES | OF_MESSAGES | OF_PIPES | {"DEFAULT", "Options"}
    assert record.module is importlib.import_module(f"beam_ml.formats.{name}")


def test_names_by_use() -> None:
    assert sorted(FORMATS) == ["avro", "csv", "image", "json", "libsvm", "parquet", "recordio"]
    assert sorted(MESSAGE_FORMATS) == ["avro", "csv", "image", "json", "libsvm", "recordio"]


def test_no_ending_is_of_two_formats() -> None:
    endings = [ending for record in TABLE.values() for ending in record.endings]
    assert len(endings) == len(set(endings))
    assert not any(a != b and a.endswith(b) for a in endings for b in endings)


NOT_A_FORMAT = Format("another:NAME", (".x",))
NO_FILES = Format("tests.formats.test_table:NO_FILES")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "orc",
            r"format must be one of \['avro', 'csv', 'image', 'json', 'libsvm', 'parquet', 'recordio'\], or 'module:attribute' of one's "
            r"own; got 'orc'",
        ),
        ("", "format must be one of"),
        ("nowhere:FORMAT", r"format must name an importable 'module:attribute'; got 'nowhere:FORMAT' \(No module"),
        ("toy_lines:NONE", "format must name an importable 'module:attribute'"),
        ("..:FORMAT", "format must name an importable 'module:attribute'; got '..:FORMAT'"),
        (":FORMAT", "format must name an importable 'module:attribute'; got ':FORMAT'"),
        ("toy_lines:DEFAULT", "format must name a Format of files whose name is 'toy_lines:DEFAULT'; got Options"),
        ("tests.formats.test_table:NOT_A_FORMAT", "whose name is 'tests.formats.test_table:NOT_A_FORMAT'; got Format"),
        ("tests.formats.test_table:NO_FILES", "format must name a Format of files"),
    ],
)
def test_a_format_that_is_not_there(name: str, sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        of_files(name)


def test_a_format_of_ones_own_is_its_record() -> None:
    record = of_files("toy_lines:FORMAT")
    assert (record.endings, record.counts) == ((".lines",), "rows")
    assert record.options({"separator": ";"}).to_dict() == {"separator": ";"}


def test_options_are_checked_by_the_formats_own_model() -> None:
    assert TABLE["csv"].options({"delimiter": ";"}) == Options(delimiter=";")
    assert TABLE["csv"].options({}) is None
    assert TABLE["csv"].options({"categories": ["a"]}, Roles(("b", "a"))) == Options(categories=("a", "b"))
    assert TABLE["csv"].options(None, Roles(("b",))) == Options(categories=("b",))
    assert TABLE["parquet"].options(None, Roles(("b",))) is None
    for wrong in ("shop", 5, [{}]):
        with pytest.raises(InvalidValue, match=r"csv\.Options\.categories"):
            TABLE["csv"].options({"categories": wrong}, Roles(("b",)))
    assert TABLE["parquet"].options(None) is None
    with pytest.raises(InvalidValue, match=r"csv\.Options"):
        TABLE["csv"].options({"delimeter": ";"})
    with pytest.raises(
        InvalidValue, match=r"options must be left out with parquet files, which have none; got \{'x': 1\}"
    ):
        TABLE["parquet"].options({"x": 1})
