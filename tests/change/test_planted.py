"""Real faults of a learner under change, each planted alone in a Newton learner that keeps every law: each is noticed."""

import dataclasses

import numpy as np
import pytest
import toy_newton
from toy_newton import TOY_NEWTON, LogisticSpec, NewtonPartial, NewtonState

from beam_ml.algorithms import linear
from beam_ml.testing.change import FOLLOWS, LABELLED
from beam_ml.testing.laws import laws_for

SPEC = LogisticSpec(n_features=3)


def check(algorithm, name, spec=SPEC, models=()):
    dict(laws_for(algorithm, spec, models, shrink=False))[name]()


def planted(**functions):
    return dataclasses.replace(TOY_NEWTON, **functions)


def added(spec, state, partial, theta, precision):
    return NewtonState(theta=theta, precision=precision, weight=np.asarray(state.weight + partial.weight))


def as_weighted(partial, sample):
    return sample.replace(weight=sample.weights * (float(partial.weight) / sample.weights.sum()))


def damped_at_the_anchor(spec, state, partial, sample):
    """One step of reweighted least squares from the anchor; the first part of it at which the loss does not rise."""
    if float(partial.weight) == 0.0 or not state.precision.any():
        return toy_newton.fold(spec, state, partial, sample)
    sample = as_weighted(partial, sample)
    curvature = toy_newton.curvature(state.theta, sample)
    before = toy_newton.loss(state.theta, sample)
    for part in (1.0, 0.5, 0.25, 0.125, 0.0625):
        precision = state.precision + part * curvature
        theta = state.theta - np.linalg.lstsq(precision, part * partial.gradient, rcond=None)[0]
        if toy_newton.loss(theta, sample) <= before:
            return added(spec, state, partial, theta, precision)
    return added(spec, state, partial, state.theta, state.precision)


def straight_ahead(theta, step, decrement, objective):
    return theta - step


def not_backtracked(spec, state, partial, sample):
    """Newton steps of full length, however far the minimum lies."""

    def solve(*arguments):
        return toy_newton.solved(*arguments, step_to=straight_ahead)

    return toy_newton.fold(spec, state, partial, sample, solve)


def blind_to_the_sample(spec, state, partial, sample):
    """The gradient's step with the curvature of the rows before: what the window's rows look like plays no part."""
    if float(partial.weight) == 0.0 or not state.precision.any():
        return toy_newton.fold(spec, state, partial, sample)
    precision = state.precision * (1.0 + float(partial.weight / state.weight))
    theta = state.theta - np.linalg.lstsq(precision, partial.gradient, rcond=None)[0]
    return added(spec, state, partial, theta, precision)


def only_the_newest_window(spec, state, partial, sample):
    """No prior: each window is solved alone."""
    nothing = NewtonState(theta=state.theta, precision=np.zeros_like(state.precision), weight=state.weight)
    return toy_newton.fold(spec, nothing, partial, sample)


def trusts_a_far_row(spec, state, partial, sample):
    """The exact gradient is trusted where the sample knows no curvature: a far row that is not in it has no bound."""
    if float(partial.weight) == 0.0 or sample is None:
        return state
    sample = as_weighted(partial, sample)
    shift = partial.gradient - toy_newton.gradient(state.theta, sample)
    theta = toy_newton.solved(state.theta, state.precision, shift, sample)
    return added(spec, state, partial, theta, state.precision + toy_newton.curvature(theta, sample))


def poisoned_by_length(spec, state, partial, sample):
    """Steps are held back by the longest row there was, for ever."""
    after = toy_newton.fold(spec, state, partial, sample)
    if sample is None:
        return after
    longest = float(np.abs(toy_newton.design(sample)).max())
    return dataclasses.replace(after, precision=after.precision + longest**2 * np.eye(after.theta.size))


def never_forgets(spec, summary, factor):
    """The curvature of old rows stays: their weight fades, what they say does not."""
    scaled = toy_newton.scale(spec, summary, factor)
    if isinstance(summary, NewtonState):
        return dataclasses.replace(scaled, precision=summary.precision)
    return scaled


def merged_apart(spec, a, b, *samples):
    """The mean of the coefficients by curvature, that of the intercepts by weight."""
    total = np.asarray(a.weight + b.weight)
    precision = a.precision + b.precision
    theta = np.linalg.lstsq(precision, a.precision @ a.theta + b.precision @ b.theta, rcond=None)[0]
    theta[-1] = (a.weight * a.theta[-1] + b.weight * b.theta[-1]) / total
    return NewtonState(theta=theta, precision=precision, weight=total)


def gradients_averaged(spec, a, b):
    """The mean of two shards' gradients stands for their sum."""
    both = toy_newton.merge(spec, a, b)
    alone = float(a.weight) == 0.0 or float(b.weight) == 0.0
    return both if alone else NewtonPartial(gradient=both.gradient / 2.0, weight=both.weight)


@pytest.mark.parametrize("name", list(FOLLOWS))
def test_the_learner_that_faults_are_planted_in_keeps_every_law(name):
    check(TOY_NEWTON, name)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("follows moving inputs", {"fold": damped_at_the_anchor}),
        ("follows moving inputs", {"fold": not_backtracked}),
        ("follows moving inputs", {"fold": blind_to_the_sample}),
        ("follows a jump of the ratio", {"fold": damped_at_the_anchor}),
        ("follows a jump of the ratio", {"fold": blind_to_the_sample}),
        ("follows turning slopes", {"scale": never_forgets}),
        ("follows moving inputs", {"scale": never_forgets}),
        ("windows of one row", {"fold": only_the_newest_window}),
        ("far outlier", {"fold": trusts_a_far_row}),
        ("far outlier", {"fold": poisoned_by_length}),
        ("merged regions", {"merge_states": merged_apart}),
        ("cold shards", {"fold": trusts_a_far_row, "merge": gradients_averaged}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value.values())).__name__,
)
def test_a_planted_fault_is_noticed(name, fault):
    with pytest.raises(AssertionError, match=f"breaks the law '{name}'"):
        check(planted(**fault), name)


def test_the_choice_of_the_worst_variant_is_noticed():
    spec = linear.AdaGrad(n_features=3, learning_rates=(1e-7, 0.2), l1=0.0, l2=0.0)
    check(linear.ADAGRAD, "one fold", spec, [linear.Variant()])
    kind = linear.ADAGRAD.models["variant"]

    def derive(spec, model_spec, state, sample):
        return kind.derive(spec, linear.Variant(index=0), state, sample)

    worst = dataclasses.replace(linear.ADAGRAD, models={"variant": dataclasses.replace(kind, derive=derive)})
    with pytest.raises(AssertionError, match="breaks the law 'one fold'"):
        check(worst, "one fold", spec, [linear.Variant()])


def test_a_factor_that_is_too_small_is_noticed_and_one_that_is_not_declared_is_not_asked_for():
    def law(drift):
        return lambda spec: dataclasses.replace(toy_newton.law(spec), drift=drift)

    with pytest.raises(AssertionError, match=r"that of a refit .* times; at most 0\.9 times is declared"):
        check(planted(law=law(0.9)), "cold shards")
    check(planted(law=law(None), merge=gradients_averaged), "one fold")


def test_a_fold_that_is_discarded_loses_rows():
    def fold(spec, state, partial, sample):
        folded = toy_newton.fold(spec, state, partial, sample)
        return dataclasses.replace(folded, theta=folded.theta * np.nan) if float(state.weight) > 0 else folded

    with pytest.raises(AssertionError, match="the fold was discarded: theta of the state is not finite"):
        check(planted(fold=fold), "follows moving inputs")


def test_weight_that_is_lost_on_the_way_is_noticed():
    def fold(spec, state, partial, sample):
        folded = toy_newton.fold(spec, state, partial, sample)
        return dataclasses.replace(folded, weight=folded.weight * 0.99)

    with pytest.raises(AssertionError, match=r"the state's weight is .*, its rows' "):
        check(planted(fold=fold), "cold shards")


def test_a_merge_may_be_refused_where_regions_lie_apart_only():
    from beam_ml.errors import MergeRefused

    def refuses(spec, a, b, *samples):
        if np.abs(a.theta - b.theta).max() < 1.0 and not refuses.always:
            return toy_newton.merge_states(spec, a, b, *samples)
        message = "These have grown apart."
        raise MergeRefused(message)

    refuses.always = False
    check(planted(merge_states=refuses), "merged regions")
    refuses.always = True
    with pytest.raises(
        AssertionError, match="regions 0 deviations apart: the merge is refused: These have grown apart"
    ):
        check(planted(merge_states=refuses), "merged regions")


def test_labelled_laws_are_laws():
    assert set(FOLLOWS) > LABELLED
