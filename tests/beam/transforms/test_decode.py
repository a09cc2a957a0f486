"""Raw messages → rows in a pipeline, by a decoder of one's own."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.beam import engine
from beam_ml.beam.kafka.poll import messages_block
from beam_ml.beam.kafka.records import Messages, Run
from beam_ml.beam.transforms.decode import Decode, _decoder
from beam_ml.beam.wire import coders
from beam_ml.errors import InvalidValue
from beam_ml.formats.block import Block
from beam_ml.formats.messages import PLACES, Decoded, Refused
from tests.beam.support import Seen, create, ran


def words(options: Mapping[str, Any]) -> Any:
    """Decode messages of words, one row each; an empty one is refused."""

    def decode(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        found = [value.decode().split(options["by"]) if value else [] for value in values.to_pylist()]
        message = np.repeat(np.arange(len(found)), [len(one) for one in found])
        row = np.concatenate([np.arange(len(one)) for one in found]) if found else np.zeros(0, dtype=np.int64)
        batch = pa.record_batch({"word": pa.array([word for one in found for word in one], type=pa.utf8())})
        empty = np.array([i for i, one in enumerate(found) if not one], dtype=np.int64)
        return Decoded(batch, message, row, (Refused("empty", empty),) if len(empty) else ())

    return decode


def raw(first: int, values: list[bytes | None]) -> Block:
    records = [
        SimpleNamespace(offset=first + i, timestamp=1_700_000_000_000 + i, key=None, value=value)
        for i, value in enumerate(values)
    ]
    return messages_block("s", 4, Messages([Run.of_records(records)]), first, first + len(values))


def test_decode_in_a_pipeline(tmp_path) -> None:
    blocks = [raw(10, [b"a,b", None, b"", b"c"]), raw(14, [b"d,e,f"]), messages_block("s", 4, Messages(), 15, 19)]
    pipeline = engine.new_pipeline()
    seen = Seen(tmp_path / "seen", coders.BlockCoder())
    decoded = create(pipeline, blocks, Block, coders.BlockCoder()) | Decode(
        "tests.beam.transforms.test_decode:words", {"by": ","}, ["word", "kafka.offset"]
    )
    decoded | seen.sink()
    assert ran(pipeline) == "FnApiRunner"
    found = sorted(seen.values(), key=lambda block: block.start)
    rows = [(row["word"], row["kafka.offset"]) for block in found for row in block.batch.to_pylist()]
    assert rows == [("a", 10), ("b", 10), ("c", 13), ("d", 14), ("e", 14), ("f", 14)]
    assert [(block.start // PLACES, block.stop // PLACES) for block in found] == [(10, 14), (14, 15), (15, 19)]
    rejected = {reject.reason: (reject.position // PLACES).tolist() for reject in found[0].rejected}
    assert rejected == {"tombstone": [11], "empty": [12]}
    np.testing.assert_array_equal(
        found[0].recorded, [1_700_000_000_000_000, 1_700_000_000_000_000, 1_700_000_000_003_000]
    )


def test_decoders_are_built_once() -> None:
    text = '{"by": ";"}'
    assert _decoder("tests.beam.transforms.test_decode:words", text) is _decoder(
        "tests.beam.transforms.test_decode:words", text
    )


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"source\.format must"):
        _decoder("morse", "{}")
