"""The envelope: round trips, equal bytes for equal content, and typed errors whatever the bytes."""

import base64
import importlib.metadata
import json
import random
import struct
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from beam_ml.artefact import envelope, format, migrations
from beam_ml.artefact.envelope import Envelope, decode, encode
from beam_ml.errors import ArtefactError, CorruptArtefact, InvalidValue, UnsupportedVersion, WrongKind

DTYPES = ["f8", "f4", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
META = {"spec": {"algorithm": "pca", "n_features": 3}, "time": None, "names": ["a", "é"], "rate": 0.1}


def arrays_of_every_kind() -> dict[str, np.ndarray]:
    made = {f"z/{dtype}": np.arange(6).astype(dtype).reshape(2, 3) for dtype in DTYPES}
    made["floats"] = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    made["scalar"] = np.array(2.5)
    made["none"] = np.zeros((0, 7), np.float32)
    return made


def header_of(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])


def with_header(data: bytes, header: Any) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (length,) = struct.unpack("<Q", data[:8])
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def with_facts(data: bytes, **changes: Any) -> bytes:
    """Change the facts and sign them again, as a forger could."""
    header = header_of(data)
    facts = {**json.loads(header["__metadata__"]["beam_ml"]), **changes}
    facts.pop("digest")
    arrays = {name: np.array(array) for name, array in safetensors.numpy.load(data).items()}
    facts["digest"] = envelope._digest(facts, arrays)
    header["__metadata__"]["beam_ml"] = json.dumps(facts)
    return with_header(data, header)


# --- round trips -----------------------------------------------------------------------------------------------------


def test_everything_comes_back() -> None:
    arrays = arrays_of_every_kind()
    found = decode(encode("learner", META, arrays), "learner")
    assert (found.kind, found.meta, found.library) == ("learner", META, envelope.library_version())
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        back = found.arrays[name]
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()
        assert back.flags.c_contiguous
        assert back.flags.aligned
        assert not back.flags.writeable


@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        ),
        max_size=4,
    ),
    meta=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=3,
    ),
)
@settings(max_examples=80, deadline=None)
def test_any_content_comes_back(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    data = encode("model", meta, arrays)
    found = decode(data)
    assert found.meta == meta
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in found.arrays.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()
    }
    assert encode("model", found.meta, found.arrays) == data


def test_memory_order_and_byte_order_do_not_show() -> None:
    plain = np.arange(24, dtype=np.float64).reshape(4, 6)
    data = encode("model", {}, {"x": plain})
    wide = np.zeros((8, 6))
    wide[::2] = plain
    for other in (np.asfortranarray(plain), wide[::2], plain[::-1][::-1], plain.T.copy().T, plain.astype(">f8")):
        assert encode("model", {}, {"x": other}) == data
    transposed = decode(encode("model", {}, {"x": plain.T})).arrays["x"]
    np.testing.assert_array_equal(transposed, plain.T)


def test_equal_content_gives_equal_bytes() -> None:
    arrays = arrays_of_every_kind()
    backwards = dict(reversed(arrays.items()))
    meta = dict(reversed(META.items()))
    assert encode("learner", META, arrays) == encode("learner", meta, backwards)
    changed = {**arrays, "scalar": np.array(2.5000000000000004)}
    assert encode("learner", META, arrays) != encode("learner", META, changed)


def test_any_safetensors_reader_opens_it() -> None:
    arrays = arrays_of_every_kind()
    data = encode("model", META, arrays)
    for name, array in safetensors.numpy.load(data).items():
        np.testing.assert_array_equal(array, arrays[name])
    facts = json.loads(header_of(data)["__metadata__"]["beam_ml"])
    assert facts.keys() == {"digest", "format", "kind", "library", "meta"}
    assert (facts["format"], facts["kind"], facts["meta"]) == (1, "model", META)


GOLDEN = (
    "iAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJiZWFtX21sIjoie1wiZGlnZXN0XCI6XCI4ZGQzNGEwNzk4NmY2ZDllYjZiOTdkMWZi"
    "MDA2OTU4YTE1MjQ1OWFjMTE5MjJhOTkxMTg0YjYxMjM1YmFiODJlXCIsXCJmb3JtYXRcIjoxLFwia2luZFwiOlwibW9kZWxcIixc"
    "ImxpYnJhcnlcIjpcIjAuMS4wXCIsXCJtZXRhXCI6e1wiYWxnb3JpdGhtXCI6XCJrbWVhbnNcIixcImtcIjoyfX0ifSwibWFzcyI6"
    "eyJkdHlwZSI6Ikk2NCIsInNoYXBlIjpbMl0sImRhdGFfb2Zmc2V0cyI6WzAsMTZdfSwiY2VudGVycyI6eyJkdHlwZSI6IkY2NCIs"
    "InNoYXBlIjpbMiwyXSwiZGF0YV9vZmZzZXRzIjpbMTYsNDhdfSwiYWxpdmUiOnsiZHR5cGUiOiJCT09MIiwic2hhcGUiOlsyXSwi"
    "ZGF0YV9vZmZzZXRzIjpbNDgsNTBdfX0gIAMAAAAAAAAABQAAAAAAAAAAAAAAAADgPwAAAAAAAPS/AAAAAAAACEBZ8/jCH26lAQEA"
)
"""Format 1, as version 0.1.0 wrote it."""


def test_golden_bytes_of_format_1(monkeypatch: pytest.MonkeyPatch) -> None:
    meta = {"algorithm": "kmeans", "k": 2}
    arrays = {
        "centers": np.array([[0.5, -1.25], [3.0, 1e-300]]),
        "mass": np.array([3, 5], np.int64),
        "alive": np.array([True, False]),
    }
    data = base64.b64decode(GOLDEN)
    found = decode(data, "model")
    assert (found.meta, found.library) == (meta, "0.1.0")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)
    monkeypatch.setattr(envelope, "library_version", lambda: "0.1.0")
    assert encode("model", meta, arrays) == data


# --- what cannot be written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meta", "arrays", "match"),
    [
        ({}, {"x": np.array([object()])}, "artefact array x must have one of the dtypes .*; got object"),
        ({}, {"x": np.array(["a"])}, "got <U1"),
        ({}, {"x": np.array([1j])}, "got complex128"),
        ({}, {"x": np.zeros(2, np.float16)}, "got float16"),
        ({}, {"x": np.zeros(2, "M8[us]")}, "got datetime64"),
        ({}, {"x": np.zeros(2, [("a", "f8")])}, "must have one of the dtypes"),
        ({}, {"": np.zeros(2)}, "names must be non-empty text"),
        ({}, {"__metadata__": np.zeros(2)}, "names must be non-empty text"),
        ({"x": float("nan")}, {}, "artefact meta must be JSON with finite numbers"),
        ({"x": [float("inf")]}, {}, "artefact meta must be JSON with finite numbers"),
        ({"x": np.float64(1)}, {}, None),
        ({"x": np.int64(1)}, {}, "artefact meta must be JSON"),
        ({"x": {1: 2, "1": 3}}, {}, "artefact meta must"),
        ({"x": b"bytes"}, {}, "artefact meta must be JSON"),
    ],
)
def test_what_cannot_be_written(meta: dict[str, Any], arrays: dict[str, np.ndarray], match: str | None) -> None:
    if match is None:
        assert decode(encode("model", meta, arrays)).meta == meta
        return
    with pytest.raises(InvalidValue, match=match):
        encode("model", meta, arrays)


# --- hostile bytes ---------------------------------------------------------------------------------------------------


def small() -> bytes:
    return encode("model", {"k": 2}, {"x": np.arange(3.0), "alive": np.array([True, False]), "n": np.int8([1])})


def test_cut_at_every_length() -> None:
    data = small()
    for length in range(len(data)):
        with pytest.raises(CorruptArtefact):
            decode(data[:length])
    for more in (b"\0", b" " * 8, data):
        with pytest.raises(CorruptArtefact):
            decode(data + more)


def test_every_bit_flipped() -> None:
    data = small()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ArtefactError):
            decode(bytes(flipped))


def test_bytes_changed_at_random() -> None:
    data, chance = small(), random.Random(5)
    for _ in range(4000):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 12)):
            action, at = chance.randrange(3), chance.randrange(len(changed) - 16)
            if action == 0:
                changed[at] = chance.randrange(256)
            elif action == 1:
                del changed[at : at + chance.randint(1, 8)]
            else:
                changed[at:at] = chance.randbytes(chance.randint(1, 8))
        if bytes(changed) != data:
            with pytest.raises(ArtefactError):
                decode(bytes(changed))


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(ArtefactError):
        decode(data)
    with pytest.raises(ArtefactError):
        decode(struct.pack("<Q", len(data)) + data)


def test_headers_that_lie() -> None:
    data = small()
    for length in (0, 1, 7, len(data), 10**8 + 1, 2**63, 2**64 - 1):
        with pytest.raises(CorruptArtefact):
            decode(struct.pack("<Q", length) + data[8:])
    nested = b'{"__metadata__":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    for header in (
        b"[]",
        b"null",
        b"{}",
        b'{"__metadata__":[]}',
        b'{"__metadata__":{"beam_ml":1}}',
        nested,
        b"\xff\xfe",
    ):
        with pytest.raises(CorruptArtefact):
            decode(with_header(data, header))


def test_keys_given_twice() -> None:
    data = small()
    (length,) = struct.unpack("<Q", data[:8])
    text = data[8 : 8 + length].strip()
    for key in (b'"n"', b'"__metadata__"'):
        start = text.index(key + b":")
        value = json.dumps(json.loads(text)[key.strip(b'"').decode()]).encode()
        doubled = text[:start] + key + b":" + value + b"," + text[start:]
        assert json.loads(doubled) == json.loads(text)
        with pytest.raises(CorruptArtefact, match="a key is given twice"):
            decode(with_header(data, doubled))
    header = header_of(data)
    facts = header["__metadata__"]["beam_ml"]
    header["__metadata__"]["beam_ml"] = facts.replace('"kind":', '"kind":"learner","kind":')
    with pytest.raises(CorruptArtefact, match="a key is given twice"):
        decode(with_header(data, header))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F16"},
        {"dtype": "BF16"},
        {"dtype": "O"},
        {"dtype": 3},
        {"dtype": "I64"},
        {"dtype": "F32"},
        {"shape": [4]},
        {"shape": [-3]},
        {"shape": [2**62, 8]},
        {"shape": [1, 3]},
        {"shape": "3"},
        {"data_offsets": [0, 8]},
        {"data_offsets": [24, 0]},
        {"data_offsets": [0, 2**63]},
    ],
)
def test_arrays_that_are_not_what_the_header_says(change: dict[str, Any]) -> None:
    data = small()
    header = header_of(data)
    header["x"].update(change)
    with pytest.raises(CorruptArtefact):
        decode(with_header(data, header))


def test_a_dtype_beam_ml_does_not_write() -> None:
    data = safetensors.numpy.save(
        {"x": np.zeros(2, np.float16)}, metadata={"beam_ml": json.dumps({"format": 1, "kind": "model"})}
    )
    with pytest.raises(CorruptArtefact, match="has the dtype F16"):
        decode(data)


def test_arrays_renamed_or_exchanged() -> None:
    data = encode("model", {}, {"a": np.arange(3.0), "b": np.arange(3.0) + 1})
    header = header_of(data)
    exchanged = {**header, "a": header["b"], "b": header["a"]}
    renamed = {"c" if name == "a" else name: value for name, value in header.items()}
    for other in (exchanged, renamed):
        with pytest.raises(CorruptArtefact, match="do not match their digest"):
            decode(with_header(data, other))


def test_a_foreign_safetensors_file() -> None:
    plain = safetensors.numpy.save({"x": np.zeros(2)})
    other = safetensors.numpy.save({"x": np.zeros(2)}, metadata={"format": "pt"})
    for data in (plain, other):
        with pytest.raises(CorruptArtefact, match="beam_ml did not write it"):
            decode(data)


def test_truth_values_other_than_0_and_1() -> None:
    data = encode("model", {}, {"alive": np.array([True, False])})
    with pytest.raises(CorruptArtefact, match="truth values"):
        decode(data[:-2] + b"\x02\x00")


def test_another_kind() -> None:
    with pytest.raises(WrongKind, match=r"^The artefact must be a learner; got a model\.$"):
        decode(small(), "learner")


def test_facts_of_another_shape() -> None:
    for changes in ({"kind": 1}, {"meta": []}, {"library": None}, {"kind": None}):
        with pytest.raises(CorruptArtefact, match="must name kind, meta and library"):
            decode(with_facts(small(), **changes))
    for version in ("1", None, True, 1.0):
        with pytest.raises(CorruptArtefact, match="format must be a whole number"):
            decode(with_facts(small(), format=version))


def test_facts_that_are_not_json() -> None:
    header = header_of(small())
    facts = header["__metadata__"]["beam_ml"]
    for number in ("NaN", "-Infinity", "1e999", "2x"):
        header["__metadata__"]["beam_ml"] = facts.replace('"k":2', f'"k":{number}')
        with pytest.raises(CorruptArtefact, match="not JSON"):
            decode(with_header(small(), header))


def test_an_empty_array_of_impossible_shape() -> None:
    data = encode("model", {}, {"x": np.zeros(0)})
    header = header_of(data)
    header["x"]["shape"] = [0, 2**62, 2]
    with pytest.raises(CorruptArtefact):
        decode(with_header(data, header))


def test_keys_become_text() -> None:
    assert decode(encode("model", {"windows": {9: "a", 10: "b"}}, {})).meta == {"windows": {"9": "a", "10": "b"}}


def test_a_library_that_is_not_installed_has_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert envelope.library_version.__wrapped__() == "0"


def test_an_unknown_format() -> None:
    for version in (0, -1, 2, 10**6):
        with pytest.raises(UnsupportedVersion, match=f"format 1 to 1 can be read; got {version}, written by beam_ml"):
            decode(with_facts(small(), format=version))


def test_another_library_version_is_read() -> None:
    found = decode(with_facts(small(), library="99.0"))
    assert found.library == "99.0"
    np.testing.assert_array_equal(found.arrays["x"], np.arange(3.0))


def test_old_formats_go_through_every_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(number: int) -> Any:
        return lambda e: Envelope(e.kind, {**e.meta, f"step{number}": number}, e.arrays, e.library)

    old = decode(small())
    monkeypatch.setattr(migrations, "FORMAT", 4)
    monkeypatch.setattr(migrations, "MIGRATIONS", {n: step(n) for n in (1, 2, 3)})
    assert migrations.migrate(2, old).meta == {"k": 2, "step2": 2, "step3": 3}
    assert migrations.migrate(4, old).meta == {"k": 2}
    assert decode(small()).meta == {"k": 2, "step1": 1, "step2": 2, "step3": 3}


def test_there_is_a_migration_for_every_old_format() -> None:
    assert sorted(migrations.MIGRATIONS) == list(range(1, format.FORMAT))
