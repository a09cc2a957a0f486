"""Nobody's class vanishes: labels of two classes are learned alike however they are written, or refused."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from beam_ml import Batch, Learner, Model, derive, fit, fm, linear, load, merge, predict, save
from beam_ml.errors import CorruptArtefact, InvalidBatch, MergeRefused

RNG = np.random.default_rng(3)
X = RNG.normal(size=(3_000, 2))
Y = (RNG.random(3_000) < 1 / (1 + np.exp(-X[:, 0] + 1))).astype(float)
SPEC = linear.Newton(n_features=2)


def batches(label: np.ndarray, size: int = 1_000) -> list[Batch]:
    return [Batch.dense(X[i : i + size], label=label[i : i + size]) for i in range(0, len(X), size)]


def scores(learner: Learner) -> np.ndarray:
    return predict(derive(learner, linear.Classifier()), Batch.dense(X))["score"]


@pytest.mark.parametrize(
    ("label", "pair"),
    [(Y * 2 - 1, (-1, 1)), (Y + 1, (1, 2)), (Y * 7, (0, 7)), (Y > 0.5, None), (Y.astype(np.int8), None)],
)
@pytest.mark.parametrize("given", [list, iter])
def test_two_values_are_learned_as_0_and_1(label: np.ndarray, pair: tuple[int, int] | None, given: type) -> None:
    learner = fit(SPEC, given(batches(label)))
    assert learner.progress.rows == len(X)
    assert learner.progress.rejected == {}
    assert learner.labels == pair
    assert np.array_equal(scores(learner), scores(fit(SPEC, batches(Y))))


@pytest.mark.parametrize("spec", [linear.AdaGrad(n_features=2), fm.Spec(n_features=2)])
def test_every_learner_of_two_classes_takes_them(spec: linear.AdaGrad) -> None:
    learner = fit(spec, batches(Y * 2 - 1))
    assert learner.progress.rows == len(X)
    assert learner.sample.mass.min() > 0


def test_the_rule_is_said_in_the_learner_and_its_models(tmp_path: Path) -> None:
    learner = fit(SPEC, batches(Y + 1))
    model = derive(learner, linear.Classifier())
    assert "labels 1 → 0, 2 → 1" in repr(learner)
    assert "labels 1 → 0, 2 → 1" in repr(model)
    for value in (learner, model):
        save(value, tmp_path / "it")
        assert repr(load(tmp_path / "it")) == repr(value)
    assert isinstance(model, Model)
    assert "labels" not in derive(fit(SPEC, batches(Y)), linear.Classifier()).facts


def test_a_later_fit_keeps_the_rule_of_the_first(tmp_path: Path) -> None:
    save(fit(SPEC, batches(Y + 1)), tmp_path / "first")
    first = load(tmp_path / "first")
    assert isinstance(first, Learner)
    ones = Batch.dense(X[Y == 0], label=np.ones(int((Y == 0).sum())))
    assert fit(SPEC, [ones], learner=first).sample.mass[0] > first.sample.mass[0]
    zeros_and_ones = batches(Y)
    with pytest.raises(InvalidBatch, match=r"got 0, 1, 2\."):
        fit(SPEC, zeros_and_ones, learner=first)


def test_of_a_list_all_labels_decide() -> None:
    order = np.argsort(Y, kind="stable")
    sorted_rows = [Batch.dense(X[i], label=Y[i] + 1) for i in np.split(order, 3)]
    assert fit(SPEC, sorted_rows).labels == (1, 2)
    assert fit(SPEC, sorted_rows).progress.rows == len(X)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ([[1, 1], [2, 2]], "1, 2"),
        ([[0, 7], [1, 1]], "0, 1, 7"),
        ([[2, 2]], "2"),
        ([[3, 5, 9]], "3, 5, 9"),
        ([[0.25, 0.75]], "0.25, 0.75"),
        ([[9, 8, 7, 6, 5, 4]], "4, 5, 6, 7, 8 …"),
    ],
)
def test_what_an_iterator_shows_too_late_or_what_are_no_two_classes_is_refused(
    parts: list[list[float]], shown: str
) -> None:
    given: Iterable[Batch] = (Batch.dense(X[: len(part)], label=part) for part in parts)
    with pytest.raises(InvalidBatch, match=rf"Batch\.label must be 0 or 1 for linear\.newton.*; got {shown}\."):
        fit(SPEC, given)


def test_an_iterator_of_ones_and_then_minus_ones_is_of_two_classes() -> None:
    order = np.argsort(-Y, kind="stable")
    given = (Batch.dense(X[i], label=2 * Y[i] - 1) for i in np.split(order, 3))
    learner = fit(SPEC, given)
    assert learner.labels == (-1, 1)
    assert learner.progress.rows == len(X)


@pytest.mark.parametrize(
    "label", [np.where(np.arange(3_000) % 2, Y, 5), np.where(np.arange(3_000) % 2, Y * 2 - 1, np.nan)]
)
def test_rows_of_no_class_are_rejected_with_a_warning(label: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    learner = fit(SPEC, batches(label))
    assert learner.progress.rows == 1_500
    assert "1,500 rejected" in repr(learner)
    assert "500 rejected" in caplog.text


def test_minus_ones_alone_are_one_class_of_two() -> None:
    learner = fit(SPEC, [Batch.dense(X[:50], label=np.full(50, -1.0))])
    assert learner.labels == (-1, 1)
    assert learner.sample.mass.tolist() == [50.0, 0.0]


def test_a_missing_label_is_counted_as_missing_and_another_class_as_none() -> None:
    label = np.concatenate([Y[:98] * 2 - 1, [np.nan, 5.0]])
    learner = fit(SPEC, [Batch.dense(X[:100], label=label)], learner=fit(SPEC, batches(Y * 2 - 1)))
    assert sorted(learner.progress.rejected.values()) == [1, 1]
    assert learner.progress.rejected["missing label"] == 1


def test_labels_of_several_classes_and_of_regressions_stay_as_they_are() -> None:
    three = fit(linear.AdaGrad(n_features=2, task="multiclass", n_classes=3), batches(Y + 1))
    assert three.labels is None
    assert three.progress.rows == len(X)
    assert fit(linear.Newton(n_features=2, loss="squared"), batches(Y * 2 - 1)).labels is None


def test_learners_merge_whose_classes_were_written_alike() -> None:
    ones, signed = fit(SPEC, batches(Y)), fit(SPEC, batches(Y * 2 - 1))
    assert merge(signed, fit(SPEC, batches(Y * 2 - 1))).labels == (-1, 1)
    assert merge(fit(SPEC, []), signed).labels == (-1, 1)
    without_rows = fit(SPEC, [Batch.dense(np.full((2, 2), np.nan), label=[-1, 1])])
    assert (without_rows.labels, without_rows.progress.rows) == ((-1, 1), 0)
    assert merge(without_rows, ones).labels is None
    assert merge(ones, without_rows).labels is None
    with pytest.raises(MergeRefused, match=r"classes were written alike; got \(-1, 1\) and \(0, 1\)"):
        merge(ones, signed)


@pytest.mark.parametrize("labels", [[1], "ab", [1, "2"], [True, 2], None])
def test_a_damaged_rule_is_refused(labels: object) -> None:
    from beam_ml.algorithms import find
    from beam_ml.artefact.envelope import decode, encode
    from beam_ml.artefact.records import decode_learner, encode_learner

    whole = decode(encode_learner(find("linear.newton"), fit(SPEC, batches(Y))))
    with pytest.raises(CorruptArtefact, match="two numbers as labels"):
        decode_learner(encode("learner", {**whole.meta, "labels": labels}, whole.arrays), find)
