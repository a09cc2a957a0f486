"""Specs of `linear.AdaGrad`, models derived from it, and metrics of many classes."""

from typing import Any

import numpy as np
import pytest

from beam_ml import Batch, Learner, derive, fit, kmeans, linear, load, predict, save
from beam_ml.core import metrics
from beam_ml.core.refresh import Plan, refresh
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

PLAIN: dict[str, Any] = {"learning_rates": 0.1, "l1": 0.0, "l2": 0.0}


def rows(task: str, n: int = 4_000, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    eta = 2.0 * x[:, 0] - x[:, 1] + rng.logistic(size=n)
    label = {"binary": eta > 1.0, "multiclass": np.digitize(eta, [-1.0, 1.0]), "regression": eta}[task]
    return Batch.dense(x, label=label)


def spec_of(task: str, **more: Any) -> linear.AdaGrad:
    return linear.AdaGrad(n_features=3, task=task, n_classes=3 if task == "multiclass" else 2, **{**PLAIN, **more})


def learner_of(task: str, **more: Any) -> Learner:
    return fit(spec_of(task, **more), [rows(task).take(slice(i, i + 500)) for i in range(0, 4_000, 500)])


class TestSpec:
    def test_the_loss_follows_the_task(self) -> None:
        assert [spec_of(t).loss for t in ("binary", "multiclass", "regression")] == ["logistic", "softmax", "squared"]
        assert spec_of("binary", loss="auto").fingerprint == spec_of("binary", loss="logistic").fingerprint

    def test_lists_read_numbers_and_text(self) -> None:
        spec = linear.AdaGrad(n_features="5", learning_rates="0.1, 0.2", l1=0, l2=["1e-3", 0.5], halve_at="9 3 9")
        assert spec.learning_rates == (0.1, 0.2)
        assert (spec.l1, spec.l2, spec.halve_at) == ((0.0,), (0.001, 0.5), (3, 9))
        assert spec.variants == ((0.1, 0.0, 0.001), (0.1, 0.0, 0.5), (0.2, 0.0, 0.001), (0.2, 0.0, 0.5))

    def test_newton_refuses_losses_without_curvature_and_says_who_takes_them(self) -> None:
        text = r"^linear\.Newton\.loss must be one of logistic, squared: .* linear\.AdaGrad takes the others; got 'huber'\.$"
        with pytest.raises(InvalidValue, match=text):
            linear.Newton(n_features=2, loss="huber")

    def test_sixteen_variants_by_default_and_json_gives_the_spec_again(self) -> None:
        spec = linear.AdaGrad(n_features=3)
        assert spec.n_variants == 16
        assert linear.AdaGrad.parse(spec.to_dict()) == spec

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"task": "multiclass"}, r"n_classes must be >= 3 with task 'multiclass'; got 2\."),
            ({"n_classes": 5}, r"n_classes must not be given with task 'binary'; got 5\."),
            ({"loss": "softmax"}, r"loss must be one of logistic, hinge with task 'binary'; got 'softmax'\."),
            ({"task": "regression", "loss": "hinge"}, r"loss must be one of squared, absolute, .* got 'hinge'\."),
            ({"learning_rates": []}, r"learning_rates must hold at least one number, each once; got \[\]\."),
            ({"l1": (0.1, 0.1)}, r"l1 must hold at least one number, each once"),
            ({"l2": -1}, r"l2 must hold numbers >= 0; got -1\."),
            ({"learning_rates": 0}, r"learning_rates must hold numbers > 0; got 0\."),
            ({"learning_rates": np.linspace(0.1, 1, 65).tolist(), "l1": 0, "l2": 0}, r"at most 64 variants; got 65\."),
            ({"learning_rates": True}, r"learning_rates"),
            ({"halve_at": 0}, r"halve_at must hold numbers > 0"),
            ({"positive_weight": -1}, r"positive_weight must be a number > 0 or 'balanced'; got -1\."),
            ({"task": "regression", "positive_weight": 2}, r"positive_weight must not be given with task 'regression'"),
            ({"class_weights": (1, 2)}, r"class_weights must not be given with task 'binary'\."),
            ({"task": "multiclass", "n_classes": 3, "class_weights": (1, 2)}, r"one number per class, 3; got 2\."),
            ({"balance_multiclass_weights": True}, r"must not be given with task 'binary'\."),
            ({"n_features": 90_000_000}, r"n_features × variants × outputs must be at most 268,435,456; got 90,000,000"),
            ({"mini_batch_rows": 0}, r"mini_batch_rows must be >= 1; got 0\."),
            ({"quantile": 1.0}, r"quantile must be < 1"),
            ({"margin": float("nan")}, r"margin must be a finite number"),
        ],
    )  # fmt: skip
    def test_bad_settings_are_refused_in_a_sentence(self, settings: dict[str, Any], text: str) -> None:
        with pytest.raises(InvalidValue, match=rf"^linear\.AdaGrad\..*{text}"):
            linear.AdaGrad(**{"n_features": 3, **settings})

    @pytest.mark.parametrize("index", [-1, 64, 1.5, "worst", True])
    def test_a_variant_is_a_number_or_best(self, index: object) -> None:
        with pytest.raises(
            InvalidValue, match=r"^linear\.Variant\.index must be a number in \[0, 64\) or 'best'; got "
        ):
            linear.Variant(index=index)
        assert linear.Variant(index="3").index == 3


class TestModels:
    @pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
    def test_scores_are_the_linear_scores(self, task: str) -> None:
        learner = learner_of(task)
        model = derive(learner, linear.Variant())
        some = rows(task, 10, seed=5)
        eta = (some.dense_x - model.arrays.origin) @ model.arrays.coefficients + model.arrays.intercept
        out = predict(model, some)
        if task == "regression":
            np.testing.assert_allclose(out["score"], eta[:, 0])
            assert set(out) == {"score"}
        elif task == "binary":
            np.testing.assert_allclose(out["score"], 1 / (1 + np.exp(-eta[:, 0])))
            np.testing.assert_array_equal(out["predicted_label"], eta[:, 0] >= 0)
        else:
            np.testing.assert_allclose(out["score"], np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True))
            np.testing.assert_array_equal(out["predicted_label"], eta.argmax(axis=1))

    def test_classifier_and_regressor_are_the_best_variant(self, tmp_path: Any) -> None:
        for task, model_spec in (("binary", linear.Classifier()), ("regression", linear.Regressor())):
            learner = learner_of(task, learning_rates=(1e-4, 0.1))
            a, b = derive(learner, model_spec), derive(learner, linear.Variant())
            assert int(a.arrays.variant) == 1
            np.testing.assert_array_equal(a.arrays.coefficients, b.arrays.coefficients)
            save(a, tmp_path / "model")
            some = rows(task, 5)
            np.testing.assert_array_equal(predict(load(tmp_path / "model"), some)["score"], predict(a, some)["score"])

    def test_a_saved_learner_goes_on_as_if_it_had_not_been(self, tmp_path: Any) -> None:
        learner = learner_of("multiclass", learning_rates=(0.1, 0.2), l1=(0.0, 1e-3))
        save(learner, tmp_path / "learner")
        more = [rows("multiclass", 1_000, seed=9)]
        straight, resumed = (fit(one.spec, more, learner=one) for one in (learner, load(tmp_path / "learner")))
        np.testing.assert_array_equal(straight.state.theta, resumed.state.theta)
        np.testing.assert_array_equal(straight.state.slack, resumed.state.slack)

    @pytest.mark.parametrize(
        ("by", "holds"),
        [
            ("precision_at_target_recall(0.9)", lambda m: m["recall"] >= 0.9),
            ("recall_at_target_precision(0.9)", lambda m: m["precision"] >= 0.9),
            ("accuracy", lambda m: m["accuracy"] > 0.8),
            ("f_beta(2)", lambda m: m["recall"] > m["precision"]),
        ],
    )
    def test_threshold_rules_hold_on_the_sample(self, by: str, holds: Any) -> None:
        learner = learner_of("binary")
        model = derive(learner, linear.Variant(threshold=by))
        sample = learner.sample.ranked(learner.spec)
        measured = metrics.compute(linear.ADAGRAD.models["variant"].measure(model.arrays, sample))
        assert holds(measured), measured
        same = derive(learner, linear.Classifier(threshold=by))
        assert float(same.arrays.threshold) == float(model.arrays.threshold)

    @pytest.mark.parametrize(
        ("task", "model_spec", "text"),
        [
            ("binary", linear.Regressor(), r"task 'binary' derives linear\.Classifier and linear\.Variant; got .*Regressor"),
            ("regression", linear.Classifier(), r"derives linear\.Regressor and linear\.Variant; got linear\.Classifier\."),
            ("binary", linear.Classifier(l2=0.5), r"linear\.Classifier\.l2 must be 0 for linear\.AdaGrad, .* got 0\.5\."),
            ("regression", linear.Regressor(l1=1), r"linear\.Regressor\.l1 must be 0 for linear\.AdaGrad"),
            ("multiclass", linear.Regressor(), r"task 'multiclass' derives linear\.Classifier and linear\.Variant; got "),
            ("multiclass", linear.Variant(threshold=0.3), r"linear\.Variant\.threshold must be 0\.5 .* no threshold; got 0\.3\."),
            ("multiclass", linear.Classifier(threshold="accuracy"), r"threshold must be 0\.5 with .* got 'accuracy'\."),
            ("regression", linear.Variant(threshold=0.3), r"threshold must be 0\.5 with task 'regression'"),
            ("binary", kmeans.Clusters(k=2), r"linear\.adagrad derives classifier, regressor, variant; got Clusters, whose kind is 'clusters'\."),
            ("binary", linear.Variant(index=4), r"linear\.Variant\.index must be < 1, the spec's variants; got 4\."),
        ],
    )  # fmt: skip
    def test_foreign_model_specs_are_refused(self, task: str, model_spec: Any, text: str) -> None:
        with pytest.raises(DeriveRefused, match=text):
            derive(learner_of(task), model_spec)

    def test_rules_need_a_sample_and_models_need_rows(self) -> None:
        spec = spec_of("binary")
        kind = linear.ADAGRAD.models["variant"]
        with pytest.raises(DeriveRefused, match=r"^linear\.Variant needs rows of positive weight"):
            kind.derive(spec, linear.Variant(), linear.ADAGRAD.init(spec), None)
        with pytest.raises(DeriveRefused, match=r"threshold needs sampled rows for the rule 'accuracy'; got none\.$"):
            kind.derive(spec, linear.Variant(threshold="accuracy"), learner_of("binary").state, None)

    def test_batches_of_another_width_and_without_labels_are_refused(self) -> None:
        model = derive(learner_of("binary"), linear.Variant())
        with pytest.raises(InvalidBatch, match=r"AdaGrad\.n_features is 3; got a batch of 2\."):
            predict(model, Batch.dense(np.zeros((1, 2))))
        with pytest.raises(InvalidBatch, match=r"takes 3 features; got a batch of 2"):
            linear.ADAGRAD.models["variant"].predict(model.arrays, Batch.dense(np.zeros((1, 2))))
        with pytest.raises(InvalidBatch, match="needs labels"):
            linear.ADAGRAD.models["variant"].measure(model.arrays, Batch.dense(np.zeros((1, 3))))

    def test_every_variant_can_be_a_candidate_with_progressive_metrics(self) -> None:
        from beam_ml.core import learner as learners
        from beam_ml.core.accumulation import Accumulator

        spec = spec_of("multiclass", learning_rates=(1e-4, 0.1))
        plan = Plan({f"v{i}": linear.Variant(index=i) for i in range(2)})
        learner = learners.new(linear.ADAGRAD, spec)
        for i in range(4):
            accumulator = Accumulator(linear.ADAGRAD, spec, learner.version, linear.ADAGRAD.anchor(spec, learner.state))
            accumulator.add(rows("multiclass", 1_000, seed=i))
            learner, seen = refresh(linear.ADAGRAD, learner, None, accumulator.result(), plan)
        assert learner.champion == "v1"
        assert set(seen.progressive["v1"]) >= {"macro_f", "balanced_accuracy", "top_k_accuracy", "log_loss"}


class TestMulticlassMetrics:
    def test_against_scikit_learn(self) -> None:
        from sklearn import metrics as peer

        rng = np.random.default_rng(0)
        score = rng.dirichlet(np.ones(5), 400)
        label = rng.integers(0, 5, 400)
        weight = rng.uniform(0.1, 2.0, 400)
        found = metrics.compute(metrics.multiclass(score, label.astype(float), weight, top_k=2))
        guess = score.argmax(axis=1)
        assert found["accuracy"] == pytest.approx(peer.accuracy_score(label, guess, sample_weight=weight))
        assert found["macro_f"] == pytest.approx(peer.f1_score(label, guess, average="macro", sample_weight=weight))
        assert found["balanced_accuracy"] == pytest.approx(
            peer.balanced_accuracy_score(label, guess, sample_weight=weight)
        )
        assert found["log_loss"] == pytest.approx(peer.log_loss(label, score, sample_weight=weight))
        assert found["top_k_accuracy"] == pytest.approx(
            peer.top_k_accuracy_score(label, score, k=2, sample_weight=weight)
        )
        precision = peer.precision_score(label, guess, average="macro", sample_weight=weight)
        assert found["macro_precision"] == pytest.approx(precision)

    def test_parts_add_up_and_classes_without_rows_do_not_count(self) -> None:
        score = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
        label, weight = np.array([0.0, 1.0, 1.0]), np.ones(3)
        whole = metrics.multiclass(score, label, weight)
        parts = [metrics.multiclass(score[i : i + 1], label[i : i + 1], weight[i : i + 1]) for i in range(3)]
        merged = metrics.merge(metrics.merge(parts[0], parts[1]), parts[2])
        assert metrics.compute(merged) == metrics.compute(whole)
        assert metrics.compute(whole)["balanced_accuracy"] == pytest.approx(0.75)
        assert metrics.compute(metrics.multiclass(score[:0], label[:0], weight[:0])) == {}

    def test_they_are_stored_and_read_back(self) -> None:
        from beam_ml.artefact.records import decode_metrics, encode_metrics
        from beam_ml.core.arrays import identical

        record = metrics.multiclass(np.array([[0.9, 0.1, 0.0]]), np.array([1.0]), np.array([2.0]))
        assert identical(decode_metrics(encode_metrics(record)), record)
