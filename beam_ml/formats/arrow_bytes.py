"""Rows as an Arrow IPC stream within an artefact, and back."""

import numpy as np
import pyarrow as pa

from beam_ml.errors import CorruptArtefact

__all__ = ["from_stream", "to_stream"]


def to_stream(batch: pa.RecordBatch) -> np.ndarray:
    """Return rows as the uint8 bytes of an Arrow stream of one batch.

    >>> from_stream(to_stream(pa.record_batch({"x": [1, 2]})), "rows").to_pydict()
    {'x': [1, 2]}
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def from_stream(data: np.ndarray, what: str) -> pa.RecordBatch:
    """Return the rows.

    Args:
        data: of `to_stream`.
        what: whose columns they are, for the message.

    Raises:
        CorruptArtefact: the bytes are no Arrow stream, or its buffers do not fit its schema.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            batch = reader.read_next_batch()
            batch.validate(full=True)
            return batch
    except (pa.ArrowException, OSError, StopIteration) as error:
        message = f"The {what}'s columns are no Arrow stream: {error}."
        raise CorruptArtefact(message) from error
