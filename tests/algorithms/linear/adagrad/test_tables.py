"""`linear.AdaGrad`: the parameter rows that a state holds, and the passes over its tables."""

import dataclasses

import numpy as np
import pytest

from beam_ml import Batch, linear
from beam_ml.algorithms.linear.adagrad import fold
from beam_ml.algorithms.shared import moves
from beam_ml.algorithms.shared.moves import Moves
from beam_ml.kernels.adagrad import tables as adagrad_tables
from tests.algorithms.linear.adagrad.support import ALGORITHM, PLAIN, binary, grown, learned, model_of, sparse_of


def wide(rows: Batch, columns: np.ndarray, d: int) -> Batch:
    """Return sparse rows whose features are some columns of many."""
    narrow = sparse_of(rows)
    return dataclasses.replace(narrow, indices=columns[narrow.indices].astype(np.int32), n_features=d)


class TestRowsHeld:
    def test_a_state_holds_what_it_has_seen_and_learns_as_if_it_held_all(self) -> None:
        """Of 4 features among 4, and the same among 9,000: the rows held alone tell them apart."""
        settings = {"sparse": True, "learning_rates": (0.1, 0.4), "l1": (0.0, 1e-3), "l2": 1e-3}
        small, large = (linear.AdaGrad(n_features=d, **settings) for d in (4, 9_000))
        columns = np.array([3, 40, 2_000, 8_999])
        rows, bounds = binary(2_000), [0, 300, 1_000, 2_000]
        a = learned(small, sparse_of(rows), bounds, 2)
        b = learned(large, wide(rows, columns, 9_000), bounds, 2)
        assert b.rows.tolist() == [*columns.tolist(), 9_000]
        for name in ("theta", "slack", "average", "squares", "moments", "loss"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12, atol=1e-15, err_msg=name)
        few, many = model_of(small, a), model_of(large, b)
        assert many.features.tolist() == columns[few.features].tolist()
        assert (int(many.width), int(few.width)) == (9_000, 4)
        np.testing.assert_allclose(many.coefficients, few.coefficients, rtol=1e-12)

    def test_rows_come_in_the_order_of_their_numbers_whatever_window_brought_them(self) -> None:
        spec = linear.AdaGrad(n_features=50, sparse=True, **PLAIN)
        first, second = (
            wide(binary(600), np.array([7, 20, 30, 44]), 50),
            wide(binary(600, seed=1), np.arange(18, 22), 50),
        )
        one = learned(spec, first, [0, 600])
        both = learned(spec, second, [0, 600], state=one)
        assert both.rows.tolist() == [7, 18, 19, 20, 21, 30, 44, 50]
        there = np.searchsorted(both.rows, [7, 30, 44])
        before = np.searchsorted(one.rows, [7, 30, 44])
        np.testing.assert_array_equal(both.theta[there], one.theta[before])
        np.testing.assert_array_equal(both.squares[there], one.squares[before])

    def test_a_sample_may_have_features_that_no_part_has(self) -> None:
        """As where a window's parts of an anchor too old were left out, and its sample was not."""
        spec = linear.AdaGrad(n_features=50, sparse=True, **PLAIN)
        window = wide(binary(600), np.array([7, 20, 30, 44]), 50)
        other = wide(binary(600, seed=1), np.array([2, 20, 48, 49]), 50)
        state = ALGORITHM.fold(spec, ALGORITHM.init(spec), grown(spec, window), other)
        again = ALGORITHM.fold(spec, state, grown(spec, window, ALGORITHM.anchor(spec, state)), other)
        assert again.rows.tolist() == [2, 7, 20, 30, 44, 48, 49, 50]
        assert not again.theta[[0, 5, 6]].any()

    def test_states_of_other_features_merge_with_their_samples(self) -> None:
        spec = linear.AdaGrad(n_features=50, sparse=True, **PLAIN)
        rows = [wide(binary(900, seed=k), np.array(at), 50) for k, at in enumerate([[1, 5, 9, 13], [9, 11, 13, 40]])]
        states = [learned(spec, one, [0, 900]) for one in rows]
        both = ALGORITHM.merge_states(spec, *states, *rows)
        assert both.rows.tolist() == [1, 5, 9, 11, 13, 40, 50]
        assert np.isfinite(both.theta).all()
        assert both.theta[:-1].any(axis=(1, 2)).all()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 1e-3])
def test_one_run_ends_where_it_would_if_its_step_were_put_to_the_test(
    penalty: float, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = linear.AdaGrad(
        n_features=6, sparse=sparse, learning_rates=(0.1, 1.0, 30.0), l1=penalty, l2=(0.0, penalty or 1e-4)
    )
    rows = binary(3_000, d=6)
    flipped = rows.replace(label=np.where(np.arange(3_000) < 2_000, rows.label, 1.0 - rows.label))
    rows = sparse_of(flipped) if sparse else flipped  # a world that turns round, so that some variants start again
    tested = []
    whole = learned(spec, rows, [0, 1_000, 2_000, 3_000])
    monkeypatch.setattr(fold, "untried", lambda window: bool(tested.append(window)))
    slow = learned(spec, rows, [0, 1_000, 2_000, 3_000])
    assert len(tested) == 3
    for name in ("theta", "slack", "average", "squares", "loss", "average_loss"):
        np.testing.assert_allclose(getattr(whole, name), getattr(slow, name), rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_proximal_map_shrinks_and_scales() -> None:
    u = np.array([[0.5, -0.5, 0.1], [2.0, -2.0, 0.0], [7.0, -7.0, 0.0]])
    squares = np.array([[4.0, 1.0, 1.0], [0.0, 1.0, 4.0], [1.0, 1.0, 1.0]])
    reach, l1, l2 = np.array([1.0, 1.0, 2.0]), np.array([0.2, 0.1, 0.1]), np.array([0.0, 1.0, 0.5])
    inverse, theta = np.array([1.0, 2.0, 0.0]), np.empty((3, 3))
    adagrad_tables.proximal(u, squares, reach, l1, l2, inverse, theta)
    # Row 0: κ = reach·λ₁/√G = 0.1, 0.1, 0.2; ρ = 0, 1, 1. Row 1: no gradient yet in the first column.
    np.testing.assert_allclose(theta, [[0.4, -0.2, 0.0], [2.0, -1.9 / 3.0, 0.0], [7.0, -7.0, 0.0]])


def test_rising_rows_unite_and_their_sums_add() -> None:
    rng = np.random.default_rng(4)
    for sizes in ((0, 3), (5, 0), (40, 7), (60, 60)):
        a, b = (np.sort(rng.choice(80, size, replace=False)).astype(np.int64) for size in sizes)
        tables = [rng.normal(size=(rows.size, 2, 3)) for rows in (a, b)]
        found = moves.union(a, b)
        assert found.tolist() == np.union1d(a, b).tolist()
        total = moves.add(*(Moves(rows, t, 2.0 * t, t * t) for rows, t in zip((a, b), tables, strict=True)))
        expected = np.zeros((80, 2, 3))
        for rows, table in zip((a, b), tables, strict=True):
            expected[rows] += table
        assert total.rows.tolist() == found.tolist()
        np.testing.assert_array_equal(total.scaled, expected[found])
        np.testing.assert_allclose(total.moved, 2.0 * expected[found])


def test_penalty_sums_leave_the_bias_out() -> None:
    theta = np.array([[1.0, -2.0], [0.0, 3.0], [100.0, 100.0]])
    first, second = np.zeros(2), np.zeros(2)
    adagrad_tables.sizes(theta, np.array([2.0, 1.0, 0.0]), first, second)
    assert (first.tolist(), second.tolist()) == ([2.0, 7.0], [4.0, 25.0])
