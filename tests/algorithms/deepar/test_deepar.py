"""DeepAR: it learns, forecasts what it may, and stays what it is whatever way its series come."""

import dataclasses

import numpy as np
import pytest

from beam_ml import Batch, derive, fit, load, predict, save
from beam_ml.algorithms import deepar
from beam_ml.algorithms.deepar import training
from beam_ml.algorithms.deepar.windows import lags
from beam_ml.core import metrics
from beam_ml.core.series import SeriesBatch
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

SETTINGS = {
    "time_freq": "6H", "context_length": 4, "prediction_length": 2, "max_length": 64, "num_cells": 6, "num_layers": 2,
    "cardinality": (3,), "embedding_dimension": 2, "mini_batch_size": 16, "learning_rate": 0.01, "passes_per_refresh": 8,
}  # fmt: skip
SPEC = deepar.Spec(**SETTINGS)
KIND = deepar.DEEPAR.models["forecast"]
FORECAST = deepar.Forecast(num_samples=30, quantiles=(0.1, 0.5, 0.9), samples=True)


def waves(n, seed=0, length=40, scale=1.0):
    """Return records of daily waves with noise that the next value takes up, as a number and two shops have them."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        noise = np.zeros(length)
        for t in range(1, length):
            noise[t] = 0.9 * noise[t - 1] + 0.3 * rng.normal()
        target = scale * (10.0 + 3.0 * np.sin(np.pi / 2 * np.arange(length)) + noise)
        found.append({"start": "2026-01-01", "target": target.tolist(), "cat": ["ab"[i % 2]]})
    return found


def rows_of(records, spec=SPEC):
    return SeriesBatch.of_records(spec.layout, records).to_batch()


@pytest.fixture(scope="module")
def learner():
    return fit(SPEC, rows_of(waves(200)))


@pytest.fixture(scope="module")
def model(learner):
    return derive(learner, FORECAST)


def test_it_forecasts_better_than_the_season_before(learner):
    rows = rows_of(waves(1000, seed=1))  # so many that the ratio hardly depends on which they are
    median = derive(learner, FORECAST.model_copy(update={"quantiles": (0.5,), "num_samples": 200}))
    loss = metrics.compute(KIND.measure(median.arrays, rows))["mean_wql"]  # Σ |error| / Σ |value|
    series = SeriesBatch.of(rows, SPEC.layout)
    target = series.target.reshape(1000, 40)
    naive = np.abs(target[:, -2:] - target[:, -6:-4]).sum() / np.abs(target[:, -2:]).sum()
    assert loss < 0.8 * naive
    assert int(learner.state.skipped) == 0
    assert learner.progress.rows == 200


def test_forecasts_have_the_asked_shapes_and_order(model):
    found = predict(model, rows_of(waves(5)))
    assert {name: values.shape for name, values in found.items()} == {
        "mean": (5, 2), "quantiles": (5, 2, 3), "samples": (5, 30, 2)
    }  # fmt: skip
    assert (np.diff(found["quantiles"], axis=2) >= 0).all()
    assert found["mean"] == pytest.approx(found["samples"].mean(axis=1))


def test_a_series_a_thousand_times_as_large_has_a_forecast_a_thousand_times_as_large(model):
    small, large = (predict(model, rows_of(waves(8, scale=scale))) for scale in (1.0, 1024.0))
    for name in small:
        np.testing.assert_allclose(large[name], 1024.0 * small[name], rtol=1e-5)


def test_a_forecast_does_not_depend_on_the_series_beside_it(model):
    rows = rows_of(waves(40))
    whole = predict(model, rows)
    order = np.random.default_rng(1).permutation(40)
    turned, alone = predict(model, rows.take(order)), predict(model, rows.take(slice(7, 8)))
    for name, values in whole.items():
        np.testing.assert_allclose(turned[name], values[order], rtol=1e-5)
        np.testing.assert_allclose(alone[name], values[7:8], rtol=1e-5)


def test_only_what_lags_reach_counts_and_padding_does_not(model):
    """A series that begins earlier than lags reach has the forecast of its end; its age is all that differs."""
    records = waves(4, length=60)
    reach = 4 + lags(SPEC)[2]
    late = [
        {**one, "start": "2026-01-16", "target": [np.nan] * (60 - reach) + one["target"][-reach:]} for one in records
    ]
    late = [{**one, "start": record["start"]} for one, record in zip(late, records, strict=True)]
    for name, values in predict(model, rows_of(records)).items():
        np.testing.assert_allclose(predict(model, rows_of(late))[name], values, rtol=1e-5)


@pytest.mark.parametrize(
    "target",
    [
        [],
        [5.0],
        [5.0, 6.0],
        [3.0] * 30,
        [0.0] * 30,
        [None] * 10,
        [None, 4.0, None, 5.0, None],
        [1e4 + i % 4 for i in range(30)],
    ],
    ids=["empty", "one", "two", "constant", "zero", "missing", "gaps", "far"],
)
def test_any_series_has_a_forecast(model, target):
    found = predict(model, rows_of([{"start": "2026-01-01", "target": target, "cat": ["new"]}]))
    known = [one for one in target if one is not None]
    for values in found.values():
        assert np.isfinite(values).all()
        if len(known) == 1:
            assert np.abs(values.mean(axis=1) - known[0]).max() < 5.0
        elif len(set(known)) == 1:
            np.testing.assert_allclose(values, known[0], rtol=0.01, atol=1e-6)
        elif not known:
            assert 0.0 < values.mean() < 20.0  # as the series learned from
        else:
            assert np.abs(values - np.mean(known)).max() < 20.0


def test_a_single_value_says_little_of_the_next(model):
    """A series of which one value is known varies as the others do, in proportion to its size."""
    for scale in (1.0, 0.01):
        record = {"start": "2026-01-01", "target": [10.0 * scale], "cat": ["a"]}
        found = predict(model, rows_of([record]))["quantiles"][0]
        width = found[:, 2] - found[:, 0]
        assert (width > 1.0 * scale).all()
        assert (width < 20.0 * scale).all()


def test_steps_that_calibrate_are_not_seen_before():
    horizon, lengths = SPEC.prediction_length, (1, 2, 3, 4, 5, 6, 40)
    series = SeriesBatch.of(rows_of([one for n in lengths for one in waves(1, length=n)]), SPEC.layout)
    drawn = training._drawn(SPEC, series, np.random.default_rng(0), 20, horizon)
    which, at = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    assert set(which.tolist()) == set(range(1, 7))
    judged = training._judged(SPEC, series)
    assert judged.tolist() == [False, False, False, False, True, True, True]
    assert (at + horizon <= series.lengths[which] - horizon)[judged[which]].all()


def test_series_with_gaps_or_nothing_are_learned_from():
    records = waves(20)
    for i, one in enumerate(records):
        one["target"][i : i + 9] = [None] * 9
    odd = [{**records[0], "target": target} for target in ([], [1.0], [None] * 5, [2.0] * 40, [0.0] * 40)]
    learner = fit(deepar.Spec(**{**SETTINGS, "passes_per_refresh": 2}), rows_of([*records, *odd]))
    assert learner.progress.rows == 25
    assert int(learner.state.steps) > 0
    assert int(learner.state.skipped) == 0
    assert np.isfinite(learner.state.parameters).all()
    only_odd = fit(SPEC, rows_of(odd[:1]))
    assert int(only_odd.state.steps) == 0
    assert np.isfinite(predict(derive(only_odd, FORECAST), rows_of(records))["mean"]).all()


def test_fit_goes_on_where_it_ended_to_the_bit(learner, tmp_path):
    save(learner, tmp_path / "learner")
    more = rows_of(waves(10, seed=5))
    first, second = (fit(SPEC, more, learner=one) for one in (learner, load(tmp_path / "learner")))
    assert int(first.state.steps) > int(learner.state.steps)
    for name in ("parameters", "first", "second", "mean", "key", "pit", "codes"):
        np.testing.assert_array_equal(getattr(first.state, name), getattr(second.state, name), err_msg=name)


def test_models_are_stored(model, tmp_path):
    save(model, tmp_path / "model")
    rows = rows_of(waves(3))
    for name, values in predict(load(tmp_path / "model"), rows).items():
        np.testing.assert_array_equal(values, predict(model, rows)[name])


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": lambda one: one[:-1]},
        {"parameters": lambda one: np.concatenate([one, one])},
        {"codes": lambda one: one[:1]},
        {"pit": lambda one: one[:1]},
        {"pit": lambda one: one[:, :7]},
        {"pit": lambda one: -1.0 - one},
        {"settings": lambda one: one[:-9]},
        {"settings": lambda one: np.frombuffer(b"[]", np.uint8)},
        {"settings": lambda one: np.frombuffer(b"\xff", np.uint8)},
        {"settings": lambda one: np.frombuffer(b'{"spec": {}, "model": {}}', np.uint8)},
    ],
)
def test_a_model_that_somebody_else_wrote_is_refused(model, changes):
    forged = {name: change(getattr(model.arrays, name)) for name, change in changes.items()}
    with pytest.raises(InvalidBatch, match=r"A model of deepar must have|A model of deepar must hold the settings"):
        KIND.predict(dataclasses.replace(model.arrays, **forged), rows_of(waves(2)))


def test_rows_of_another_width_are_refused(model):
    spec = deepar.Spec(**{**SETTINGS, "max_length": 80})
    with pytest.raises(InvalidBatch, match="takes 66 features; got a batch of 82"):
        KIND.predict(model.arrays, rows_of(waves(2), spec))


def test_categories_are_learned_and_those_beyond_the_vocabulary_are_unknown(learner, model):
    held = learner.state.codes
    assert sorted(held[held > 0].tolist()) == sorted(map(deepar.code_of, "ab"))
    records = waves(4)
    unseen, none = (rows_of([{**one, "cat": [value]} for one in records]) for value in ("z", None))
    a, b = predict(model, unseen), predict(model, none)
    np.testing.assert_array_equal(a["mean"], b["mean"])
    five = [{**records[0], "cat": [str(i)]} for i in range(5)]
    state = fit(deepar.Spec(**{**SETTINGS, "passes_per_refresh": 0.1}), rows_of(five)).state
    assert (state.codes > 0).sum() == 3


def test_what_is_no_series_is_rejected_and_counted():
    rows = rows_of(waves(3))
    bad = Batch.csr([0, 1], [SPEC.n_features - 1], [1.5], SPEC.n_features, time=[0])
    spec = deepar.Spec(**{**SETTINGS, "passes_per_refresh": 0.1})
    learner = fit(spec, [rows.replace(weight=None), bad])
    assert learner.progress.rejected == {"its number of steps is not known": 1}


@pytest.mark.parametrize(
    ("likelihood", "value", "reason"),
    [("negative-binomial", -1.0, "a value that is no count"), ("negative-binomial", 0.5, "a value that is no count"),
     ("beta", 1.5, "a value outside [0, 1]")],
)  # fmt: skip
def test_what_the_likelihood_forbids_is_refused(likelihood, value, reason):
    spec = deepar.Spec(**{**SETTINGS, "likelihood": likelihood})
    record = {"start": "2026-01-01", "target": [1.0, value], "cat": ["a"]}
    found = [why for why, rows in spec.refused(rows_of([record], spec)) if rows.any()]
    assert found == [reason]
    record["target"][1] = 0.0
    assert not any(rows.any() for _, rows in spec.refused(rows_of([record], spec)))


def test_counts_are_forecast_as_counts():
    rng = np.random.default_rng(2)
    records = [{"start": "2026-01-01", "target": rng.poisson(3.0 + i, 40) * 1.0, "cat": ["a"]} for i in range(12)]
    spec = deepar.Spec(**{**SETTINGS, "likelihood": "negative-binomial", "max_length": 40, "passes_per_refresh": 40})
    found = predict(derive(fit(spec, rows_of(records, spec)), FORECAST), rows_of(records, spec))
    means = np.array([np.mean(one["target"]) for one in records])
    assert np.corrcoef(found["mean"].mean(axis=1), means)[0, 1] > 0.8
    np.testing.assert_allclose(found["samples"], np.round(found["samples"]), atol=1e-3)
    assert found["samples"].min() > -1e-3


def test_a_horizon_beyond_the_spec_is_refused(learner):
    with pytest.raises(DeriveRefused, match=r"Forecast.prediction_length must be <= 2, .* got 3\."):
        derive(learner, deepar.Forecast(prediction_length=3))
    short = predict(derive(learner, FORECAST.model_copy(update={"prediction_length": 1})), rows_of(waves(2)))
    assert short["quantiles"].shape == (2, 1, 3)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(InvalidValue, match="n_features must be that of the columns of its series, 66; got 3"):
        deepar.Spec(**SETTINGS, n_features=3)
    with pytest.raises(InvalidValue, match="time_freq must be a number, if any"):
        deepar.Spec(**{**SETTINGS, "time_freq": "fortnight"})
    with pytest.raises(InvalidBatch, match="row 0 is not: dense"):
        SeriesBatch.of(Batch.dense(np.zeros((1, 66)), time=[0]), SPEC.layout)
