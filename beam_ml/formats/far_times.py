"""Times that no text says: Arrow spells the years -32767 to 32767, and of others an error or another year."""

import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.errors import InvalidValue

__all__ = ["check_times", "far_times"]

_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_FIRST, _LAST = -12_687_427, 11_248_736
"""Days since the epoch. A day more on either side has these years in UTC, and not in every zone."""


def far_times(column: pa.Array) -> pa.Array | None:
    """Return which times, dates and times of the day of a column text cannot say; None: none are in it.

    >>> far_times(pa.array([0, 2**62, None], pa.timestamp("us"))).to_pylist()
    [False, True, False]
    """
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if types.is_timestamp(kind) or types.is_date64(kind):
        per_day = _PER_DAY["ms" if types.is_date64(kind) else kind.unit]
        low, high = _FIRST * per_day, (_LAST + 1) * per_day
    elif types.is_date32(kind):
        low, high = _FIRST, _LAST + 1
    elif types.is_time(kind):
        low, high = 0, _PER_DAY[kind.unit]
    else:
        return None
    whole = pa.int32() if kind.bit_width == 32 else pa.int64()
    if high >> 63:
        return None  # ns: every number of them has its year
    numbers = column.view(whole)
    return pc.fill_null(pc.or_(pc.less(numbers, low), pc.greater_equal(numbers, high)), False)


def check_times(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows that are to be written as text, if text can say all of their times.

    Raises:
        InvalidValue: it cannot; converted with `beam-ml convert`, such rows are rejects.

    >>> check_times(pa.record_batch({"t": pa.array([2**62], pa.timestamp("us"))}))
    Traceback (most recent call last):
    beam_ml.errors.InvalidValue: Times written as text must be of the years -32767 to 32767; got 4611686018427387904 ...
    """
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        far = far_times(column)
        row = -1 if far is None else pc.index(far, True).as_py()
        if row >= 0:
            plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            value = plain.slice(row, 1).view(pa.int32() if plain.type.bit_width == 32 else pa.int64())[0].as_py()
            message = (
                f"Times written as text must be of the years -32767 to 32767; got {value} ({plain.type}) in row {row} of "
                f"column {name!r}."
            )
            raise InvalidValue(message)
    return rows
