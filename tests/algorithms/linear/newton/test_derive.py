"""Models derived from `linear.Newton` states: penalties, thresholds, predictions, refusals; and the specs themselves."""

import itertools
import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from beam_ml.algorithms.linear import NEWTON, Classifier, Model, Newton, Partial, Regressor, Threshold
from beam_ml.algorithms.linear.newton.losses import LOSSES
from beam_ml.algorithms.linear.newton.solve import elastic_net, solve_symmetric
from beam_ml.algorithms.shared.thresholds import choose
from beam_ml.core import metrics
from beam_ml.core.batch import Batch
from beam_ml.core.sample import Sample
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

CLASSIFIER, REGRESSOR = NEWTON.models["classifier"], NEWTON.models["regressor"]


def regression(n: int = 3000, d: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ (np.eye(d) + 0.5 * rng.normal(size=(d, d))) * np.geomspace(0.01, 100.0, d) + 50.0
    y = (x - x.mean(0)) / x.std(0) @ np.array([3.0, 0.0, -2.0, 0.0, 1.0, 0.0, 0.5, 0.0])[:d] + rng.normal(size=n) + 7.0
    return x, y


def classes(n: int, d: int = 6, seed: int = 0, bias: float = -1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.geomspace(0.1, 10.0, d)
    x[:, 1] += 5.0 * x[:, 0]
    eta = x / x.std(0) @ np.array([1.0, -0.5, 0.0, 0.8, 0.0, -0.3])[:d] + bias
    return x, (rng.random(n) < expit(eta)).astype(np.float64)


def state_of(spec: Newton, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> Partial:
    partial = NEWTON.accumulate(spec, NEWTON.empty(spec), Batch.dense(x, label=y, weight=weight), None)
    return NEWTON.fold(spec, NEWTON.init(spec), partial, None)


def sampled(spec: Newton, x: np.ndarray, y: np.ndarray) -> Batch | None:
    return Sample.of(spec, Batch.dense(x, label=y)).estimate(spec)


class TestSquaredPenalties:
    @pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.5), (0.0, 1e-3), (0.3, 0.0), (0.02, 0.0), (0.1, 0.2), (5.0, 0.0)])
    def test_equal_scikit_learn(self, l1: float, l2: float) -> None:
        x, y = regression()
        spec = Newton(n_features=8, loss="squared")
        model = REGRESSOR.derive(spec, Regressor(l1=l1, l2=l2), state_of(spec, x, y), None)
        scaler = StandardScaler().fit(x)
        z = scaler.transform(x)
        if l1 == 0.0:
            peer = Ridge(alpha=l2 * y.size).fit(z, y)
        elif l2 == 0.0:
            peer = Lasso(alpha=l1, tol=1e-12, max_iter=100_000).fit(z, y)
        else:
            peer = ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), tol=1e-12, max_iter=100_000).fit(z, y)
        assert model.coefficients * scaler.scale_ == pytest.approx(peer.coef_, rel=1e-7, abs=1e-8)
        assert np.array_equal(model.coefficients == 0, peer.coef_ == 0)
        score = REGRESSOR.predict(model, Batch.dense(x))["score"]
        assert score == pytest.approx(peer.predict(z), rel=1e-7)

    def test_weights_and_raw_features(self) -> None:
        x, y = regression(d=4)
        weight = np.random.default_rng(1).exponential(size=y.size)
        spec = Newton(n_features=4, loss="squared")
        state = state_of(spec, x, y, weight)
        peer = Ridge(alpha=0.01 * weight.sum()).fit(x, y, sample_weight=weight)
        model = REGRESSOR.derive(spec, Regressor(l2=0.01, standardize=False), state, None)
        assert model.coefficients == pytest.approx(peer.coef_, rel=1e-7)
        raw = Lasso(alpha=0.05, tol=1e-12, max_iter=100_000).fit(x, y, sample_weight=weight)
        model = REGRESSOR.derive(spec, Regressor(l1=0.05, standardize=False), state, None)
        assert model.coefficients == pytest.approx(raw.coef_, rel=1e-6, abs=1e-9)

    def test_constant_and_collinear_columns(self) -> None:
        x, y = regression(d=4)
        wide = np.column_stack([x, np.full(y.size, 3.0), x[:, 0]])
        spec = Newton(n_features=6, loss="squared")
        state = state_of(spec, wide, y)
        for model_spec in (Regressor(), Regressor(l2=0.1), Regressor(l1=0.1), Regressor(l1=0.1, l2=0.1)):
            model = REGRESSOR.derive(spec, model_spec, state, None)
            assert np.isfinite(model.coefficients).all()
            assert model.coefficients[4] == 0.0
        twins = REGRESSOR.derive(spec, Regressor(), state, None).coefficients
        assert twins[0] == pytest.approx(twins[5], rel=1e-6)  # the shortest solution shares alike


def penalised_loss(x, y, b, b0, l1, l2, weight=None) -> float:
    weight = np.ones(y.size) if weight is None else weight
    value = np.average(LOSSES["logistic"].value(x @ b + b0, y), weights=weight)
    scale = x.std(axis=0)
    return float(value + l1 * np.abs(scale * b).sum() + 0.5 * l2 * np.sum((scale * b) ** 2))


class TestLogisticPenalties:
    @pytest.mark.parametrize(
        ("l1", "l2"), [(0.0, 0.3), (0.0, 0.01), (0.05, 0.0), (0.005, 0.0), (0.02, 0.02), (2.0, 0.0)]
    )
    def test_are_exact_when_the_sample_is_everything(self, l1: float, l2: float) -> None:
        x, y = classes(6000, bias=0.0)
        kept = np.concatenate([np.flatnonzero(y == k)[:2048] for k in (0, 1)])
        x, y = x[kept], y[kept]  # a block, and 2,048 rows a class: all of them are in the sample
        spec = Newton(n_features=6)
        state = state_of(spec, x, y)
        model = CLASSIFIER.derive(spec, Classifier(l1=l1, l2=l2), state, sampled(spec, x, y))
        z = StandardScaler().fit_transform(x)
        ratio = l1 / (l1 + l2)
        peer = LogisticRegression(
            C=1.0 / ((l1 + l2) * y.size), l1_ratio=ratio, solver="saga", tol=1e-10, max_iter=20_000, random_state=0
        ).fit(z, y)
        assert model.coefficients * x.std(axis=0) == pytest.approx(peer.coef_[0], abs=2e-3)
        mine = penalised_loss(x - model.origin, y, model.coefficients, float(model.intercept), l1, l2)
        theirs = penalised_loss(z, y, peer.coef_[0], float(peer.intercept_[0]), l1, l2)
        assert mine <= theirs * 1.0005

    @pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.3), (0.0, 0.01), (0.03, 0.0), (0.01, 0.02)])
    def test_are_close_when_it_is_not(self, l1: float, l2: float) -> None:
        x, y = classes(60_000, bias=-2.5)
        spec = Newton(n_features=6)
        state = state_of(spec, x, y)
        model = CLASSIFIER.derive(spec, Classifier(l1=l1, l2=l2), state, sampled(spec, x, y))
        z = StandardScaler().fit_transform(x)
        peer = LogisticRegression(
            C=1.0 / ((l1 + l2) * y.size),
            l1_ratio=l1 / (l1 + l2),
            solver="saga",
            tol=1e-8,
            max_iter=5000,
            random_state=0,
        ).fit(z, y)
        mine = penalised_loss(x - model.origin, y, model.coefficients, float(model.intercept), l1, l2)
        theirs = penalised_loss(z, y, peer.coef_[0], float(peer.intercept_[0]), l1, l2)
        assert mine <= theirs * 1.005

    def test_balanced_weights_count(self) -> None:
        x, y = classes(4000, bias=-1.0)
        keep = np.concatenate([np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:2000]])
        x, y = x[keep], y[keep]
        spec = Newton(n_features=6, positive_weight="balanced")
        state = state_of(spec, x, y)
        model = CLASSIFIER.derive(spec, Classifier(l2=0.1), state, sampled(spec, x, y))
        weight = np.where(y == 1, (y == 0).sum() / y.sum(), 1.0)

        def objective(p):
            return penalised_loss(x, y, p[:6] / x.std(axis=0), p[6], 0.0, 0.1, weight)

        best = minimize(objective, np.zeros(7), method="BFGS").fun
        mine = penalised_loss(x - model.origin, y, model.coefficients, float(model.intercept), 0.0, 0.1, weight)
        assert mine <= best * 1.0005

    def test_without_a_sample_the_quadratic_serves(self) -> None:
        x, y = classes(20_000)
        spec = Newton(n_features=6)
        state = state_of(spec, x, y)
        free = CLASSIFIER.derive(spec, Classifier(), state, None)
        slight = CLASSIFIER.derive(spec, Classifier(l2=1e-4), state, None)
        exact = CLASSIFIER.derive(spec, Classifier(l2=1e-4), state, sampled(spec, x, y))
        assert slight.coefficients == pytest.approx(exact.coefficients, rel=0.02, abs=1e-3)
        assert not np.array_equal(slight.coefficients, free.coefficients)
        heavy = CLASSIFIER.derive(spec, Classifier(l1=100.0), state, None)
        assert not heavy.coefficients.any()
        few = Batch.dense(x[:10], label=y[:10])
        assert np.array_equal(
            CLASSIFIER.derive(spec, Classifier(l2=1e-4), state, few).coefficients, slight.coefficients
        )

    def test_without_a_sample_balanced_classes_are_penalised_as_rows_so_weighted(self) -> None:
        x, y = classes(20_000)
        weight = np.where(y == 1, (y == 0).sum() / y.sum(), 1.0)
        balanced, plain = Newton(n_features=6, positive_weight="balanced"), Newton(n_features=6)
        model = CLASSIFIER.derive(balanced, Classifier(l2=0.05), state_of(balanced, x, y), None)
        peer = CLASSIFIER.derive(plain, Classifier(l2=0.05), state_of(plain, x, y, weight), None)
        scale = x.std(
            axis=0
        )  # a penalty is of standardised coefficients, and the scales of weighted rows differ a little
        assert scale * model.coefficients == pytest.approx(scale * peer.coefficients, abs=0.01)

    def test_a_sample_lends_its_curvature_and_not_its_optimum(self) -> None:
        """Minimum of ``L_S(b) − ∇L_S(b̂)ᵀb + penalty``, found by another optimiser; S has other rates than all rows."""
        x, y = classes(20_000)
        spec = Newton(n_features=6)
        state = state_of(spec, x, y)
        kept = np.flatnonzero((y == 1) | (np.arange(y.size) % 5 == 0))[:1500]
        few, labels = x[kept], y[kept]
        free = CLASSIFIER.derive(spec, Classifier(), state, None)
        model = CLASSIFIER.derive(spec, Classifier(l2=0.05), state, Batch.dense(few, label=labels))
        scale, mean = x.std(axis=0), x.mean(axis=0)
        z = (few - mean) / scale
        standard = [
            np.append(scale * one.coefficients, one.intercept + (mean - one.origin) @ one.coefficients)
            for one in (free, model)
        ]
        pull = expit(z @ standard[0][:6] + standard[0][6]) - labels
        shift = np.append(pull @ z, pull.sum()) / labels.size

        def objective(b: np.ndarray) -> float:
            eta = z @ b[:6] + b[6]
            return float((np.logaddexp(0.0, eta) - labels * eta).mean() - shift @ b + 0.025 * (b[:6] ** 2).sum())

        best = minimize(objective, standard[0], method="BFGS", options={"gtol": 1e-9}).x
        assert standard[1] == pytest.approx(best, abs=1e-4)

    def test_a_column_that_varies_by_rounding_alone_is_constant(self) -> None:
        x, y = classes(4000)
        noise = np.random.default_rng(3).random(y.size) < 0.5
        x[:, 2] = np.where(noise | (y == 1), 0.3, np.nextafter(0.3, 1.0))  # 0.1 * 3 is the one, 0.3 the other
        spec = Newton(n_features=6)
        for model_spec in (Classifier(), Classifier(l2=1e-3), Classifier(l1=1e-3)):
            model = CLASSIFIER.derive(spec, model_spec, state_of(spec, x, y), sampled(spec, x, y))
            assert model.coefficients[2] == 0.0
            assert model.coefficients[[0, 1, 3]].all()

    def test_a_heavy_l1_leaves_the_base_rate(self) -> None:
        x, y = classes(4000)
        spec = Newton(n_features=6)
        model = CLASSIFIER.derive(spec, Classifier(l1=10.0), state_of(spec, x, y), sampled(spec, x, y))
        assert not model.coefficients.any()
        assert expit(float(model.intercept)) == pytest.approx(y.mean(), rel=1e-3)


class TestPendingOnly:
    def test_equals_the_documented_prior(self) -> None:
        x, y = classes(300)
        spec = Newton(n_features=6)
        state = state_of(spec, x, y)
        assert state.pending_key.size == 300
        model = CLASSIFIER.derive(spec, Classifier(), state, None)
        z = (x - x.mean(0)) / x.std(0)

        def objective(p):
            eta = z @ p[:6] + p[6]
            pseudo = LOSSES["logistic"].value(p[6:], np.array([0.5]))[0]
            return LOSSES["logistic"].value(eta, y).sum() + pseudo + 0.5 * np.sum(p[:6] ** 2)

        best = minimize(objective, np.zeros(7), method="BFGS", options={"gtol": 1e-9})
        assert model.coefficients * x.std(axis=0) == pytest.approx(best.x[:6], abs=2e-3)

    @pytest.mark.parametrize("l1", [0.0, 0.01, 1.0])
    def test_penalties_work(self, l1: float) -> None:
        x, y = classes(300)
        spec = Newton(n_features=6)
        free = CLASSIFIER.derive(spec, Classifier(), state_of(spec, x, y), None)
        model = CLASSIFIER.derive(spec, Classifier(l1=l1, l2=0.01), state_of(spec, x, y), None)
        assert np.abs(model.coefficients * x.std(0)).sum() < np.abs(free.coefficients * x.std(0)).sum()

    def test_state_is_left_alone(self) -> None:
        x, y = classes(300)
        spec = Newton(n_features=6)
        state = state_of(spec, x, y)
        CLASSIFIER.derive(spec, Classifier(l1=0.1), state, None)
        assert state.pending_key.size == 300
        assert not state.information.any()


class TestThreshold:
    RULES = (
        Threshold(by="accuracy"),
        Threshold(by="f_beta"),
        Threshold(by="f_beta", beta=0.5),
        Threshold(by="f_beta", beta=3),
        *(Threshold(by="precision_at_target_recall", target=t) for t in (0.0, 0.3, 0.8, 1.0)),
        *(Threshold(by="recall_at_target_precision", target=t) for t in (0.0, 0.3, 0.8, 1.0)),
    )

    @staticmethod
    def quality(rule: Threshold, score, label, weight, threshold: float) -> tuple[float, float]:
        predicted = score >= threshold
        hits = weight[predicted & (label == 1)].sum()
        recall = hits / weight[label == 1].sum()
        precision = hits / weight[predicted].sum() if predicted.any() else 0.0
        if rule.by == "accuracy":
            return 1.0, weight[predicted == (label == 1)].sum()
        if rule.by == "f_beta":
            below = rule.beta**2 * precision + recall
            return 1.0, (1 + rule.beta**2) * precision * recall / below if below else 0.0
        wanted, other = (recall, precision) if rule.by == "precision_at_target_recall" else (precision, recall)
        reached = predicted.any() and wanted >= rule.target - 1e-12
        return (1.0, other) if reached else (0.0, wanted)

    @pytest.mark.parametrize("rule", RULES, ids=str)
    @pytest.mark.parametrize("seed", range(6))
    def test_is_the_best_of_all(self, rule: Threshold, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 60))
        label = (rng.random(n) < 0.4).astype(np.float64)
        label[:2] = [0.0, 1.0]
        score = np.round(np.clip(rng.random(n) * 0.7 + 0.3 * label, 0, 1), int(rng.integers(1, 4)))
        weight = rng.exponential(size=n)
        found = choose(rule, score, label, weight)
        every = [0.0, 2.0, *score]
        best = max(self.quality(rule, score, label, weight, t) for t in every)
        assert self.quality(rule, score, label, weight, found) == pytest.approx(best, abs=1e-9)
        assert not np.isin(found, score) or np.unique(score).size == 1

    def test_without_both_classes_or_for_the_loss_it_is_a_half(self) -> None:
        one = np.ones(3)
        assert choose(Threshold(by="f_beta"), np.array([0.1, 0.2, 0.9]), one, one) == 0.5
        assert choose(Threshold(by="accuracy"), np.array([0.1, 0.2, 0.9]), 0 * one, one) == 0.5
        assert choose(Threshold(by="loss"), np.array([0.1, 0.9]), np.array([1.0, 0.0]), np.ones(2)) == 0.5

    def test_scores_at_the_ends(self) -> None:
        label, weight = np.array([1.0, 0.0, 0.0]), np.ones(3)
        nothing = choose(Threshold(by="accuracy"), np.ones(3), label, weight)
        assert not (np.ones(3) >= nothing).any()
        everything = choose(Threshold(by="precision_at_target_recall", target=1), np.zeros(3), label, weight)
        assert (np.zeros(3) >= everything).all()

    def test_goes_by_the_sample(self) -> None:
        x, y = classes(30_000, bias=-3.0)
        spec = Newton(n_features=6)
        state, sample = state_of(spec, x, y), sampled(spec, x, y)
        for text, check in (
            ("precision_at_target_recall(0.9)", lambda p: p["recall"] == pytest.approx(0.9, abs=0.03)),
            ("recall_at_target_precision(0.6)", lambda p: p["precision"] == pytest.approx(0.6, abs=0.1)),
            ("accuracy", lambda p: p["accuracy"] >= 1 - y.mean()),
        ):
            model = CLASSIFIER.derive(spec, Classifier(threshold=text), state, sample)
            assert check(metrics.compute(CLASSIFIER.measure(model, Batch.dense(x, label=y))))
            predicted = CLASSIFIER.predict(model, Batch.dense(x))
            assert predicted["predicted_label"].dtype == np.int64
            assert np.array_equal(predicted["predicted_label"], predicted["score"] >= float(model.threshold))


class TestRefusals:
    def test_no_rows(self) -> None:
        for loss, kind, model_spec in (("logistic", CLASSIFIER, Classifier()), ("squared", REGRESSOR, Regressor())):
            spec = Newton(n_features=2, loss=loss)
            with pytest.raises(DeriveRefused, match="needs rows of positive weight"):
                kind.derive(spec, model_spec, NEWTON.init(spec), None)

    def test_the_other_kind(self) -> None:
        x, y = classes(50)
        for loss, model_spec, wanted in (
            ("logistic", Regressor(), "Classifier"),
            ("squared", Classifier(), "Regressor"),
        ):
            spec = Newton(n_features=6, loss=loss)
            with pytest.raises(DeriveRefused, match=f"derives linear.{wanted}; got linear"):
                CLASSIFIER.derive(spec, model_spec, state_of(spec, x, y), None)

    def test_a_rule_without_a_sample(self) -> None:
        x, y = classes(50)
        spec = Newton(n_features=6)
        with pytest.raises(DeriveRefused, match="needs sampled rows for the rule 'f_beta'"):
            CLASSIFIER.derive(spec, Classifier(threshold="f_beta"), state_of(spec, x, y), None)

    def test_sums_that_are_not_finite(self) -> None:
        spec = Newton(n_features=1, loss="squared")
        state = state_of(spec, np.array([[1e200], [-1e200]]), np.array([1.0, 2.0]))
        with pytest.raises(DeriveRefused, match="too large to square"):
            REGRESSOR.derive(spec, Regressor(), state, None)

    def test_foreign_batches(self) -> None:
        x, y = classes(50)
        spec = Newton(n_features=6)
        model = CLASSIFIER.derive(spec, Classifier(), state_of(spec, x, y), None)
        with pytest.raises(InvalidBatch, match="takes 6 features; got a batch of 2"):
            CLASSIFIER.predict(model, Batch.dense(np.zeros((1, 2))))
        with pytest.raises(InvalidBatch, match="needs labels"):
            CLASSIFIER.measure(model, Batch.dense(x))
        with pytest.raises(InvalidBatch, match="takes dense features"):
            CLASSIFIER.predict(model, Batch.csr([0, 1], [0], [1.0], 6))


class TestPredictions:
    def test_any_batch_size_and_dtype(self) -> None:
        x, y = classes(9000)
        spec = Newton(n_features=6)
        model = CLASSIFIER.derive(spec, Classifier(), state_of(spec, x, y), None)
        wanted = expit((x - model.origin) @ model.coefficients + float(model.intercept))
        assert CLASSIFIER.predict(model, Batch.dense(x))["score"] == pytest.approx(wanted, rel=1e-12)
        assert CLASSIFIER.predict(model, Batch.dense(x.astype(np.float32)))["score"] == pytest.approx(wanted, abs=1e-5)
        assert CLASSIFIER.predict(model, Batch.dense(x[:1]))["score"].shape == (1,)
        assert CLASSIFIER.predict(model, Batch.dense(x[:0]))["score"].shape == (0,)

    def test_measures(self) -> None:
        model = Model(
            np.array([1.0]), np.asarray(0.0), np.zeros(1), np.asarray(0.7), np.asarray(LOSSES["logistic"].code)
        )
        batch = Batch.dense([[0.0], [2.0]], label=[0, 1])
        out = metrics.compute(CLASSIFIER.measure(model, batch))
        assert out["accuracy"] == 1.0
        assert out["log_loss"] == pytest.approx(-(np.log(0.5) + np.log(expit(2.0))) / 2)
        line = Model(np.array([2.0]), np.asarray(1.0), np.ones(1), np.asarray(0.5), np.asarray(LOSSES["squared"].code))
        assert REGRESSOR.predict(line, batch)["score"].tolist() == [-1.0, 3.0]
        assert metrics.compute(REGRESSOR.measure(line, batch))["mse"] == pytest.approx(2.5)


class TestSpecs:
    def test_defaults_and_round_trip(self) -> None:
        for spec in (Newton(n_features=3), Newton(n_features=3, positive_weight="balanced", half_life="2d")):
            assert Newton.parse(json.loads(spec.to_json())) == spec
        for chosen in (Classifier(threshold="f_beta(2)", l1="0.5"), Classifier(threshold="0.25"), Classifier()):
            assert Classifier.parse(json.loads(chosen.to_json())) == chosen
        assert Classifier(threshold="0.25").threshold == 0.25
        assert Classifier(threshold={"by": "accuracy"}).threshold == Threshold(by="accuracy")
        assert Newton(n_features=3).label_target == "class"
        assert Newton(n_features=3).n_label_classes == 2
        assert Newton(n_features=3, loss="squared").label_target == "real"
        assert Newton(n_features=3, loss="squared").n_label_classes == 1
        assert Newton(n_features=3, positive_weight="2").positive_weight == 2.0

    @pytest.mark.parametrize(
        ("make", "sentence"),
        [
            (lambda: Newton(n_features=2001), r"linear.Newton.n_features must be <= 2000, since .*; got 2001\."),
            (lambda: Newton(n_features=0), r"linear.Newton.n_features must be >= 1; got 0\."),
            (lambda: Newton(n_features=2, loss="hinge"), r"linear.Newton.loss must be one of .*; got 'hinge'\."),
            (
                lambda: Newton(n_features=2, positive_weight=-1),
                r"linear.Newton.positive_weight must be a number > 0 or 'balanced'; got -1\.",
            ),
            (
                lambda: Newton(n_features=2, positive_weight="even"),
                r"linear.Newton.positive_weight must be a number > 0 or 'balanced'; got 'even'\.",
            ),
            (
                lambda: Newton(n_features=2, loss="squared", positive_weight="balanced"),
                r"linear.Newton.positive_weight must be 1 with loss 'squared', .*; got 'balanced'\.",
            ),
            (lambda: Newton(n_features=2, pending_bytes=1), r"linear.Newton.pending_bytes must be >= 65536; got 1\."),
            (lambda: Classifier(l2=-1.0), r"linear.Classifier.l2 must be >= 0.0; got -1.0\."),
            (lambda: Regressor(l1=float("inf")), r"linear.Regressor.l1 must be a finite number; got inf\."),
            (lambda: Classifier(threshold=1.5), r"linear.Classifier.threshold must be a number in \[0, 1\] or .*1.5\."),
            (lambda: Classifier(threshold="best()"), r"linear.Classifier.threshold must be .*'best\(\)'\."),
            (lambda: Classifier(threshold="luck"), r"linear.Threshold.by must be one of 'accuracy'.*'luck'"),
            (lambda: Classifier(threshold=True), r"linear.Classifier.threshold must be .*True\."),
            (lambda: Regressor(threshold=0.5), r"linear.Regressor.threshold must not be given: .*; got 0.5\."),
        ],
    )
    def test_bad_values_are_refused_in_a_sentence(self, make, sentence: str) -> None:
        with pytest.raises(InvalidValue, match=sentence):
            make()


class TestSolvers:
    def test_a_matrix_without_full_rank_gives_the_shortest_solution(self) -> None:
        rng = np.random.default_rng(0)
        half = rng.normal(size=(5, 2))
        a, x = half @ half.T, half @ np.array([1.0, 2.0])
        assert solve_symmetric(a, a @ x) == pytest.approx(np.linalg.lstsq(a, a @ x, rcond=1e-10)[0], abs=1e-10)
        assert solve_symmetric(np.zeros((2, 2)), np.zeros(2)).tolist() == [0.0, 0.0]
        assert np.isnan(solve_symmetric(np.full((2, 2), np.nan), np.ones(2))).all()
        assert solve_symmetric(np.zeros((0, 0)), np.zeros(0)).shape == (0,)

    @pytest.mark.parametrize("seed", range(4))
    def test_elastic_net_meets_its_conditions(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        d = 12
        half = rng.normal(size=(d, 8 if seed % 2 else 30))
        gram, q = half @ half.T, half @ rng.normal(size=half.shape[1])
        l1, l2 = rng.exponential(size=d) * 2.0, np.full(d, 0.1)
        beta = elastic_net(gram, q, l1, l2, np.zeros(d))
        slope = gram @ beta - q + l2 * beta
        zero = beta == 0
        assert zero.any()
        assert (np.abs(slope[zero]) <= l1[zero] + 1e-9).all()
        assert slope[~zero] == pytest.approx(-l1[~zero] * np.sign(beta[~zero]), abs=1e-8)

    @pytest.mark.parametrize(("name", "eta", "label"), list(itertools.product(LOSSES, [-3.0, 0.1, 4.0], [0.0, 1.0])))
    def test_losses_are_consistent(self, name: str, eta: float, label: float) -> None:
        loss, h, y = LOSSES[name], 1e-5, np.array([label])
        below, at, above = (loss.value(np.array([e]), y)[0] for e in (eta - h, eta, eta + h))
        mean = loss.mean(np.array([eta]))
        assert (above - below) / (2 * h) == pytest.approx(mean[0] - label, abs=1e-8)
        assert (above - 2 * at + below) / h**2 == pytest.approx(loss.variance(mean)[0], abs=1e-4)
