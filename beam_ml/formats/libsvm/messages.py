"""Messages of libsvm text: one or more lines, each is a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.formats.block import chosen
from beam_ml.formats.libsvm.text import COLUMNS, Options, joined, parse
from beam_ml.formats.libsvm.writing import written
from beam_ml.formats.messages import EMPTY, Decoded, Decoder, Encoder, Refusal, detail, refusals

__all__ = ["message_decoder", "message_encoder"]

_ROWS = 1 << 16


def message_decoder(options: dict[str, Any]) -> Decoder:
    r"""Return the decoder of libsvm messages.

    Args:
        options: fields of `libsvm.Options`.

    Raises:
        InvalidValue: options it does not know.

    >>> found = message_decoder({})(pa.array([b"1 1:0.5\n0 2:1", b"?"]), ["features", "label"])
    >>> found.batch.to_pydict(), found.message.tolist(), found.row.tolist(), found.refused[0].message.tolist()
    ({'features': [[(0, 0.5)], [(1, 1.0)]], 'label': [1.0, 0.0]}, [0, 0], [0, 1], [1])
    """
    known = Options.parse(options)

    def decode(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        return _decode(values.to_pylist(), chosen(columns, COLUMNS, "libsvm"), known)

    return decode


def _decode(texts: list[bytes], columns: tuple[str, ...], options: Options) -> Decoded:
    text = b"\n".join(texts)  # no line reaches into the next message
    begins = np.cumsum([0, *(len(one) + 1 for one in texts)])
    parts = list(parse(text, columns, options, _ROWS))
    none = np.empty(0, np.int64)
    start = np.concatenate([none, *(one.start for one in parts)])
    message = np.searchsorted(begins, start, side="right") - 1
    row = np.arange(len(message)) - np.searchsorted(message, message, side="left")
    firsts = np.cumsum([0, *(len(one.start) for one in parts)])
    good = np.concatenate([none, *(one.good + first for one, first in zip(parts, firsts[:-1], strict=True))])
    refused: list[Refusal] = [(EMPTY, i, -1, "") for i in np.setdiff1d(np.arange(len(texts)), message).tolist()]
    for one, first in zip(parts, firsts[:-1], strict=True):
        for reason, at in one.refused.items():
            lines = ((i, text[one.start[i] : one.stop[i]].rstrip(b"\r\n")) for i in at.tolist())
            refused += [(reason, int(message[first + i]), int(row[first + i]), detail(line)) for i, line in lines]
    batch = joined([one.batch for one in parts], columns)
    return Decoded(batch, message[good], row[good], refusals(refused))


def message_encoder(options: dict[str, Any]) -> Encoder:
    r"""Return the encoder of libsvm messages: one line per row, several separated by line ends.

    Args:
        options: fields of `libsvm.Options`.

    Raises:
        InvalidValue: options it does not know.

    >>> message_encoder({})(pa.record_batch({"features": [[1.5], [0.0], [2.0]], "label": [1, 0, 1]}), 2)
    [b'1 1:1.5\n0', b'1 1:2']
    """
    known = Options.parse(options)

    def encode(rows: pa.RecordBatch, rows_per_message: int = 1) -> list[bytes]:
        texts = [line for some in written(rows, known) for line in some]
        return [
            b"".join(texts[i : i + rows_per_message]).removesuffix(b"\n")
            for i in range(0, len(texts), rows_per_message)
        ]

    return encode
