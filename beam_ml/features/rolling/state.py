"""`State`: what one shard of one key remembers, as plain arrays; its bytes, and how they are checked.

Memory: an exact part keeps 16 bytes per value and 8 per lane, of the rows that its longest window reaches, delay included;
with `known` 8 more. A sawtooth part keeps 16 bytes per tile and key, 24 per function, and 2^precision per distinct: at most
289 tiles per key and function below 12 days, then one per day, however many rows there are. A row that waits takes 32 bytes
and 8 per lane and clock.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml.artefact.envelope import decode, encode
from beam_ml.core.spec import canonical_json
from beam_ml.errors import CorruptArtefact, InvalidValue, WrongKind
from beam_ml.features.rolling import exact, sawtooth
from beam_ml.features.rolling.layout import Layout, layout_of
from beam_ml.features.rolling.results import Arrays
from beam_ml.features.rolling.rows import Rows, no_rows
from beam_ml.features.rolling.spec import Rolling
from beam_ml.features.rolling.stored import arrays_of, rows_from, taken, texts_from
from beam_ml.features.rolling.texts import Texts

__all__ = ["BEGINNING", "END", "State", "check_size", "empty", "from_bytes", "to_bytes"]

BEGINNING = -(2**63)
"""Before every time."""
END = 2**63 - 1
"""After every time."""
_KIND = "rolling"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class State:
    """What one shard of one key remembers. Nothing in it is ever changed.

    Attributes:
        shard: its number, in [0, Rolling.n_states).
        before: rows dated before this, µs, have had their features computed; a row that comes for it is late.
        newest: newest event time that has come, µs.
        late: rows that were late, in all.
        waiting: rows that came and are not before `before`, in the order they came.
        parts: what each part of the layout keeps.
        texts: of the codes kept.
    """

    shard: int
    before: int
    newest: int
    late: int
    waiting: Rows
    parts: tuple[Arrays, ...]
    texts: Texts

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays."""
        kept = sum(int(values.nbytes) for part in self.parts for values in part.values())
        return kept + self.texts.nbytes + self.waiting.nbytes


def empty(spec: Rolling, shard: int) -> State:
    """Return the state before the first row.

    Args:
        spec: of the windows.
        shard: number of the state, in [0, spec.n_states): shard i of key k is k · shards + i.

    Raises:
        InvalidValue: there is no such state.

    >>> spec = Rolling(time="ts", aggregates=[{"key": "card", "of": "count", "windows": ["1d"]}])
    >>> state = empty(spec, 3)
    >>> state.shard, state.nbytes, len(state.waiting)
    (3, 0, 0)
    """
    spec.key_of(shard)
    layout = layout_of(spec, shard // spec.shards)
    parts = tuple(sawtooth.empty(layout, part) if part.hop_us else exact.empty(part) for part in layout.parts)
    return State(shard, BEGINNING, BEGINNING, 0, no_rows(layout), parts, Texts.empty())


def check_size(spec: Rolling, state: State) -> State:
    """Return the state; refuse one that is larger than the spec allows.

    Raises:
        InvalidValue: it is.
    """
    if state.nbytes > spec.max_state_bytes:
        message = (
            f"Rolling.max_state_bytes must hold a state; got {spec.max_state_bytes:,}, and state {state.shard} of key "
            f"{list(spec.key_of(state.shard))} has {state.nbytes:,} (more shards, shorter windows or sawtooth ones do)."
        )
        raise InvalidValue(message)
    return state


def _mark(spec: Rolling) -> str:
    """Return what stands for the settings that shape a state."""
    return hashlib.sha256(canonical_json(spec.shape).encode()).hexdigest()


def to_bytes(spec: Rolling, state: State) -> bytes:
    """Return the state as bytes, equal ones for equal states.

    >>> spec = Rolling(time="ts", aggregates=[{"key": "card", "of": "count", "windows": ["1d"]}])
    >>> from_bytes(spec, to_bytes(spec, empty(spec, 3))).shard
    3
    """
    arrays = {f"part/{i}/{name}": values for i, part in enumerate(state.parts) for name, values in part.items()}
    arrays |= arrays_of(state.waiting, "waiting/")
    meta = {
        "spec": _mark(spec),
        "shard": state.shard,
        "before": state.before,
        "newest": state.newest,
        "late": state.late,
        "tags": [list(tag) for tag in state.waiting.tags],
    }
    return encode(_KIND, meta, arrays)


def from_bytes(spec: Rolling, data: bytes) -> State:
    """Read the bytes of `to_bytes`.

    Raises:
        CorruptArtefact: they are not whole, or hold what no state does.
        WrongKind: they are a state of other settings, or no state of rolling windows.

    >>> spec = Rolling(time="ts", aggregates=[{"key": "card", "of": "count", "windows": ["1d"]}])
    >>> data = to_bytes(spec, empty(spec, 3))
    >>> from_bytes(spec, data[:100])
    Traceback (most recent call last):
    beam_ml.errors.CorruptArtefact: The artefact is cut short or is no safetensors file: 100 bytes, header of 1192 bytes.
    """
    found = decode(data, _KIND)
    meta, left = found.meta, dict(found.arrays)
    if meta.get("spec") != _mark(spec):
        message = "The state of rolling windows is of other settings: it cannot be continued with these."
        raise WrongKind(message)
    shard, before, newest, late = (_whole(meta, name) for name in ("shard", "before", "newest", "late"))
    if not 0 <= shard < spec.n_states or late < 0:
        message = f"The rolling state must be one of {spec.n_states} and have no negative count; got {shard}, {late}."
        raise CorruptArtefact(message)
    layout = layout_of(spec, shard // spec.shards)
    parts = tuple(_part(layout, i, left) for i in range(len(layout.parts)))
    texts = texts_from(left)
    waiting = rows_from(layout, meta.get("tags"), left, "waiting/", texts)
    if left:
        message = f"The rolling state has arrays that none has: {sorted(left)[:5]}."
        raise CorruptArtefact(message)
    return check_size(spec, State(shard, before, newest, late, waiting, parts, texts))


def _whole(meta: Mapping[str, Any], name: str) -> int:
    value = meta.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not BEGINNING <= value <= END:
        message = f"The rolling state's {name} must be a whole number of 64 bits; got {value!r}."
        raise CorruptArtefact(message)
    return value


def _part(layout: Layout, i: int, left: dict[str, np.ndarray]) -> Arrays:
    part = layout.parts[i]
    shapes = sawtooth.names(layout, part) if part.hop_us else {k: (v, 0) for k, v in exact.names(part).items()}
    found = {
        name: taken(left, f"part/{i}/{name}", dtype, *([width] if width else []))
        for name, (dtype, width) in shapes.items()
    }
    key, time = found["key"], found["tile" if part.hop_us else "dated"]
    if any(len(values) != key.size for values in found.values()):
        message = f"The rolling state's part {i} must have arrays of one length."
        raise CorruptArtefact(message)
    rises = (key[1:] > key[:-1]) | ((key[1:] == key[:-1]) & (time[1:] >= time[:-1]))
    if part.hop_us:
        rises &= (key[1:] != key[:-1]) | (time[1:] > time[:-1])
    if not rises.all():
        message = f"The rolling state's part {i} must be sorted by key and time."
        raise CorruptArtefact(message)
    return found
