"""`linear.AdaGrad` and columns that stand still: exactly constant ones, ones that stop, ones that begin to move."""

import numpy as np
import pytest
from scipy.special import expit

from beam_ml import Batch, linear
from beam_ml.algorithms.linear.adagrad import moments
from tests.algorithms.linear.adagrad.support import ALGORITHM, PLAIN, grown, learned, measured, model_of


def days(column: list[float], jitter: list[float], rows: int = 80, seed: int = 3) -> list[Batch]:
    """One batch per day of a feature that tells the label, and one that stands at `column`, moved by `jitter`."""
    rng = np.random.default_rng(seed)
    found = []
    for value, size in zip(column, jitter, strict=True):
        x = np.column_stack([rng.normal(size=rows), np.full(rows, value)])
        if size:
            x[:, 1] += size * rng.normal(size=rows)
        y = (rng.random(rows) < expit(1.5 * x[:, 0])).astype(float)
        found.append(Batch.dense(x, label=y, weight=rng.uniform(0.2, 3.0, rows)))
    return found


def walked(spec: linear.AdaGrad, batches: list[Batch], fading: float = 1.0) -> tuple[object, list[float]]:
    """Learn day by day, weights fading in between; give the state, and the loss of each day before it is learned from."""
    state, losses = ALGORITHM.init(spec), []
    for batch in batches:
        if ALGORITHM.weight(state) > 0:
            losses.append(measured(model_of(spec, state), batch)["log_loss"])
        state = learned(spec, batch, [0, len(batch)], state=ALGORITHM.scale(spec, state, fading))
    return state, losses


@pytest.mark.parametrize("constant", [0.0, 0.3, 11.0, 1e8 + 0.1])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_column_that_never_moved_has_no_scatter_however_rows_weigh(constant: float, shards: int) -> None:
    spec = linear.AdaGrad(n_features=2, **PLAIN)
    rows = Batch.concat(days([constant] * 40, [0.0] * 40))
    state = ALGORITHM.init(spec)
    for begin in range(0, len(rows), 160):
        state = ALGORITHM.scale(spec, state, 0.9)
        state = learned(spec, rows, [begin, begin + 160], shards, state)
    assert state.moments[1, 1] == constant
    assert not state.moments[1, 2:].any()
    assert state.theta[1, 0, 0] == 0.0


@pytest.mark.parametrize("fading", [1.0, 0.97])
@pytest.mark.parametrize("constant", [0.0, 0.61, 23.0, 1e8])
def test_its_first_move_breaks_nothing(constant: float, fading: float) -> None:
    spec = linear.AdaGrad(n_features=2, learning_rates=0.3, l1=0.0, l2=0.0)
    state, losses = walked(spec, days([constant] * 300, [0.0] * 280 + [0.05] * 20), fading)
    assert max(losses[150:]) < 0.85
    assert abs(state.theta[1, 0, 0]) < 100.0


@pytest.mark.parametrize("rows", [60, 200])
def test_after_a_tiny_first_move_larger_ones_cost_one_day(rows: int) -> None:
    spec = linear.AdaGrad(n_features=2, learning_rates=0.3, l1=0.0, l2=0.0)
    column = days([4.0] * 90, [0.0] * 40 + [1e-8] * 10 + [0.2] * 40, rows)
    state, losses = walked(spec, column)
    assert max(losses[10:49]) < 0.85
    assert max(losses[50:]) < 0.85  # without the shrinking, some 10⁶ for ever
    assert abs(state.theta[1, 0, 0]) < 20.0


def test_a_column_that_stops_keeps_its_scale_and_may_go_on() -> None:
    spec = linear.AdaGrad(n_features=2, learning_rates=0.3, l1=0.0, l2=0.0)
    stop = 250
    state, _ = walked(spec, days([0.7] * stop, [0.1] * 20 + [0.0] * (stop - 20)), 0.4)  # 0.4²³⁰ is 10⁻⁹²
    scale = moments.scale_of(state.moments[:-1])[1]
    assert 0.1 < scale < 0.3
    assert state.moments[1, 2] > 1e-10 * state.moments[1, 0]
    _, losses = walked(spec, days([0.7] * 270, [0.1] * 20 + [0.0] * (stop - 20) + [0.1] * 20), 0.4)
    assert max(losses[200:]) < 1.0


class TestScales:
    def test_what_moves_is_told_from_what_stands(self) -> None:
        x = np.zeros((1_000, 4))
        x[:50, 0] = 1.0  # a rare indicator
        x[50:, 1] = 1.0  # a frequent one
        x[:, 2] = np.random.default_rng(0).normal(size=1_000)
        table = moments.dense_table(x, np.full(1_000, 0.5))
        assert table[[0, 1, 3], 5].tolist() == [25.0, 25.0, 0.0]
        assert table[2, 5] > 499.0
        np.testing.assert_allclose(moments.scale_of(table)[:2], 1.0, atol=0.1)
        assert moments.scale_of(table)[2] == pytest.approx(np.sqrt(3.0), rel=0.1)
        assert moments.scale_of(table)[3] == 0.0

    @pytest.mark.parametrize("sparse", [False, True])
    def test_one_value_of_a_hundred_deviations_is_soon_forgotten(self, sparse: bool) -> None:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(5_000, 1))
        x[3] = 100.0
        spec = linear.AdaGrad(n_features=1, sparse=sparse, **PLAIN)
        rows = Batch.csr(np.arange(5_001), np.zeros(5_000), x[:, 0], 1) if sparse else Batch.dense(x)
        partial = grown(spec, rows.replace(label=(x[:, 0] > 0).astype(float)))
        assert moments.scale_of(partial.moments[:1])[0] < 6.0  # by Σz⁴/Σz² alone it is 83

    def test_small_pieces_say_nothing_about_what_moves(self) -> None:
        rng = np.random.default_rng(2)
        x = rng.normal(size=(200, 1))
        spec = linear.AdaGrad(n_features=1, **PLAIN)
        partial = grown(spec, Batch.dense(x, label=(x[:, 0] > 0).astype(float)), batch_rows=1)
        assert partial.moments[0, 5] == 0.0
        assert moments.scale_of(partial.moments[:1])[0] == pytest.approx(np.sqrt(3.0), rel=0.2)
