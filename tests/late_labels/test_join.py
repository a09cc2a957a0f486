"""The join against its oracle: any log, in any cuts and any order within lateness."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.artefact.envelope import decode, encode
from beam_ml.core.batch import Origin
from beam_ml.core.rejects import Reject
from beam_ml.errors import ArtefactError, CorruptArtefact, InvalidValue, MergeRefused, MissingColumn, WrongKind
from beam_ml.formats.arrow_bytes import to_stream
from beam_ml.formats.block import Block
from beam_ml.kernels.late_labels import resolve as kernel
from beam_ml.late_labels import END, State, from_bytes, join, to_bytes
from tests.late_labels.oracle import oracle
from tests.late_labels.support import (
    BASE,
    as_us,
    in_seconds,
    reasons,
    reports_block,
    rows_block,
    seen,
    spec,
    times,
    us,
)

NAMES = st.sampled_from(["a", "b", "7"])
SECONDS = st.integers(0, 24)
ROWS = st.lists(st.tuples(NAMES, SECONDS, st.integers(0, 3)), max_size=14)
REPORTS = st.lists(st.tuples(NAMES, SECONDS, st.sampled_from([0.0, 1.0])), max_size=14)
SPECS = st.builds(
    lambda maturity, memory, ahead, drop, corrections: spec(
        maturity=maturity,
        corrected_within=memory,
        reports_ahead=ahead,
        unreported="drop" if drop else 0.0,
        corrections=corrections,
        lateness=5,
    ),
    st.integers(1, 6),
    st.integers(0, 6),
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from(["add", "pair", "count"]),
)


def whole(of, rows, reports):
    return join(of, State.empty(), [rows_block(rows)], [reports_block(reports)])


def in_pieces(of, rows, reports, order, cuts):
    """As a stream: in order of time, moved by at most the lateness, in pieces, the state stored in between."""
    log = [("row", *one, i) for i, one in enumerate(rows)] + [("report", *one, i) for i, one in enumerate(reports)]
    log = [log[i] for i in np.lexsort((np.arange(len(log)), [one[2] + order[i] for i, one in enumerate(log)]))]
    state, released, rejected = State.empty(), [], []
    bounds = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    for begin, stop in itertools.pairwise(bounds):
        piece = log[begin:stop]
        # The watermark: nothing that comes later lies more than the lateness behind it.
        left = [one[2] for one in log[stop:]]
        until = us(min(left) + 5) if left else us(max(one[2] for one in piece))
        blocks = {"row": [], "report": []}
        for kind, *one, place in piece:
            make = rows_block if kind == "row" else reports_block
            blocks[kind].append(make([tuple(one)], first=place))
        joined = join(of, state, blocks["row"], blocks["report"], until)
        state = from_bytes(of, to_bytes(of, joined.state))
        released.append(joined.released)
        rejected += joined.rejected
    last = join(of, state)
    return [*released, last.released], [*rejected, *last.rejected], last.state


def rejected_places(rejected):
    return sorted((one.reason, one.origin, int(at)) for one in rejected for at in one.position)


@settings(max_examples=150, deadline=None)
@given(SPECS, ROWS, REPORTS)
def test_the_join_does_as_the_oracle(of, rows, reports):
    joined = whole(of, rows, reports)
    emitted, counts = oracle(of, as_us(rows), as_us(reports))
    assert seen(joined.released) == in_seconds(emitted)
    assert joined.counts == counts
    assert joined.state.counts == counts
    assert len(joined.state.rows) == len(joined.state.reports) == 0


@settings(max_examples=150, deadline=None)
@given(SPECS, ROWS, REPORTS, st.data())
def test_batch_is_stream_is_shuffled_within_lateness(of, rows, reports, data):
    n = len(rows) + len(reports)
    order = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    cuts = data.draw(st.lists(st.integers(1, max(n, 1)), max_size=5))
    once = whole(of, rows, reports)
    released, rejected, state = in_pieces(of, rows, reports, order, cuts)
    together = pa.concat_batches([one.batch for one in released if len(one)] or [once.released.batch])
    assert to_stream(together).tobytes() == to_stream(once.released.batch).tobytes()
    assert np.concatenate([one.position for one in released]).tolist() == once.released.position.tolist()
    assert rejected_places(rejected) == rejected_places(once.rejected)
    assert to_bytes(of, state) == to_bytes(of, once.state)


@settings(max_examples=100, deadline=None)
@given(SPECS, ROWS, REPORTS, SECONDS)
def test_every_row_is_somewhere(of, rows, reports, until):
    joined = join(of, State.empty(), [rows_block(rows)], [reports_block(reports)], us(until))
    counts, status = joined.counts, joined.state.rows.status
    first = counts["labelled"] + counts["unreported"] + counts["dropped"]
    waiting = int((status <= kernel.WAITING).sum())
    assert counts["rows"] == len(rows) == first + counts["duplicate row"] + waiting
    corrections = counts["report disagrees with another"] + counts["report after maturity"]
    said = counts["labelled"] + counts["report repeats what is known"] + counts["report without a row"] + corrections
    assert counts["reports"] == len(reports) == said + len(joined.state.reports)


def test_a_row_leaves_when_its_label_is_known():
    state = join(
        spec(), State.empty(), [rows_block([("a", 0, 1), ("b", 1, 2)])], [reports_block([("a", 4, 1.0)])], us(3)
    ).state
    assert len(state.rows) == 2
    joined = join(spec(), state, until=us(4))
    assert seen(joined.released) == []  # another report of the same time may still come
    joined = join(spec(), joined.state, until=us(4) + 1)
    assert seen(joined.released) == [(4, 0, "a", 1, 1.0, 1.0, 0)]
    joined = join(spec(), joined.state, until=us(11) + 1)
    assert seen(joined.released) == [(11, 1, "b", 2, 0.0, 1.0, 0)]
    assert joined.released.position.tolist() == [1]
    assert joined.released.origin == Origin("late_labels", "0")


def test_a_report_at_maturity_comes_after_it():
    of = spec(corrected_within=5)
    joined = join(of, State.empty(), [rows_block([("a", 0, 1)])], [reports_block([("a", 10, 1.0)])])
    assert seen(joined.released) == [(10, 0, "a", 1, 0.0, 1.0, 0), (10, 0, "a", 1, 1.0, 1.0, 1)]
    assert joined.counts["report after maturity"] == 1


def test_what_matures_at_the_clock_waits_for_what_else_happens_then():
    of, rows = spec(corrected_within=20), [rows_block([("x", -5, 1), ("b", 0, 2)])]
    first = join(of, State.empty(), rows, until=us(10))
    then = join(of, first.state, [], [reports_block([("x", 10, 1.0)])])
    at_once = join(of, State.empty(), rows, [reports_block([("x", 10, 1.0)])])
    assert seen(first.released) + seen(then.released) == seen(at_once.released)
    assert [one[2] for one in seen(at_once.released)] == ["x", "x", "b"]


def test_lateness_holds_the_clock_back():
    of = spec(lateness=3)
    joined = join(of, State.empty(), [rows_block([("a", 0, 1)])], [], us(12))
    assert len(joined.released) == 0
    assert joined.state.due(of) == us(13) + 1
    joined = join(of, joined.state, [], [reports_block([("a", 9, 1.0)])], us(13) + 1)
    assert seen(joined.released) == [(9, 0, "a", 1, 1.0, 1.0, 0)]


def test_what_comes_too_late_is_refused_with_its_place():
    of = spec(lateness=2)
    state = join(of, State.empty(), until=us(20)).state
    joined = join(
        of,
        state,
        [rows_block([("a", 17, 1), ("b", 18, 1)], first=5)],
        [reports_block([("c", 1, 1.0)], first=7)],
        us(20),
    )
    late = {one.reason: (one.position.tolist(), one.origin, one.detail) for one in joined.rejected}
    assert late == {
        "late row": ([5], Origin("log", "rows"), ("a",)),
        "late report": ([7], Origin("log", "reports"), ("c",)),
    }
    assert len(joined.state.rows) == 1
    assert joined.counts["rows"] == 1


def test_bad_rows_and_reports_are_refused_at_the_door():
    rows = Block(
        pa.record_batch({"tx": [1.0, 2.5, None, 4.0], "at": [*times([0, 0, 0]).to_pylist(), None]}),
        Origin("log", "0"),
        np.arange(4),
        rejected=(Reject("malformed line", np.array([9])),),
    )
    reports = Block(
        pa.record_batch({"tx": ["1", "1", "x" * 1_025], "said_at": times([1, 1, 1]), "fraud": [None, "perhaps", "1"]})
    )
    joined = join(spec(), State.empty(), [rows], [reports])
    assert reasons(joined) == {
        "malformed line": 1,
        "id is not an exact whole number": 1,
        "missing id": 1,
        "missing event time": 1,
        "missing label": 1,
        "label is not a number": 1,
        "id above 1024 characters": 1,
    }
    assert {one.origin for one in joined.rejected if one.reason == "malformed line"} == {Origin("log", "0")}
    assert joined.counts["unreported"] == 1


def test_an_id_is_one_however_a_format_reads_it():
    kinds = [pa.int64(), pa.string(), pa.float64(), pa.decimal128(5, 2), pa.uint8(), pa.large_string()]
    for kind in kinds:
        rows = Block(
            pa.record_batch(
                {
                    "tx": pa.array(["7"]).cast(kind)
                    if kind != pa.decimal128(5, 2)
                    else pa.array([7]).cast(pa.int8()).cast(kind),
                    "at": times([0]),
                }
            )
        )
        for text in ("7", "007"):
            reports = Block(pa.record_batch({"tx": [text], "said_at": times([1]), "fraud": [1]}))
            assert join(spec(), State.empty(), [rows], [reports]).counts["labelled"] == 1


def test_labels_are_sorted_as_features_sort_them():
    of = spec(label={"column": "status", "positive": ["chargeback"], "negative": ["cleared"]})
    reports = Block(
        pa.record_batch({"tx": ["a", "b", "c"], "said_at": times([1, 1, 1]), "status": ["chargeback", "cleared", "?"]})
    )
    joined = join(of, State.empty(), [rows_block([("a", 0, 0), ("b", 0, 0)])], [reports])
    assert joined.released.batch.column("status").to_pylist() == [1.0, 0.0]
    assert reasons(joined) == {"label is neither positive nor negative": 1}


def test_blocks_of_other_types_and_columns_are_one_table():
    one = Block(pa.record_batch({"tx": [1], "at": times([0]), "amount": [5]}))
    other = Block(pa.record_batch({"tx": ["b"], "at": times([1]), "amount": ["n/a"], "shop": ["s"]}))
    released = join(spec(), State.empty(), [one, other]).released.batch
    assert released.column("amount").to_pylist() == ["5", "n/a"]
    assert released.column("shop").to_pylist() == [None, "s"]


def test_a_column_of_no_common_type_is_refused():
    one = Block(pa.record_batch({"tx": [1], "at": times([0]), "x": [[1.0]]}))
    other = Block(pa.record_batch({"tx": [2], "at": times([1]), "x": ["b"]}))
    with pytest.raises(InvalidValue, match=r"Column 'x' must have one type"):
        join(spec(), State.empty(), [one, other])


@pytest.mark.parametrize("name", ["fraud", "known_at", "label_weight", "correction"])
def test_columns_that_the_join_adds_are_refused(name):
    rows = Block(pa.record_batch({"tx": [1], "at": times([0]), name: [1]}))
    with pytest.raises(InvalidValue, match=rf"got \['{name}'\]"):
        join(spec(), State.empty(), [rows])


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(MissingColumn, match=r"LateLabels.id names the column 'tx'"):
        join(spec(), State.empty(), [Block(pa.record_batch({"at": times([0])}))])
    with pytest.raises(MissingColumn, match=r"LateLabels.reported names the column 'said_at'"):
        join(spec(), State.empty(), [], [Block(pa.record_batch({"tx": [1], "fraud": [1]}))])


def test_arguments_are_refused_in_a_sentence():
    with pytest.raises(InvalidValue, match=r"LateLabels.maturity must be > 0; got 0"):
        spec(maturity=0)
    with pytest.raises(InvalidValue, match=r"must not be a column that the join adds"):
        spec(label="known_at")


class TestRoom:
    def test_rows_beyond_the_bound_are_refused_newest_first(self):
        of = spec(most_rows=2)
        joined = join(of, State.empty(), [rows_block([("a", 3, 0), ("b", 1, 0), ("c", 2, 0)])], [], us(0))
        assert joined.state.rows.id.to_pylist() == ["b", "c"]
        assert reasons(joined) == {"no room to wait for a label": 1}
        assert [one.detail for one in joined.rejected] == [("a",)]
        assert joined.state.columns.column("tx").to_pylist() == ["b", "c"]

    def test_rows_that_were_emitted_are_forgotten_first(self):
        of = spec(most_rows=2, corrected_within=100)
        reports = reports_block([("a", 2, 1.0), ("b", 3, 1.0)])
        joined = join(of, State.empty(), [rows_block([("a", 0, 0), ("b", 1, 0), ("c", 2, 0)])], [reports], us(5))
        assert joined.state.rows.id.to_pylist() == ["b", "c"]
        assert joined.counts["forgotten early"] == 1
        assert reasons(joined) == {}

    def test_reports_beyond_the_bound_are_refused(self):
        of = spec(most_rows=1)
        joined = join(of, State.empty(), [], [reports_block([("a", 3, 1.0), ("b", 1, 0.0)])], us(0))
        assert joined.state.reports.id.to_pylist() == ["b"]
        assert reasons(joined) == {"no room for a report": 1}

    def test_the_bytes_of_columns_are_bounded(self):
        of = spec(most_bytes=4_096)
        batch = pa.record_batch({"tx": list(range(100)), "at": times(range(100)), "text": ["x" * 100] * 100})
        joined = join(of, State.empty(), [Block(batch)], [], us(0))
        assert 10 < len(joined.state.rows) < 100
        assert joined.state.columns.nbytes <= 4_096
        assert len(joined.state.rows) + reasons(joined)["no room to wait for a label"] == 100


def held():
    of = spec(corrected_within=5, reports_ahead=100)
    log = [("a", 0, 1), ("b", 4, 2), ("c", 30, 3)]
    reports = [("a", 2, 1.0), ("d", 3, 0.0), ("e", 40, 1.0)]
    return of, join(of, State.empty(2), [rows_block(log)], [reports_block(reports)], us(12)).state


class TestStored:
    def test_a_state_comes_back_to_the_bit(self):
        of, state = held()
        data = to_bytes(of, state)
        back = from_bytes(of, data)
        assert to_bytes(of, back) == data
        assert (back.shard, back.clock, back.released, back.counts, back.origins) == (
            2, us(12), 1, state.counts, (Origin("log", "reports"), Origin("log", "rows"))
        )  # fmt: skip
        assert back.rows.id.to_pylist() == ["a", "b", "c"]

    def test_any_flipped_byte_is_noticed(self):
        of, state = held()
        data = to_bytes(of, state)
        for at in range(0, len(data), 7):
            damaged = bytearray(data)
            damaged[at] ^= 0x20
            with pytest.raises(ArtefactError):
                from_bytes(of, bytes(damaged))

    @pytest.mark.parametrize("size", [0, 8, 100, -1])
    def test_cut_bytes_are_noticed(self, size):
        of, state = held()
        with pytest.raises(CorruptArtefact):
            from_bytes(of, to_bytes(of, state)[:size])

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("rows/status", lambda a: a + np.uint8(9)),
            ("rows/origin", lambda a: a + np.int32(2)),
            ("rows/time", lambda a: a[:-1]),
            ("rows/time", lambda a: a + (1 << 60)),
            ("reports/label", lambda a: a.astype(np.float32)),
            ("reports/id", lambda a: a[:-20]),
            ("columns", lambda a: to_stream(pa.record_batch({"x": [1]}))),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, name, change):
        """Forged: the digest is right, what it covers is not."""
        of, state = held()
        found = decode(to_bytes(of, state))
        forged = encode(found.kind, found.meta, {**found.arrays, name: change(found.arrays[name])})
        with pytest.raises(CorruptArtefact):
            from_bytes(of, forged)

    @pytest.mark.parametrize(
        "change",
        [
            {"clock": "soon"}, {"clock": 1 << 63}, {"shard": -1}, {"released": 1.5}, {"counts": {"rows": -1}},
            {"origins": [["log"]]}, {"origins": [["log", "rows"], ["log", "reports"]]}, {"counts": None},
        ],
    )  # fmt: skip
    def test_facts_that_do_not_fit_are_refused(self, change):
        of, state = held()
        found = decode(to_bytes(of, state))
        with pytest.raises(CorruptArtefact):
            from_bytes(of, encode(found.kind, {**found.meta, **change}, found.arrays))

    def test_a_state_of_another_spec_or_kind_is_refused(self):
        of, state = held()
        with pytest.raises(MergeRefused, match="of its own spec"):
            from_bytes(spec(maturity=11), to_bytes(of, state))
        with pytest.raises(WrongKind):
            from_bytes(of, encode("batch", {}, {}))


def test_many_items_of_one_id_cost_no_more_than_many_ids():
    """The steps of the kernel: it visits each item a bounded number of times, whoever's they are."""
    n = 200_000
    seconds = np.arange(n) % 1000
    names = pa.array(np.zeros(n, dtype=np.int64))
    at = pa.array(BASE + seconds * 1_000_000, pa.timestamp("us", tz="UTC"))
    rows = Block(pa.record_batch({"tx": names, "at": at}))
    reports = Block(pa.record_batch({"tx": names, "said_at": at, "fraud": (np.arange(n) % 2).astype(float)}))
    joined = join(spec(corrections="count"), State.empty(), [rows], [reports], END)
    assert joined.counts["rows"] == joined.counts["reports"] == n
    assert joined.counts["labelled"] == 100
