"""The notebook's verbs take what is unambiguous and answer everything else with one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse

from beam_ml import Batch, Learner, derive, fit, linear, load, merge, pca, predict, save
from beam_ml.core.arrays import identical
from beam_ml.errors import BeamMLError, CorruptArtefact, InvalidBatch, InvalidValue, MergeRefused
from beam_ml.predictor import Predictor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3)) * [1.0, 10.0, 100.0]
Y = (X[:, 0] > 0).astype(float)
PCA, NEWTON = pca.Spec(n_features=3), linear.Newton(n_features=3)
TABLE = pa.table({name: X[:, j] for j, name in enumerate("abc")})
MIXED = TABLE.select(["c", "a", "b"])
LABELLED = fit(NEWTON, Batch.dense(TABLE, label=Y))
MODEL = derive(LABELLED, "classifier")


class Again:
    """Batches that are made at each pass."""

    def __init__(self, *given: Any) -> None:
        self._given = given

    def __iter__(self) -> Any:
        return iter(self._given)


@pytest.mark.parametrize(
    "given",
    [
        X,
        Batch.dense(X),
        [X[:100], X[100:]],
        iter([X[:100], X[100:]]),
        Again(X[:100], Batch.dense(X[100:])),
        TABLE,
        TABLE.to_batches()[0],
        [TABLE.slice(0, 100), MIXED.slice(100)],
    ],
)
def test_rows_without_labels_are_taken_as_they_come(given: Any) -> None:
    learner, wanted = fit(PCA, given), fit(PCA, [Batch.dense(X)])
    assert learner.progress.rows == len(X)
    np.testing.assert_allclose(learner.state.mean, wanted.state.mean, rtol=1e-9)
    np.testing.assert_allclose(learner.state.scatter, wanted.state.scatter, rtol=1e-9)


def test_one_batch_with_labels_is_a_list_of_one() -> None:
    assert identical(fit(NEWTON, Batch.dense(X, label=Y)).state, fit(NEWTON, [Batch.dense(X, label=Y)]).state)


@pytest.mark.parametrize("rows", [X, X.tolist(), TABLE, MIXED, Batch.dense(MIXED)])
def test_rows_to_predict_may_be_an_array_or_a_frame_in_any_order(rows: Any) -> None:
    wanted = predict(MODEL, Batch.dense(X))
    assert np.array_equal(predict(MODEL, rows)["score"], wanted["score"])


def test_a_sparse_matrix_is_predicted_with_entries_of_one_place_added() -> None:
    matrix = scipy.sparse.coo_array((np.ones(3), ([0, 0, 1], [1, 1, 2])), shape=(2, 3))
    model = derive(
        fit(linear.AdaGrad(n_features=3), [Batch.of(scipy.sparse.csr_array(X)).replace(label=Y)]), "classifier"
    )
    found = predict(model, matrix)["score"]
    assert np.array_equal(found, predict(model, Batch.csr([0, 1, 2], [1, 2], [2.0, 1.0], 3))["score"])


@pytest.mark.parametrize("spec", ["classifier", linear.Classifier, linear.Classifier()])
def test_a_kind_or_a_class_stands_for_its_defaults(spec: Any) -> None:
    assert derive(LABELLED, spec).model_spec == linear.Classifier()


def test_names_are_kept_through_files_and_later_fits(tmp_path: Path) -> None:
    save(LABELLED, tmp_path / "learner")
    learner = load(tmp_path / "learner")
    assert isinstance(learner, Learner)
    assert learner.names == ("a", "b", "c")
    again = fit(NEWTON, Batch.dense(MIXED, label=Y), learner=learner)
    wanted = fit(NEWTON, Batch.dense(TABLE, label=Y), learner=learner)
    assert identical(again.state, wanted.state)
    save(MODEL, tmp_path / "model")
    assert np.array_equal(
        Predictor(tmp_path / "model").predict(Batch.dense(MIXED))["score"], predict(MODEL, X)["score"]
    )


def test_frames_of_other_columns_are_refused() -> None:
    other = TABLE.rename_columns(["a", "b", "d"])
    sentence = r"Batch\.names must be \['a', 'b', 'c'\] in any order; lacking \['c'\], unknown \['d'\]\."
    with pytest.raises(InvalidBatch, match=sentence):
        predict(MODEL, other)
    with pytest.raises(InvalidBatch, match=sentence):
        fit(NEWTON, [Batch.dense(TABLE, label=Y), Batch.dense(other, label=Y)])
    with pytest.raises(InvalidBatch, match="n_features is 3; got a batch of 4"):
        predict(MODEL, TABLE.append_column("e", pa.array(Y)))
    with pytest.raises(MergeRefused, match="features are the same in order"):
        merge(fit(PCA, TABLE), fit(PCA, MIXED))


def test_rows_learned_without_names_are_not_renamed() -> None:
    assert fit(PCA, TABLE, learner=fit(PCA, X)).names is None
    assert fit(PCA, X, learner=fit(PCA, TABLE)).names == ("a", "b", "c")
    assert fit(PCA, [Batch.dense(X), Batch.dense(MIXED)]).names is None
    other = Batch.dense(TABLE.rename_columns(["a", "b", "d"]))
    assert fit(PCA, [Batch.dense(TABLE), other], learner=fit(PCA, X)).progress.rows == 3 * len(X)
    assert fit(PCA, [Batch.dense(X[:0]), Batch.dense(TABLE), Batch.dense(X)]).names == ("a", "b", "c")


def test_a_frame_is_read_by_its_types() -> None:
    table = pa.table(
        {
            "whole": pa.array([1, None], pa.int64()),
            "truth": pa.array([True, None]),
            "single": pa.array([0.5, None], pa.float32()),
            "money": pa.array([None, "1.25"]).cast(pa.decimal128(9, 2)),
            "kind": pa.array([7, None]).dictionary_encode(),
            "none": pa.nulls(2),
        }
    )
    found = Batch.dense(table)
    np.testing.assert_array_equal(
        found.dense_x, [[1, 1, 0.5, np.nan, 7, np.nan], [np.nan, np.nan, np.nan, 1.25, np.nan, np.nan]]
    )
    assert found.names == tuple(table.column_names)
    assert Batch.dense(table.select(["single"])).dense_x.dtype == np.float32


def test_an_index_of_pandas_is_no_feature() -> None:
    metadata = {b"pandas": b'{"index_columns": ["__index_level_0__", {"kind": "range"}]}'}
    table = pa.table({"a": [1.0], "__index_level_0__": [5]}).replace_schema_metadata(metadata)
    assert Batch.dense(table).names == ("a",)
    assert Batch.dense(pa.table({"0": [1.0], "1": [2.0]})).names is None


def test_names_stay_with_parts_of_a_batch() -> None:
    batch = Batch.dense(TABLE)
    assert batch.take(slice(0, 2)).names == batch.take(np.array([1])).names == ("a", "b", "c")
    assert Batch.concat([batch, batch]).names == ("a", "b", "c")
    assert Batch.concat([batch, Batch.dense(X)]).names is None
    both = Batch.concat([batch, Batch.dense(MIXED)])
    assert both.names == ("a", "b", "c")
    assert np.array_equal(both.dense_x, np.vstack([X, X]))
    with pytest.raises(InvalidBatch, match="in any order; lacking"):
        Batch.concat([batch, Batch.dense(TABLE.rename_columns(["a", "b", "d"]))])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: fit(NEWTON, X),
            r"fit.batches must be batches, as Batch\.dense\(X, label=y\) .*; got ndarray of shape",
        ),
        (lambda: fit(NEWTON, TABLE), r"fit.batches must be batches, .*; got Table of shape \(400, 3\)"),
        (lambda: fit(NEWTON, (X, Y)), "fit.batches must be batches, .*; got ndarray of shape"),
        (lambda: fit(PCA, X[:, 0]), r"fit.batches must be batches, .*; got ndarray of shape \(400,\)"),
        (lambda: fit(PCA, X[None]), r"fit.batches must be batches, .*; got ndarray of shape \(1, 400, 3\)"),
        (lambda: fit(PCA, scipy.sparse.csr_array(X)), "takes dense features; got a CSR batch"),
        (lambda: fit(PCA, X.tolist()), r"fit.batches must be batches, as Batch\.dense\(X\) makes them; got list"),
        (lambda: fit(PCA, Again([1.0])), "fit.batches must be batches, .*; got list"),
        (lambda: fit(PCA, "rows.csv"), "fit.batches must be batches, .*; got 'rows.csv'"),
        (lambda: fit(PCA, 5), "fit.batches must be batches, .*; got 5"),
        (lambda: fit(PCA, None), "fit.batches must be batches, .*; got None"),
        (lambda: fit(pca.Spec, X), "fit.spec must be a spec, .*; got the class Spec"),
        (lambda: fit(X, Y), r"fit.spec must be a spec, .*; got ndarray of shape \(400, 3\)"),
        (lambda: fit(PCA, X, learner=MODEL), "fit.learner must be a learner, as fit returns it; got Model"),
        (lambda: derive(MODEL, "classifier"), "derive.learner must be a learner, as fit returns it; got Model"),
        (lambda: derive(NEWTON, "classifier"), "derive.learner must be a learner, .*; got Newton"),
        (lambda: derive(LABELLED, "clasifier"), "derive.model_spec must be one of 'classifier', .*; got 'clasifier'"),
        (lambda: derive(LABELLED, None), r"derive.model_spec must be a model spec \(Classifier.*\).*; got None"),
        (
            lambda: predict(LABELLED, X),
            r"predict.model must be a model: derive\(learner, 'classifier'\) makes one; got Lear",
        ),
        (lambda: predict(NEWTON, X), "predict.model must be a model, as derive returns it; got Newton"),
        (lambda: predict(MODEL, X[0]), r"Batch.X must have two axes \(n, d\); got shape \(3,\)"),
        (lambda: predict(MODEL, "rows.csv"), "Batch.X must be numbers; got 'rows.csv'"),
        (lambda: predict(MODEL, {"a": 1}), "Batch.X must be numbers; got objects such as {'a': 1}"),
        (lambda: predict(MODEL, TABLE.set_column(0, "a", pa.array(["x"] * 400))), "its column 'a' is string"),
        (lambda: Batch.dense(pa.Table.from_arrays([pa.array([1.0])] * 2, ["a", "a"])), "must name no column twice"),
        (lambda: merge(LABELLED, MODEL), "merge.b must be a learner, .*; got Model"),
        (lambda: save(X, "x"), "save.value must be a model, .*; got ndarray"),
    ],
)
def test_what_is_of_the_wrong_kind_is_one_sentence(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(BeamMLError, match=sentence) as caught:
        call()
    assert isinstance(caught.value, InvalidValue | InvalidBatch)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("names", ["abc", ["a", "b"], ["a", "b", 3], ["a", "a", "b"]])
def test_damaged_names_are_refused(names: object) -> None:
    from beam_ml.algorithms import find
    from beam_ml.artefact.envelope import decode, encode
    from beam_ml.artefact.records import decode_learner, encode_learner

    whole = decode(encode_learner(find("linear.newton"), LABELLED))
    with pytest.raises(CorruptArtefact, match="3 different texts as names"):
        decode_learner(encode("learner", {**whole.meta, "names": names}, whole.arrays), find)
