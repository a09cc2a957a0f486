"""`Features`: a block's columns → a `Batch`. The same settings serve training, scoring and the endpoint.

Numbers come first, dense; with categories, that follow by hash, a batch is sparse. Letters: ``n`` rows, ``d`` features,
``h`` columns of categories.
"""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from beam_ml.core.batch import Batch
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import Settings
from beam_ml.features.columns import Numbers, numbers
from beam_ml.features.hashing import HashedTerm, buckets_of
from beam_ml.features.labels import Label, LabelColumn, labelled
from beam_ml.features.matrix import Matrix
from beam_ml.features.terms import Clock, Plain, Standardised, Term, clock_values, hours
from beam_ml.features.times import CLOCK, TIME, EventTime, TimeColumn, Times, UnitOfNumbers, times_us
from beam_ml.formats.block import Block
from beam_ml.formats.table import Roles

__all__ = ["Features"]

_MAX_FEATURES = 100_000_000  # as many as specs take

_ROWS = 8192
"""Rows whose features are written together, so that the strided writes of one pass stay in the cache."""


_SHOWN = 200
"""Characters of a text that is shown of a rejected row."""


class _Rule(NamedTuple):
    """A reason to reject rows, where it holds, and the texts that are then shown."""

    reason: str
    broken: np.ndarray
    texts: pa.Array | None = None


class Features(Settings):
    """Which columns become features, label, weight and event time.

    >>> features = Features(numeric=["amount", {"column": "amount", "transform": "log1p"}], label="fraud")
    >>> features.names
    ('amount', 'log1p(amount)')
    >>> batch, rejected = features.to_batch(Block(pa.record_batch({"amount": [0.0, 1.0], "fraud": [0, 1]})))
    >>> batch.X.tolist(), batch.label.tolist(), rejected
    ([[0.0, 0.0], [1.0, 0.6931471805599453]], [0.0, 1.0], ())
    >>> Features(numeric=["amount"], hashed=["shop", {"column": "card", "buckets": 1000}]).n_features
    66537
    """

    numeric: Annotated[tuple[Term, ...], Field(description="features that are numbers, in order")] = ()
    hashed: Annotated[
        tuple[HashedTerm, ...],
        Field(
            description="columns of categories, one indicator per value by hash, behind the numbers; batches are CSR"
        ),
    ] = ()
    matrix: Annotated[
        Matrix | None,
        Field(description="all features from one column, as RecordIO and libsvm have them; then there are no others"),
    ] = None
    label: Annotated[
        LabelColumn | None,
        Field(
            description="column of what is to be predicted: numbers, truth values, or values that a table sorts, as in "
            "{ column = 'status', positive = ['fraud'], negative = ['paid'] }"
        ),
    ] = None
    weight: Annotated[str | None, Field(description="column of sample weights")] = None
    time: Annotated[
        TimeColumn | None,
        Field(
            description="column of event times: timestamps, or numbers since the epoch, whose unit is recognised by their "
            "size or given, as in { column = 'ts', unit = 's' }"
        ),
    ] = None

    @field_validator("numeric")
    @classmethod
    def _distinct(cls, value: tuple[Term, ...]) -> tuple[Term, ...]:
        names = [term.name for term in value]
        if len(set(names)) != len(names):
            message = f"must name no feature twice, as {sorted({n for n in names if names.count(n) > 1})} are"
            raise ValueError(message)
        return value

    @field_validator("hashed")
    @classmethod
    def _once(cls, value: tuple[HashedTerm, ...]) -> tuple[HashedTerm, ...]:
        names = [term.column for term in value]
        if len(set(names)) != len(names):
            message = f"must name no column twice, as {sorted({n for n in names if names.count(n) > 1})} are"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _some(self) -> "Features":
        if self.matrix is not None and (self.numeric or self.hashed):
            message = (
                "matrix holds all features: numeric and hashed must be left out with it; got "
                f"{[term.column for term in (*self.numeric, *self.hashed)]}"
            )
            raise ValueError(message)
        if self.matrix is None and not self.numeric and not self.hashed:
            message = "numeric must name at least one feature; got []"
            raise ValueError(message)
        if self.n_features > _MAX_FEATURES:
            message = f"hashed must leave n_features <= {_MAX_FEATURES:,}; got {self.n_features:,}"
            raise ValueError(message)
        _units(self.numeric, self.time)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features that are numbers, in order."""
        return tuple(term.name for term in self.numeric)

    @property
    def n_features(self) -> int:
        """The number of features, places of categories included."""
        if self.matrix is not None:
            return self.matrix.width
        return len(self.numeric) + sum(term.places for term in self.hashed)

    @property
    def is_sparse(self) -> bool:
        """Whether batches are CSR."""
        return bool(self.hashed) if self.matrix is None else self.matrix.sparse

    @property
    def time_column(self) -> str | None:
        """The column of event times."""
        return self.time.column if isinstance(self.time, EventTime) else self.time

    @property
    def label_column(self) -> str | None:
        """The column of labels."""
        return self.label.column if isinstance(self.label, Label) else self.label

    @property
    def roles(self) -> Roles:
        """The columns that formats of text must not read as floating numbers: those hashed, and a label of listed values."""
        mapped = (self.label.column,) if isinstance(self.label, Label) else ()
        return Roles(tuple(term.column for term in self.hashed), mapped)

    @property
    def unsized(self) -> tuple[str, ...]:
        """The columns of categories whose buckets are not given."""
        return tuple(term.column for term in self.hashed if term.buckets is None)

    def sized(self, places: Mapping[str, int] | None = None) -> "Features":
        """Return features whose buckets are all given: column → places where they are not, 65,536 for those not named.

        >>> Features(hashed=["shop", {"column": "card", "buckets": 1000}]).sized({"shop": 2048}).n_features
        3048
        """
        known = places or {}
        buckets = [
            known.get(term.column, term.places) if term.buckets is None else term.buckets for term in self.hashed
        ]
        given = tuple(term.model_copy(update={"buckets": one}) for term, one in zip(self.hashed, buckets, strict=True))
        return self.model_copy(update={"hashed": given})

    def columns(self, with_label: bool = True) -> list[str]:
        """Return the columns that are needed, each once: what to read of a file."""
        extra = [self.weight, self.time_column, self.label_column if with_label else None]
        features = [term.column for term in (*self.numeric, *self.hashed)]
        features += [] if self.matrix is None else [self.matrix.column]
        return list(dict.fromkeys(features + [name for name in extra if name is not None]))

    def to_batch(
        self, block: Block, with_label: bool = True, max_ahead_us: int | None = None
    ) -> tuple[Batch, tuple[Reject, ...]]:
        """Compute the features of a block's rows.

        A row is rejected with a feature that is null, NaN or infinite, with a category that is a number and not whole,
        or without an event time or weight where a column of them is named; with an event time before 1900 or after 2200, or
        a number of no recognisable unit; with a text in one of these columns that spells no number or time; and with a
        label that is neither positive nor negative where these are listed. A missing label is NaN: whether it may be
        learned from is the spec's to say.

        Args:
            block: n rows.
            with_label: False leaves the label column alone: for scoring.
            max_ahead_us: how far past the time it was recorded a row may be dated, where the block has that time.

        Returns:
            The good rows as a batch, CSR if there are categories or `matrix` says so, else dense (float32 if all numbers
            are float32 columns taken as they are, else float64), and the rejected rows by reason; rejects of the block
            itself are not repeated.

        Raises:
            MissingColumn: a column is absent or of the wrong type.
        """
        batch = block.batch
        dated = self.time_column
        units = _units(self.numeric, self.time)
        found = None if dated is None else times_us(batch, dated, TIME, units.get(dated))
        unread: dict[str, Numbers] = {}
        times = {} if dated is None or found is None else {dated: found}
        filled = None if self.matrix is None else self.matrix.fill(batch)
        if filled is None:
            X, gaps = _matrix(self.numeric, batch, times, units, unread)
            rules = [_unread(f"feature column {name}", one) for name, one in unread.items()]
            rules += _unusable(self.names, X, gaps)
        else:
            rules = [_Rule(reason, broken) for reason, broken in filled.broken.items()]
        time = weight = label = None
        if found is not None:
            time = found.us
            if found.missing is not None:
                rules.append(_Rule("missing event time", found.missing))
            if found.unread is not None:
                rules.append(_Rule("event time cannot be read", found.unread, found.texts))
            if found.implausible is not None:
                rules.append(_Rule("implausible event time", found.implausible))
            if max_ahead_us is not None and block.recorded is not None:
                # Messages of old formats have no time, reported as -1: nothing is known of them.
                ahead = (block.recorded >= 0) & (time - max_ahead_us > block.recorded)
                if ahead.any():
                    rules.append(_Rule("event time too far ahead", ahead))
        if self.weight is not None:
            weighed = numbers(batch, self.weight, "Features.weight")
            weight = weighed.values.astype(np.float64, copy=False)
            missing = np.isnan(weight)
            if weighed.unread is not None:
                rules.append(_unread("weight", weighed))
            if missing.any():
                rules.append(_Rule("missing weight", missing))
        if with_label and self.label is not None:
            written = labelled(batch, self.label)
            label = written.values
            if written.refused is not None:
                rules.append(_Rule(written.reason, written.refused, written.texts))
        end = None if block.position is None else block.position_end
        if filled is not None and filled.X is not None:
            rows = Batch.dense(filled.X, label, weight, time, block.origin, block.position, end)
        elif self.is_sparse:
            if filled is None:
                indptr, indices, values, inexact = self._sparse(X, batch)
                rules += [_Rule(f"category {name} is not an exact whole number", one) for name, one in inexact.items()]
            else:
                indptr, indices, values = filled.indptr, filled.indices, filled.values
            rows = Batch.csr(
                indptr, indices, values, self.n_features, label, weight, time, block.origin, block.position, end
            )
        else:
            rows = Batch.dense(X, label, weight, time, block.origin, block.position, end)
        return _without(rows, rules) if rules else (rows, ())

    def _sparse(
        self, X: np.ndarray, batch: pa.RecordBatch
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Return CSR arrays of the numbers (n, d) and h indicators per row, and where categories are refused."""
        n, d = X.shape
        inexact: dict[str, np.ndarray] = {}
        columns, start = [np.broadcast_to(np.arange(d), (n, d))], d
        for term in self.hashed:
            place, refused = buckets_of(batch, term, "Features.hashed")
            if refused is not None:
                inexact[term.column] = refused
            columns.append((start + place)[:, None])
            start += term.places
        width = d + len(self.hashed)
        values = np.hstack([X, np.ones((n, len(self.hashed)), dtype=X.dtype)])
        return np.arange(n + 1) * width, np.hstack(columns).ravel(), values.ravel(), inexact


def _units(terms: tuple[Term, ...], time: TimeColumn | None) -> dict[str, UnitOfNumbers]:
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


def _matrix(
    terms: tuple[Term, ...],
    batch: pa.RecordBatch,
    times: dict[str, Times],
    units: dict[str, UnitOfNumbers],
    unread: dict[str, Numbers],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the (n, d) matrix, and where time columns hold no time; note in `unread` which columns hold more than numbers.

    `times` are time columns as far as they are read, `units` those that are given for columns of times.
    """
    values: dict[str, np.ndarray] = {}
    clock: dict[str, np.ndarray] = {}
    gaps: dict[str, np.ndarray] = {}
    for term in terms:
        if isinstance(term, Clock):
            if term.column not in clock:
                found = times.get(term.column) or times_us(batch, term.column, CLOCK, units.get(term.column))
                clock[term.column] = found.us
                if found.unusable is not None:
                    gaps[term.column] = found.unusable
        elif term.column not in values:
            one = numbers(batch, term.column, "Features.numeric")
            values[term.column] = one.values
            if one.unread is not None:
                unread[term.column] = one
    single = all(
        isinstance(term, Plain) and term.transform == "identity" and values[term.column].dtype == np.float32
        for term in terms
    )
    X = np.empty((batch.num_rows, len(terms)), dtype=np.float32 if single else np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, len(X), _ROWS):
            rows = slice(start, start + _ROWS)
            hour = {name: hours(time[rows]) for name, time in clock.items()}
            for j, term in enumerate(terms):
                if isinstance(term, Clock):
                    X[rows, j] = clock_values(term.transform, hour[term.column])
                elif isinstance(term, Standardised):
                    X[rows, j] = (values[term.column][rows] - term.mean) / term.scale
                elif term.transform == "log1p":
                    X[rows, j] = np.log1p(values[term.column][rows], dtype=np.float64)
                else:
                    X[rows, j] = values[term.column][rows]
    for j, term in enumerate(terms):
        if isinstance(term, Clock) and term.column in gaps:
            X[gaps[term.column], j] = np.nan
    return X, gaps


def _unread(what: str, one: Numbers) -> _Rule:
    assert one.unread is not None  # noqa: S101
    return _Rule(f"{what} is not a number", one.unread, one.texts)


def _unusable(names: tuple[str, ...], X: np.ndarray, gaps: dict[str, np.ndarray]) -> list[_Rule]:
    """Return reason and rows of features that are not finite; one sum decides the common case."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not gaps and np.isfinite(X.sum()):
            return []
    finite = np.isfinite(X)
    return [_Rule(f"non-finite feature {names[j]}", ~finite[:, j]) for j in np.flatnonzero(~finite.all(axis=0))]


def _without(rows: Batch, rules: list[_Rule]) -> tuple[Batch, tuple[Reject, ...]]:
    """Split off the rows that break a rule; each counts under the first it breaks."""
    place = np.arange(len(rows), dtype=np.int64) if rows.position is None else rows.position
    good = np.ones(len(rows), dtype=bool)
    rejected = []
    for reason, broken, texts in rules:
        fresh = broken & good
        if fresh.any():
            end = None if rows.position_end is None else rows.position_end[fresh]
            shown = () if texts is None else tuple(text[:_SHOWN] for text in texts.filter(pa.array(fresh)).to_pylist())
            rejected.append(Reject(reason, place[fresh], end, shown))
            good &= ~broken
    return rows.take(good), tuple(rejected)
