"""What the stateful steps keep between bundles: accumulations by window end, as one value of bytes."""

import dataclasses
import struct
from collections.abc import Iterator

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_accumulation, encode_accumulation
from beam_ml.beam.wire.references import check_size, spec_of
from beam_ml.core.accumulation import Accumulation, merge, size_bytes
from beam_ml.core.threads import one_thread
from beam_ml.errors import CorruptArtefact

__all__ = ["Held", "OpenWindows", "due_at"]

_COUNT = struct.Struct(">I")
_ENTRY = struct.Struct(">qqQ")


def due_at(time_us: int, size_us: int) -> int:
    """Return the end of the window that a time lies in.

    >>> due_at(7, 5), due_at(10, 5)
    (10, 15)
    """
    return (time_us // size_us + 1) * size_us


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """One window's accumulation, as it is stored.

    Attributes:
        due: when it is let go, µs: the window's end, or for rows of no window that of the window they came in.
        data: the accumulation, encoded.
    """

    due: int
    data: bytes


class OpenWindows:
    """Window end → accumulation, and its stored form; what was decoded once stays so while the stored form is the same.

    Only what changes is encoded again. One instance serves one step of one worker, for all keys that it sees.

    Args:
        spec: of the accumulations, as JSON.
        refuse_bytes: limit of a key's accumulations in total.
    """

    def __init__(self, spec: str, refuse_bytes: int) -> None:
        self._spec_json, self._refuse_bytes = spec, refuse_bytes
        self._decoded: dict[tuple[bytes, int], tuple[bytes, Accumulation]] = {}

    def load(self, data: bytes | None) -> dict[int, Held]:
        """Return the entries of a state's bytes, in order of window end; None if there are none.

        Raises:
            CorruptArtefact: they are not what `store` returned.
        """
        return {} if not data else dict(sorted(_entries(data)))

    def store(self, held: dict[int, Held]) -> bytes:
        """Return entries as a state's bytes."""
        parts = [_COUNT.pack(len(held))]
        for end, one in sorted(held.items()):
            parts += [_ENTRY.pack(end, one.due, len(one.data)), one.data]
        return b"".join(parts)

    def get(self, key: bytes, end: int, held: Held) -> Accumulation:
        """Return an entry's accumulation."""
        known = self._decoded.get((key, end))
        if known is not None and known[0] == held.data:
            return known[1]
        accumulation = decode_accumulation(held.data, finder([spec_of(self._spec_json)[0]]))[1]
        self._decoded[key, end] = (held.data, accumulation)
        return accumulation

    def add(self, key: bytes, held: dict[int, Held], end: int, due: int, accumulation: Accumulation) -> None:
        """Add an accumulation to the entry of a window end, due when the earlier of both is.

        Raises:
            InvalidValue: in total they hold more than an engine can carry as state.
        """
        algorithm, spec = spec_of(self._spec_json)
        mine = held.get(end)
        if mine is not None:
            due = min(due, mine.due)
            with one_thread():
                accumulation = merge(algorithm, spec, self.get(key, end, mine), accumulation)
        data = encode_accumulation(algorithm, spec, accumulation)
        held[end] = Held(due, data)
        self._decoded[key, end] = (data, accumulation)
        check_size(spec, max(size_bytes(accumulation), sum(len(one.data) for one in held.values())), self._refuse_bytes)

    def drop(self, key: bytes, held: dict[int, Held], end: int) -> Accumulation:
        """Remove an entry and return its accumulation."""
        accumulation = self.get(key, end, held.pop(end))
        self._decoded.pop((key, end), None)
        return accumulation


def _entries(data: bytes) -> Iterator[tuple[int, Held]]:
    try:
        (count,) = _COUNT.unpack_from(data, 0)
        at = _COUNT.size
        for _ in range(count):
            end, due, length = _ENTRY.unpack_from(data, at)
            at += _ENTRY.size
            yield end, Held(due, data[at : at + length])
            at += length
    except struct.error as error:
        message = f"The state of open windows is damaged: {error}."
        raise CorruptArtefact(message) from error
    if at != len(data):
        message = f"The state of open windows is damaged: it must have {at} bytes; got {len(data)}."
        raise CorruptArtefact(message)
