"""What a topic is told of a version, and how rows become messages."""

import json

import pyarrow as pa
import pytest

from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.write import WriteKafka, _keys, _Write, announcement
from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats.block import Block
from beam_ml.registry.manifest import Manifest, Verdict

MANIFEST = Manifest(
    name="fraud", number=3, parent=2, created="2025-01-01T00:00:00+00:00", files={}, round_id="r", library="0"
)


def test_a_version_without_refreshes_has_no_metrics() -> None:
    key, value = announcement(MANIFEST)
    assert key == b"fraud"
    assert json.loads(value) == {
        "name": "fraud", "version": 3, "created": "2025-01-01T00:00:00+00:00", "accepted": True, "reasons": [],
        "champion": None, "rows": 0, "metrics": {}, "path": "fraud/v3/manifest.json",
    }  # fmt: skip


def test_the_newest_refresh_is_told() -> None:
    refreshes = ({"measured": {"a": {"auc": 0.1}}}, {"measured": {"a": {"auc": 0.7}, "b": {"auc": 0.6}}})
    refused = Verdict(accepted=False, reasons=("auc",))
    one = Manifest(**{**MANIFEST.to_dict(), "refreshes": refreshes, "verdict": refused.to_dict(), "champion": "a"})
    told = json.loads(announcement(one)[1])
    assert told["metrics"] == {"a": {"auc": 0.7}, "b": {"auc": 0.6}}
    assert (told["accepted"], told["reasons"], told["champion"]) == (False, ["auc"], "a")


def upper(batch: pa.RecordBatch) -> pa.Array:
    return pa.array([name.upper().encode() for name in batch.column("name").to_pylist()])


def short(batch: pa.RecordBatch) -> pa.Array:
    return pa.array([b"x"])


ROWS = pa.record_batch({"name": ["a", "b"], "id": [7, None], "raw": pa.array([b"\xff", None])})


def test_blocks_are_encoded_and_keyed() -> None:
    for key, expected in ((None, [None, None]), ("id", [b"7", None]), ("raw", [b"\xff", None]), ("name", [b"a", b"b"])):
        one = _Write(Connection("a:1").to_json(), "t", "tests.beam.kafka.test_write:upper", key)
        assert list(one._encoded(Block(ROWS))) == list(zip(expected, [b"A", b"B"], strict=True))


def test_bad_encoders_and_keys_are_refused() -> None:
    text = Connection("a:1").to_json()
    with pytest.raises(InvalidValue, match="must name an importable 'module:attribute'; got 'nowhere:x'"):
        WriteKafka(Connection("a:1"), "t", encode="nowhere:x")
    with pytest.raises(InvalidValue, match="one value per row, 2; got 1"):
        list(_Write(text, "t", "tests.beam.kafka.test_write:short", None)._encoded(Block(ROWS)))
    with pytest.raises(InvalidValue, match="where blocks are written; got None"):
        list(_Write(text, "t", None, None)._encoded(Block(ROWS)))
    with pytest.raises(MissingColumn, match=r"WriteKafka\.key must name a column; got 'no'"):
        _keys(ROWS, "no")
