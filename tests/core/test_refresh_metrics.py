"""What a refresh says about its candidates: whose metrics they are, how old, and that none is infinite."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from beam_ml.algorithms import kmeans, pca
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation, Accumulator
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.gate import Gate
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Plan, refresh

DAY = 86_400_000_000
SPEC = pca.Spec(n_features=3)
DAILY = pca.Spec(n_features=3, half_life="1d")
ONE, TWO = pca.Components(n_components=1), pca.Components(n_components=2)


def window(spec: Any, time: int, n: int = 100, file: str = "a", scale: float = 1.0) -> Accumulation:
    X = np.random.default_rng(time % 1000).normal(size=(n, 3)) * scale
    origin = Origin("files", f"{file} {time}")
    accumulator = Accumulator(pca.PCA, spec)
    accumulator.add(Batch.dense(X, time=np.full(n, time), origin=origin, position=np.arange(n)))
    return accumulator.result()


def learn(learner: Learner, end: int | None, rows: Accumulation, plan: Plan) -> tuple[Learner, Any]:
    return refresh(pca.PCA, learner, end, rows, plan)


def grown(spec: Any, plan: Plan, days: int = 3, file: str = "a") -> Learner:
    learner = learners.new(pca.PCA, spec)
    for day in range(days):
        learner, _ = learn(learner, (day + 1) * DAY, window(spec, (day + 1) * DAY, file=file), plan)
    return learner


def test_a_candidate_that_is_gone_is_neither_champion_nor_judged() -> None:
    before = grown(SPEC, Plan({"good": TWO, "bad": ONE}))
    assert before.champion == "good"
    plan = Plan({"bad": ONE}, Gate(("msd <= 1.0",)))
    after, done = learn(before, 4 * DAY, window(SPEC, 4 * DAY), plan)
    assert done.champion == after.champion == "bad"
    assert list(done.progressive) == list(after.metrics) == ["bad"]
    assert done.progressive["bad"]["rows_weight"] == pytest.approx(300)
    found = done.progressive["bad"]
    assert done.verdict.reasons == (f"msd is {found['msd']:.6g} ± {found['msd_se']:.2g}, must be <= 1",)


def test_a_candidate_that_is_renamed_starts_without_metrics_when_its_window_is_empty() -> None:
    before = grown(SPEC, Plan({"good": TWO}))
    nothing = Accumulator(pca.PCA, SPEC).result()
    after, done = learn(before, 4 * DAY, nothing, Plan({"better": TWO}, Gate(("msd <= 1.0",))))
    assert after.champion is None
    assert done.progressive == {}
    assert done.verdict.reasons == ("msd is not known yet, must be <= 1",)


def test_a_name_whose_model_spec_changed_starts_afresh() -> None:
    before = grown(SPEC, Plan({"a": TWO}))
    same, _ = learn(before, 4 * DAY, window(SPEC, 4 * DAY), Plan({"a": pca.Components(n_components=2)}))
    other, done = learn(before, 4 * DAY, window(SPEC, 4 * DAY), Plan({"a": ONE}))
    assert float(same.metrics["a"].weight) == pytest.approx(300)
    assert done.progressive["a"]["rows_weight"] == pytest.approx(100)
    assert done.progressive["a"] == done.measured["a"]
    assert other.champion == "a"


def test_models_handed_over_that_nobody_derives_any_more_are_not_measured() -> None:
    before = grown(SPEC, Plan({"a": TWO}))
    model = pca.PCA.models["components"].derive(SPEC, TWO, before.state, None)
    rows = window(SPEC, 4 * DAY)
    _, done = refresh(pca.PCA, before, 4 * DAY, rows, Plan({"a": TWO}), {"a": model, "gone": model})
    assert list(done.measured) == ["a"]


def test_one_huge_row_does_not_spoil_the_metrics_of_the_windows_after() -> None:
    spec, algorithm = kmeans.Spec(n_features=2, k_max=3), kmeans.KMEANS
    plan = Plan({"m": kmeans.Clusters(k=2)}, Gate(("msd <= 100",)))
    learner = learners.new(algorithm, spec)
    rng = np.random.default_rng(0)
    weights, accepted = [], []
    for i in range(5):
        X = rng.normal(size=(500, 2))
        if i == 3:
            X[0] = 1e200
        accumulator = Accumulator(algorithm, spec)
        with np.errstate(over="ignore", invalid="ignore"):
            accumulator.add_admitted(Batch.dense(X))  # what admission would not let through
            rows = accumulator.result()
            if i == 3:
                measured = refresh(algorithm, learner, None, rows, plan)[1]
                weights.append(measured.progressive["m"]["rows_weight"])
                accepted.append(measured.verdict.accepted)
                assert "msd" not in measured.measured["m"]
                continue  # the rows after it: learned from what was good
            learner, done = refresh(algorithm, learner, None, rows, plan)
        weights.append(done.progressive.get("m", {}).get("rows_weight", 0.0))
        accepted.append(done.verdict.accepted)
    assert weights == pytest.approx([0, 500, 1000, 1000, 1500])
    assert accepted == [False, True, True, True, True]


def test_sums_that_are_infinite_already_are_left_behind() -> None:
    before = grown(SPEC, Plan({"a": TWO}))
    spoilt = pca.PCA.models["components"].measure(
        pca.PCA.models["components"].derive(SPEC, TWO, before.state, None), Batch.dense(np.ones((1, 3)))
    )
    spoilt = dataclasses.replace(spoilt, squared=np.asarray(np.inf))
    after, done = learn(before.replace(metrics={"a": spoilt}), 4 * DAY, window(SPEC, 4 * DAY), Plan({"a": TWO}))
    assert done.progressive["a"] == done.measured["a"]
    assert np.isfinite(after.metrics["a"].squared)


@pytest.mark.parametrize("days_late", [0, 1, 10])
def test_late_rows_weigh_by_their_age(days_late: int) -> None:
    plan = Plan({"a": TWO})
    before = grown(DAILY, plan)
    have = float(before.metrics["a"].weight)
    after, done = learn(before, 4 * DAY, window(DAILY, (4 - days_late) * DAY, file="late"), plan)
    assert done.measured["a"]["rows_weight"] == pytest.approx(100)
    assert done.progressive["a"]["rows_weight"] == pytest.approx(have / 2 + 100 * 2.0**-days_late, rel=1e-9)
    assert after.metrics_time == 4 * DAY


def test_rounds_of_older_rows_weigh_by_their_age() -> None:
    plan = Plan({"a": TWO})
    before, _ = learn(learners.new(pca.PCA, DAILY), None, window(DAILY, 30 * DAY), plan)
    before, done = learn(before, None, window(DAILY, 30 * DAY, file="b"), plan)
    have = done.progressive["a"]["rows_weight"]
    after, done = learn(before, None, window(DAILY, 20 * DAY), plan)
    assert done.progressive["a"]["rows_weight"] == pytest.approx(have + 100 / 1024, rel=1e-9)
    assert after.metrics_time == 30 * DAY


def test_without_half_life_old_rows_weigh_like_new_ones() -> None:
    plan = Plan({"a": TWO})
    _, done = learn(grown(SPEC, plan), 40 * DAY, window(SPEC, 4 * DAY), plan)
    assert done.progressive["a"]["rows_weight"] == pytest.approx(300)


def test_metrics_of_merged_learners_are_of_one_time() -> None:
    plan = Plan({"a": TWO})
    old, new = grown(DAILY, plan, 2), grown(DAILY, plan, 5, "b")
    both = learners.merge(pca.PCA, old, new)
    assert both.metrics_time == 5 * DAY
    wanted = float(old.metrics["a"].weight) / 8 + float(new.metrics["a"].weight)
    assert float(both.metrics["a"].weight) == pytest.approx(wanted, rel=1e-12)
    assert float(learners.merge(pca.PCA, new, old).metrics["a"].weight) == pytest.approx(wanted, rel=1e-12)
    assert both.candidates == {"a": TWO.to_json()}
    assert both.champion == "a"


def test_a_name_of_two_model_specs_has_no_metrics_after_a_merge() -> None:
    mine, other = grown(SPEC, Plan({"a": TWO, "b": ONE})), grown(SPEC, Plan({"a": ONE, "b": ONE}), 2, "b")
    both = learners.merge(pca.PCA, mine, other)
    assert list(both.metrics) == list(both.candidates) == ["b"]
    assert both.champion is None


def test_a_tie_leaves_the_champion() -> None:
    """Two names of one model spec are as good as each other: the champion stays, whichever comes first by name."""
    before = grown(SPEC, Plan({"b": TWO}))
    assert before.champion == "b"
    after, done = learn(before, 4 * DAY, window(SPEC, 4 * DAY), Plan({"a": TWO, "b": TWO}))
    same = after.replace(metrics={"a": after.metrics["b"], "b": after.metrics["b"]})
    again, done = learn(same, 5 * DAY, window(SPEC, 5 * DAY), Plan({"a": TWO, "b": TWO}))
    assert done.progressive["a"] == done.progressive["b"]
    assert done.champion == again.champion == "b"


def test_a_window_is_judged_by_those_before_it_not_by_itself() -> None:
    plan = Plan({"a": TWO}, Gate(("msd of the window not worse than 50 % over the last 10 refreshes",)))
    before = grown(SPEC, plan)
    after, done = learn(before, 4 * DAY, window(SPEC, 4 * DAY, n=2000, scale=1.33), plan)
    past = [entry["msd of the window"] for entry in before.history if "msd of the window" in entry]
    assert len(past) == 2
    now = done.measured["a"]
    mean = sum(past) / len(past)
    with_itself = (sum(past) + now["msd"]) / 3
    assert with_itself * 1.5 + now["msd_se"] > now["msd"] > mean * 1.5 + now["msd_se"]  # the numbers tell the two apart
    said = f"msd of the window is {now['msd']:.6g} ± {now['msd_se']:.2g}, was {mean:.6g} on average over 2 refreshes"
    assert done.verdict.reasons == (said,)
    assert after.history[-1]["msd of the window"] == now["msd"]
    assert not any("_se" in name for name in after.history[-1])  # the window's neither
