"""Removal beyond its law: against rows never seen, from folded states, and what is refused."""

import dataclasses

import numpy as np
import pytest

from beam_ml.algorithms import linear, pca
from beam_ml.core.batch import Batch
from beam_ml.errors import RemoveRefused

LOGISTIC, SQUARED = linear.Newton(n_features=4), linear.Newton(n_features=4, loss="squared")


def rows(n, seed, loss):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) * [1.0, 5.0, 0.1, 1.0] + [0.0, 1e6, 3.0, 0.0]
    score = (x - [0.0, 1e6, 3.0, 0.0]) @ [0.5, -0.2, 4.0, 0.0]
    label = score + rng.normal(size=n) if loss == "squared" else (score + rng.logistic(size=n) > 1.0).astype(float)
    return Batch.dense(x, label=label)


def partial(spec, batch, anchor=None):
    return linear.NEWTON.accumulate(spec, linear.NEWTON.empty(spec), batch, anchor)


def test_a_model_of_squared_loss_forgets_a_day_to_rounding():
    old, day = (partial(SQUARED, rows(5_000, seed, "squared")) for seed in (0, 1))
    rest = linear.NEWTON.remove(SQUARED, linear.NEWTON.merge(SQUARED, old, day), day)
    derive = linear.NEWTON.models["regressor"].derive
    found, expected = (derive(SQUARED, linear.Regressor(), one, None) for one in (rest, old))
    assert found.coefficients == pytest.approx(expected.coefficients, rel=1e-11, abs=1e-13)


def test_rows_summed_at_one_anchor_leave_as_if_never_seen():
    first = rows(9_000, 0, "logistic")
    state = linear.NEWTON.fold(LOGISTIC, linear.NEWTON.empty(LOGISTIC), partial(LOGISTIC, first), first)
    anchor = linear.NEWTON.anchor(LOGISTIC, state)
    day, others = (partial(LOGISTIC, rows(3_000, seed, "logistic"), anchor) for seed in (1, 2))
    rest = linear.NEWTON.remove(LOGISTIC, linear.NEWTON.merge(LOGISTIC, day, others), day)
    test = rows(1_000, 3, "logistic")
    kind = linear.NEWTON.models["classifier"]
    scores = [
        kind.predict(kind.derive(LOGISTIC, linear.Classifier(), linear.NEWTON.merge(LOGISTIC, state, one), None), test)
        for one in (rest, others)
    ]
    assert np.abs(scores[0]["score"] - scores[1]["score"]).max() < 1e-9
    # From a folded state, which has no anchor of its own any more, the part's sums go and its slope was never there.
    merged = linear.NEWTON.merge(LOGISTIC, state, day)
    forgotten = dataclasses.replace(
        merged, pull=0 * merged.pull, pull_by=0 * merged.pull_by, started=np.zeros(()), start=np.zeros(4),
        start_bias=np.zeros(()),
    )  # fmt: skip
    left = linear.NEWTON.remove(LOGISTIC, forgotten, day)
    assert left.scatter == pytest.approx(state.scatter, rel=1e-9)
    assert not left.pull.any()


def test_pending_rows_that_were_solved_with_others_are_refused():
    few, many = (partial(LOGISTIC, rows(n, seed, "logistic")) for seed, n in ((0, 50), (1, 9_000)))
    both = linear.NEWTON.merge(LOGISTIC, few, many)
    assert linear.NEWTON.weight(linear.NEWTON.remove(LOGISTIC, both, few)) == 9_000.0
    solved = linear.NEWTON.fold(LOGISTIC, linear.NEWTON.empty(LOGISTIC), both, None)
    with pytest.raises(RemoveRefused, match="solved as one block"):
        linear.NEWTON.remove(LOGISTIC, solved, few)


@pytest.mark.parametrize(
    ("algorithm", "spec"), [(linear.NEWTON, SQUARED), (pca.PCA, pca.Spec(n_features=4))], ids=["squared", "pca"]
)
def test_a_downdate_that_leaves_no_scatter_of_rows_is_refused(algorithm, spec):
    batch = rows(2_000, 0, "squared")
    whole = algorithm.accumulate(spec, algorithm.empty(spec), batch, None)
    part = algorithm.accumulate(spec, algorithm.empty(spec), batch.take(slice(1_000, 2_000)), None)
    wide = np.where(np.eye(4) > 0, 2.5, 1.0) * part.scatter  # as many rows, wider spread than all of them can have
    with pytest.raises(RemoveRefused, match="positive semi-definite"):
        algorithm.remove(spec, whole, dataclasses.replace(part, scatter=wide))
    with pytest.raises(RemoveRefused, match="smaller row"):
        algorithm.remove(spec, whole, dataclasses.replace(part, origin=whole.origin - 1.0))
