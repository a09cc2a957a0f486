"""What somebody is told who adds an algorithm, or pipes what `Train` gives: one sentence that says what to do."""

import dataclasses
import sys
import types
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from toy_mean import TOY_MEAN, MeanSpec

from beam_ml import Batch, fit, kmeans, load, pca, save
from beam_ml.beam import Accumulate, Fold, Merge, Publish, SliceByWindow, ToBatches, Train
from beam_ml.core.measures import Distortion
from beam_ml.core.windows import Windows
from beam_ml.errors import CorruptArtefact, DeriveRefused, InvalidValue, MissingAlgorithm
from beam_ml.features import Features
from beam_ml.testing import check_algorithm, laws_for


def sketch_bound(algorithm: Any, models: tuple[Any, ...] = ()) -> None:
    laws = dict(laws_for(algorithm, kmeans.Spec(n_features=2, k_max=3), models, examples=2, shrink=False))
    laws["sketch bound"]()


def test_a_measure_without_a_loss_is_told_what_it_must_give() -> None:
    def measure(model: Any, batch: Batch) -> Distortion:
        none = np.zeros(())
        return Distortion(none, none, none, none, none)

    kind = dataclasses.replace(kmeans.KMEANS.models["clusters"], measure=measure)
    broken = dataclasses.replace(kmeans.KMEANS, models={"clusters": kind})
    sentence = (
        r"breaks the law 'sketch bound': AssertionError: measure of the model Clusters must return a finite log_loss or mse or "
        r"msd or nll or mean_wql or score, by a record of beam_ml\.core\.metrics; it returns "
    )
    with pytest.raises(AssertionError, match=sentence):
        sketch_bound(broken, (kmeans.Clusters(k=2),))


def test_an_algorithm_without_models_is_told_that_it_must_have_one() -> None:
    with pytest.raises(AssertionError, match=r"kmeans must have a kind of model \(Algorithm\.models\) to be judged by"):
        sketch_bound(dataclasses.replace(kmeans.KMEANS, models={}))


def test_a_model_spec_of_no_kind_of_the_algorithm_is_told_the_kinds_there_are() -> None:
    with pytest.raises(AssertionError, match=r"pca derives components; got Clusters, whose kind is 'clusters'"):
        check_algorithm(pca.PCA, pca.Spec(n_features=2), [kmeans.Clusters(k=2)], examples=2)
    with pytest.raises(DeriveRefused, match=r"^pca derives components; got Clusters, whose kind is 'clusters'\.$"):
        Train(pca.Spec(n_features=2), models={"t": kmeans.Clusters(k=2)})


class _Elsewhere(MeanSpec):
    algorithm: str = "some_where_else:ROUGH_MEAN"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with an algorithm in it, which can be taken away."""
    module = types.ModuleType("some_where_else")
    module.ROUGH_MEAN = dataclasses.replace(TOY_MEAN, name="some_where_else:ROUGH_MEAN", spec=_Elsewhere)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_where_else", module)
    return module


def test_a_whole_artefact_of_a_module_that_is_not_installed_is_no_damage(tmp_path: Any, elsewhere: Any) -> None:
    learner = fit(_Elsewhere(n_features=2), [Batch.dense([[1.0, 2.0], [3.0, 4.0]])])
    save(learner, tmp_path / "learner")
    assert load(tmp_path / "learner", [learner.spec.algorithm]).progress.rows == 2
    del elsewhere.ROUGH_MEAN
    with pytest.raises(MissingAlgorithm, match=r"has no attribute 'ROUGH_MEAN'"):
        load(tmp_path / "learner", [learner.spec.algorithm])
    del sys.modules["some_where_else"]
    sentence = (
        rf"^{tmp_path / 'learner'}: The artefact is whole, but its algorithm 'some_where_else:ROUGH_MEAN' cannot be imported here "
        r"\(No module named 'some_where_else'\): install the module that defines it, or put its folder on PYTHONPATH\.$"
    )
    with pytest.raises(MissingAlgorithm, match=sentence) as told:
        load(tmp_path / "learner", [learner.spec.algorithm])
    assert not isinstance(told.value, CorruptArtefact)
    (tmp_path / "learner").write_bytes((tmp_path / "learner").read_bytes()[:-3])
    with pytest.raises(CorruptArtefact):
        load(tmp_path / "learner", [learner.spec.algorithm])


SPEC = pca.Spec(n_features=2)


def batches(_: int) -> Batch:
    return Batch.dense(np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("takes_one", "label"),
    [
        (lambda: beam.Map(print), r"Map\(print\)"),
        (lambda: "shown" >> beam.Filter(bool), r"Filter\(bool\)"),
        (lambda: beam.GroupByKey(), "GroupByKey"),
        (lambda: beam.CombineGlobally(sum), r"CombineGlobally\(sum\)"),
        (lambda: ToBatches(Features(numeric=["a"])), "ToBatches"),
        (lambda: Train(SPEC), "Train"),
        (lambda: Fold(SPEC), "Fold"),
        (lambda: Merge(SPEC), "Merge"),
    ],
)
def test_who_pipes_all_that_train_gives_is_told_to_take_one(takes_one: Any, label: str) -> None:
    trained = beam.Pipeline() | beam.Create([0]) | beam.Map(batches) | Train(SPEC)
    sentence = (
        rf"^{label} takes one PCollection; got the Trained of refreshes, learner, rejected, folded: pipe one of them, as in "
        rf"result\.refreshes \| {label}\.$"
    )
    with pytest.raises(InvalidValue, match=sentence):
        trained | takes_one()


def test_what_belongs_together_is_piped_as_before(tmp_path: Any) -> None:
    given = beam.Pipeline() | beam.Create([0])
    blocks = given | "Blocks" >> beam.Map(batches)
    trained = blocks | Train(SPEC)
    assert trained | Publish(str(tmp_path), "n")
    assert trained.refreshes | beam.Map(print)
    slices = blocks | "Slices" >> SliceByWindow(Windows(None))
    assert slices | "Accumulate" >> Accumulate(SPEC) | "Merge" >> Merge(SPEC) | "Fold" >> Fold(SPEC)
    assert (trained.rejected, slices.rejected) | beam.Flatten()
    for several in (slices, slices | "More" >> Accumulate(SPEC)):
        with pytest.raises(InvalidValue, match="takes one PCollection; got the"):
            several | Publish(str(tmp_path), "n")


def test_a_table_given_as_a_model_spec_is_told_which_specs_there_are() -> None:
    with pytest.raises(
        DeriveRefused, match=r"^pca derives a model from a model spec \(Components\); got \{'kind': 'x'\}\.$"
    ):
        Train(pca.Spec(n_features=2), models={"t": {"kind": "x"}})
