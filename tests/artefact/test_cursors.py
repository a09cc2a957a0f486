"""Cursors come back as they were, and nothing but what they may hold is read."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_ml.algorithms import find
from beam_ml.artefact.cursors import cursors_from_json, cursors_to_json, summary_of
from beam_ml.artefact.envelope import decode, encode
from beam_ml.artefact.records import decode_learner, encode_learner
from beam_ml.core.cursors import Cursors, FileCursor, FileId, Passes, PipeCursor, TopicCursor
from beam_ml.errors import CorruptArtefact
from tests.artefact import literals

whole = st.integers(0, 2**62)
ids = st.dictionaries(st.text(max_size=4), st.tuples(whole, st.integers(-(2**62), 2**62)), max_size=4).map(
    lambda found: {path: FileId(path, size, at) for path, (size, at) in found.items()}
)


@st.composite
def file_cursors(draw: st.DrawFn) -> FileCursor:
    part = {path: (one, draw(whole)) for path, one in draw(ids).items()}
    batch = draw(st.none() | ids)
    again = frozenset(path for path in batch or {} if draw(st.booleans()))
    return FileCursor(draw(ids), part, draw(whole), 1 if batch is None else draw(st.integers(1, 9)), batch, again)


means = st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), whole), max_size=3)
passes = st.builds(
    lambda pairs, *rest: Passes(*rest[:2], "mse", tuple(v for v, _ in pairs), tuple(n for _, n in pairs), *rest[2:]),
    means, st.integers(1, 99), st.integers(1, 99), whole, whole, st.text(max_size=4),
)  # fmt: skip
partitions = st.dictionaries(st.integers(0, 9999), whole, max_size=3)
topics = st.dictionaries(
    st.text(max_size=4), st.builds(TopicCursor, partitions, partitions, st.text(max_size=4)), max_size=3
)
pipes = st.dictionaries(
    st.text(max_size=4),
    st.builds(PipeCursor, whole, whole, whole, st.booleans(), st.integers(0, 2**32 - 1)),
    max_size=2,
)
cursors = st.builds(Cursors, st.none() | file_cursors(), topics, st.none() | passes, pipes)


@given(cursors)
def test_they_survive_json(before: Cursors) -> None:
    assert cursors_from_json(json.loads(json.dumps(cursors_to_json(before)))) == before
    json.dumps(summary_of(before))


PIPE = {"stream": 0, "epoch": 0, "place": 1, "ended": False, "crc": 2}
FORGED: list[tuple[tuple[str, ...], Any, str]] = [
    ((), [], r"cursors must have exactly the fields files, topics, passes; got \[\]"),
    (("more",), 1, "cursors must have exactly the fields"),
    (("files",), 5, r"cursors\.files must have exactly the fields"),
    (("files", "lot"), {}, r"cursors\.files must have exactly the fields done, part, .*; got \[.*'lot'"),
    (("files", "done"), ["/data/a"], r"cursors\.files\.done must be an object"),
    (("files", "done", "/data/a"), [1], r"cursors\.files\.done\['/data/a'\] must be 2 numbers; got \[1\]"),
    (("files", "done", "/data/a"), [1, 2.0], r"must be a whole number; got 2\.0"),
    (("files", "done", "/data/a"), [-1, 2], r"must be a whole number >= 0; got -1"),
    (
        ("files", "part", "/data/b"),
        [30, 4, -5],
        r"cursors\.files\.part\['/data/b'\] must be a whole number >= 0; got -5",
    ),
    (("files", "horizon_ns"), True, r"cursors\.files\.horizon_ns must be a whole number >= 0; got True"),
    (("files", "pass"), 0, r"cursors\.files\.pass must be a whole number >= 1; got 0"),
    (("files", "batch"), None, r"cursors\.files\.batch must name the files of pass 2; got none"),
    (("files", "again"), ["/data/b"], r"cursors\.files\.again must be a list of paths of cursors\.files\.batch"),
    (("files", "again"), [["/data/a"]], r"cursors\.files\.again must be a list of paths"),
    (("topics",), [], r"cursors\.topics must be an object"),
    (("topics", "kafka://c/t", "offsets"), {"x": 1}, r"\.offsets must be by partition, a number; got 'x'"),
    (("topics", "kafka://c/t", "offsets"), {"01": 1}, r"by partition, a number; got '01'"),
    (("topics", "kafka://c/t", "offsets", "0"), "12", r"\.offsets\[0\] must be a whole number >= 0; got '12'"),
    (("topics", "kafka://c/t", "begun", "0"), -1, r"\.begun\[0\] must be a whole number >= 0; got -1"),
    (("topics", "kafka://c/t", "id"), None, r"\.id must be a text; got None"),
    (("passes", "of"), 0, r"cursors\.passes\.of must be a whole number >= 1; got 0"),
    (("passes", "metric"), 1, r"cursors\.passes\.metric must be a text; got 1"),
    (("passes", "values"), [0.5], r"cursors\.passes must have values and rows of one length"),
    (("passes", "values"), [0.5, float("inf")], r"cursors\.passes\.values must be finite numbers; got inf"),
    (("passes", "rows"), [40, 1.5], r"cursors\.passes\.rows must be a whole number >= 0; got 1\.5"),
    (("passes", "judged"), None, r"cursors\.passes\.judged must be a whole number"),
    (("pipes",), [], r"cursors\.pipes must be an object"),
    (
        ("pipes",),
        {"stdin": {"place": 1}},
        r"cursors\.pipes\['stdin'\] must have exactly the fields stream, epoch, place",
    ),
    (("pipes",), {"a": PIPE | {"place": -1}}, r"cursors\.pipes\['a'\]\.place must be a whole number >= 0; got -1"),
    (("pipes",), {"a": PIPE | {"ended": 1}}, r"cursors\.pipes\['a'\]\.ended must be true or false; got 1"),
    (("pipes",), {"a": PIPE | {"crc": 2**32}}, r"cursors\.pipes\['a'\]\.crc must be below 2 \*\* 32; got 4294967296"),
]


@pytest.mark.parametrize(("path", "value", "sentence"), FORGED)
def test_what_is_forged_is_a_typed_error(path: tuple[str, ...], value: Any, sentence: str) -> None:
    algorithm, learner = literals.learner("pca")
    stored = decode(encode_learner(algorithm, learner))
    forged = copy.deepcopy(dict(stored.meta))
    if path:
        at = forged["cursors"]
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value
    else:
        forged["cursors"] = value
    with pytest.raises(CorruptArtefact, match=sentence):
        cursors_from_json(forged["cursors"])
    if value != [0.5, float("inf")]:  # which no JSON holds
        with pytest.raises(CorruptArtefact, match=sentence):
            decode_learner(encode("learner", forged, stored.arrays), find)


@pytest.mark.parametrize("path", [("files",), ("files", "again"), ("topics", "kafka://c/t", "id"), ("passes", "heard")])
def test_a_field_that_is_absent_is_a_typed_error(path: tuple[str, ...]) -> None:
    forged = cursors_to_json(literals.learner("pca")[1].cursors)
    at = forged
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    with pytest.raises(CorruptArtefact, match="must have exactly the fields"):
        cursors_from_json(forged)
