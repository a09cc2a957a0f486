"""Array dataclasses: what the annotation promises is checked, stored and compared."""

import numpy as np
import pytest
from jaxtyping import Float32, Float64, Int64

from beam_ml.core.arrays import (
    array_dataclass,
    array_fields,
    close,
    from_arrays,
    identical,
    nbytes,
    schema,
    to_arrays,
)
from beam_ml.errors import CorruptArtefact, InvalidBatch


@array_dataclass
class Record:
    weight: Float64[np.ndarray, ""]  # Σ weight
    mean: Float64[np.ndarray, "d"]  # feature units
    scatter: Float64[np.ndarray, "d d"]  # feature units squared
    pairs: Int64[np.ndarray, "m 2"]  # positions


def record(d=3, m=2, **changes):
    arrays = {
        "weight": np.array(2.0),
        "mean": np.arange(d, dtype=np.float64),
        "scatter": np.eye(d),
        "pairs": np.zeros((m, 2), np.int64),
    }
    return Record(**{**arrays, **changes})


def test_fields_come_from_the_annotations():
    fields = {field.name: (field.dtype, field.axes) for field in array_fields(Record)}
    assert fields == {
        "weight": (np.dtype("f8"), ()),
        "mean": (np.dtype("f8"), ("d",)),
        "scatter": (np.dtype("f8"), ("d", "d")),
        "pairs": (np.dtype("i8"), ("m", 2)),
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mean": np.zeros(3, np.float32)}, r"Record\.mean must be float64; got float32\."),
        ({"mean": np.zeros((3, 1))}, r"Record\.mean must have axes \('d',\); got shape \(3, 1\)\."),
        ({"weight": np.zeros(1)}, r"Record\.weight must have axes \(\); got shape \(1,\)\."),
        ({"scatter": np.zeros((3, 4))}, r"Record\.scatter must have d = 3; got shape \(3, 4\)\."),
        ({"scatter": np.zeros((4, 4))}, r"Record\.scatter must have d = 3; got shape \(4, 4\)\."),
        ({"pairs": np.zeros((2, 3), np.int64)}, r"Record\.pairs must have 2 = 2; got shape \(2, 3\)\."),
        ({"pairs": np.zeros((2, 2), np.int32)}, r"Record\.pairs must be int64; got int32\."),
    ],
)
def test_arrays_that_break_the_annotation_are_refused(changes, sentence):
    with pytest.raises(InvalidBatch, match=sentence):
        record(**changes)


def test_a_field_without_an_array_type_is_a_programming_error():
    with pytest.raises(TypeError, match=r"Loose\.size must be annotated with a jaxtyping array type"):

        @array_dataclass
        class Loose:
            size: int


def test_arrays_are_read_only_and_fields_frozen():
    one = record()
    with pytest.raises(ValueError, match="read-only"):
        one.mean[0] = 1.0
    with pytest.raises(AttributeError):
        one.mean = np.zeros(3)


def test_the_givers_own_array_stays_writable():
    mean = np.zeros(3)
    record(mean=mean)
    mean[0] = 1.0


@pytest.mark.parametrize("m", [0, 1, 5])
def test_a_round_trip_through_a_mapping_keeps_every_bit(m):
    one = record(m=m, mean=np.array([-0.0, np.nan, np.inf]))
    assert identical(from_arrays(Record, to_arrays(one)), one)


def test_a_mapping_with_other_names_or_shapes_is_corrupt():
    arrays = to_arrays(record())
    with pytest.raises(CorruptArtefact, match=r"Record must have the arrays \['mean', 'pairs', 'scatter', 'weight'\]"):
        from_arrays(Record, {name: array for name, array in arrays.items() if name != "mean"})
    with pytest.raises(CorruptArtefact, match=r"got .*'other'"):
        from_arrays(Record, {**arrays, "other": np.zeros(1)})
    with pytest.raises(CorruptArtefact, match=r"Record\.mean must be float64; got float32\."):
        from_arrays(Record, {**arrays, "mean": np.zeros(3, np.float32)})


def test_bytes_are_counted():
    assert nbytes(record(d=3, m=2)) == 8 + 3 * 8 + 9 * 8 + 4 * 8


def test_closeness_is_relative_to_the_largest_entry_of_each_array():
    one = record(scatter=np.diag([1e6, 1.0, 1.0]))
    assert close(one, record(scatter=np.diag([1e6, 1.0 + 1e-4, 1.0])), rtol=1e-9)
    assert not close(one, record(scatter=np.diag([1e6, 1.0 + 1e-2, 1.0])), rtol=1e-9)
    assert not close(one, record(scatter=np.diag([1e6, 1.0, 1.0]), mean=np.array([0.0, 1.0, 2.0 + 1e-6])), rtol=1e-9)


def test_closeness_needs_equal_class_shape_and_integers():
    @array_dataclass
    class Other:
        mean: Float64[np.ndarray, "d"]

    assert not close(record(), Other(mean=np.arange(3.0)))
    assert not close(record(d=3), record(d=4))
    assert not close(record(), record(pairs=np.ones((2, 2), np.int64)))
    assert close(record(), record())


def test_closeness_takes_nan_as_equal_and_infinities_as_they_are():
    odd = record(mean=np.array([np.nan, np.inf, 1.0]))
    assert close(odd, record(mean=np.array([np.nan, np.inf, 1.0])))
    assert not close(odd, record(mean=np.array([np.nan, -np.inf, 1.0])))
    assert not close(odd, record(mean=np.array([0.0, np.inf, 1.0])))


def test_identity_sees_the_last_bit_and_the_sign_of_zero():
    assert identical(record(), record())
    assert not identical(record(), record(mean=np.array([0.0, 1.0, np.nextafter(2.0, 3.0)])))
    assert not identical(record(mean=np.array([0.0, 1.0, 2.0])), record(mean=np.array([-0.0, 1.0, 2.0])))
    assert not identical(record(m=0), record(m=1))


def test_the_schema_names_dtype_and_axes():
    @array_dataclass
    class Small:
        values: Float32[np.ndarray, "n 4"]

    assert schema(Small) == {"values": {"dtype": "float32", "axes": ["n", 4]}}


def test_a_class_checks_values_of_its_own_after_shapes():
    @array_dataclass
    class Share:
        of: Float64[np.ndarray, "n"]

        def __post_init__(self):
            if (self.of < 0).any():
                message = "Share.of must be >= 0."
                raise InvalidBatch(message)

    assert Share(np.ones(2)).of.sum() == 2.0
    with pytest.raises(InvalidBatch, match=r"Share\.of must be >= 0"):
        Share(-np.ones(2))
    with pytest.raises(InvalidBatch, match="must have axes"):
        Share(-np.ones((2, 1)))
    with pytest.raises(CorruptArtefact, match="must be >= 0"):
        from_arrays(Share, {"of": -np.ones(2)})
