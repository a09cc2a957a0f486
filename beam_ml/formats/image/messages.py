"""Messages of images: each is the bytes of one JPEG or PNG."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.formats import matrix
from beam_ml.formats.block import chosen
from beam_ml.formats.image.decoding import decoded
from beam_ml.formats.image.files import encode
from beam_ml.formats.image.options import Options, Pixels
from beam_ml.formats.messages import EMPTY, Decoded, Decoder, Encoder, Refused, rows_batch

__all__ = ["message_decoder", "message_encoder"]


def message_decoder(options: dict[str, Any]) -> Decoder:
    """Return the decoder of messages that are images: rows of one column, `features`; the key is `kafka.key`.

    Args:
        options: fields of `image.Pixels`.

    Raises:
        InvalidValue: options it does not know.

    >>> decode = message_decoder({"height": 1, "width": 1})
    >>> rows = pa.record_batch({"features": pa.array([[1.0, 0.0, 1.0]], pa.list_(pa.float32()))})
    >>> found = decode(pa.array([*message_encoder({"height": 1, "width": 1})(rows), b"?"]))
    >>> found.batch.to_pydict(), found.refused[0].reason
    ({'features': [[1.0, 0.0, 1.0]]}, 'neither a JPEG nor a PNG image')
    """
    known = Pixels.parse(options)

    def decode(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        names = chosen(columns, (matrix.FEATURES,), "A message of an image")
        found = decoded((one.as_py() or None for one in values), len(values), known)
        empty = np.array([i for i, one in enumerate(values) if not one.as_py()], np.int64)
        refused = [
            Refused(reason, at, None, tuple(found.detail[i] for i in at.tolist()))
            for reason, at in found.refused.items()
        ]
        refused += [Refused(EMPTY, empty)] if len(empty) else []
        good = np.setdiff1d(np.arange(len(values)), np.concatenate([[], *(one.message for one in refused)]))
        X = found.X if len(good) == len(values) else found.X[good]
        every = {matrix.FEATURES: matrix.dense(np.arange(len(X) + 1) * known.features, X.reshape(-1))}
        batch = rows_batch({name: every[name] for name in names}, len(X))
        return Decoded(batch, good.astype(np.int64), np.zeros(len(good), np.int64), tuple(refused))

    return decode


def message_encoder(options: dict[str, Any]) -> Encoder:
    """Return the encoder of messages that are images: a PNG per row, whatever is asked.

    Args:
        options: fields of `image.Pixels`.

    Raises:
        InvalidValue: options it does not know.

    >>> rows = pa.record_batch({"features": [[0.0, 1.0]]})
    >>> message_encoder({"height": 1, "width": 2, "color": "grey"})(rows)[0][1:4]
    b'PNG'
    """
    known = Options.parse(Pixels.parse(options).to_dict())

    def write(rows: pa.RecordBatch, rows_per_message: int = 1) -> list[bytes]:
        return [encode(rows.slice(i, 1), known) for i in range(rows.num_rows)]

    return write
