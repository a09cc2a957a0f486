"""Gathered rows: what is kept of them, what they weigh, and learners that are fitted, resumed and run on them."""

import dataclasses

import numpy as np
import pytest
from toy_sample import TOY_SAMPLE, Nearest, SampleSpec

from beam_ml import derive, fit, load, merge, predict, save
from beam_ml.core import gathered
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.arrays import from_arrays, identical, nbytes, to_arrays
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.folding import THINNED
from beam_ml.core.gathered import NO_TIME, Gathered, GatheredSpec, Gathering
from beam_ml.core.in_order import learn_in_order
from beam_ml.core.refresh import Plan, refresh
from beam_ml.errors import CorruptArtefact, InvalidBatch, InvalidValue, MergeRefused

SPEC = SampleSpec(n_features=2)
HOUR_US = 3_600_000_000


def batch(n: int, seed: int = 0, **columns) -> Batch:
    return Batch.dense(np.random.default_rng(seed).normal(size=(n, 2)), **columns)


def placed(n: int, seed: int = 0, **columns) -> Batch:
    return batch(n, seed, origin=Origin("s", str(seed)), position=np.arange(n), **columns)


def of(spec: GatheredSpec, *batches: Batch) -> Gathered:
    partial = gathered.empty(spec)
    for one in batches:
        partial = gathered.accumulate(spec, partial, one)
    return partial


def test_rows_come_back_with_their_weights_labels_and_times() -> None:
    class Labelled(GatheredSpec):
        label_rule = "real"

    spec = Labelled(algorithm="mine", n_features=3)
    rows = Batch.csr(
        [0, 2, 2, 3], [0, 2, 1], [1.5, -2.0, 7.0], 3, label=[1.0, 2.0, 3.0], weight=[1.0, 0.5, 2.0], time=[5, 6, 7]
    )
    found = gathered.rows(spec, of(spec, rows.replace(origin=Origin("s", ""), position=np.arange(3))))
    place = np.argsort(found.label)
    back = found.take(place)
    assert (back.label.tolist(), back.weights.tolist(), back.time.tolist()) == ([1, 2, 3], [1, 0.5, 2], [5, 6, 7])
    assert (back.indptr.tolist(), back.indices.tolist(), back.values.tolist()) == (
        [0, 2, 2, 3],
        [0, 2, 1],
        [1.5, -2, 7],
    )


def test_weights_of_any_size_add_up_to_the_bit_in_any_order() -> None:
    rng = np.random.default_rng(3)
    weight = 10.0 ** rng.uniform(-40, 9, 400)
    parts = [of(SPEC, placed(100, i, weight=weight[100 * i : 100 * i + 100])) for i in range(4)]
    left = gathered.merge(SPEC, gathered.merge(SPEC, parts[0], parts[1]), gathered.merge(SPEC, parts[2], parts[3]))
    right = gathered.merge(SPEC, parts[3], gathered.merge(SPEC, gathered.merge(SPEC, parts[2], parts[0]), parts[1]))
    assert identical(left, right)
    assert gathered.weight(left) == pytest.approx(weight.sum(), rel=1e-6)


def test_a_row_weighs_what_its_age_leaves_as_of_the_fold() -> None:
    spec = SampleSpec(n_features=2, half_life="1h")
    partial = of(spec, placed(3, weight=[1.0, 1.0, 4.0], time=np.array([0, 1, 2]) * HOUR_US))
    due = gathered.aged(spec, partial, 3 * HOUR_US)
    assert sorted(gathered.rows(spec, due).weights.tolist()) == [0.125, 0.25, 2.0]
    assert gathered.weight(due) == 2.375
    assert gathered.weight(gathered.aged(spec, partial, 5_000 * HOUR_US)) == 0.0
    before = of(spec, placed(1, time=[-500 * HOUR_US]))
    assert gathered.weight(gathered.merge(spec, before, partial)) == gathered.weight(partial)


def test_rows_without_times_have_none_when_they_come_back() -> None:
    partial = of(SPEC, placed(2), placed(2, 1, time=[1, 2]))
    assert np.count_nonzero(partial.time == NO_TIME) == 2
    assert gathered.rows(SPEC, partial).time is None


def test_of_rows_with_one_clock_all_are_kept_or_none() -> None:
    spec = SampleSpec(n_features=2, gather_bytes=1024)
    alike = Batch.dense(np.ones((10, 2)))  # nameless, so drawn by what is in them
    parts = [of(spec, alike), of(spec, placed(12)), of(spec, alike)]
    total = gathered.merge(spec, gathered.merge(spec, *parts[:2]), parts[2])
    assert identical(total, gathered.merge(spec, parts[1], gathered.merge(spec, parts[2], parts[0])))
    assert np.count_nonzero(total.values == 1.0) in (0, 40)
    assert total.order.size + gathered.thinned(total) == 32


def test_a_row_that_would_fill_the_rest_is_thinned() -> None:
    spec = SampleSpec(n_features=200, gather_bytes=4096)
    rows = Batch.dense(np.ones((1, 200)), origin=Origin("s", ""), position=[0])
    wide = of(spec, rows)
    assert (wide.order.size, gathered.thinned(wide), gathered.weight(wide)) == (0, 1, 1.0)
    assert gathered.rows(spec, wide) is None
    assert gathered.fitting(spec, 4096, rows) == 1


def test_a_gathering_says_its_bytes_and_thins_like_merging() -> None:
    grown, expected = Gathering(SPEC, gathered.empty(SPEC)), gathered.empty(SPEC)
    for seed in range(8):
        grown.add(placed(60, seed))
        expected = gathered.accumulate(SPEC, expected, placed(60, seed))
        assert grown.nbytes == nbytes(expected)
    assert identical(grown.partial(), expected)
    grown.scale(0.5)
    assert gathered.weight(grown.partial()) == 240.0


@pytest.mark.parametrize("change", [{"counts": np.array([9, 1])}, {"counts": np.array([-1, 5])}, {"label": np.ones(5)}])
def test_rows_that_do_not_add_up_are_refused(change: dict) -> None:
    arrays = to_arrays(of(SPEC, placed(2)))
    with pytest.raises(CorruptArtefact, match=r"Gathered\.(counts|label) must"):
        from_arrays(Gathered, arrays | change)
    with pytest.raises(InvalidValue, match=r"gather_bytes must be >= 1024"):
        SampleSpec(n_features=2, gather_bytes=1)


def test_fit_folds_whenever_the_room_is_full_and_thins_nothing() -> None:
    rows = batch(1_000)
    learner = fit(SPEC, [rows])
    assert learner.refresh == -(-1_000 // (8192 // 64))  # 64 bytes per row, and some for masses
    assert learner.progress.rows == 1_000
    assert learner.progress.adjusted == {}
    assert TOY_SAMPLE.weight(learner.state) == 1_000
    again = fit(SPEC, [rows.take(slice(i, i + 7)) for i in range(0, 1_000, 7)])
    assert again.refresh == learner.refresh
    assert predict(derive(learner, Nearest()), rows.take(slice(0, 9)))["distance"].min() >= 0.0


def test_fit_resumes_from_bytes_as_if_it_had_not_stopped(tmp_path) -> None:
    spec = SampleSpec(n_features=2, half_life="1h")
    days = [placed(300, i, time=np.arange(300) * 10_000_000 + i * 24 * HOUR_US) for i in range(3)]
    straight = fit(spec, days[2:], learner=fit(spec, days[:2]))
    save(fit(spec, days[:2]), tmp_path / "learner")
    resumed = fit(spec, days[2:], learner=load(tmp_path / "learner", algorithms=[spec.algorithm]))
    assert identical(straight.state, resumed.state)
    assert straight.progress.summary() == resumed.progress.summary()


def test_rows_over_the_room_of_one_fold_are_thinned_counted_and_shown() -> None:
    accumulator = Accumulator(TOY_SAMPLE, SPEC)
    for seed in range(5):
        accumulator.add(batch(100, seed))  # nameless: each gets a name of its own first
    learner, done = refresh(TOY_SAMPLE, learners.new(TOY_SAMPLE, SPEC), None, accumulator.result(), Plan({}))
    kept = 8192 // 64
    assert done.progress.adjusted == {THINNED: 500 - kept}
    assert learner.progress.rows == 500
    assert TOY_SAMPLE.weight(learner.state) == 500.0
    assert f"{500 - kept} adjusted (thinned, others stand for it {500 - kept})" in repr(learner)


def test_equal_rows_without_names_are_rows_of_their_own() -> None:
    accumulator = Accumulator(TOY_SAMPLE, SPEC)
    accumulator.add(Batch.dense(np.ones((400, 2))))
    (part,) = accumulator.result().parts.values()
    assert len(np.unique(part.dated.summary.identity)) == part.dated.summary.order.size == 8192 // 64


def test_a_window_of_more_rows_than_fit_is_learned_in_pieces() -> None:
    windows = {1: [(placed(300, 0), 0), (placed(200, 1), 0)], 2: [(placed(10, 2), 0)]}
    learner = learners.new(TOY_SAMPLE, SPEC)
    *steps, (last, none) = learn_in_order(TOY_SAMPLE, learner, windows, Plan({"near": Nearest()}))
    assert none is None
    assert [one.progress.rows for _, one in steps] == [500, 10]
    assert last.progress.adjusted == {}
    whole = fit(SPEC, [rows for pairs in windows.values() for rows, _ in pairs])
    assert identical(last.state, whole.state)


def test_half_lives_need_event_times() -> None:
    with pytest.raises(InvalidBatch, match="half_life needs event times"):
        fit(SampleSpec(n_features=2, half_life="1h"), [batch(3)])


def test_trained_learners_do_not_merge_and_the_refusal_says_what_to_do() -> None:
    one = fit(SPEC, [batch(10)])
    with pytest.raises(MergeRefused, match=r"cannot merge; let one learner learn from the rows of both, as fit\("):
        merge(one, dataclasses.replace(one))
