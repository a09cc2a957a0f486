import dataclasses
from typing import Any

import numpy as np
import pytest

from beam_ml.algorithms import pca
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation, Accumulator, merge, merge_all
from beam_ml.core.algorithm import Algorithm, Law, LawKind
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.cursors import Cursors, FileCursor, FileId, TopicCursor
from beam_ml.core.gate import Gate
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Plan, derive_all, refresh
from beam_ml.core.spec import ModelSpec
from beam_ml.errors import DeriveRefused, MergeRefused, TrainingFailed

ALGORITHM = pca.PCA
SPEC = pca.Spec(n_features=3)
PLAN = Plan({"one": pca.Components(n_components=1), "two": pca.Components(n_components=2)})


def rows(start: int, n: int, file: str = "a") -> Batch:
    rng = np.random.default_rng(start)
    X = rng.normal(size=(n, 3)) * [3.0, 2.0, 1.0]
    place = np.arange(start, start + n)
    return Batch.dense(X, time=place * 1_000_000, origin=Origin("files", file), position=place)


def accumulate(*batches: Batch, algorithm: Algorithm = ALGORITHM, number: int = 0, anchor: Any = None) -> Accumulation:
    accumulator = Accumulator(algorithm, SPEC, number, anchor)
    for batch in batches:
        accumulator.add(batch)
    return accumulator.result()


def learn(*windows: Accumulation, plan: Plan = PLAN, algorithm: Algorithm = ALGORITHM) -> list[Any]:
    learner: Learner = learners.new(algorithm, SPEC)
    out: list[Any] = []
    for i, window in enumerate(windows):
        learner, done = refresh(algorithm, learner, (i + 1) * 100_000_000, window, plan)
        out.append((learner, done))
    return out


def test_the_mutable_twin_equals_merging_one_accumulation_a_batch() -> None:
    batches = [rows(i * 70, 70) for i in range(20)]
    bad = Batch.dense([[np.nan, 0, 0]], origin=Origin("files", "a"), position=[5000])
    loop = accumulate(*batches, bad)
    merged = merge_all(ALGORITHM, SPEC, (accumulate(b) for b in [*batches[::-1], bad]))
    assert close(loop.parts[0].dated.summary, merged.parts[0].dated.summary, rtol=1e-9)
    assert loop.progress.summary() == merged.progress.summary()
    assert loop.progress.rejected == {"non-finite feature": 1}
    assert loop.progress.covered[Origin("files", "a")].tolist() == [[0, 1400], [5000, 5001]]
    assert np.array_equal(loop.sample.identity, merged.sample.identity)


def test_batches_without_positions_are_told_apart() -> None:
    same = Batch.dense(np.ones((10, 3)))
    both = merge(ALGORITHM, SPEC, accumulate(same), accumulate(same))
    assert both.sample.rows is not None
    assert len(both.sample.rows) == 20


def test_models_are_measured_before_the_window_is_learned_from() -> None:
    first, second = learn(accumulate(rows(0, 500)), accumulate(rows(500, 500)))
    assert first[1].measured == {}
    assert set(second[1].measured) == {"one", "two"}
    models = derive_all(ALGORITHM, first[0], PLAN.models)
    wanted = pca.PCA.models["components"].measure(models["one"], rows(500, 500))
    assert second[1].measured["one"]["sse"] == pytest.approx(float(wanted.squared), rel=1e-9)
    assert second[1].champion == "two"
    assert second[0].refresh == 2
    assert second[0].progress.rows == 1000
    assert second[0].folded_through == 200_000_000


def test_progressive_metrics_decay_with_the_half_life() -> None:
    spec = pca.Spec(n_features=3, half_life=100.0)
    learner = learners.new(ALGORITHM, spec)
    weights = []
    for i in range(3):
        accumulator = Accumulator(ALGORITHM, spec)
        accumulator.add(rows(i * 100, 100))
        learner, done = refresh(ALGORITHM, learner, (i + 1) * 100_000_000, accumulator.result(), PLAN)
        weights.append(done.progressive.get("one", {}).get("rows_weight", 0.0))
    mass = weights[1]
    assert weights[0] == 0.0
    assert weights[2] == pytest.approx(mass + mass / 2, rel=1e-6)


def test_the_gate_refuses_with_the_reason() -> None:
    plan = Plan(PLAN.models, Gate(("rows >= 600", "msd < 1000")))
    first, second = learn(accumulate(rows(0, 500)), accumulate(rows(500, 500)), plan=plan)
    assert first[1].verdict.reasons == ("rows is 500, must be >= 600", "msd is not known yet, must be < 1000")
    assert second[1].verdict.accepted


def explosive(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
    """A fold that turns non-finite once it has a state of some rows."""
    return dataclasses.replace(partial, scatter=partial.scatter * np.inf)


def test_a_fold_that_turns_non_finite_keeps_the_parent_and_three_end_the_job() -> None:
    broken = dataclasses.replace(ALGORITHM, fold=explosive)
    good, _ = learn(accumulate(rows(0, 500)))[0]
    learner = good
    for i in (1, 2):
        learner, done = refresh(broken, learner, i * 1000, accumulate(rows(i * 500, 500)), PLAN)
        assert done.discarded == "scatter of the state is not finite"
        assert not done.verdict.accepted
        assert learner.state is good.state
        assert learner.progress.rows == 500
        assert learner.progress.rejected == {"fold discarded": 500 * i}
        assert learner.sample is good.sample  # rows that nothing was learned from stand for nothing
    with pytest.raises(TrainingFailed, match="3 folds in a row left a non-finite state"):
        refresh(broken, learner, 3000, accumulate(rows(1500, 500)), PLAN)
    healed, done = refresh(ALGORITHM, learner, 3000, accumulate(rows(1500, 500)), PLAN)
    assert healed.discarded == 0
    assert done.discarded is None
    assert healed.progress.rows == 1000


def test_an_empty_window_moves_the_refresh_on() -> None:
    learner, done = learn(accumulate())[0]
    assert learner.refresh == 1
    assert done.models == {}
    assert learner.progress.rows == 0


def test_parts_with_a_stale_anchor_are_dropped_and_counted() -> None:
    class Stale(pca.Spec):
        max_staleness = 1

    spec = Stale(n_features=3)
    anchored = dataclasses.replace(
        ALGORITHM, anchor_type=pca.PCA.state, law=lambda spec: Law(LawKind.ANCHORED), anchor=lambda spec, state: state
    )
    accumulations = []
    for number, start in ((2, 0), (3, 100)):
        accumulator = Accumulator(anchored, spec, number, object())
        accumulator.add(rows(start, 100))
        accumulations.append(accumulator.result())
    both = merge(anchored, spec, *accumulations)
    assert sorted(both.parts) == [2, 3]
    learner = learners.new(anchored, spec).replace(refresh=4)
    folded, done = refresh(anchored, learner, 10, both, Plan({}))
    assert folded.progress.rows == 100
    assert folded.progress.rejected == {"stale anchor": 100}
    assert done.progress.scanned == 200


def test_merge_adds_and_refuses_what_would_count_twice() -> None:
    a, b = (learn(accumulate(rows(start, 300)))[0][0] for start in (0, 300))
    both = learners.merge(ALGORITHM, a, b)
    whole = learn(accumulate(rows(0, 300), rows(300, 300)))[0][0]
    assert close(both.state, whole.state, rtol=1e-9)
    assert both.progress.summary() == whole.progress.summary()
    with pytest.raises(MergeRefused, match="both have scanned files a from 0 to 300"):
        learners.merge(ALGORITHM, a, a)
    assert learners.merge(ALGORITHM, a, a, allow_overlap=True).progress.rows == 600
    other = learners.new(ALGORITHM, pca.Spec(n_features=3, seed=1))
    with pytest.raises(MergeRefused, match="these differ in seed 0 and 1"):
        learners.merge(ALGORITHM, a, other)


def test_rows_of_open_windows_count_as_scanned() -> None:
    a = learn(accumulate(rows(0, 300)))[0][0]
    b = learners.add_pending(ALGORITHM, learners.new(ALGORITHM, SPEC), 7, accumulate(rows(200, 300)))
    with pytest.raises(MergeRefused, match="from 200 to 300"):
        learners.merge(ALGORITHM, a, b)
    both = learners.add_pending(ALGORITHM, b, 7, accumulate(rows(500, 10)))
    assert both.pending[7].progress.rows == 310


def test_gathered_learners_do_not_merge() -> None:
    gathered = dataclasses.replace(ALGORITHM, law=lambda spec: Law(LawKind.GATHERED))
    one = learners.new(gathered, SPEC)
    with pytest.raises(MergeRefused, match="trains on gathered rows"):
        learners.merge(gathered, one, one)


def test_a_model_spec_of_another_algorithm() -> None:
    class Foreign(ModelSpec):
        kind: str = "foreign"

    learner = learn(accumulate(rows(0, 10)))[0][0]
    with pytest.raises(DeriveRefused, match="pca derives components; got Foreign"):
        derive_all(ALGORITHM, learner, {"x": Foreign()})


def test_a_merged_learner_reads_on_where_both_stopped() -> None:
    a, b = (learn(accumulate(rows(start, 300, file)))[0][0] for start, file in ((0, "a"), (300, "b")))
    done = {path: FileId(path, 1, 2) for path in "ab"}
    a = a.replace(cursors=Cursors(FileCursor({"a": done["a"]}, horizon_ns=5)))
    b = b.replace(cursors=Cursors(FileCursor({"b": done["b"]}, horizon_ns=3), {"kafka://c/t": TopicCursor({0: 17})}))
    both = learners.merge(ALGORITHM, a, b)
    assert both.cursors == Cursors(FileCursor(done, horizon_ns=5), {"kafka://c/t": TopicCursor({0: 17})})
