"""Columns of times as µs since the epoch: timestamps, dates, and numbers of a unit that is given or shown by their size."""

import contextlib
import dataclasses
import functools
import logging
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field

from beam_ml.core.epochs import PER_SECOND, UnitOfNumbers, counting, in_us
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue
from beam_ml.features.columns import Name, column, is_text, name_of, spelled, wrong

__all__ = ["CLOCK", "TIME", "EventTime", "TimeColumn", "Times", "times_us"]

_log = logging.getLogger(__name__)

TIME = "Features.time"
"""What messages call the setting that names the event times."""
CLOCK = "Features.numeric"
"""What they call the setting that names the features that are numbers, parts of times among them."""
_SETTLES = {
    TIME: "time = {{ column = {name!r}, unit = {unit!r} }} settles it",
    CLOCK: "unit = {unit!r} beside transform settles it",
}
_EPOCH, _TICK = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_WHOLE = r"^[+-]?\d{1,18}$"
_DATED = r"^(1[89]|2[0-2])\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?"
"""Times that Arrow and Python read alike, by the many; before the zone, if there is one."""
_WANTED = "a timestamp, a date or a number since the epoch"


class EventTime(Settings):
    """A column of numbers that count from the epoch, and what they count.

    >>> EventTime(column="ts", unit="ms").unit
    'ms'
    """

    called: ClassVar[str] = TIME

    column: Name
    unit: Annotated[UnitOfNumbers, Field(description="what whole numbers count since 1970: s, ms, us or ns")]


def _spelled_out(value: Any) -> Any:
    value = name_of(value)
    if isinstance(value, dict):
        return EventTime.parse(value)
    if value is not None and not isinstance(value, str | EventTime):
        message = (
            "Features.time must be a column's name, or a table such as { column = 'ts', unit = 's' }; got "
            + repr(value)
        )
        raise InvalidValue(message + ".")
    return value


TimeColumn = Annotated[Name | EventTime, BeforeValidator(_spelled_out, json_schema_input_type=str | int | EventTime)]
"""A column's name, or a name and a unit."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Times:
    """A column of times.

    Attributes:
        us: (n,) int64 µs since the epoch; 0 where there is none.
        missing: (n,) bool where it is null or NaN; None: nowhere.
        implausible: (n,) bool where it is before 1900 or after 2200, or a number of which the unit is neither given nor
            recognisable; None: nowhere.
        unread: (n,) bool where a text spells neither a time nor a number; None: nowhere.
        texts: the column as it was, where `unread` is not None.
    """

    us: np.ndarray
    missing: np.ndarray | None = None
    implausible: np.ndarray | None = None
    unread: np.ndarray | None = None
    texts: pa.Array | None = None

    @property
    def unusable(self) -> np.ndarray | None:
        """Return where there is no time to use; None: nowhere."""
        found = [one for one in (self.missing, self.implausible, self.unread) if one is not None]
        return reduce(np.logical_or, found) if found else None


def times_us(batch: pa.RecordBatch, name: str, field: str, unit: UnitOfNumbers | None = None) -> Times:
    """Return a column of times in µs since the epoch. Timestamps without a zone are taken as UTC.

    Args:
        batch: n rows.
        name: the column.
        field: the setting that names it, for messages.
        unit: of numbers; None: recognised by their size, between 1990 and 2100, with a warning where it is not µs.

    Raises:
        MissingColumn: it is absent or of another type.

    >>> times_us(pa.record_batch({"ts": [1_709_296_200, None]}), "ts", "Features.time", "s").us.tolist()
    [1709296200000000, 0]
    """
    array = column(batch, name, field, _WANTED)
    kind, types = array.type, pa.types
    if types.is_null(kind):
        return Times(np.zeros(len(array), dtype=np.int64), np.ones(len(array), dtype=bool))
    if is_text(kind):
        return _of_texts(array, name, field, unit)
    if types.is_boolean(kind):  # a format without types may find truth values in one block and texts in the next
        array = array.cast(pa.int8())
        kind = array.type
    if types.is_date(kind):
        array = array.cast(pa.timestamp("s" if types.is_date32(kind) else "ms"))
        kind = array.type
    if types.is_timestamp(kind):
        unit, array = kind.unit, array.cast(pa.int64())
    elif not (types.is_integer(kind) or types.is_floating(kind)):
        raise wrong(name, field, _WANTED, kind)
    missing = (
        array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        if array.null_count or types.is_floating(kind)
        else None
    )
    missing = missing if missing is not None and missing.any() else None
    values = (array if types.is_floating(kind) else array.fill_null(0)).to_numpy(zero_copy_only=False)
    if missing is not None:
        values = np.where(missing, 0, values)
    return _read(values, missing, name, field, unit)


def _of_texts(texts: pa.Array, name: str, field: str, unit: UnitOfNumbers | None) -> Times:
    """Read each text as a number where it spells one, else as ISO 8601."""
    trimmed = pc.utf8_trim_whitespace(texts.cast(pa.string()))
    empty = np.asarray(pc.fill_null(pc.equal(trimmed, ""), True))
    whole = np.asarray(pc.fill_null(pc.match_substring_regex(trimmed, _WHOLE), False))
    values = spelled(trimmed).values
    us, done = np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=bool)
    implausible = np.zeros(len(texts), dtype=bool)
    for rows, exact in ((whole, True), (np.isfinite(values) & ~whole, False)):
        if rows.any():
            counts = trimmed.filter(pa.array(rows)).cast(pa.int64()).to_numpy() if exact else values[rows]
            found = _read(counts, None, name, field, unit)
            us[rows], done[rows] = found.us, True
            implausible[rows] = False if found.implausible is None else found.implausible
    rest = ~done & ~empty
    if rest.any():
        dated_us, dated = _dates(trimmed.filter(pa.array(rest)))
        found = _read(dated_us, None, name, field, "us")
        us[rest], done[rest] = found.us, dated
        implausible[rest] = False if found.implausible is None else found.implausible
    unread = ~done & ~empty
    return Times(
        us,
        empty if empty.any() else None,
        implausible if implausible.any() else None,
        unread if unread.any() else None,
        texts,
    )


def _dates(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return µs of ISO 8601, taken as UTC without a zone; and where there is one, for there is no 45th of a month."""
    us, dated = np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=bool)
    for zone, ending in ((None, "$"), ("UTC", r"(Z|[+-]\d\d:\d\d)$")):
        rows = np.asarray(pc.match_substring_regex(texts, _DATED + ending))
        with contextlib.suppress(pa.ArrowInvalid):  # one of them is none: each is looked at below
            us[rows] = texts.filter(pa.array(rows)).cast(pa.timestamp("us", tz=zone)).cast(pa.int64()).to_numpy()
            dated[rows] = True
    for i in np.flatnonzero(~dated).tolist():
        with contextlib.suppress(ValueError):
            time = datetime.fromisoformat(texts[i].as_py())
            us[i] = ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _TICK
            dated[i] = True
    return us, dated


def _read(values: np.ndarray, missing: np.ndarray | None, name: str, field: str, unit: UnitOfNumbers | None) -> Times:
    if unit is None and _are_us(values, missing):
        unit = "us"
    if unit is not None:
        us, inside = in_us(values, unit)
        return Times(us, missing, None if inside.all() else ~inside)
    us, lost = np.zeros(len(values), dtype=np.int64), np.ones(len(values), dtype=bool)
    for one in PER_SECOND:
        rows = counting(values, one)
        if rows.any():
            if one != "us":
                _say(field, name, one)
            us[rows], lost[rows] = in_us(values[rows], one)[0], False
    if missing is not None:
        lost &= ~missing
    return Times(us, missing, lost if lost.any() else None)


def _are_us(values: np.ndarray, missing: np.ndarray | None) -> bool:
    """Return whether all numbers count µs: the common case."""
    known = counting(values, "us")
    return bool((known if missing is None else known | missing).all())


@functools.cache
def _say(field: str, name: str, unit: str) -> None:
    """Say once which unit was recognised, and how to settle it where a setting does."""
    settles = _SETTLES.get(field, "a unit that is given settles it").format(name=name, unit=unit)
    _log.warning(
        "%s: the numbers of column %r are read as %s since the epoch, by their size; %s.", field, name, unit, settles
    )
