"""RecordIO messages: framed records, several to a message, or a payload alone."""

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.formats.messages import decoder, encoder
from tests.formats.recordio.support import MAGIC, frame, payload, split

GOOD = payload([1.0, 2.0], label=[1.0], uid="a")
OTHER = payload([3.0, 4.0], "float64")


def test_framed_bare_and_empty_messages() -> None:
    values = [frame(GOOD) + frame(OTHER), OTHER, b"", b"\xff\xff", frame(GOOD), frame(GOOD)[:-1], MAGIC]
    found = decoder("recordio")(pa.array(values, pa.binary()), ["features", "uid"])
    assert found.batch.to_pydict() == {
        "features": [[1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [1.0, 2.0]],
        "uid": ["a", None, None, "a"],
    }
    assert found.message.tolist() == [0, 0, 1, 4]
    assert found.row.tolist() == [0, 1, 0, 0]
    assert {one.reason: (one.message.tolist(), one.row.tolist()) for one in found.refused} == {
        "empty message": ([2], [-1]),
        "malformed message": ([5, 6], [-1, -1]),
        "malformed record": ([3], [-1]),
    }


def test_a_record_that_is_refused_keeps_its_row_number() -> None:
    value = frame(GOOD) + frame(b"\xff") + frame(payload([1.0], keys=[0], shape=[2])) + split(GOOD)
    found = decoder("recordio")(pa.array([value], pa.binary()), ["features"])
    assert found.row.tolist() == [0, 3]
    assert {one.reason: one.row.tolist() for one in found.refused} == {
        "malformed record": [1],
        "a sparse record where dense ones are expected": [2],
    }


@pytest.mark.parametrize("sliced", [False, True])
def test_what_becomes_of_a_message_does_not_depend_on_its_neighbours(sliced: bool) -> None:
    rng = np.random.default_rng(0)
    kinds = [GOOD, OTHER, frame(GOOD), frame(OTHER) + frame(GOOD), b"", b"\x0a", payload([1.0], keys=[0], shape=[1])]
    values = [kinds[i] for i in rng.integers(len(kinds), size=60)]
    decode = decoder("recordio", {"form": "sparse"})
    array = pa.array([b"xy", *values, b"z"], pa.binary()).slice(1, len(values)) if sliced else pa.array(values)
    found = decode(array, None)
    together = list(zip(found.message.tolist(), found.row.tolist(), found.batch.to_pylist(), strict=True))
    alone = []
    for i, value in enumerate(values):
        one = decode(pa.array([value], pa.binary()), None)
        alone += [(i, row, entry) for row, entry in zip(one.row.tolist(), one.batch.to_pylist(), strict=True)]
    assert together == alone


@pytest.mark.parametrize("per_message", [1, 2, 3, 10])
def test_rows_written_as_messages_come_back(per_message: int) -> None:
    kind = pa.map_(pa.int32(), pa.float64())
    rows = pa.record_batch({"features": pa.array([[(i, 0.5)] for i in range(5)], kind), "label": np.arange(5.0)})
    written = encoder("recordio", {"width": 9})(rows, per_message)
    assert len(written) == -(-5 // per_message)
    found = decoder("recordio", {"form": "sparse"})(pa.array(written), ["features", "label"])
    assert found.batch.equals(rows)
    assert found.refused == ()


def test_no_messages_and_no_rows() -> None:
    found = decoder("recordio")(pa.array([], pa.binary()))
    assert (found.batch.num_rows, found.refused) == (0, ())
    assert encoder("recordio")(pa.record_batch({"features": pa.array([], pa.list_(pa.float32()))})) == []
