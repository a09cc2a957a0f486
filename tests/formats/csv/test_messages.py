"""CSV messages: lines to rows, each within its message."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats.csv import message_decoder, message_encoder

NAMES = ["x", "s", "i"]
TYPES = {"x": "float64", "s": "string", "i": "int64"}


def decode(values, columns=None, **options):
    return message_decoder({"column_names": NAMES, **options})(pa.array(values, pa.binary()), columns)


def told(found):
    where = zip(found.message.tolist(), found.row.tolist(), strict=True)
    good = dict(zip(where, (tuple(row.values()) for row in found.batch.to_pylist()), strict=True))
    refused = sorted(
        (m, r, one.reason) for one in found.refused for m, r in zip(one.message.tolist(), one.row.tolist(), strict=True)
    )
    return good, refused


def test_lines_of_messages():
    found = decode([b"1.5,a,1", b"2,b,2\r\n3,c,3\n", b'4,"d\n""d""",4\n\n5,,5'], types=TYPES)
    assert told(found) == (
        {
            (0, 0): (1.5, "a", 1),
            (1, 0): (2.0, "b", 2),
            (1, 1): (3.0, "c", 3),
            (2, 0): (4.0, 'd\n"d"', 4),
            (2, 1): (5.0, "", 5),
        },
        [],
    )
    assert found.batch.schema.types == [pa.float64(), pa.string(), pa.int64()]


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        (b"", [(1, -1, "empty message")]),
        (b"\r\n\n", [(1, -1, "empty message")]),
        (b"1,a", [(1, 0, "malformed line")]),
        (b"1,a,2,3", [(1, 0, "malformed line")]),
        (b"\xff,a,2", [(1, -1, "malformed message")]),
        (b'1,"a,2', [(1, 0, "malformed line")]),
        (b'1,a,"2', [(1, 0, "malformed line")]),
        (b'1,a,2\n1,"a\n1,b,3', [(1, 1, "malformed line")]),
        (b"?,a,2", [(1, 0, "unparseable value")]),
        (b"1,a,2.5\n1,a,x", [(1, 0, "unparseable value"), (1, 1, "unparseable value")]),
    ],
)
@pytest.mark.parametrize("last", [b"9,z,9", b'9,"z",9'])
def test_poison_keeps_to_its_message(value, refused, last):
    good, bad = told(decode([b"0,first,0", value, last, last], types=TYPES))
    assert bad == refused
    assert {at: row for at, row in good.items() if at[0] != 1} == {
        (0, 0): (0.0, "first", 0), (2, 0): (9.0, "z", 9), (3, 0): (9.0, "z", 9),
    }  # fmt: skip


def test_one_byte_order_mark_before_a_message_is_none_and_a_second_is_of_its_row():
    mark = b"\xef\xbb\xbf"
    for values in ([mark + b"1,a,1", mark * 2 + b"2,b,2"], [mark * 2 + b"1,a,1", mark + b"2,b,2"]):
        bad = int(values[1].startswith(mark * 2))
        good, refused = told(decode(values, types=TYPES))
        assert ([*good], refused) == ([(1 - bad, 0)], [(bad, 0, "unparseable value")])


def test_an_open_quote_of_two_reaches_no_further():
    """An even number of quotes can leave one open too."""
    values = [b"0,a,0", b'1"1,"b,1', b'2,"c",2', b"3,d,3"]
    good, bad = told(decode(values, types={**TYPES, "x": "string"}))
    assert bad == [(1, 0, "malformed line")]
    assert list(good) == [(0, 0), (2, 0), (3, 0)]


line = st.sampled_from(
    [b"1,a,1", b"2,b,2", b'3,"c, ""c""",3', b'4,"d\nd",4', b"5,a", b"x,e,5", b'6,"f', b'7"7,"g,7', b"", b"8,\xff,8"]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(line, max_size=4).map(b"\n".join), min_size=1, max_size=15))
def test_neighbours_do_not_matter(values):
    good, refused = told(decode(values, types=TYPES))
    alone, bad = {}, []
    for i, value in enumerate(values):
        rows, gone = told(decode([value], types=TYPES))
        alone |= {(i, j): row for (_, j), row in rows.items()}
        bad += [(i, j, reason) for _, j, reason in gone]
    assert good == alone
    assert refused == sorted(bad)


def test_types_are_inferred_from_the_block():
    found = decode([b"1,a,1", b"2.5,b,2", b"3,c,"])
    assert [str(kind) for kind in found.batch.schema.types] == ["double", "string", "int64"]
    assert found.batch.to_pydict() == {"x": [1.0, 2.5, 3.0], "s": ["a", "b", "c"], "i": [1, 2, None]}


def test_columns_in_the_order_asked_for():
    assert decode([b"1,a,2"], ["i", "x"]).batch.to_pydict() == {"i": [2], "x": [1]}
    found = decode([b"1,a,2\n3,b,4", b"bad"], [])
    assert (found.batch.num_rows, found.batch.num_columns, told(found)[1]) == (2, 0, [(1, 0, "malformed line")])
    assert decode([b"1;a;2"], ["i"], delimiter=";").batch.to_pydict() == {"i": [2]}


def test_settings_that_cannot_be():
    for options in ({}, {"column_names": []}, {"column_names": ["a", "a"]}):
        with pytest.raises(InvalidValue, match=r"^csv\.Options\.column_names must name each column of a message once"):
            message_decoder(options)
        with pytest.raises(InvalidValue, match=r"^csv\.Options\.column_names must name each column of a message once"):
            message_encoder(options)
    with pytest.raises(
        InvalidValue, match=r"^csv\.Options\.types must name columns of column_names, \['x'\]; got 'y'\.$"
    ):
        message_decoder({"column_names": ["x"], "types": {"y": "int64"}})
    with pytest.raises(MissingColumn, match=r"column_names must hold 'q'"):
        decode([b"1,a,2"], ["q"])


def test_one_percent_of_open_quotes():
    rng = np.random.default_rng(3)
    bad = rng.random(2000) < 0.01
    values = [(b'"' if bad[i] else b"") + f"{i},t,{i}".encode() for i in range(2000)]
    found = decode(values, types=TYPES)
    assert found.batch.column("i").to_pylist() == np.flatnonzero(~bad).tolist()
    assert [m for one in found.refused for m in one.message.tolist()] == np.flatnonzero(bad).tolist()
    assert {one.reason for one in found.refused} == {"malformed line"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(
    st.floats(allow_nan=False, allow_infinity=False), st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    st.integers(-(2**63), 2**63 - 1),
), min_size=1, max_size=20), st.integers(1, 7))  # fmt: skip
def test_encode_then_decode(rows, per):
    arrays = [
        pa.array(v, k) for v, k in zip(zip(*rows, strict=True), [pa.float64(), pa.string(), pa.int64()], strict=True)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, names=NAMES)
    options = {"column_names": NAMES, "types": TYPES}
    values = message_encoder(options)(batch, per)
    found = message_decoder(options)(pa.array(values), NAMES)
    assert found.refused == ()
    assert found.batch.equals(batch)
    assert found.message.tolist() == [k // per for k in range(len(rows))]
    assert found.row.tolist() == [k % per for k in range(len(rows))]


def test_encode_what_is_not_there():
    with pytest.raises(MissingColumn, match=r"column_names must be columns of the rows, \['x'\]; got 's'\.$"):
        message_encoder({"column_names": NAMES})(pa.record_batch({"x": [1]}))
    assert message_encoder({"column_names": ["x"]})(pa.record_batch({"x": pa.array([], pa.int64())})) == []
