"""What the rows of one key are kept by: which columns become numbers, codes and clocks, and which windows share them."""

import dataclasses
import functools
from collections.abc import Iterator

from beam_ml.features.rolling.aggregates import FUNCTIONS
from beam_ml.features.rolling.spec import Aggregate, Output, Rolling, hop_us
from beam_ml.features.times import TimeColumn

__all__ = ["Cell", "Layout", "Part", "layout_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One function of one lane: what windows of one hop share.

    Attributes:
        code: the function's number in the kernels; −1: distinct.
        lane: the number or code that it reads; −1: the rows.
        includes_row: whether a row counts for itself.
        precision: of distinct.
    """

    code: int
    lane: int
    includes_row: bool
    precision: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Outputs that are computed from the same stored rows, or from the same tiles.

    Attributes:
        hop_us: length of its tiles; 0: it keeps rows.
        dated: which clock dates its values; −1: the rows' own times.
        known: which clock says from when they are known; −1: from the row on.
        numbers: lanes of numbers that it keeps.
        codes: lanes of codes that it keeps.
        outputs: (number among all outputs, output).
        reach_us: how far back of a row its windows reach at most.
    """

    hop_us: int
    dated: int
    known: int
    numbers: tuple[int, ...]
    codes: tuple[int, ...]
    outputs: tuple[tuple[int, Output], ...]
    reach_us: int

    @property
    def in_order(self) -> bool:
        """Whether values are dated as their rows are, and known with them."""
        return self.dated < 0 and self.known < 0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The lanes and parts of one key.

    Attributes:
        key: its columns.
        numbers: (column, category) of each lane of numbers; a category: 1 where it is that, 0 where another.
        codes: column of each lane of codes.
        clocks: column of each further time.
        parts: what is kept and computed.
        texts: lanes of codes whose texts are kept.
    """

    key: tuple[str, ...]
    numbers: tuple[tuple[str, str | int | bool | None], ...]
    codes: tuple[str, ...]
    clocks: tuple[TimeColumn, ...]
    parts: tuple[Part, ...]
    texts: tuple[int, ...]

    def lane(self, aggregate: Aggregate) -> int:
        """Return the lane that an aggregate reads; −1: the rows."""
        if aggregate.value is None:
            return -1
        if FUNCTIONS[aggregate.of].takes == "categories":
            return self.codes.index(aggregate.value)
        return next(
            i
            for i, (column, category) in enumerate(self.numbers)
            if column == aggregate.value
            and type(category) is type(aggregate.category)
            and category == aggregate.category
        )

    def cell(self, aggregate: Aggregate) -> Cell:
        """Return what an aggregate's windows share."""
        code = FUNCTIONS[aggregate.of].code
        precision = aggregate.precision if code < 0 else 0
        return Cell(code, self.lane(aggregate), aggregate.includes_row, precision)

    def cells(self, part: Part) -> tuple[Cell, ...]:
        """Return the different cells of a part, in order."""
        return tuple(dict.fromkeys(self.cell(output.aggregate) for _, output in part.outputs))


def _lanes(aggregates: list[Aggregate]) -> tuple[list[tuple[str, str | int | bool | None]], list[str]]:
    numbers: list[tuple[str, str | int | bool | None]] = []
    seen, codes = set[tuple[str, type, object]](), list[str]()
    for one in aggregates:
        if one.value is None:
            continue
        if FUNCTIONS[one.of].takes == "categories":
            codes.append(one.value)
            continue
        mark = (one.value, type(one.category), one.category)
        if mark not in seen:
            seen.add(mark)
            numbers.append((one.value, one.category))
    return numbers, list(dict.fromkeys(codes))


def _ways(spec: Rolling, key: tuple[str, ...]) -> Iterator[tuple[tuple[int, object, object], int, Output]]:
    """Yield hop and clocks of each output of a key."""
    for number, output in enumerate(spec.outputs):
        one = output.aggregate
        if one.key == key:
            hop = 0 if one.kind == "exact" else hop_us(output.window.length_us)
            yield (hop, one.dated, one.known), number, output


@functools.lru_cache(maxsize=256)
def _layout(text: str, group: int) -> Layout:
    spec = Rolling.model_validate_json(text)
    key = spec.keys[group]
    aggregates = [one for one in spec.aggregates if one.key == key]
    numbers, codes = _lanes(aggregates)
    clocks = list(dict.fromkeys(clock for one in aggregates for clock in (one.dated, one.known) if clock is not None))
    bare = Layout(key, tuple(numbers), tuple(codes), tuple(clocks), (), ())
    ways: dict[tuple[int, object, object], list[tuple[int, Output]]] = {}
    for way, number, output in _ways(spec, key):
        ways.setdefault(way, []).append((number, output))
    parts = []
    for (hop, dated, known), outputs in ways.items():
        lanes: dict[bool, set[int]] = {False: set(), True: set()}
        for _, output in outputs:
            lane = bare.lane(output.aggregate)
            if lane >= 0:
                lanes[FUNCTIONS[output.aggregate.of].takes == "categories"].add(lane)
        reach = max(output.window.length_us + output.window.delay_us for _, output in outputs) + hop
        parts.append(
            Part(
                hop,
                -1 if dated is None else clocks.index(dated),  # type: ignore[arg-type]
                -1 if known is None else clocks.index(known),  # type: ignore[arg-type]
                tuple(sorted(lanes[False])),
                tuple(sorted(lanes[True])),
                tuple(outputs),
                reach,
            )
        )
    named = tuple(sorted({bare.lane(one) for one in aggregates if one.of == "top_k"}))
    return dataclasses.replace(bare, parts=tuple(parts), texts=named)


def layout_of(spec: Rolling, group: int) -> Layout:
    """Return the layout of one of a spec's keys.

    >>> spec = Rolling(time="ts", aggregates=[{"key": "card", "of": "sum", "value": "amount", "windows": ["1d", "7d"]}])
    >>> layout = layout_of(spec, 0)
    >>> layout.numbers, len(layout.parts), layout.parts[0].reach_us // 86_400_000_000
    ((('amount', None),), 1, 7)
    """
    return _layout(spec.text, group)
