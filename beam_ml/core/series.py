"""`SeriesBatch`: time series seen through rows of features, so that whatever carries rows carries series.

A series is a CSR row over time. With at most T steps, a horizon of H steps, J features known ahead and K categories::

    columns [0, T)                          the target by step from the start; a step that is not stored is missing
    [T + j (T + H), T + (j + 1)(T + H))     feature j by step, through the target's end or H steps further
    [T + J (T + H), … + K)                  categories, as codes of their texts; one that is not stored is unknown
    the last column                         the number of steps

`Batch.time` is that of the last step (of an empty series, of the step before its first), so windows, lateness and forgetting
hold for series as for any row. Letters: ``n`` series, ``s`` steps of all series, ``f`` steps of their features.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.frequency import Frequency
from beam_ml.errors import InvalidBatch

__all__ = ["Layout", "SeriesBatch", "code_of"]

_CODE = (1 << 52) - 1  # codes are whole numbers that a float64 holds


def code_of(text: str) -> int:
    """Return the code of a category: a hash of its text, 1 … 2⁵² − 1.

    >>> code_of("north") == code_of("north"), code_of("north") == code_of("south")
    (True, False)
    """
    found = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") & _CODE
    return found or 1


class Layout(NamedTuple):
    """Which column holds what: T, H, J and K, and how far apart steps are.

    >>> Layout(4, 2, 1, 1, Frequency.of("H")).width
    12
    """

    max_length: int
    horizon: int
    n_dynamic: int
    n_categories: int
    frequency: Frequency

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.first_category + self.n_categories + 1

    @property
    def block(self) -> int:
        """Columns of one feature."""
        return self.max_length + self.horizon

    @property
    def first_category(self) -> int:
        """Column of the first category."""
        return self.max_length + self.n_dynamic * self.block


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SeriesBatch:
    """Series of any lengths, one after the other.

    Attributes:
        layout: of the rows.
        bounds: (n + 1,) int64 where each series begins and ends in `target`.
        target: (s,) float64; NaN: missing.
        dynamic_bounds: (n + 1,) int64, as `bounds`, of the features.
        dynamic: (f, J) float64 features known ahead.
        codes: (n, K) int64 categories; 0: unknown.
        time: (n,) int64 of the last step, µs since the epoch.
        weight: (n,) float64.

    >>> layout = Layout(4, 2, 0, 1, Frequency.of("H"))
    >>> series = SeriesBatch.of_records(layout, [{"start": "2026-01-01 00:00:00", "target": [1.0, None, 0.0], "cat": ["a"]}])
    >>> batch = series.to_batch()
    >>> batch.n_features, batch.indices.tolist(), batch.values.tolist()[:2]
    (6, [0, 2, 4, 5], [1.0, 0.0])
    >>> SeriesBatch.of(batch, layout).target.tolist()
    [1.0, nan, 0.0]
    """

    layout: Layout
    bounds: np.ndarray
    target: np.ndarray
    dynamic_bounds: np.ndarray
    dynamic: np.ndarray
    codes: np.ndarray
    time: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return int(self.bounds.size - 1)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each series, (n,) int64."""
        return np.diff(self.bounds)

    @classmethod
    def of(cls, batch: Batch, layout: Layout) -> "SeriesBatch":
        """Return the series that rows hold.

        Raises:
            InvalidBatch: the rows are no series of this layout (`faults` says which, and why).
        """
        bad = faults(batch, layout)
        for reason, rows in bad:
            if rows.any():
                message = f"every row must be a series of the layout; row {int(np.argmax(rows))} is not: {reason}."
                raise InvalidBatch(message)
        row, column, value = _entries(batch)
        n, last = len(batch), layout.width - 1
        lengths = np.zeros(n, np.int64)
        of_length = column == last
        lengths[row[of_length]] = value[of_length].astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        target = np.full(int(bounds[-1]), np.nan)
        mine = column < layout.max_length
        target[bounds[row[mine]] + column[mine]] = value[mine]
        codes = np.zeros((n, layout.n_categories), np.int64)
        mine = (column >= layout.first_category) & ~of_length
        codes[row[mine], column[mine] - layout.first_category] = value[mine].astype(np.int64)
        mine = (column >= layout.max_length) & (column < layout.first_category)
        ahead = np.zeros(n, np.int64)
        if layout.n_dynamic:
            ahead = np.bincount(row[mine], minlength=n) // layout.n_dynamic
        dynamic_bounds = np.concatenate([[0], np.cumsum(ahead)])
        dynamic = np.zeros((int(dynamic_bounds[-1]), layout.n_dynamic))
        feature, step = np.divmod(column[mine] - layout.max_length, layout.block)
        dynamic[dynamic_bounds[row[mine]] + step, feature] = value[mine]
        assert batch.time is not None  # noqa: S101 `faults` refuses rows without a time
        return cls(layout, bounds, target, dynamic_bounds, dynamic, codes, batch.time, batch.weights)

    def to_batch(self, origin: Origin | None = None, position: np.ndarray | None = None) -> Batch:
        """Return the series as rows, the inverse of `of`."""
        layout, n = self.layout, len(self)
        row = np.repeat(np.arange(n), self.lengths)
        step = np.arange(self.target.size) - self.bounds[row]
        known = ~np.isnan(self.target)
        rows, columns, values = [row[known]], [step[known]], [self.target[known]]
        row = np.repeat(np.arange(n), np.diff(self.dynamic_bounds))
        step = np.arange(len(self.dynamic)) - self.dynamic_bounds[row]
        for j in range(layout.n_dynamic):
            rows.append(row)
            columns.append(layout.max_length + j * layout.block + step)
            values.append(self.dynamic[:, j])
        row, place = np.nonzero(self.codes)
        rows += [row, np.arange(n)]
        columns += [layout.first_category + place, np.full(n, layout.width - 1)]
        values += [self.codes[row, place].astype(np.float64), self.lengths.astype(np.float64)]
        row, column, value = (np.concatenate(parts) for parts in (rows, columns, values))
        order = np.lexsort((column, row))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
        return Batch.csr(
            indptr, column[order], value[order], layout.width, weight=self.weight, time=self.time,
            origin=origin, position=position,
        )  # fmt: skip

    @classmethod
    def of_records(cls, layout: Layout, records: Iterable[Mapping[str, Any]]) -> "SeriesBatch":
        """Return series from SageMaker's records: ``start``, ``target``, ``cat``, ``dynamic_feat``, as the layout has them.

        Missing values are None, NaN or "NaN"; categories any text or number; a ``weight`` may be given. The features go
        through the target's end, or the horizon further.

        Raises:
            InvalidBatch: a record that does not fit; it says which, and why.

        >>> layout = Layout(4, 2, 1, 0, Frequency.of("H"))
        >>> SeriesBatch.of_records(layout, [{"start": "2026-01-01", "target": [1.0], "dynamic_feat": [[0.0, 1.0]]}])
        Traceback (most recent call last):
        beam_ml.errors.InvalidBatch: series 0: dynamic_feat must have 1 lists of 1 or 3 numbers; got 1 of 2.
        """
        parts = [_record(layout, i, record) for i, record in enumerate(records)]
        lengths = [part[1].size for part in parts]
        starts = np.array([part[0] for part in parts], np.int64)
        dynamic = [part[2] for part in parts]
        return cls(
            layout,
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            np.concatenate([np.zeros(0), *(part[1] for part in parts)]),
            np.concatenate([[0], np.cumsum([len(one) for one in dynamic], dtype=np.int64)]).astype(np.int64),
            np.concatenate([np.zeros((0, layout.n_dynamic)), *dynamic]),
            np.array([part[3] for part in parts], np.int64).reshape(len(parts), layout.n_categories),
            layout.frequency.shifted(starts, np.array(lengths, np.int64) - 1),
            np.array([part[4] for part in parts], np.float64),
        )


def faults(batch: Batch, layout: Layout) -> list[tuple[str, np.ndarray]]:
    """Return, by reason, the masks (n,) of the rows that are no series of a layout."""
    n = len(batch)
    if batch.X is not None or batch.time is None:
        what = "no time" if batch.X is None else "dense, which cannot say what is missing"
        return [(what, np.ones(n, bool))]
    row, column, value = _entries(batch)
    lengths = np.full(n, -1.0)
    of_length = column == layout.width - 1
    lengths[row[of_length]] = value[of_length]
    unknown = ~((lengths >= 0) & (lengths <= layout.max_length) & (lengths == np.floor(lengths)))
    beyond = np.zeros(n, bool)
    mine = column < layout.max_length
    beyond[row[mine]] |= column[mine] >= lengths[row[mine]]
    code = np.zeros(n, bool)
    mine = (column >= layout.first_category) & ~of_length
    code[row[mine]] |= ~((value[mine] >= 1) & (value[mine] <= _CODE) & (value[mine] == np.floor(value[mine])))
    uneven = np.zeros(n, bool)
    for j in range(layout.n_dynamic):
        begin = layout.max_length + j * layout.block
        mine = (column >= begin) & (column < begin + layout.block)
        counts = np.bincount(row[mine], minlength=n)
        furthest = np.full(n, -1)
        np.maximum.at(furthest, row[mine], column[mine] - begin)
        uneven |= ((counts != lengths) & (counts != lengths + layout.horizon)) | (furthest + 1 != counts)
    return [
        ("its number of steps is not known", unknown),
        ("a value beyond its end", beyond & ~unknown),
        ("a category that is no code", code),
        ("features of another length than the series", uneven & ~unknown),
    ]


def _entries(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert batch.indptr is not None  # noqa: S101 a batch is dense or CSR
    assert batch.indices is not None  # noqa: S101
    assert batch.values is not None  # noqa: S101
    return np.repeat(np.arange(len(batch)), np.diff(batch.indptr)), batch.indices, batch.values.astype(np.float64)


def _record(layout: Layout, i: int, record: Mapping[str, Any]) -> tuple[int, np.ndarray, np.ndarray, list[int], float]:
    target = _numbers(i, "target", record.get("target", ()))
    if target.size > layout.max_length:
        message = f"series {i}: target must have at most {layout.max_length} steps (max_length); got {target.size}."
        raise InvalidBatch(message)
    given = record.get("dynamic_feat") or ()
    features = [_numbers(i, "dynamic_feat", one) for one in given]
    sizes = {one.size for one in features}
    allowed = (target.size, target.size + layout.horizon)
    if len(features) != layout.n_dynamic or len(sizes) > 1 or not sizes <= set(allowed):
        got = f"{len(features)} of {' and '.join(map(str, sorted(sizes))) or 'none'}"
        wanted = f"{layout.n_dynamic} lists of {allowed[0]} or {allowed[1]} numbers"
        message = f"series {i}: dynamic_feat must have {wanted}; got {got}."
        raise InvalidBatch(message)
    dynamic = np.stack(features, axis=1) if features else np.zeros((0, layout.n_dynamic))
    if not np.isfinite(dynamic).all():
        message = f"series {i}: dynamic_feat must be finite: a feature known ahead has no missing values."
        raise InvalidBatch(message)
    found = record.get("cat")
    categories = (
        [] if found is None else list(found) if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    )
    if len(categories) != layout.n_categories:
        message = f"series {i}: cat must have {layout.n_categories} categories; got {len(categories)}."
        raise InvalidBatch(message)
    codes = [0 if one is None else code_of(str(one)) for one in categories]
    try:
        start = np.datetime64(record["start"]).astype("datetime64[us]")
    except (KeyError, ValueError) as error:
        message = f"series {i}: start must be a time such as '2026-01-01 00:00:00'; got {record.get('start')!r}."
        raise InvalidBatch(message) from error
    return int(start.astype(np.int64)), target, dynamic, codes, float(record.get("weight", 1.0))


def _numbers(i: int, name: str, values: Any) -> np.ndarray:
    try:
        return np.array([np.nan if one is None else float(one) for one in values], np.float64)
    except (TypeError, ValueError) as error:
        message = f"series {i}: {name} must be numbers, None or 'NaN'; got {shown_values(values)}."
        raise InvalidBatch(message) from error


def shown_values(values: Any) -> str:
    """Return a short text of what was given in place of numbers."""
    text = repr(values)
    return text if len(text) <= 60 else f"{text[:57]}..."
