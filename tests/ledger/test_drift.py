"""A change of the concept is told from a move of the inputs, at the rate that p-values state."""

import numpy as np
import pytest
from scipy.special import chdtrc

from beam_ml.algorithms import linear, pca
from beam_ml.core import accumulation as accumulations
from beam_ml.core import learner as learners
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.decay import AsOf
from beam_ml.core.learner import Learner
from beam_ml.errors import DeriveRefused, InvalidValue
from beam_ml.ledger import Ledger
from beam_ml.ledger.drift import _combined, changed, drifts
from beam_ml.registry import Registry
from tests.ledger.support import Trainer

ROWS, D, TRIALS = 5_000, 10, 20
BETA = np.linspace(-0.5, 0.5, D)
SPEC = linear.Newton(n_features=D)


class Book:
    """What `changed` asks of a ledger."""

    algorithm, spec = linear.NEWTON, SPEC
    composed = Ledger.composed


def batch(rng, shift=0.0, change=0.0, loss="logistic"):
    x = rng.normal(shift, 1.0, size=(ROWS, D))
    beta = BETA + change * (np.arange(D) == 4)
    score = x @ beta - 2.9
    label = score + rng.normal(size=ROWS) if loss == "squared" else (rng.random(ROWS) < 1 / (1 + np.exp(-score))) * 1.0
    return Batch.dense(x, label=label, origin=Origin("s", str(rng.integers(1 << 40))), position=np.arange(ROWS))


def learned(rng, **change):
    """Rows summed at the truth, as a warm anchor nearly is."""
    anchor = linear.Anchor(BETA, np.asarray(-2.9), np.zeros(D))
    partial = linear.NEWTON.accumulate(SPEC, linear.NEWTON.empty(SPEC), batch(rng, **change), anchor)
    return learners.new(linear.NEWTON, SPEC).replace(dated=AsOf(partial))


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [({}, 0.0, 0.2), ({"shift": 0.5}, 0.0, 0.2), ({"change": 0.3}, 0.6, 1.0)],
    ids=["nothing", "inputs", "concept"],
)
def test_p_values_are_small_where_the_concept_changed_and_nowhere_else(change, least, most):
    rng = np.random.default_rng(3)
    p = [changed(Book(), learned(rng), learned(rng, **change)).p_value for _ in range(TRIALS)]
    assert least <= np.mean(np.array(p) < 0.05) <= most


def test_one_coefficient_that_moved_is_named_and_found_more_often_than_by_all_of_them_at_once():
    rng = np.random.default_rng(11)
    found = [changed(Book(), learned(rng), learned(rng, change=0.25)) for _ in range(60)]
    assert sum(one.feature == 4 for one in found) > 50
    whole = [chdtrc(one.directions, one.statistic) < 0.05 for one in found]
    assert sum(one.p_value < 0.05 for one in found) >= sum(whole) + 3


def test_p_values_that_are_combined_are_theirs_in_the_tail():
    assert _combined(1e-8, np.array([1.0, 1.0])) == pytest.approx(2e-8, rel=1e-3)
    assert _combined(1.0, np.array([1e-8, 1.0])) == pytest.approx(4e-8, rel=1e-3)
    assert _combined(0.3, np.array([0.3, 0.3])) == pytest.approx(0.3)
    assert 0.0 < _combined(0.0, np.zeros(3)) < 1e-290
    assert _combined(1.0, np.ones(3)) == pytest.approx(0.99)
    # A rate is a rate whatever the dependence: of one normal variable, both tests at once.
    z = np.random.default_rng(5).normal(size=20_000)
    p = chdtrc(1, z**2)
    assert np.mean([_combined(one, np.array([one])) < 0.05 for one in p]) == pytest.approx(0.05, abs=0.005)


def test_squared_loss_takes_its_noise_from_the_sample():
    rng, spec = np.random.default_rng(0), linear.Newton(n_features=D, loss="squared")
    book = Book()
    book.spec = spec

    def composed(**change) -> Learner:
        rows = batch(rng, loss="squared", **change)
        return book.composed([accumulations.add(linear.NEWTON, spec, accumulations.empty(spec), rows)])

    assert changed(book, composed(), composed(shift=0.5)).p_value > 0.001
    assert changed(book, composed(), composed(change=0.3)).p_value < 1e-6
    learner = composed()
    with pytest.raises(DeriveRefused, match="need more sampled rows than coefficients; got 0"):
        linear.NEWTON.information(spec, learner.state, None)


def test_what_two_sets_of_rows_do_not_both_know_is_no_direction():
    rng = np.random.default_rng(5)
    a, b = learned(rng), learned(rng)
    information = linear.NEWTON.information(SPEC, a.state, None)[1]
    assert changed(Book(), a, b).directions == D
    scatter = b.state.scatter.copy()
    scatter[0, 2, :] = scatter[0, :, 2] = 0.0
    still = b.replace(dated=b.dated.__class__(b.state.__class__(**{
        name: scatter if name == "scatter" else getattr(b.state, name) for name in b.state.__dataclass_fields__
    })))  # fmt: skip
    assert changed(Book(), a, still).directions == D - 1
    assert np.linalg.eigvalsh(information).min() > 0


def test_each_window_is_compared_with_those_before_it():
    trainer = Trainer(Registry("memory://")).days(16)
    found = drifts(Ledger(trainer.registry, "name"), past=5)
    assert [one.start for one in found] == [day * 86_400_000_000 for day in range(1, 16)]
    assert all(0.0 <= one.p_value <= 1.0 and one.directions == 3 and one.rows == 400 for one in found)
    other = Trainer(Registry("memory://"), pca.Spec(n_features=3), pca.PCA).days(2)
    with pytest.raises(InvalidValue, match="errors of coefficients, which pca has none of"):
        drifts(Ledger(other.registry, "name"))
    with pytest.raises(InvalidValue, match="got past 0"):
        drifts(Ledger(other.registry, "name"), past=0)
    balanced = linear.Newton(n_features=3, positive_weight="balanced")
    with pytest.raises(DeriveRefused, match="positive_weight must be 1"):
        linear.NEWTON.information(balanced, linear.NEWTON.empty(balanced), None)
