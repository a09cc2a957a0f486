"""A learner without some windows equals one that never saw them, and what cannot be removed is said."""

from functools import partial, reduce

import numpy as np
import pytest

from beam_ml import api
from beam_ml.algorithms import kmeans, linear, pca
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch
from beam_ml.core.decay import AsOf
from beam_ml.errors import HeadMoved, InvalidBatch, InvalidValue, RemoveRefused
from beam_ml.ledger import Ledger, Rules
from beam_ml.ledger.book import merged
from beam_ml.ledger.removing import removed
from beam_ml.registry import Registry
from tests.ledger.support import DAY, ROWS, RULES, Trainer, rows

PCA = (pca.Spec(n_features=3), pca.PCA)
SQUARED = (linear.Newton(n_features=3, loss="squared"), linear.NEWTON)
AGED = (linear.Newton(n_features=3, loss="squared", half_life="3d"), linear.NEWTON)


def trained(spec, algorithm, days=7, rules=RULES, ledger_from=0):
    trainer = Trainer(Registry("memory://"), spec, algorithm, rules)
    for day in range(days):
        trainer.day(day, ledger=day >= ledger_from)
    return trainer


def reopened(trainer):
    return Ledger(trainer.registry, "name")


@pytest.mark.parametrize("known_from", [0, 3], ids=["merged again", "taken off"])
@pytest.mark.parametrize("settings", [PCA, SQUARED, AGED], ids=["pca", "squared", "aged"])
def test_an_exact_learner_without_a_day_never_saw_it(settings, known_from):
    trainer = trained(*settings, ledger_from=known_from)
    before = trainer.learner
    done = removed(reopened(trainer), [4 * DAY + 5])
    assert (done.rows, done.windows, done.manifest.number, done.manifest.parent) == (ROWS, 1, 8, 7)
    assert done.manifest.extra["removed"]["windows"] == [["1970-01-05T00:00:00", "1970-01-06T00:00:00"]]
    after = reopened(trainer).learner
    never = Trainer(Registry("memory://"), *settings)
    for day in (0, 1, 2, 3, 5, 6):
        never.day(day)
    assert close(after.state, never.learner.state, rtol=1e-9)
    assert after.dated.time == before.dated.time
    assert after.progress.rows == 6 * ROWS
    assert after.progress.rejected == {"removed": ROWS}
    assert after.progress.covered.keys() == before.progress.covered.keys()  # and is not read again
    assert after.cursors == before.cursors
    # Training continues from it, and so does its ledger.
    trainer.learner, trainer.version = after, 8
    trainer.day(7)
    never.day(7)
    assert close(trainer.learner.state, never.learner.state, rtol=1e-9)
    assert close(
        reopened(trainer).compose(3 * DAY).learner.state, Ledger(never.registry, "name").compose(3 * DAY).learner.state
    )


def test_a_logistic_learner_without_days_scores_as_the_sum_of_the_others():
    trainer = trained(linear.Newton(n_features=3), linear.NEWTON, days=14)
    ledger = reopened(trainer)
    held = {one.start // DAY: ledger.accumulation(one) for one in ledger.index.windows if one.windows == 1}
    removed(ledger, ["1970-01-06", "1970-01-07T12:00"])
    after = reopened(trainer).learner
    # The sums of all days less those of the two: taken off, not left out.
    partials = {
        day: next(iter(merged(trainer.algorithm, trainer.spec, [one], 2).parts.values())).dated.summary
        for day, one in held.items()
    }
    total = reduce(partial(linear.NEWTON.merge, trainer.spec), partials.values())
    rest = reduce(partial(linear.NEWTON.remove, trainer.spec), (partials[5], partials[6]), total)
    state = linear.NEWTON.fold(trainer.spec, linear.NEWTON.empty(trainer.spec), rest, None)
    never = after.replace(dated=AsOf(state))
    scores = [api.predict(api.derive(one, "classifier"), rows(99))["score"] for one in (after, never)]
    assert np.abs(scores[0] - scores[1]).max() < 1e-9
    assert after.sample.mass.sum() == pytest.approx(12 * ROWS)


def test_sketches_are_merged_again_and_files_named_by_source():
    trainer = trained(kmeans.Spec(n_features=3, k_max=4), kmeans.KMEANS, days=3)
    done = removed(reopened(trainer), sources=["001"])
    assert done.rows == ROWS
    assert reopened(trainer).learner.state.weight.sum() == pytest.approx(2 * ROWS)
    with pytest.raises(InvalidValue, match="holds rows of 001: not learned, or removed before"):
        removed(reopened(trainer), sources=["001"])


def test_all_windows_may_be_removed():
    trainer = trained(*PCA, days=2)
    removed(reopened(trainer), [0, DAY])
    assert reopened(trainer).learner.state.weight == 0.0
    with pytest.raises(InvalidValue, match="holds no window yet"):
        reopened(trainer).compose()


def test_what_cannot_be_removed_changes_nothing():
    trainer = trained(*PCA)
    stale = reopened(trainer)
    removed(reopened(trainer), [2 * DAY])
    for sentence, kind, arguments in (
        ("must be named", InvalidValue, ()),
        ("no window at 1970-01-03T00:00:00: it was not learned, or removed before", InvalidValue, ([2 * DAY],)),
        ("no window at 1970-02-10", InvalidValue, (["1970-02-10"],)),
        ("window must be a time", InvalidValue, (["Tuesday"],)),
        ("holds rows of there.csv", InvalidValue, ((), ["there.csv"])),
    ):
        with pytest.raises(kind, match=sentence):
            removed(reopened(trainer), *arguments)
    with pytest.raises(HeadMoved):
        removed(stale, [DAY])
    assert trainer.registry.head_number("name") == 8
    spans = trained(*PCA, rules=Rules(roll_up=["2d"], fine="1d"))
    with pytest.raises(RemoveRefused, match="kept only merged with others, from 1970-01-03T00:00:00"):
        removed(reopened(spans), [2 * DAY])
    late = trained(linear.Newton(n_features=3), linear.NEWTON, ledger_from=3)
    with pytest.raises(RemoveRefused, match=r"holds 1,600 of the 2,800 rows learned"):
        removed(reopened(late), [5 * DAY])


def customers(batch, share=0.2):
    """Mark about a share of the rows, wherever they lie."""
    return np.random.default_rng(int(batch.time[0] // DAY)).random(len(batch)) < share


def without_places(batch):
    """The rows as somebody gives them: from another file."""
    return batch.replace(origin=None, position=None, position_end=None)


def given(days):
    return Batch.concat([without_places(rows(day)).take(customers(rows(day))) for day in days])


class Never(Trainer):
    """A trainer that never sees the customers, from some day on."""

    def rows(self, day):
        whole = rows(day)
        return whole.take(~customers(whole)) if day >= 3 else whole


@pytest.mark.parametrize("known_from", [0, 3], ids=["merged again", "taken off"])
@pytest.mark.parametrize("settings", [PCA, SQUARED, AGED], ids=["pca", "squared", "aged"])
def test_an_exact_learner_without_customers_never_saw_them(settings, known_from):
    trainer = trained(*settings, ledger_from=known_from)
    less = given(range(3, 7))
    done = removed(reopened(trainer), rows=less)
    assert (done.rows, done.windows) == (len(less), 4)
    never = Never(Registry("memory://"), *settings)
    for day in range(7):
        never.day(day)
    after = reopened(trainer).learner
    assert close(after.state, never.learner.state, rtol=1e-12 if settings is not AGED else 1e-9)
    assert after.progress.rows == never.learner.progress.rows
    assert after.progress.rejected == {"removed": len(less)}
    for start in (3, 4):  # the spans over them too
        found = reopened(trainer).compose(start * DAY).learner
        other = Ledger(never.registry, "name").compose(start * DAY).learner
        assert close(found.state, other.state, rtol=1e-9)
        assert found.sample.mass.sum() == pytest.approx(other.sample.mass.sum())
    kept = found.sample.rows.dense_x
    assert not {row.tobytes() for row in less.dense_x} & {row.tobytes() for row in kept}


def test_a_logistic_learner_without_customers_scores_as_sums_that_never_saw_them():
    trainer = trained(linear.Newton(n_features=3), linear.NEWTON, days=14)
    ledger = reopened(trainer)
    spec, parts = trainer.spec, []
    first = 12  # of those learned at an anchor, not at none
    for window in ledger.index.windows:
        if window.windows == 1:
            day, value = window.start // DAY, ledger.accumulation(window)
            ((number, part),) = value.parts.items()
            if day < first:
                parts.append(part.dated.summary)
                continue
            assert number > 0
            whole = rows(day)
            anchor = linear.NEWTON.grown_from(spec, part.dated.summary)
            parts.append(
                linear.NEWTON.accumulate(spec, linear.NEWTON.empty(spec), whole.take(~customers(whole)), anchor)
            )
    removed(ledger, rows=given(range(first, 14)))
    state = linear.NEWTON.fold(spec, linear.NEWTON.empty(spec), reduce(partial(linear.NEWTON.merge, spec), parts), None)
    after = reopened(trainer).learner
    never = after.replace(dated=AsOf(state))
    scores = [api.predict(api.derive(one, "classifier"), rows(99))["score"] for one in (after, never)]
    assert np.abs(scores[0] - scores[1]).max() < 1e-9


def test_rows_are_removed_by_the_names_of_their_features_in_any_order():
    class Named(Trainer):
        def rows(self, day):
            return rows(day).replace(names=("a", "b", "c"), X=rows(day).dense_x - [10.0, 0.0, -3.0])

    found = []
    for order in ((0, 1, 2), (2, 0, 1)):
        trainer = Named(Registry("memory://"), *SQUARED).days(4)
        less = without_places(trainer.rows(2)).take(slice(0, 50))
        given = less.replace(X=less.dense_x[:, order].copy(), names=tuple(less.names[j] for j in order))
        removed(reopened(trainer), rows=given)
        found.append(reopened(trainer).learner.state)
    assert close(*found, rtol=0.0)
    with pytest.raises(InvalidBatch, match=r"lacking \['a'\], unknown \['d'\]"):
        removed(reopened(trainer), rows=less.replace(names=("d", "b", "c")))


def test_rows_that_cannot_be_removed_change_nothing():
    trainer = trained(*PCA)
    less = given([2])
    removed(reopened(trainer), rows=less)
    order = np.random.default_rng(0).permutation(len(less))
    shifted = without_places(rows(3)).replace(time=rows(2).time)
    many = Batch.concat([without_places(rows(4))] * 2)
    for sentence, kind, some in (
        ("rows have been removed from name before", InvalidValue, less.take(order)),
        ("has no window at 1970-04-10T00:00:00, where a row to remove lies", InvalidValue, without_places(rows(99))),
        ("got rows without", InvalidValue, less.replace(time=None)),
        ("at least one that was learned", InvalidValue, less.take(slice(0, 0))),
        ("learned 400 rows until .* the 800 to remove are not among them", RemoveRefused, many),
        ("learned 3[0-9]* rows until .* the 400 to remove are not among them", RemoveRefused, shifted),
        ("must have been learned", RemoveRefused, without_places(rows(4)).replace(X=1e3 * rows(4).dense_x).take([0])),
    ):
        with pytest.raises(kind, match=sentence):
            removed(reopened(trainer), rows=some)
    with pytest.raises(InvalidValue, match="removed by themselves"):
        removed(reopened(trainer), [0], rows=less)
    assert trainer.registry.head_number("name") == 8
    spans = trained(*PCA, rules=Rules(roll_up=["2d"], fine="1d"))
    with pytest.raises(RemoveRefused, match="kept only merged with others, from 1970-01-03T00:00:00"):
        removed(reopened(spans), rows=given([2]))
    sketch = trained(kmeans.Spec(n_features=3, k_max=4), kmeans.KMEANS, days=2)
    with pytest.raises(RemoveRefused, match="taken off sums, which kmeans has none of"):
        removed(reopened(sketch), rows=given([1]))


def test_all_rows_of_a_window_may_be_removed_and_samples_keep_the_job_s_size():
    trainer = trained(*PCA, rules=Rules(sample=8), days=4)
    removed(reopened(trainer), rows=without_places(rows(1)))
    ledger = reopened(trainer)
    assert {one.start // DAY for one in ledger.index.windows if one.windows == 1} == {0, 2, 3}
    assert [len(ledger.accumulation(one).sample.rows) for one in ledger.index.windows] == [8] * len(
        ledger.index.windows
    )
    assert ledger.learner.state.weight == 3 * ROWS
