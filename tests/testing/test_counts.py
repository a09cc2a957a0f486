"""Laws on rows of counts, and on rows that an algorithm has made of those drawn."""

import dataclasses

import numpy as np
import pytest
from toy_unigram import TOY_UNIGRAM, UnigramSpec

from beam_ml.core.admit import admit
from beam_ml.core.batch import Batch
from beam_ml.testing import laws_for
from beam_ml.testing.drifts.drift import Drift
from beam_ml.testing.drifts.reference import constant, loss_of
from beam_ml.testing.drifts.rows import Regime, task_of
from beam_ml.testing.strategies import World

SPEC = UnigramSpec(n_features=4)


def doubled(spec, batch):
    assert (batch.dense_x >= 0).all()
    return batch.replace(X=2 * batch.dense_x)


def watched(spec, partial, batch, anchor):
    assert len(batch) == 0 or (batch.dense_x % 2 == 0).all()
    return TOY_UNIGRAM.accumulate(spec, partial, batch, anchor)


def test_an_algorithm_of_counts_keeps_laws_on_counts():
    laws = dict(laws_for(TOY_UNIGRAM, SPEC, examples=2))
    for name in ("homomorphism", "measures weigh", "predictions", "full precision", "resume", "follows moving inputs"):
        laws[name]()


def test_laws_take_rows_as_their_algorithm_makes_them():
    half = dataclasses.replace(TOY_UNIGRAM, accumulate=watched)
    even = dict(laws_for(half, SPEC, examples=2, rows=doubled))
    for name in ("homomorphism", "measures weigh", "windows of one row"):
        even[name]()
    with pytest.raises(AssertionError, match="breaks the law 'homomorphism'"):
        dict(laws_for(half, SPEC, examples=2))["homomorphism"]()


def test_rows_that_are_drawn_are_counts_and_have_the_shares_of_all_as_prior():
    rows = World(seed=1).batch(SPEC, 50).dense_x
    assert (rows == np.floor(rows)).all()
    assert rows.min() >= 0 < rows.max()
    window = Drift("", (Regime(400),)).window(0, task_of(SPEC))
    task, x = task_of(SPEC), window.held_out.dense_x
    share = window.batch.dense_x.sum(axis=0) / window.batch.dense_x.sum()
    expected = -(x @ np.log(share)).sum() / x.sum()
    assert loss_of(task, constant(task, window.batch)(window.held_out), window.held_out) == pytest.approx(expected)


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_with_a_count_below_0_are_rejected(sparse):
    batch = Batch.dense([[1.0, 0.0, 0.0, 2.0], [3.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -0.5], [0.0, 0.0, 0.0, 0.0]])
    if sparse:
        batch = Batch.csr([0, 2, 4, 5, 5], [0, 3, 0, 1, 3], [1.0, 2.0, 3.0, -1.0, -0.5], 4)
    found = admit(SPEC, batch)
    assert {reason: rows.tolist() for reason, rows in found.rejected.items()} == {"count below 0": [1, 2]}
    assert len(found.rows) == 2


class Even(UnigramSpec):
    def refused(self, batch):
        return [("odd sum", batch.dense_x.sum(axis=1) % 2 == 1)]


def test_a_spec_has_rules_of_its_own():
    found = admit(Even(n_features=2), Batch.dense([[1.0, 1.0], [1.0, 2.0], [np.nan, 1.0], [-1.0, 2.0]]))
    assert {reason: rows.tolist() for reason, rows in found.rejected.items()} == {
        "odd sum": [1], "non-finite feature": [2], "count below 0": [3],
    }  # fmt: skip
