"""`Features`: a block's columns → a `Batch`. The same settings serve training, scoring and the endpoint.

Numbers come first, dense; behind them the fields: what each term of categories, spans, crosses and texts makes of a row.
Letters: ``n`` rows, ``d`` features.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from beam_ml.core.batch import Batch
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import Settings
from beam_ml.features.bucketed import Bucketed
from beam_ml.features.coded import CATEGORIES
from beam_ml.features.columns import Name, numbers
from beam_ml.features.crosses import Cross, Crossed, CrossTerm, Listed
from beam_ml.features.entries import as_csr, as_dense
from beam_ml.features.hashing import Hashed, HashedTerm
from beam_ml.features.labels import Label, LabelColumn, labelled
from beam_ml.features.matrix import Matrix
from beam_ml.features.numeric import names_of, numeric, units_of
from beam_ml.features.one_hot import OneHot
from beam_ml.features.rules import Rule, unread, without
from beam_ml.features.terms import Term
from beam_ml.features.text import Text, TextTerm
from beam_ml.features.times import TIME, EventTime, TimeColumn, Times, times_us
from beam_ml.features.words import Words, WordsTerm
from beam_ml.formats.block import Block
from beam_ml.formats.table import Roles

__all__ = ["Features", "FieldOf"]

_MAX_FEATURES = 100_000_000  # as many as specs take
_MAX_DENSE = 10_000
"""Features of dense rows of more than numbers."""
_NARROW = 1_000
"""Features from which on rows are sparse, where nothing says what they are."""

Kind = Hashed | OneHot | Bucketed | Crossed | Text | Words
"""What makes the features of a field."""


_PIXELS = 1 << 24
"""Numbers of one batch that is decoded from images."""


class FieldOf(NamedTuple):
    """The features that one term makes, behind the numbers: a row has one of them, or as many as a text has words.

    Attributes:
        name: of the field.
        start: its first feature.
        term: what makes it; `term.places` is how many features it has.
    """

    name: str
    start: int
    term: Kind

    @property
    def end(self) -> int:
        """The feature behind its last one."""
        return self.start + self.term.places


class Features(Settings):
    """Which columns become features, label, weight and event time.

    >>> import pyarrow as pa
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
        Field(description="columns of categories, one indicator per value by hash, behind the numbers"),
    ] = ()
    one_hot: Annotated[
        tuple[OneHot, ...],
        Field(description="columns of categories, one indicator per value of a vocabulary: tables, below"),
    ] = ()
    bucketed: Annotated[
        tuple[Bucketed, ...], Field(description="numbers, one indicator per span between bounds: tables, below")
    ] = ()
    crosses: Annotated[
        tuple[CrossTerm, ...],
        Field(description="combinations of columns, one indicator each: lists of columns, or tables, below"),
    ] = ()
    text: Annotated[
        tuple[TextTerm, ...], Field(description="texts, as counts of their words: columns, or tables, below")
    ] = ()
    words: Annotated[
        tuple[WordsTerm, ...],
        Field(description="texts, as the numbers that spell their words, for a vocabulary: columns, or tables, below"),
    ] = ()
    sparse: Annotated[
        bool | None,
        Field(
            description="batches are CSR; none: with columns hashed, crosses by hash, texts or words, and with more than "
            "1,000 features in fields"
        ),
    ] = None
    matrix: Annotated[
        Matrix | None,
        Field(description="all features from one column, as RecordIO and libsvm have them; then there are no others"),
    ] = None
    label: Annotated[
        LabelColumn | None,
        Field(
            description="column of what is to be predicted: numbers, truth values, or values that a table sorts, as in { "
            "column = 'status', positive = ['fraud'], negative = ['paid'] } or { column = 'kind', classes = ['a', 'b'] }"
        ),
    ] = None
    weight: Annotated[Name | None, Field(description="column of sample weights")] = None
    time: Annotated[
        TimeColumn | None,
        Field(
            description="column of event times: timestamps, or numbers since the epoch, whose unit is recognised by their "
            "size or given, as in { column = 'ts', unit = 's' }"
        ),
    ] = None

    key: Annotated[
        Name | None, Field(description="column that says whose row one is: a card, a machine, a series of its own")
    ] = None

    @field_validator("numeric")
    @classmethod
    def _distinct(cls, value: tuple[Term, ...]) -> tuple[Term, ...]:
        names = names_of(value)
        if len(set(names)) != len(names):
            message = f"must name no feature twice, as {sorted({n for n in names if names.count(n) > 1})} are"
            raise ValueError(message)
        return value

    @field_validator("hashed", "one_hot", "bucketed", "crosses", "text", "words")
    @classmethod
    def _once(
        cls, value: tuple[Hashed | OneHot | Bucketed | Text | Words, ...]
    ) -> tuple[Hashed | OneHot | Bucketed | Text | Words, ...]:
        names = [term.name for term in value]
        if len(set(names)) != len(names):
            message = f"must name no column twice, as {sorted({n for n in names if names.count(n) > 1})} are"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _some(self) -> "Features":
        given = [name for name in _TERMS if getattr(self, name)]
        if self.matrix is not None and (given or self.sparse is not None):
            message = (
                "matrix holds all features: all others, and sparse, must be left out with it; got "
                f"{[*given, *['sparse'] * (self.sparse is not None)]}"
            )
            raise ValueError(message)
        if self.matrix is None and not given:
            message = "numeric must name at least one feature; got []"
            raise ValueError(message)
        if self.n_features > _MAX_FEATURES:
            message = f"hashed must leave n_features <= {_MAX_FEATURES:,}; got {self.n_features:,}"
            raise ValueError(message)
        if self.sparse is False and self.n_features > _MAX_DENSE and self.fields:
            message = (
                f"sparse must be true with more than {_MAX_DENSE:,} features, as {self.n_features:,} are; got false"
            )
            raise ValueError(message)
        if self.label_column is not None and self.label_column in self.columns(with_label=False):
            beside = [one.column for one in self.numeric if one.column != self.label_column]
            message = (
                "label must not be a column of the features as well, which would know what they are to predict; got "
                f"{self.label_column!r} (leave it out of the features: numeric = {beside[:8]}, or name another label)"
            )
            raise ValueError(message)
        units_of(self.numeric, self.time)
        if not self.is_sparse and len(set(self.names)) < len(self.names):
            twice = sorted({one for one in self.names if self.names.count(one) > 1})
            message = f"numeric, one_hot and bucketed must name no feature twice, as {twice[:8]} are"
            raise ValueError(message)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features in order: of all where batches are dense, of the numbers in front where they are CSR."""
        numbers = names_of(self.numeric)
        if self.matrix is not None or self.is_sparse:
            return numbers
        return (*numbers, *(name for field in self.fields for name in field.term.names))

    @property
    def fields(self) -> tuple[FieldOf, ...]:
        """The fields behind the numbers, in order: hashed, one_hot, bucketed, crosses, text, words.

        >>> one, two = Features(numeric=["x"], hashed=["shop"], bucketed=[{"column": "age", "bounds": [18]}]).fields
        >>> (one.name, one.start, one.end), (two.name, two.start, two.end)
        (('shop', 1, 65537), ('bucket(age)', 65537, 65539))
        """
        found, start = list[FieldOf](), len(names_of(self.numeric))
        for term in self._terms():
            found.append(FieldOf(term.name, start, term))
            start += term.places
        return tuple(found)

    def _terms(self) -> Iterator[Kind]:
        listed: dict[str, Listed] = {term.column: term for term in self.one_hot}
        listed |= {term.column: term for term in self.bucketed}
        yield from self.hashed
        yield from self.one_hot
        yield from self.bucketed
        yield from (Crossed(term, listed) for term in self.crosses)
        yield from self.text
        yield from self.words

    @property
    def n_features(self) -> int:
        """The number of features, those of fields included."""
        if self.matrix is not None:
            return self.matrix.width
        return len(names_of(self.numeric)) + sum(term.places for term in self._terms())

    @property
    def is_sparse(self) -> bool:
        """Whether batches are CSR."""
        if self.matrix is not None:
            return self.matrix.sparse
        if self.sparse is not None:
            return self.sparse
        wide = bool(self.hashed or self.text or self.words) or any(term.by == "hash" for term in self.crosses)
        return wide or sum(term.places for term in self._terms()) > _NARROW

    @property
    def rows_at_once(self) -> int | None:
        """Rows of a block that may become a batch together; None: any. Pixels take far more memory than images do."""
        if self.matrix is None or self.matrix.image is None:
            return None
        return max(1, _PIXELS // self.matrix.width)

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
        """The columns that formats of text must not read as floating numbers: names, texts, and a label of listed values."""
        mapped = (self.label.column,) if isinstance(self.label, Label) else ()
        spans = {term.column for term in self.bucketed}
        crossed = [name for term in self.crosses for name in term.columns if name not in spans]
        named = [term.column for term in self.hashed] + [term.column for term in self.one_hot] + crossed
        named += (
            [term.column for term in self.text]
            + [term.column for term in self.words]
            + ([] if self.key is None else [self.key])
        )
        named += [term.column for term in self.numeric if isinstance(term, CATEGORIES)]
        return Roles(tuple(dict.fromkeys(named)), mapped)

    @property
    def by_hash(self) -> tuple[FieldOf, ...]:
        """The fields of columns and crosses by hash, whose places may be chosen by what is seen of them."""
        return tuple(one for one in self.fields if isinstance(one.term, Hashed | Crossed) and one.term.is_hashed)

    @property
    def unsized(self) -> tuple[str, ...]:
        """The names of columns of categories, and of crosses, whose buckets are not given."""
        crosses = (term.name for term in self.crosses if term.by == "hash" and term.buckets is None)
        return (*(term.name for term in self.hashed if term.buckets is None), *crosses)

    def sized(self, places: Mapping[str, int] | None = None) -> "Features":
        """Return features whose buckets are all given: name → places where they are not, 65,536 for those not named.

        >>> Features(hashed=["shop", {"column": "card", "buckets": 1000}]).sized({"shop": 2048}).n_features
        3048
        """
        wanted, known = (
            set(self.unsized),
            {field.name: field.term.places for field in self.by_hash} | dict(places or {}),
        )

        def given(terms: tuple[Hashed | Cross, ...]) -> tuple[Hashed | Cross, ...]:
            return tuple(
                term.model_copy(update={"buckets": known[term.name]}) if term.name in wanted else term for term in terms
            )

        return self.model_copy(update={"hashed": given(self.hashed), "crosses": given(self.crosses)})

    def columns(self, with_label: bool = True) -> list[str]:
        """Return the columns that are needed, each once: what to read of a file.

        Args:
            with_label: False leaves out what only learning needs: label, weight and event time.
        """
        extra = [self.key, *([self.weight, self.time_column, self.label_column] if with_label else [])]
        features = [term.column for term in self.numeric] + [name for term in self._terms() for name in term.columns]
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
            with_label: False leaves label, weight and event time alone, which only learning needs: for scoring.
            max_ahead_us: how far past the time it was recorded a row may be dated, where the block has that time.

        Returns:
            The good rows as a batch, CSR if there are categories or `matrix` says so, else dense (float32 if all numbers
            are float32 columns taken as they are, else float64), and the rejected rows by reason; rejects of the block
            itself are not repeated.

        Raises:
            MissingColumn: a column is absent or of the wrong type.
        """
        found = self._times(block) if with_label else None
        rules = list[Rule]() if found is None else _of_times(found, block, max_ahead_us)
        label = weight = None
        if with_label and self.weight is not None:
            weighed = numbers(block.batch, self.weight, "Features.weight")
            weight = weighed.values.astype(np.float64, copy=False)
            missing = np.isnan(weight)
            rules += [] if weighed.unread is None else [unread("weight", weighed)]
            rules += [Rule("missing weight", missing)] if missing.any() else []
        if with_label and self.label is not None:
            written = labelled(block.batch, self.label)
            label = written.values
            if written.refused is not None:
                rules.append(Rule(written.reason, written.refused, written.texts))
        end = None if block.position is None else block.position_end
        beside = (label, weight, None if found is None else found.us, block.origin, block.position, end, "us")
        rows, broken = self._filled(block, found, beside)
        return without(rows, [*broken, *rules])

    def _times(self, block: Block) -> Times | None:
        dated = self.time_column
        if dated is None:
            return None
        return times_us(block.batch, dated, TIME, units_of(self.numeric, self.time).get(dated))

    def _filled(self, block: Block, found: Times | None, beside: tuple[Any, ...]) -> tuple[Batch, list[Rule]]:
        """Return the features of all rows with what stands beside them, and the rules that rows break."""
        if self.matrix is not None:
            filled = self.matrix.fill(block.batch)
            rules = [Rule(reason, broken) for reason, broken in filled.broken.items()]
            if filled.X is not None:
                return Batch.dense(filled.X, *beside), rules
            return Batch.csr(filled.indptr, filled.indices, filled.values, self.n_features, *beside), rules
        times = {} if found is None or self.time_column is None else {self.time_column: found}
        X, rules = numeric(self.numeric, block.batch, times, units_of(self.numeric, self.time))
        if self.words:  # float32 would spell others
            X = X.astype(np.float64, copy=False)
        entries = [(field.start, field.term.entries(block.batch)) for field in self.fields]
        rules += [rule for _, one in entries for rule in one.rules]
        if self.is_sparse:
            return Batch.csr(*as_csr(X, entries), self.n_features, *beside), rules
        return Batch.dense(as_dense(X, entries, self.n_features), *beside), rules


_TERMS = ("numeric", "hashed", "one_hot", "bucketed", "crosses", "text", "words")
"""The settings that name features."""


def _of_times(found: Times, block: Block, max_ahead_us: int | None) -> list[Rule]:
    """Return the rules of event times that rows break."""
    rules = []
    if found.missing is not None:
        rules.append(Rule("missing event time", found.missing))
    if found.unread is not None:
        rules.append(Rule("event time cannot be read", found.unread, found.texts))
    if found.implausible is not None:
        rules.append(Rule("implausible event time", found.implausible))
    if max_ahead_us is not None and block.recorded is not None:
        # Messages of old formats have no time, reported as -1: nothing is known of them.
        ahead = (block.recorded >= 0) & (found.us - max_ahead_us > block.recorded)
        if ahead.any():
            rules.append(Rule("event time too far ahead", ahead))
    return rules
