"""`Rolling`: which aggregates of which columns over which windows, by which keys. Durations in s, times in µs."""

import functools
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from beam_ml.core.spec import LONGEST_S, Duration, Settings, duration_s, to_us
from beam_ml.errors import InvalidValue
from beam_ml.features.rolling.aggregates import FUNCTIONS, Of
from beam_ml.features.times import EventTime, TimeColumn

__all__ = ["HOPS_US", "MOST_SHARDS", "Aggregate", "Output", "Rolling", "Window", "hop_us"]

MOST_SHARDS = 4096
"""Shards per key, at most."""
_MOST_OUTPUTS = 4096
_M, _H, _D = 60 * 10**6, 3600 * 10**6, 86_400 * 10**6
HOPS_US = ((12 * _H, 5 * _M), (12 * _D, _H))
"""Windows shorter than the first number have tails in hops of the second, µs; longer ones in days."""
_NAMED = ((_D, "d"), (_H, "h"), (_M, "m"), (10**6, "s"), (10**3, "ms"))
Delay = Annotated[float, BeforeValidator(duration_s), Field(ge=0)]
"""Seconds, or a text such as ``"7d"``; 0 or more."""


def hop_us(length_us: int) -> int:
    """Return the hop of a sawtooth window's tail, µs: 5 min below 12 h, 1 h below 12 d, else 1 d.

    >>> [hop_us(hours * 3_600_000_000) // 60_000_000 for hours in (1, 12, 24 * 12)]
    [5, 60, 1440]
    """
    return next((hop for below, hop in HOPS_US if length_us < below), _D)


def _text(us: int) -> str:
    """Return a duration with the largest unit that it is a whole number of."""
    size, unit = next(((size, unit) for size, unit in _NAMED if us % size == 0), (1, "us"))
    return f"{us // size}{unit}"


class Window(Settings):
    """The rows dated in (t − delay − length, t − delay], for a row of time t.

    >>> window = Window(length="7d", delay="1d")
    >>> window.length_us // 86_400_000_000, window.name
    (7, '7d_delay_1d')
    """

    called: ClassVar[str] = "Rolling.aggregates.windows"

    length: Annotated[Duration, Field(description="how far back it reaches")]
    delay: Annotated[Delay, Field(description="how long before the row it ends: time that labels need to arrive")] = 0.0

    @property
    def length_us(self) -> int:
        """The length, µs."""
        return to_us(self.length)

    @property
    def delay_us(self) -> int:
        """The delay, µs."""
        return to_us(self.delay)

    @property
    def name(self) -> str:
        """What outputs are called by."""
        return _text(self.length_us) + (f"_delay_{_text(self.delay_us)}" if self.delay_us else "")

    @field_validator("length")
    @classmethod
    def _some(cls, value: float) -> float:
        if to_us(value) < 1:
            message = "must be at least 1 µs"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.length + self.delay > LONGEST_S:
            message = f"length must not reach further back than {LONGEST_S:g} s, delay included"
            raise ValueError(message)
        return self


def _spelled_out(value: Any) -> Any:
    return {"length": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _at_least_one(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        message = "must list at least one"
        raise ValueError(message)
    return value


WindowTerm = Annotated[Window, BeforeValidator(_spelled_out)]
"""A duration, or a length and a delay."""


class Aggregate(Settings):
    """One function of one column, by one key, over any number of windows.

    Attributes:
        called: how messages call it.

    >>> one = Aggregate(key="card", of="mean", value="amount", windows=["1d", "7d"])
    >>> [output.name for output in one.outputs]
    ['mean_amount_by_card_1d', 'mean_amount_by_card_7d']
    """

    called: ClassVar[str] = "Rolling.aggregates"

    key: Annotated[tuple[str, ...], BeforeValidator(_several), Field(description="column of the key, or several")]
    of: Annotated[Of, Field(description="the function")]
    value: Annotated[
        str | None, Field(description="column that it is of; count and time_since_last are of the rows without one")
    ] = None
    windows: Annotated[tuple[WindowTerm, ...], Field(description="durations, each with or without a delay")]
    kind: Annotated[
        Literal["exact", "sawtooth"],
        Field(description="exact windows keep their rows; sawtooth ones keep tiles: constant memory, a tail in hops"),
    ] = "exact"
    include_row: Annotated[bool, Field(description="whether a row is in its own windows")] = True
    dated: Annotated[
        TimeColumn | None,
        Field(description="column of the time that a value is dated, where that is not the row's own: of label rows"),
    ] = None
    known: Annotated[
        TimeColumn | None,
        Field(description="column of the time from which a value is known; a value of which it is null never is"),
    ] = None
    category: Annotated[str | int | bool | None, Field(description="whose share it is")] = None
    k: Annotated[int, Field(ge=1, le=100, description="how many categories top_k returns, most frequent first")] = 3
    precision: Annotated[
        int,
        Field(
            ge=4, le=14,
            description="of distinct over sawtooth windows: 2^precision registers of a byte per tile, standard error "
            "1.04 / √(2^precision)",
        ),
    ] = 8  # fmt: skip
    empty: Annotated[
        float | None,
        Field(description="the result over a window without a value; none: 0 for counts and sums, else null"),
    ] = None
    name: Annotated[str | None, Field(description="what outputs begin with; none: of, value and key")] = None

    @field_validator("key", "windows")
    @classmethod
    def _some(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return _at_least_one(value)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        takes = FUNCTIONS[self.of].takes
        if takes != "rows" and self.value is None:
            message = f"value must name the column that {self.of} is of"
            raise ValueError(message)
        if (takes == "category") != (self.category is not None):
            message = f"category must be given for share, and for nothing else; got {self.category!r} for {self.of}"
            raise ValueError(message)
        if len(set(self.key)) != len(self.key):
            message = f"key must name no column twice; got {list(self.key)}"
            raise ValueError(message)
        if self.kind == "sawtooth" and self.of == "top_k":
            message = "kind must be 'exact' for top_k: a bounded list per tile would not say which categories it lost"
            raise ValueError(message)
        if self.kind == "sawtooth" and self.known is not None:
            message = (
                "kind must be 'exact' with known: tiles take a value when its row comes; let labels be rows with dated"
            )
            raise ValueError(message)
        if self.dated is not None and self.known is not None:
            message = "dated and known must not both be given: a label is a row of its own, or a column beside its row"
            raise ValueError(message)
        if self.empty is not None and self.of == "top_k":
            message = f"empty must not be given for top_k, which is of texts; got {self.empty}"
            raise ValueError(message)
        if self.of == "ratio" and (self.dated, self.known) != (None, None):
            message = "dated and known must not be given for ratio: it is of the row's own number, known with the row"
            raise ValueError(message)
        if self.of == "time_since_last" and self.dated is not None:
            message = "dated must not be given for time_since_last: it is of the rows' own times"
            raise ValueError(message)
        return self

    @property
    def prefix(self) -> str:
        """What the names of the outputs begin with."""
        if self.name is not None:
            return self.name
        what = [
            self.of if self.category is None else f"{self.of}_{self.category}",
            *([self.value] if self.value else []),
        ]
        return "_".join([*what, "by", *self.key]) + ("_sawtooth" if self.kind == "sawtooth" else "")

    @property
    def includes_row(self) -> bool:
        """Whether a row counts for itself: never for the time since the row before."""
        return self.include_row and self.of != "time_since_last"

    @property
    def outputs(self) -> "tuple[Output, ...]":
        """One output per window, k of them for top_k."""
        parts = [""] if self.of != "top_k" else [f"_{i + 1}" for i in range(self.k)]
        return tuple(
            Output(self, window, i, f"{self.prefix}_{window.name}{part}")
            for window in self.windows
            for i, part in enumerate(parts)
        )


class Output:
    """One column that is computed.

    Attributes:
        aggregate: the function and its column.
        window: the window.
        rank: of top_k, which of the k; else 0.
        name: the column's name.
    """

    __slots__ = ("aggregate", "name", "rank", "window")

    def __init__(self, aggregate: Aggregate, window: Window, rank: int, name: str) -> None:
        self.aggregate, self.window, self.rank, self.name = aggregate, window, rank, name


class Rolling(Settings):
    """Aggregates over rolling windows, and the clock that they go by.

    >>> delayed = {"length": "30d", "delay": "7d"}
    >>> counts = {"key": "card", "of": "count", "windows": ["1d", "7d"]}
    >>> risk = {"key": "shop", "of": "share", "value": "fraud", "category": 1, "windows": [delayed]}
    >>> spec = Rolling(time="ts", aggregates=[counts, risk])
    >>> spec.names
    ('count_by_card_1d', 'count_by_card_7d', 'share_1_fraud_by_shop_30d_delay_7d')
    >>> spec.keys, spec.n_states == 2 * spec.shards, spec.columns()
    ((('card',), ('shop',)), True, ['ts', 'card', 'shop', 'fraud'])
    """

    called: ClassVar[str] = "Rolling"

    time: Annotated[TimeColumn, Field(description="column of event times, as in features.time")]
    aggregates: Annotated[tuple[Aggregate, ...], Field(description="what is computed")]
    lateness: Annotated[
        Delay,
        Field(description="how far behind the newest row of its shard a row may come and still be put into its place"),
    ] = 0.0
    shards: Annotated[
        int, Field(ge=1, le=MOST_SHARDS, description="states per key; the hash of the key chooses one")
    ] = 8
    max_state_bytes: Annotated[
        int, Field(ge=1 << 16, le=1 << 34, description="how large the arrays of one state may be: more is refused")
    ] = 256 << 20

    @field_validator("aggregates", mode="before")
    @classmethod
    def _each(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(Aggregate.parse(one) if isinstance(one, dict) else one for one in value)
        return value

    @field_validator("aggregates")
    @classmethod
    def _some(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        return _at_least_one(value)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = self.names
        if len(names) > _MOST_OUTPUTS:
            message = f"aggregates must have at most {_MOST_OUTPUTS:,} outputs; got {len(names):,}"
            raise ValueError(message)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"aggregates must have outputs of different names; got {twice[:5]} twice (name settles it)"
            raise ValueError(message)
        taken = sorted(set(names) & set(self.columns()))
        if taken:
            message = f"aggregates must have outputs that are no columns of the rows; got {taken[:5]} (name settles it)"
            raise ValueError(message)
        return self

    @property
    def lateness_us(self) -> int:
        """The lateness, µs."""
        return to_us(self.lateness)

    @functools.cached_property
    def text(self) -> str:
        """The canonical JSON, made once."""
        return self.to_json()

    @functools.cached_property
    def outputs(self) -> tuple[Output, ...]:
        """All outputs, in order."""
        return tuple(output for aggregate in self.aggregates for output in aggregate.outputs)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that are computed, in order."""
        return tuple(output.name for output in self.outputs)

    @functools.cached_property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """The different keys, in order."""
        return tuple(dict.fromkeys(aggregate.key for aggregate in self.aggregates))

    @property
    def shape(self) -> dict[str, Any]:
        """What a state is of: all but the bound of its size, which may be moved."""
        return {name: value for name, value in self.to_dict().items() if name != "max_state_bytes"}

    @property
    def n_states(self) -> int:
        """The number of states: one per key and shard."""
        return len(self.keys) * self.shards

    def key_of(self, state: int) -> tuple[str, ...]:
        """Return the key that a state, in [0, n_states), is of.

        Raises:
            InvalidValue: there is no such state.
        """
        if not 0 <= state < self.n_states:
            message = f"Rolling has the states 0 to {self.n_states - 1}; got {state}."
            raise InvalidValue(message)
        return self.keys[state // self.shards]

    @property
    def time_column(self) -> str:
        """The column of event times."""
        return self.time.column if isinstance(self.time, EventTime) else self.time

    def columns(self) -> list[str]:
        """Return the columns that are read, each once."""
        names = [self.time_column]
        for one in self.aggregates:
            times = [term.column if isinstance(term, EventTime) else term for term in (one.dated, one.known) if term]
            names += [*one.key, *([one.value] if one.value else []), *times]
        return list(dict.fromkeys(names))
