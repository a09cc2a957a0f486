"""States of factorization machines hold the features that rows have had; the others are as the spec draws them."""

import numpy as np
import pytest

from beam_ml import Batch, fm
from beam_ml.algorithms.fm.start import starts
from beam_ml.algorithms.shared.places import place_of, places
from beam_ml.core.arrays import from_arrays, identical, nbytes, to_arrays
from beam_ml.core.held import check_rising
from beam_ml.errors import CorruptArtefact
from tests.algorithms.fm.support import FM, grown

WIDE = 1 << 18


def rows_of(numbers, n, seed, width=WIDE):
    """Return rows of three different indicators each."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.permuted(np.tile(np.arange(numbers.size), (n, 1)), axis=1)[:, :3], axis=1)
    label = ((at.sum(axis=1) % 5) < 2).astype(np.float64)
    return Batch.csr(np.arange(n + 1) * 3, numbers[at].ravel(), np.ones(3 * n), width, label=label)


def test_a_state_and_an_anchor_cost_what_is_known_and_not_the_width():
    spec, numbers = fm.Spec(n_features=WIDE, n_factors=4), np.arange(5, WIDE, 2_621)
    state = FM.init(spec)
    assert state.rows.size == 0
    for seed in (0, 1):
        rows = rows_of(numbers, 2_000, seed)
        state = FM.fold(spec, state, grown(spec, rows, FM.anchor(spec, state)), rows)
    assert state.rows.tolist() == [*numbers, WIDE]
    for one in (state, FM.anchor(spec, state)):
        assert nbytes(one) < (numbers.size + 1) * 8 * 21 + 1_000


def test_the_width_of_the_space_says_nothing_about_what_is_learned():
    """But for where features start, which goes by their numbers: constants here."""
    numbers = np.arange(40)
    found = []
    for width in (40, 41, WIDE):
        spec = fm.Spec(n_features=width, n_factors=2, factors_init_method="constant", factors_init_value=0.1)
        state = FM.init(spec)
        for seed in range(4):
            rows = rows_of(numbers, 600, seed, width)
            anchor = FM.anchor(spec, state)
            parts = [grown(spec, rows.take(slice(i, i + 200)), anchor) for i in (0, 200, 400)]
            state = FM.fold(spec, state, FM.merge(spec, FM.merge(spec, *parts[:2]), parts[2]), rows)
        found.append(state)
    for one in found[1:]:
        for name in ("theta", "squares", "scale", "sums", "mass", "length"):
            np.testing.assert_array_equal(getattr(one, name), getattr(found[0], name), err_msg=name)


def test_what_an_anchor_lacks_starts_as_the_spec_draws_it():
    spec = fm.Spec(n_features=WIDE, n_factors=4, linear_init_method="uniform")
    first, second = rows_of(np.arange(100, 120), 400, 0), rows_of(np.arange(110, 140), 400, 1)
    state = FM.fold(spec, FM.init(spec), grown(spec, first, None), first)
    partial = grown(spec, second, FM.anchor(spec, state))
    after = FM.fold(spec, state, partial, None)
    assert after.rows.tolist() == [*range(100, 140), WIDE]
    new = after.rows >= 120
    new[-1] = False
    moved = np.zeros((after.rows.size, spec.columns))
    moved[place_of(after.rows, partial.open_rows)] = partial.open_moved
    ratio = after.theta[new] / (starts(spec, after.rows[new]) + moved[new])
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)  # frames of the window's may differ from its run's
    # A window that brings nothing new holds the same rows; an older state is left as it was.
    again = FM.fold(spec, after, grown(spec, second, FM.anchor(spec, after)), second)
    assert identical(FM.init(spec), FM.init(spec))
    assert again.rows.tolist() == after.rows.tolist()
    assert state.rows.tolist() == [*range(100, 120), WIDE]


def test_a_merge_holds_what_either_has_met():
    spec = fm.Spec(n_features=WIDE, n_factors=3)
    samples = [rows_of(np.arange(begin, begin + 30), 800, begin) for begin in (50, 70)]
    states = [FM.fold(spec, FM.init(spec), grown(spec, one, None), one) for one in samples]
    merged = FM.merge_states(spec, *states, *samples)
    assert merged.rows.tolist() == [*range(50, 100), WIDE]
    assert identical(merged, FM.merge_states(spec, *states[::-1], *samples[::-1]))


@pytest.mark.parametrize("wrong", [[-2, 7], [7, 7], [9, 7]], ids=["negative", "twice", "falling"])
def test_a_state_whose_rows_do_not_rise_is_refused(wrong):
    spec = fm.Spec(n_features=7, n_factors=2)
    state = FM.fold(spec, FM.init(spec), grown(spec, Batch.csr([0, 1], [3], np.ones(1), 7, label=[1.0]), None), None)
    with pytest.raises(CorruptArtefact, match=r"State\.rows must be rising numbers >= 0"):
        from_arrays(type(state), to_arrays(state) | {"rows": np.array(wrong)})
    check_rising("State.rows", np.array([0, 7]))


@pytest.mark.parametrize("held", [[], [3], [0, 4, 6], list(range(8))])
@pytest.mark.parametrize("z", [1, 2_000])
def test_features_are_found_by_search_and_by_table(held, z):
    held, asked = np.array(held, dtype=np.int64), np.random.default_rng(z).integers(0, 8, z).astype(np.int32)
    expected = [held.tolist().index(one) if one in held else -1 for one in asked]
    assert places(held, asked, 8).tolist() == expected
    assert place_of(held, asked).tolist() == expected
