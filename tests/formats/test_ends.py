"""Streams are cut where records end, however their bytes come: what is on both sides is what the whole holds."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.errors import InvalidValue, UnreadableInput
from beam_ml.formats import json as json_format
from beam_ml.formats import recordio

N = 50
NUMBERS = np.random.default_rng(0).normal(size=(N, 3))


def stream(format: str) -> bytes:
    if format == "csv":
        return b'\xef\xbb\xbf"two\nlines",x\n' + b"".join(b'%d,"a ""%d""\r\nb"\r\n\n' % (i, i) for i in range(N))
    if format == "json":
        return b"".join(b'{"x": %d, "y": "a\\nb"}\n\n' % i for i in range(N))[:-1]
    features = pa.array(NUMBERS.tolist(), pa.list_(pa.float32()))
    whole: bytes = formats.of_files(format).module.encode(
        pa.record_batch({"features": features, "label": np.arange(N) * 1.0})
    )
    return whole


@pytest.mark.parametrize("format", ["csv", "json", "recordio", "libsvm"])
@pytest.mark.parametrize("width", [1, 7, 100, 1 << 20])
def test_both_sides_of_each_end_are_whole(format: str, width: int) -> None:
    data, module = stream(format), formats.of_files(format).module
    chunks = [data[i : i + width] for i in range(0, len(data), width)]
    ends = list(module.ends(chunks, 0, "stdin"))
    assert ends == sorted(set(ends))
    assert ends[-1] == len(data)
    header = data[: data.index(b"\n", 10) + 1] if format == "csv" else b""
    assert ends[0] >= len(header)
    whole = module.decode(data).batch.to_pylist()
    assert len(whole) == N
    for end in ends[:: max(1, len(ends) // 5)]:
        if end >= len(header):
            rest: list[Any] = module.decode(header + data[end:]).batch.to_pylist() if data[end:].strip() else []
            assert module.decode(data[:end]).batch.to_pylist() + rest == whole


def test_a_record_that_is_cut_off_or_too_long_to_be_kept_has_no_end_before_its_last_byte() -> None:
    data = stream("recordio")
    size = len(data) // N
    assert max(recordio.ends([data[:-1]], 0, "stdin")) == len(data) - size
    long = (0xCED7230A).to_bytes(4, "little") + ((1 << 28) + 4).to_bytes(4, "little")
    assert list(recordio.ends([data, long, bytes(100)], 0, "stdin")) == [len(data)]
    with pytest.raises(
        UnreadableInput, match=rf"^stdin cannot be read as RecordIO: no record begins at byte {len(data)}"
    ):
        list(recordio.ends([data, b"not a frame"], 0, "stdin"))


def test_a_document_is_no_stream() -> None:
    with pytest.raises(InvalidValue, match="stdin must be JSON Lines"):
        list(json_format.ends([b"[]"], 0, "stdin", json_format.Options(layout="document")))
