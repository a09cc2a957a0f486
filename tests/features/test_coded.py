"""Categories as numbers: codes and spellings, from columns of every type."""

import decimal

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.core.spelling import LONG, read
from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.features import Features
from beam_ml.features.hashing import codes_of
from beam_ml.formats.block import Block

SPELLED = Features(numeric=[{"column": "c", "transform": "spell", "bytes": 12}])
CODED = Features(numeric=[{"column": "c", "transform": "code"}])


def batch(features, array, **more):
    return features.to_batch(Block(pa.record_batch({"c": array, **more})))


SEVENS = {
    "int": pa.array([7, -3, None, 0]),
    "uint8": pa.array([7, 253, None, 0], pa.uint8()),
    "float": pa.array([7.0, -3.0, None, 0.0]),
    "float with NaN": pa.array([7.0, -3.0, np.nan, -0.0]),
    "decimal": pa.array([decimal.Decimal("7.00"), decimal.Decimal("-3.00"), None, decimal.Decimal("0.00")]),
    "text": pa.array(["007", "-03", "", "-0"]),
    "view": pa.array(["7", "-3", None, "0"], pa.string_view()),
    "dictionary": pa.array(["7", "-3", None, "0"]).dictionary_encode(),
}


@pytest.mark.parametrize("array", SEVENS.values(), ids=SEVENS)
def test_a_value_is_one_text_and_one_code_whatever_the_type(array):
    rows, rejected = batch(SPELLED, array)
    assert rejected == ()
    second = "253" if array.type == pa.uint8() else "-3"
    assert read(rows.dense_x) == ["7", second, "", "0"]
    coded, _ = batch(CODED, array)
    expected = codes_of(pa.record_batch({"c": pa.array(["7", second, "", "0"])}), "c", "")[0] >> np.uint64(11)
    assert coded.dense_x.ravel().tolist() == expected.astype(float).tolist()


def test_truth_values_are_one_and_nought():
    assert read(batch(SPELLED, pa.array([True, False, None]))[0].dense_x) == ["1", "0", ""]


def test_codes_are_whole_and_exact_in_float64():
    rows, _ = batch(CODED, pa.array([f"value {i}" for i in range(5000)]))
    codes = rows.dense_x.ravel()
    assert rows.dense_x.dtype == np.float64
    assert ((codes >= 0) & (codes < 2.0**53) & (codes == np.floor(codes))).all()
    assert len(set(codes.tolist())) == 5000


def test_a_number_that_is_not_whole_is_rejected_with_its_reason():
    for features in (SPELLED, CODED):
        rows, (rejected,) = batch(features, pa.array([1.5, 2.0, 2.0**60]))
        assert rejected.reason == "category c is not an exact whole number"
        assert len(rows) == 1


def test_too_long_a_text_is_counted_without_a_spelling():
    rows, rejected = batch(SPELLED, pa.array(["twelve bytes", "thirteen byte", "ünföundländ"]))
    assert rejected == ()
    assert read(rows.dense_x) == ["twelve bytes", "", ""]
    assert rows.dense_x[1].tolist() == [LONG, LONG]
    assert rows.dense_x[2].tolist() == [LONG, LONG]  # eleven letters, fifteen bytes


def test_beside_numbers_and_one_column_twice():
    features = Features(
        numeric=["c", {"column": "c", "transform": "code"}, {"column": "c", "transform": "spell", "bytes": 6}]
    )
    assert features.names == ("c", "code(c)", "spell(c)")
    rows, _ = batch(features, pa.array([3.0, 5.0], pa.float32()))
    assert rows.dense_x[:, 0].tolist() == [3.0, 5.0]
    assert read(rows.dense_x[:, 2:]) == ["3", "5"]


def test_slices_and_empty_blocks():
    array = pa.array(["a", "b", "c", None])
    assert read(batch(SPELLED, array[1:3])[0].dense_x) == ["b", "c"]
    assert batch(SPELLED, array[:0])[0].dense_x.shape == (0, 2)
    assert read(batch(SPELLED, pa.nulls(2))[0].dense_x) == ["", ""]


def test_text_formats_leave_the_columns_as_texts():
    assert Features(numeric=["x", {"column": "c", "transform": "spell"}]).roles.categories == ("c",)


def test_mistakes_are_one_sentence():
    with pytest.raises(InvalidValue, match=r"bytes must be a multiple of 6; got 20\."):
        Features(numeric=[{"column": "c", "transform": "spell", "bytes": 20}])
    with pytest.raises(
        MissingColumn, match=r"^Features\.numeric names the column 'c', which must be a whole number or text"
    ):
        batch(CODED, pa.array([[1], [2]]))
    with pytest.raises(InvalidValue, match=r"transform must be one of .*code, spell"):
        Features(numeric=[{"column": "c", "transform": "spel"}])
