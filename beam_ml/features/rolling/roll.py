"""`roll`: rows and a state → the rows' aggregates and a new state. Pure.

Three rules hold, whoever calls it. The *boundary* rule: a window is (t − W, t], its row in it or not as the spec says,
equal times in row order. *Two clocks*: a row sees what was known at its time, not what is dated before it and came later.
*No timer decides a value*: when rows are released changes nothing but when.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_ml.features.rolling import exact, sawtooth
from beam_ml.features.rolling.aggregates import FUNCTIONS
from beam_ml.features.rolling.layout import Layout, layout_of
from beam_ml.features.rolling.results import Arrays, Result, by_key
from beam_ml.features.rolling.rows import NOTHING, Rows
from beam_ml.features.rolling.spec import Output, Rolling
from beam_ml.features.rolling.state import State, check_size
from beam_ml.features.rolling.texts import Texts
from beam_ml.features.rolling.waiting import release

__all__ = ["Rolled", "roll"]


class Rolled(NamedTuple):
    """What a call of `roll` returns.

    Attributes:
        rows: those computed, in event-time order: their tag and number in the block say which they are.
        columns: of the outputs of this key, a row for each.
        late: rows that came behind the lateness, which count nowhere.
        state: the new state.
    """

    rows: Rows
    columns: pa.RecordBatch
    late: Rows
    state: State


def roll(spec: Rolling, state: State, rows: Rows, before: int | None = None) -> Rolled:
    """Compute the aggregates of rows of one shard, and of those that waited.

    Rows cut into calls anywhere have the same results and leave the same state, to the bit. So do rows in any order that the
    lateness allows, where each has a place of its own.

    Args:
        spec: of the windows.
        state: of the shard.
        rows: of its key and shard, in the order they came.
        before: compute those dated before this, µs, and hold the others back; None: the newest event time less
            `spec.lateness`, or without lateness all of them; `END` computes everything.

    Raises:
        InvalidValue: the new state is larger than `spec.max_state_bytes`.

    >>> from beam_ml.features.rolling import empty, rows_of
    >>> from beam_ml.formats.block import Block
    >>> spec = Rolling(time="ts", shards=1, aggregates=[{"key": "card", "of": "sum", "value": "x", "windows": ["5s"]}])
    >>> block = Block(pa.record_batch({"ts": [1e9, 1e9 + 4, 1e9 + 5], "card": ["a", "a", "a"], "x": [1.0, 2.0, 4.0]}))
    >>> rolled = roll(spec, empty(spec, 0), rows_of(spec, block).rows[0])
    >>> rolled.columns.to_pydict()
    {'sum_x_by_card_5s': [1.0, 3.0, 6.0]}
    """
    layout = layout_of(spec, state.shard // spec.shards)
    released = release(spec, state, rows, before)
    ready, state = released.rows, released.state
    queries = by_key(ready)
    texts = Texts.merged([state.texts, rows.texts])
    found: dict[int, tuple[Output, Result]] = {}
    kept: list[Arrays] = []
    for part, values in zip(layout.parts, state.parts, strict=True):
        results: dict[int, Result] = {}
        if len(queries.rows):
            compute = sawtooth.roll if part.hop_us else exact.roll
            results, values = compute(layout, part, values, queries)
        forget = sawtooth.expired if part.hop_us else exact.expired
        kept.append(forget(part, values, state.before))
        nothing = Result(np.zeros(0), np.zeros(0, bool))
        found |= {number: (output, results.get(number, nothing)) for number, output in part.outputs}
    columns = {
        output.name: _column(output, _relative(layout, output, result, queries.rows), queries.number, len(ready), texts)
        for _, (output, result) in sorted(found.items())
    }
    texts = _used(layout, kept, state.waiting, texts)
    state = dataclasses.replace(state, parts=tuple(kept), texts=texts)
    state = dataclasses.replace(state, waiting=dataclasses.replace(state.waiting, texts=texts))
    return Rolled(ready, pa.record_batch(columns), released.late, check_size(spec, state))


def _used(layout: Layout, kept: list[Arrays], waiting: Rows, texts: Texts) -> Texts:
    """Return the texts of those codes that are still there."""
    if not layout.texts:
        return texts
    lanes = [waiting.codes[lane] for lane in layout.texts]
    for values in kept:
        lanes += [values[f"code/{lane}"] for lane in layout.texts if f"code/{lane}" in values]
    return texts.only(np.concatenate(lanes))


def _relative(layout: Layout, output: Output, result: Result, rows: Rows) -> Result:
    """Return a result as it is, or for `ratio` each row's own number over it; none where float64 has no such quotient."""
    if output.aggregate.of != "ratio" or not result.values.size:
        return result
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        found = rows.numbers[layout.lane(output.aggregate)] / result.values
    return Result(np.where(np.isfinite(found), found, np.nan))


def _column(output: Output, result: Result, number: np.ndarray, n: int, texts: Texts) -> pa.Array:
    """Return a result in row order; rows without a key have null."""
    one = output.aggregate
    if one.of == "top_k":
        codes, missing = np.full(n, NOTHING), np.ones(n, bool)
        if result.missing is not None and number.size:
            codes[number], missing[number] = result.values, result.missing
        return texts.spell(codes, missing)
    function = FUNCTIONS[one.of]
    values = np.full(n, np.nan)
    values[number] = result.values
    empty = function.empty if one.empty is None else one.empty
    if empty is not None:
        nothing = np.isnan(result.values)
        if one.empty is not None and function.whole:
            nothing = result.values == 0.0
        values[number[nothing]] = empty
    missing = np.isnan(values)
    if function.whole and one.empty is None:
        return pa.array(np.where(missing, 0.0, values).astype(np.int64), mask=missing)
    return pa.array(values, mask=missing)
