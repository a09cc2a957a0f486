"""Messages of RecordIO-protobuf: one or more framed records, or the payload of one without its frame.

No payload begins with the magic number, which is no protobuf: the first bytes of a message say which it is.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.errors import UnreadableInput
from beam_ml.formats.block import chosen
from beam_ml.formats.messages import EMPTY, MALFORMED, Decoded, Decoder, Encoder, Refusal, detail, in_order, refusals
from beam_ml.formats.recordio.records import COLUMNS, Layout, Options, decode, layout_of
from beam_ml.formats.recordio.stream import Frames, frames
from beam_ml.formats.recordio.writing import framed
from beam_ml.kernels.recordio import frames as kernel

__all__ = ["message_decoder", "message_encoder"]

_MAGIC = kernel.MAGIC.to_bytes(4, "little")


def message_decoder(options: dict[str, Any]) -> Decoder:
    """Return the decoder of RecordIO messages.

    Args:
        options: fields of `recordio.Options`; rows are dense float64 where `form` and `values` do not say otherwise.

    Raises:
        InvalidValue: options it does not know.

    >>> rows = pa.record_batch({"features": [[1.5, -2.0], [0.0, 1.0]]})
    >>> decode = message_decoder({})
    >>> found = decode(pa.array([*message_encoder({})(rows, 2), b"?"]), ["features"])
    >>> found.batch.to_pydict(), found.message.tolist(), found.row.tolist(), found.refused[0].message.tolist()
    ({'features': [[1.5, -2.0], [0.0, 1.0]]}, [0, 0], [0, 1], [1])
    """
    known = Options.parse(options)

    def decode_messages(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        return _decode(values, layout_of(known, chosen(columns, COLUMNS, "RecordIO")))

    return decode_messages


def _decode(values: pa.Array, layout: Layout) -> Decoded:
    values = values.cast(pa.binary())
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
    begin, size = offsets[:-1].astype(np.int64), np.diff(offsets).astype(np.int64)
    buffer = values.buffers()[2]
    data = np.frombuffer(buffer, np.uint8) if buffer is not None and buffer.size else np.empty(0, np.uint8)
    refused: list[Refusal] = [(EMPTY, int(i), -1, "") for i in np.flatnonzero(size == 0)]
    framed_ones = _begins(data, begin, size)
    bare = np.flatnonzero(~framed_ones & (size > 0))
    parts = [_rows(data, begin[bare], size[bare], bare, np.zeros_like(bare), -1, values, layout, refused)]
    for i in np.flatnonzero(framed_ones).tolist():
        text = data[begin[i] : begin[i] + size[i]].tobytes()
        try:
            found = list(frames([text], 0, len(text), "it"))
        except UnreadableInput as error:
            refused.append((MALFORMED, i, -1, detail(text, str(error))))
            continue
        parts += _framed(found, i, values, layout, refused)
    message, row, order = in_order((message, row) for _, message, row in parts)
    table = pa.Table.from_batches([batch for batch, _, _ in parts]).combine_chunks()
    batch = table.to_batches()[0] if table.num_rows else parts[0][0]
    return Decoded(batch if order is None else batch.take(order), message, row, refusals(refused))


def _begins(data: np.ndarray, begin: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return which messages begin with the magic number."""
    found = size >= len(_MAGIC)
    for i, letter in enumerate(_MAGIC):
        found[found] = data[begin[found] + i] == letter
    return found


_Part = tuple[pa.RecordBatch, np.ndarray, np.ndarray]


def _framed(found: list[Frames], i: int, values: pa.Array, layout: Layout, refused: list[Refusal]) -> list[_Part]:
    parts, first = [], 0
    for some in found:
        n = len(some.offset)
        rows = np.arange(first, first + n)
        bad = np.zeros(n, bool)
        for reason, at in some.fault.items():
            bad[at] = True
            refused += [(reason, i, int(rows[j]), "") for j in at]
        of = np.full(n, i)[~bad]
        parts.append(_rows(some.data, some.start[~bad], some.size[~bad], of, rows[~bad], 0, values, layout, refused))
        first += n
    return parts


def _rows(
    data: np.ndarray, start: np.ndarray, size: np.ndarray, message: np.ndarray, row: np.ndarray, whole: int,
    values: pa.Array, layout: Layout, refused: list[Refusal],
) -> _Part:  # fmt: skip
    """Decode payloads; `whole` is -1 where each is a message, and its row is the message as a whole."""
    found = decode(data, start, size, layout)
    for reason, at in found.refused.items():
        refused += [
            (reason, int(message[j]), -1 if whole < 0 else int(row[j]), detail(values[int(message[j])].as_py()))
            for j in at
        ]
    return found.batch, message[found.good], row[found.good]


def message_encoder(options: dict[str, Any]) -> Encoder:
    """Return the encoder of RecordIO messages: framed records, as many as there are rows in a message.

    Args:
        options: fields of `recordio.Options`; `width` is required for sparse rows.

    Raises:
        InvalidValue: options it does not know.

    >>> message_encoder({})(pa.record_batch({"features": [[1.5]]}))[0][:4].hex()
    '0a23d7ce'
    """
    known = Options.parse(options)

    def encode(rows: pa.RecordBatch, rows_per_message: int = 1) -> list[bytes]:
        if not rows.num_rows:
            return []
        text, bounds = framed(rows, known)
        cuts = [*bounds[:-1:rows_per_message].tolist(), int(bounds[-1])]
        return [text[a:b].tobytes() for a, b in itertools.pairwise(cuts)]

    return encode
