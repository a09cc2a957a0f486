"""Messages between the trainer and a process of its pool, over a socket: JSON, then the bytes of arrays as they lie there.

::

    length of the JSON, 8 bytes big-endian | JSON: the head, and the length of each buffer | the buffers
"""

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Closed", "receive", "send"]

_LENGTH = struct.Struct(">Q")


class Closed(Exception):
    """The other side has ended, or closed its end, where a message should begin or go on."""


def send(to: socket.socket, head: Mapping[str, Any], buffers: Sequence[bytes | np.ndarray] = ()) -> None:
    """Send a message.

    Args:
        to: a connected socket.
        head: JSON values.
        buffers: bytes, or C-contiguous arrays.

    Raises:
        Closed: nobody reads it.
    """
    views = [memoryview(one).cast("B") if len(one) else memoryview(b"") for one in map(_flat, buffers)]
    text = json.dumps([head, [view.nbytes for view in views]]).encode()
    try:
        to.sendall(_LENGTH.pack(len(text)) + text)
        for view in views:
            to.sendall(view)
    except OSError as error:
        raise Closed from error


def _flat(value: bytes | np.ndarray) -> Any:
    return value.reshape(-1) if isinstance(value, np.ndarray) else value


def receive(of: socket.socket) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Wait for a message; return its head and its buffers as arrays of uint8.

    Raises:
        Closed: none comes any more.
    """
    (length,) = _LENGTH.unpack(_exactly(of, _LENGTH.size).tobytes())
    head, sizes = json.loads(_exactly(of, length).tobytes())
    return head, [_exactly(of, size) for size in sizes]


def _exactly(of: socket.socket, size: int) -> np.ndarray:
    data = np.empty(size, dtype=np.uint8)
    view, have = data.data, 0
    while have < size:
        try:
            got = of.recv_into(view[have:], size - have, socket.MSG_WAITALL)
        except OSError as error:
            raise Closed from error
        if not got:
            raise Closed
        have += got
    return data
