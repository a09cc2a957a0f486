"""Columns → the features that are numbers, dense. Letters: ``n`` rows, ``d`` features."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_ml.core.epochs import UnitOfNumbers
from beam_ml.features.calendar import Clock, Moments
from beam_ml.features.coded import CATEGORIES
from beam_ml.features.columns import Numbers, numbers
from beam_ml.features.rules import Rule, unread
from beam_ml.features.terms import Plain, Term
from beam_ml.features.times import CLOCK, EventTime, TimeColumn, Times, times_us

__all__ = ["Dense", "names_of", "numeric", "units_of"]

_ROWS = 8192
"""Rows whose features are written together, so that the strided writes of one pass stay in the cache."""


class Dense(NamedTuple):
    """Features that are numbers.

    Attributes:
        X: (n, d) float32 if all of them are float32 columns taken as they are, else float64.
        rules: that rows break.
    """

    X: np.ndarray
    rules: list[Rule]


def names_of(terms: Sequence[Term]) -> tuple[str, ...]:
    """Return the names of all features of terms.

    >>> names_of([Plain(column="a"), Plain(column="b", fill=0.0, indicator=True)])
    ('a', 'b', 'missing(b)')
    """
    return tuple(name for term in terms for name in term.names)


def units_of(terms: Sequence[Term], time: TimeColumn | None) -> dict[str, UnitOfNumbers]:
    """Return the units that are given for columns of times: one column has one.

    Raises:
        ValueError: two places give one column different units.
    """
    units: dict[str, UnitOfNumbers] = {time.column: time.unit} if isinstance(time, EventTime) else {}
    for term in terms:
        if isinstance(term, Clock) and term.unit is not None:
            first = units.setdefault(term.column, term.unit)
            if first != term.unit:
                message = f"numeric and time must give the column {term.column!r} one unit; got {first} and {term.unit}"
                raise ValueError(message)
    return units


def numeric(
    terms: Sequence[Term], batch: pa.RecordBatch, times: Mapping[str, Times], units: Mapping[str, UnitOfNumbers]
) -> Dense:
    """Compute the features of n rows.

    Args:
        terms: what is computed.
        batch: n rows.
        times: columns of times that are read already.
        units: that are given for columns of times.

    Raises:
        MissingColumn: a column is absent or of the wrong type.

    >>> numeric([Plain(column="a", transform="log1p")], pa.record_batch({"a": [0.0]}), {}, {}).X.tolist()
    [[0.0]]
    """
    values: dict[str, Numbers] = {}
    clock: dict[str, Times] = {}
    coded: dict[str, np.ndarray] = {}
    rules = list[Rule]()
    for term in terms:
        name = term.column
        if isinstance(term, CATEGORIES):
            coded[term.name], broken = term.read(batch)
            rules += broken
        elif isinstance(term, Clock):
            if name not in clock:
                clock[name] = times.get(name) or times_us(batch, name, CLOCK, units.get(name))
        elif name not in values:
            values[name] = numbers(batch, name, "Features.numeric")
    X = _written(terms, batch.num_rows, values, clock, coded)
    gaps = {name: found.unusable for name, found in clock.items() if found.unusable is not None}
    start = 0
    for term in terms:
        end = start + len(term.names)
        if isinstance(term, Clock) and term.column in gaps:
            X[gaps[term.column], start:end] = np.nan
        start = end
    rules += [unread(f"feature column {name}", one) for name, one in values.items() if one.unread is not None]
    return Dense(X, rules + _unusable(terms, X, bool(gaps)))


def _written(
    terms: Sequence[Term],
    n: int,
    values: Mapping[str, Numbers],
    clock: Mapping[str, Times],
    coded: Mapping[str, np.ndarray],
) -> np.ndarray:
    single = all(
        isinstance(term, Plain) and term.transform == "identity" and values[term.column].values.dtype == np.float32
        for term in terms
    )
    X = np.empty((n, sum(len(term.names) for term in terms)), dtype=np.float32 if single else np.float64)
    shown = dict.fromkeys((term.column, term.zone) for term in terms if isinstance(term, Clock))
    with np.errstate(divide="ignore", invalid="ignore"):
        for begin in range(0, n, _ROWS):
            rows = slice(begin, begin + _ROWS)
            moments = {(name, zone): Moments.of(clock[name].us[rows], zone) for name, zone in shown}
            start = 0
            for term in terms:
                end = start + len(term.names)
                if isinstance(term, Clock):
                    term.write(X[rows, start:end], moments[term.column, term.zone])
                elif isinstance(term, CATEGORIES):
                    X[rows, start:end] = coded[term.name][rows]
                else:
                    term.write(X[rows, start:end], values[term.column].values[rows])
                start = end
    return X


def _unusable(terms: Sequence[Term], X: np.ndarray, gaps: bool) -> list[Rule]:
    """Return the rules that features are finite which rows break; one sum decides the common case."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not gaps and np.isfinite(X.sum()):
            return []
    finite, names = np.isfinite(X), names_of(terms)
    return [Rule(f"non-finite feature {names[j]}", ~finite[:, j]) for j in np.flatnonzero(~finite.all(axis=0))]
