"""Each format offers what its record says, and no other is in the table."""

import importlib
from pathlib import Path

import pytest

import beam_ml.formats
from beam_ml.formats import FORMATS, TABLE
from beam_ml.formats.table import MESSAGE_FORMATS

OF_FILES = {"ranges", "read", "write", "encode", "decode"}
OF_MESSAGES = {"message_decoder", "message_encoder"}


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
    assert offered <= OF_FILES | OF_MESSAGES | {"DEFAULT", "Options"}


def test_names_by_use() -> None:
    assert sorted(FORMATS) == ["avro", "csv", "parquet"]
    assert sorted(MESSAGE_FORMATS) == ["avro", "csv", "json"]


def test_no_ending_is_of_two_formats() -> None:
    endings = [ending for record in TABLE.values() for ending in record.endings]
    assert len(endings) == len(set(endings))
    assert not any(a != b and a.endswith(b) for a in endings for b in endings)
