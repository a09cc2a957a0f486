"""Any bytes as libsvm text: rows or typed rejects that tile it; what is accepted is what scikit-learn reads."""

import io
import random
import re
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_svmlight_file

from beam_ml.formats import libsvm
from tests.attacks.editing import edited
from tests.attacks.effort import EFFORT

SEEDS = [
    b"1 1:0.5 3:2",
    b"-1.5e0 qid:7 2:-1e-3\t10:.5\r",
    b"+0 # nothing \xc3\xa9",
    b"2 1:9007199254740993 7:123456789.123456789123 2147483647:1e22",
    b"0 4:1e-400 5:1E+400 6:nan 7:-inf",
    b"  3\t1:1. 00002:0001 ",
    b"",
    b"# 1 1:1",
]
PIECES = [
    b":",
    b" ",
    b"\t",
    b"#",
    b"-",
    b"+",
    b".",
    b"e",
    b"0",
    b"9" * 20,
    b"qid:",
    b"nan",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3",
    b"1:1 ",
]
ADDED = libsvm.Options(first_index=0)


def mutated(rng: random.Random, one: bytes) -> bytes:
    return edited(rng, one, (0, 0x20, 0x30, 0x39, 0x3A, 0x80, 0xFF), PIECES, SEEDS)


def by_scikit_learn(line: bytes) -> tuple[float, int, list[tuple[int, float]]] | None:
    """Return label, query and pairs of a line as scikit-learn reads it; None: it does not, or there is no row."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X, y, query = load_svmlight_file(io.BytesIO(line), zero_based=True, n_features=2**31 - 1, query_id=True)
    except (ValueError, OverflowError, IndexError):
        return None
    if not len(y):
        return None
    return float(y[0]), int(query[0]) if len(query) else 0, list(zip(X.indices.tolist(), X.data.tolist(), strict=True))


def same(ours: Any, theirs: Any) -> bool:
    """Whether label, query and pairs are equal; a NaN is one."""
    return str(ours) == str(theirs)


def of(row: dict[str, Any]) -> tuple[float, int, list[tuple[int, float]]]:
    return float("nan") if row["label"] is None else row["label"], row["qid"] or 0, row["features"]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_accepted_is_what_scikit_learn_reads_and_the_bytes_are_tiled(seed: int) -> None:
    rng = random.Random(seed)
    lines = [mutated(rng, rng.choice(SEEDS)) if rng.random() < 0.8 else rng.choice(SEEDS) for _ in range(400 * EFFORT)]
    data = b"\n".join(lines)
    lines = data.split(b"\n")
    begins = np.cumsum([0, *(len(one) + 1 for one in lines)]).tolist()
    block = libsvm.decode(data, options=ADDED)
    block.batch.validate(full=True)
    assert block.position is not None
    accepted = dict(zip(block.position.tolist(), block.batch.to_pylist(), strict=True))
    refused = {at: one.reason for one in block.rejected for at in one.position.tolist()}
    assert not set(accepted) & set(refused)
    assert set(accepted) | set(refused) <= set(begins[:-1])
    n_same = 0
    for line, at in zip(lines, begins[:-1], strict=True):
        alone = libsvm.decode(line, options=ADDED)
        assert [one.reason for one in alone.rejected] == ([refused[at]] if at in refused else []), line
        if at in accepted:
            ours = of(accepted[at])
            assert same(of(alone.batch.to_pylist()[0]), ours), line
            theirs = by_scikit_learn(line)
            if theirs is None:  # it wants a label
                assert accepted[at]["label"] is None, line
            else:
                assert same(ours, theirs), line
                n_same += 1
        elif at not in refused:
            assert not line.split(b"#")[0].strip(b" \t\r"), line
    assert n_same > len(lines) // 4


@pytest.mark.parametrize("seed", range(2))
def test_pairs_that_are_refused_are_those_that_scikit_learn_refuses_and_an_index_with_a_sign(seed: int) -> None:
    rng = random.Random(100 + seed)
    letters = b"0123456789:.- "
    signed = re.compile(rb" -0+:")  # Python reads it as 0
    n_same = 0
    for _ in range(300 * EFFORT):
        line = b"1 " + bytes(rng.choice(letters) for _ in range(rng.randrange(1, 12)))
        ours, theirs = libsvm.decode(line, options=ADDED), by_scikit_learn(line)
        if signed.search(line):
            assert len(ours) == 0, line
        else:
            assert bool(len(ours)) == (theirs is not None), line
            n_same += len(ours)
    assert n_same > 5
