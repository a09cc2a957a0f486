"""Debezium's change events: which columns a row of a changed table has, and which events are rows.

An event holds the row `before` and `after` the change, what was done (`op`), and when (`ts_ms`). Inserted (`c`), read (`r`)
and updated (`u`) rows are rows, by their values after the change; an update counts as one more, for what was learned cannot
be unlearned. Deletions (`d`) and truncations (`t`) are refused, as is what is no change event, or says of no row what it
is after the change.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.errors import InvalidValue
from beam_ml.formats.messages import Decoded, Decoder, refusals, rows_batch

__all__ = ["decoder", "path"]

_OP = "op"
_ROWS = ("c", "r", "u")
_REFUSED = {"d": "deletion", "t": "truncation"}
_NO_EVENT = "no change event"
_NO_ROW = "change event without a row after the change"
_SHOWN = 80


def path(name: str) -> str:
    """Return where a column stands in an event; `__op`, `__ts_ms` and `__source_…` have the names of Debezium's unwrapping.

    >>> [path(name) for name in ("amount", "__ts_ms", "__source_lsn", "before.amount")]
    ['after.amount', 'ts_ms', 'source.lsn', 'before.amount']
    """
    if name.startswith("__source_"):
        return f"source.{name.removeprefix('__source_')}"
    if name in ("__op", "__ts_ms"):
        return name.removeprefix("__")
    return name if name.startswith("before.") else f"after.{name}"


def decoder(decode: Decoder, events: Callable[[bytes], Sequence[object]]) -> Decoder:
    """Return the decoder of change events in messages that another decodes; the columns wanted must be named.

    Args:
        decode: of the messages.
        events: returns all events of one message, whole; asked only where every wanted value after the change is null.

    >>> import json
    >>> from beam_ml.formats.messages import decoder as of
    >>> events = [{"op": "c", "after": {"x": 1}}, {"op": "d", "before": {"x": 1}, "after": None}]
    >>> read = decoder(of("json"), lambda message: [json.loads(message)])
    >>> found = read(pa.array([json.dumps(event).encode() for event in events]), ["x"])
    >>> found.batch.to_pydict(), [(one.reason, one.message.tolist()) for one in found.refused]
    ({'x': [1]}, [('deletion', [1])])
    """

    def read(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        if columns is None:
            message = "columns must be named where messages are change events; got None."
            raise InvalidValue(message)
        names = list(dict.fromkeys(columns))
        found = decode(values, [*dict.fromkeys([_OP, *map(path, names)])])
        ops = [one if isinstance(one, str) else "" for one in found.batch.column(_OP).to_pylist()]
        good = np.array([one in _ROWS for one in ops], dtype=bool)
        reasons = {k: _REFUSED.get(ops[k], _NO_EVENT) for k in np.flatnonzero(~good).tolist()}
        empty = good.copy()
        for name in map(path, names):
            if name.startswith("after."):
                empty &= pc.is_null(found.batch.column(name)).to_numpy(zero_copy_only=False)
        for k in np.flatnonzero(empty).tolist():
            event = dict(enumerate(events(values[int(found.message[k])].as_py()))).get(int(found.row[k]))
            if not isinstance(event, Mapping) or not isinstance(event.get("after"), Mapping):
                reasons[k], good[k] = _NO_ROW, False
        refused = refusals(
            (reasons[k], int(found.message[k]), int(found.row[k]), f"op {ops[k]!r}"[:_SHOWN]) for k in sorted(reasons)
        )
        taken = {name: found.batch.column(path(name)).filter(pa.array(good)) for name in names}
        batch = rows_batch(taken, int(good.sum()))
        return dataclasses.replace(
            found, batch=batch, message=found.message[good], row=found.row[good], refused=(*found.refused, *refused)
        )

    return read
