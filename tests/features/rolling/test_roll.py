"""Every function over every kind of window is what its definition says; splits and orders change nothing, to the bit."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.features.rolling import END, Rolling, empty, from_bytes, roll, roll_blocks, rows_of, to_bytes
from beam_ml.formats.block import Block
from tests.features.rolling.oracle import expected
from tests.features.rolling.support import BEGIN, DELAYED, S, block, every, rows, spec

SPECS = {
    "exact": spec(every()),
    "without the row": spec(every(include_row=False)),
    "known later": spec(every(known="label_time")),
    "known later, without the row": spec(every(known="label_time", include_row=False)),
    "dated before": spec([one for one in every(dated="of_time") if one["of"] != "time_since_last"]),
    "sawtooth": spec([one for one in every(kind="sawtooth") if one["of"] != "distinct"]),
    "sawtooth without the row": spec(
        [one for one in every(kind="sawtooth", include_row=False) if one["of"] != "distinct"]
    ),
    "sawtooth, dated before": spec(
        [one for one in every(kind="sawtooth", dated="of_time") if one["of"] not in ("distinct", "time_since_last")]
    ),
    "two keys": spec(every() + every(key=["card", "shop"])),
}


def agrees(spec: Rolling, given: list[dict[str, Any]], batch: pa.RecordBatch) -> None:
    for name, values in expected(spec, given).items():
        if isinstance(values[0] if values else None, Counter) or any(isinstance(one, Counter) for one in values):
            continue
        for found, value in zip(batch[name].to_pylist(), values, strict=True):
            if value is None or isinstance(value, int | str):
                assert found == value, name
            else:
                assert found == pytest.approx(value, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seed", range(4))
def test_every_function_is_what_its_definition_says(name: str, seed: int) -> None:
    given = rows(seed, 120)
    done = roll_blocks(SPECS[name], {}, [block(given)])
    assert not done.open
    agrees(SPECS[name], given, done.blocks[0].batch)


@pytest.mark.parametrize("known", [None, "label_time"])
def test_the_most_frequent_categories_come_first(known: str | None) -> None:
    wanted = spec(
        [{"key": "card", "of": "top_k", "value": "shop", "k": 2, "windows": ["40s", DELAYED], "known": known}]
    )
    given = rows(3, 150)
    batch = roll_blocks(wanted, {}, [block(given)]).blocks[0].batch
    for output in wanted.outputs:
        if output.rank:
            continue
        second = output.name[:-1] + "2"
        for first, then, count in zip(
            batch[output.name].to_pylist(), batch[second].to_pylist(), expected(wanted, given)[output.name], strict=True
        ):
            ranked = sorted((count or {}).values(), reverse=True)
            assert [(count or {}).get(first), (count or {}).get(then)] == [*ranked, None, None][:2]


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 90), max_size=6), st.integers(0, 10**6))
def test_rows_cut_anywhere_have_the_same_bytes(name: str, cuts: list[int], seed: int) -> None:
    given_rows, one = rows(seed, 90), SPECS[name]
    whole = roll_blocks(one, {}, [block(given_rows)])
    states: Any = {}
    batches = []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 90], strict=True):
        done = roll_blocks(one, states, [block(given_rows[begin:end], begin)])
        # As it is carried between rounds: by its bytes.
        states = {i: from_bytes(one, to_bytes(one, state)) for i, state in done.states.items()}
        batches += [part.batch for part in done.blocks]
    cut = pa.Table.from_batches(batches).combine_chunks()
    for column in one.names:
        assert cut[column].combine_chunks().to_pylist() == whole.blocks[0].batch[column].to_pylist(), column
    assert {i: to_bytes(one, state) for i, state in states.items()} == {
        i: to_bytes(one, state) for i, state in whole.states.items()
    }


@pytest.mark.parametrize("name", ["exact", "known later", "sawtooth", "two keys"])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_any_order_within_the_lateness_has_the_same_bytes(name: str, seed: int, n_blocks: int) -> None:
    one = SPECS[name].model_copy(update={"lateness": 20.0})
    one = Rolling.parse(one.to_dict())
    given_rows, rng = rows(seed, 80), np.random.default_rng(seed)
    # Each row comes up to 20 s later than it happened: what is 20 s older never comes after.
    came = np.argsort([row["ts"] + int(rng.integers(0, 20 * S)) for row in given_rows], kind="stable")
    whole = roll_blocks(one, {}, [block(given_rows)], before=END).blocks[0].batch

    states: Any = {}
    open_: Any = {}
    finished: dict[int, dict[str, Any]] = {}
    for part in np.array_split(came, n_blocks):
        part = np.sort(part) if rng.random() < 0.5 else part
        shuffled = Block(
            pa.RecordBatch.from_pylist([given_rows[i] for i in part], block(given_rows).batch.schema),
            block([]).origin,
            part.astype(np.int64),
            None,
            int(part.min(initial=0)),
            int(part.max(initial=0)) + 1,
        )
        done = roll_blocks(one, states, [shuffled], open_)
        states, open_ = {i: from_bytes(one, to_bytes(one, state)) for i, state in done.states.items()}, done.open
        for piece in done.blocks:
            assert piece.rejected == ()
            finished |= dict(zip(piece.position.tolist(), piece.to_dicts(), strict=True))
    done = roll_blocks(one, states, [], open_, before=END)
    for piece in done.blocks:
        finished |= dict(zip(piece.position.tolist(), piece.to_dicts(), strict=True))
    assert not done.open
    assert [finished[i] for i in range(80)] == whole.to_pylist()


def test_a_row_behind_the_lateness_is_rejected_and_counted() -> None:
    one = spec([{"key": "card", "of": "count", "windows": ["1m"]}], lateness="10s", shards=1)
    made = [{**rows(0, 1)[0], "card": 1, "ts": BEGIN + at * S} for at in (0, 30, 19, 20, 25)]
    first = roll_blocks(one, {}, [block(made)], before=None)
    assert len(first.open) == 1
    done = roll_blocks(one, first.states, [], first.open, before=END)
    (whole,) = done.blocks
    assert whole.position.tolist() == [0, 1, 3, 4]
    assert [(reject.reason, reject.position.tolist()) for reject in whole.rejected] == [
        ("late for rolling windows", [2])
    ]
    assert whole.batch["count_by_card_1m"].to_pylist() == [1, 4, 2, 3]
    assert done.states[0].late == 1


def test_a_late_row_counts_in_the_windows_of_later_rows() -> None:
    one = spec([{"key": "card", "of": "count", "windows": ["1m"]}], lateness="10s", shards=1)
    made = [{**rows(0, 1)[0], "card": 1, "ts": BEGIN + at * S} for at in (0, 9, 5, 40)]
    done = roll_blocks(one, {}, [block(made)], before=END)
    assert done.blocks[0].batch["count_by_card_1m"].to_pylist() == [1, 3, 2, 4]


def test_when_rows_are_let_go_changes_no_value() -> None:
    """A timer that fires late, or twice, or after a restart, releases rows: it decides nothing."""
    one = spec(every(), lateness="10s")
    given_rows = rows(5, 100)
    whole = roll_blocks(one, {}, [block(given_rows)], before=END).blocks[0]
    for step in (1, 7, 60, 300):
        states: Any = {}
        open_: Any = {}
        done = roll_blocks(one, states, [block(given_rows)], before=BEGIN)
        found = list(done.blocks)
        for at in range(0, 301, step):
            states, open_ = {i: from_bytes(one, to_bytes(one, state)) for i, state in done.states.items()}, done.open
            done = roll_blocks(one, states, [], open_, before=BEGIN + at * S)
            found += done.blocks
            again = roll_blocks(one, done.states, [], done.open, before=BEGIN + at * S)
            assert again.blocks == ()
        assert found[0].batch.to_pylist() == whole.batch.to_pylist()


def test_a_label_that_comes_later_is_not_seen() -> None:
    """Two clocks: the same rows with labels known from the start, and with labels that come after."""
    risk = {"key": "card", "of": "mean", "value": "x", "windows": [DELAYED], "empty": -1.0}
    one = spec([{**risk, "known": "label_time"}], shards=1)
    base = {"shop": "a", "of_time": None}
    made = [
        {**base, "ts": BEGIN, "card": 1, "x": 1.0, "label_time": BEGIN + 30 * S},
        {**base, "ts": BEGIN + 29 * S, "card": 1, "x": 0.0, "label_time": None},
        {**base, "ts": BEGIN + 30 * S, "card": 1, "x": 0.0, "label_time": BEGIN + 99 * S},
        {**base, "ts": BEGIN + 54 * S, "card": 1, "x": 0.0, "label_time": BEGIN + 99 * S},
        {**base, "ts": BEGIN + 55 * S, "card": 1, "x": 0.0, "label_time": BEGIN + 99 * S},
    ]
    found = roll_blocks(one, {}, [block(made)]).blocks[0].batch[one.names[0]].to_pylist()
    assert found == [-1.0, -1.0, 1.0, 1.0, -1.0]


def test_labels_as_rows_of_their_own_say_the_same_as_labels_beside_their_rows() -> None:
    given_rows = [{**row, "card": row["card"] or 0} for row in rows(8, 100)]
    for row in given_rows:
        row["label_time"] = None if row["label_time"] == row["ts"] else row["label_time"]
    common = {"key": "card", "of": "share", "value": "shop", "category": "b", "windows": [DELAYED, "1m"]}
    beside, apart = spec([{**common, "known": "label_time"}]), spec([{**common, "dated": "of_time"}])
    stream = [{**row, "shop": None, "of_time": None, "is_label": False} for row in given_rows]
    labels = [row for row in given_rows if row["label_time"] is not None]
    stream += [{**row, "ts": row["label_time"], "of_time": row["ts"], "is_label": True} for row in labels]
    # A label that is known at the time of a row is known to it, and so comes first.
    stream.sort(key=lambda row: (row["ts"], not row["is_label"]))
    joined = roll_blocks(beside, {}, [block(given_rows)]).blocks[0].batch
    streamed = roll_blocks(apart, {}, [block(stream)]).blocks[0].batch
    for name in beside.names:
        found = [value for value, row in zip(streamed[name].to_pylist(), stream, strict=True) if not row["is_label"]]
        assert found == joined[name].to_pylist()
        assert len({*found}) > 10


@pytest.mark.parametrize("before", [0.0, 1e-310, None])
def test_a_ratio_that_float64_does_not_have_is_none(before: float | None) -> None:
    one = spec([{"key": "card", "of": "ratio", "value": "x", "windows": ["1m"], "include_row": False, "name": "r"}])
    given_rows = [{"ts": BEGIN + i * S, "card": 1, "x": x} for i, x in enumerate((before, 1e10, 2.0))]
    found = roll_blocks(one, {}, [block(given_rows)]).blocks[0].batch["r_1m"].to_pylist()
    assert found[:2] == [None, None]
    assert found[2] == pytest.approx(2e-10 * (1 if before is None else 2))


def test_a_value_leaves_no_trace_once_it_is_out_of_the_window() -> None:
    """Differences of cumulative sums would keep the rounding of 1e300 forever."""
    one = spec([{"key": "card", "of": of, "value": "x", "windows": ["10s"]} for of in ("sum", "mean", "variance")])
    values = [1e300, 0.1, 0.2, 0.3]
    made = [
        {**rows(0, 1)[0], "card": 1, "x": x, "ts": BEGIN + at * S} for x, at in zip(values, (0, 5, 11, 12), strict=True)
    ]
    batch = roll_blocks(one, {}, [block(made)]).blocks[0].batch
    assert batch[one.names[0]].to_pylist()[2:] == [pytest.approx(0.3, rel=1e-15), pytest.approx(0.6, rel=1e-15)]
    assert batch[one.names[2]].to_pylist()[3] == pytest.approx(0.02 / 3, rel=1e-12)
    million = np.concatenate([np.full(20, 1e9), np.full(20, 1e-3)])
    made = [{**rows(0, 1)[0], "card": 1, "x": float(x), "ts": BEGIN + i * S} for i, x in enumerate(million)]
    sums = roll_blocks(one, {}, [block(made)]).blocks[0].batch[one.names[0]].to_pylist()
    assert sums[-1] == pytest.approx(math.fsum([1e-3] * 10), rel=1e-15)


@pytest.mark.parametrize("precision", [4, 8, 12])
@pytest.mark.parametrize("n", [1, 10, 200, 3000])
def test_distinct_over_tiles_is_within_three_standard_errors(precision: int, n: int) -> None:
    one = spec(
        [{"key": "card", "of": "distinct", "value": "v", "windows": ["1h"], "kind": "sawtooth", "precision": precision}]
    )
    values = np.random.default_rng(n).integers(0, 10**9, n)
    rows_ = pa.record_batch(
        {
            "ts": [BEGIN + 7 * S * (i % 400) for i in sorted(range(n), key=lambda i: i % 400)],
            "card": [1] * n,
            "v": values,
        }
    )
    found = roll_blocks(one, {}, [Block(rows_)]).blocks[0].batch[one.names[0]].to_pylist()
    true = len(set(values.tolist()))
    assert abs(found[-1] - true) <= max(3 * 1.04 / math.sqrt(1 << precision) * true, 1)


def test_distinct_over_tiles_is_the_same_however_rows_are_cut() -> None:
    one = spec(
        [{"key": "card", "of": "distinct", "value": "shop", "windows": ["10s", "1h"], "kind": "sawtooth"}], shards=1
    )
    given_rows = rows(4, 200, span_s=20_000)
    whole = roll_blocks(one, {}, [block(given_rows)])
    first = roll_blocks(one, {}, [block(given_rows[:77])])
    then = roll_blocks(one, first.states, [block(given_rows[77:], 77)])
    found = [value for part in (first, then) for value in part.blocks[0].batch[one.names[1]].to_pylist()]
    assert found == whole.blocks[0].batch[one.names[1]].to_pylist()
    assert to_bytes(one, then.states[0]) == to_bytes(one, whole.states[0])


def test_memory_of_sawtooth_windows_does_not_grow_with_the_rows() -> None:
    one = spec([{"key": "card", "of": "sum", "value": "x", "windows": ["1h"], "kind": "sawtooth"}], shards=1)
    sizes = []
    for n in (2_000, 20_000):
        time = BEGIN + np.arange(n) * (20_000 * S // n)
        rows_ = pa.record_batch({"ts": time, "card": np.arange(n) % 3, "x": np.ones(n)})
        sizes.append(roll_blocks(one, {}, [Block(rows_)]).states[0].nbytes)
    assert sizes[0] == sizes[1] <= 3 * 14 * (16 + 24)


def test_exact_windows_keep_the_rows_of_the_longest_and_no_more() -> None:
    one = spec([{"key": "card", "of": "sum", "value": "x", "windows": ["10s", DELAYED]}], shards=1)
    time = BEGIN + np.arange(1_000) * S
    rows_ = pa.record_batch({"ts": time, "card": np.ones(1_000, int), "x": np.ones(1_000)})
    assert roll_blocks(one, {}, [Block(rows_)]).states[0].nbytes == 55 * (16 + 8)


def test_a_state_that_is_too_large_is_refused_in_one_sentence() -> None:
    from beam_ml.errors import InvalidValue

    one = spec([{"key": "card", "of": "count", "windows": ["1d"]}], shards=1, max_state_bytes=1 << 16)
    n = 5_000
    rows_ = pa.record_batch({"ts": BEGIN + np.arange(n) * S, "card": np.ones(n, int)})
    with pytest.raises(
        InvalidValue, match=r"^Rolling\.max_state_bytes must hold a state; got 65,536, and state 0 of key"
    ):
        roll_blocks(one, {}, [Block(rows_)])


def test_rows_are_read_as_features_read_them() -> None:
    one = spec([{"key": "card", "of": "sum", "value": "x", "windows": ["1d"]}], shards=1)
    text = Block(
        pa.record_batch(
            {"ts": ["2024-01-01T00:00:00Z", "never", "2024-01-01T00:00:01Z", None, "2024-01-01T00:00:02Z"],
             "card": ["7", "7", "007", "7", "7"], "x": ["1.5", "1", "2", "3", "n/a"]}
        )
    )  # fmt: skip
    (found,) = roll_blocks(one, {}, [text]).blocks
    assert found.batch[one.names[0]].to_pylist() == [1.5, 3.5]
    assert {reject.reason: (reject.position.tolist(), list(reject.detail)) for reject in found.rejected} == {
        "column x is not a number": ([4], ["n/a"]),
        "event time cannot be read": ([1], ["never"]),
        "missing event time": ([3], []),
    }
    floats = Block(pa.record_batch({"ts": [BEGIN, BEGIN], "card": [1.5, 2.0], "x": [1.0, 1.0]}))
    (found,) = roll_blocks(one, {}, [floats]).blocks
    assert [reject.reason for reject in found.rejected] == ["category card is not an exact whole number"]
    nobody = Block(pa.record_batch({"ts": [BEGIN], "card": pa.array([None], pa.int64()), "x": [1.0]}))
    assert roll_blocks(one, {}, [nobody]).blocks[0].batch[one.names[0]].to_pylist() == [None]


def test_blocks_without_rows_have_the_columns_all_the_same() -> None:
    one = SPECS["two keys"]
    (found,) = roll_blocks(one, {}, [block([])]).blocks
    (some,) = roll_blocks(one, {}, [block(rows(1, 5))]).blocks
    assert found.batch.schema.equals(some.batch.schema)
    assert len(found) == 0


def test_rows_of_a_shard_alone_are_enough() -> None:
    one = spec(every(), shards=3)
    (read,) = rows_of(one, block(rows(2, 60))).rows
    alone = [roll(one, empty(one, i), part) for i, part in enumerate(read.shards(3))]
    together = roll_blocks(one, {}, [block(rows(2, 60))])
    assert sum(len(part.rows) for part in alone) == 60
    assert [to_bytes(one, part.state) for part in alone] == [to_bytes(one, together.states[i]) for i in range(3)]


def test_a_row_that_is_late_for_one_key_counts_for_the_others() -> None:
    """Its shop has been seen later, its card has not: it is rejected, and its card was used all the same."""
    one = spec(
        [{"key": key, "of": "count", "windows": ["1m"], "name": key} for key in ("card", "shop")],
        lateness="5s",
        shards=64,
    )
    given = [dict(zip(("ts", "card", "shop"), row, strict=True)) for row in (
        (BEGIN + 30 * S, 2, "a"), (BEGIN, 1, "a"), (BEGIN + 31 * S, 1, "a")
    )]  # fmt: skip
    done = roll_blocks(one, {}, [block(given)], before=None)
    done = roll_blocks(one, done.states, [], done.open, before=END)
    (rolled,) = done.blocks
    assert [(reject.reason, reject.position.tolist()) for reject in rolled.rejected] == [
        ("late for rolling windows", [1])
    ]
    assert rolled.batch["card_1m"].to_pylist() == [1, 2]
    assert rolled.batch["shop_1m"].to_pylist() == [1, 2]
