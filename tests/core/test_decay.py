import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.algorithms import pca
from beam_ml.core import decay
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidBatch

SPEC = pca.Spec(n_features=3, half_life=60.0)
ALGORITHM = pca.PCA


def batch(n: int = 200, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    time = 1_700_000_000_000_000 + rng.integers(0, 600_000_000, n)
    return Batch.dense(rng.normal(size=(n, 3)) + 5.0, time=time, weight=rng.uniform(0.5, 2.0, n))


def closed_form(rows: Batch) -> Batch:
    assert rows.time is not None
    return rows.replace(weight=rows.weights * 2.0 ** (-(rows.time.max() - rows.time) / 60e6))


@given(cuts=st.lists(st.integers(0, 200), max_size=5), seed=st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_any_split_and_order_equals_the_closed_form(cuts: list[int], seed: int) -> None:
    rows = batch(seed=seed)
    rng = np.random.default_rng(seed)
    bounds = [0, *sorted(cuts), 200]
    parts = [rows.take(slice(a, b)) for a, b in itertools.pairwise(bounds)]
    rng.shuffle(parts)  # type: ignore[arg-type]
    start = decay.empty(ALGORITHM, SPEC)
    total = start
    for part in parts:
        total = decay.merge(ALGORITHM, SPEC, total, decay.accumulate(ALGORITHM, SPEC, start, part, None))
    running = start
    for part in parts:
        running = decay.accumulate(ALGORITHM, SPEC, running, part, None)
    wanted = ALGORITHM.accumulate(SPEC, ALGORITHM.empty(SPEC), closed_form(rows), None)
    assert close(total.summary, ALGORITHM.merge(SPEC, wanted, ALGORITHM.empty(SPEC)), rtol=1e-9)
    assert ALGORITHM.weight(running.summary) == pytest.approx(ALGORITHM.weight(wanted), rel=1e-9)
    assert rows.time is not None
    assert total.time == running.time == rows.time.max()


def test_advance_halves_once_a_half_life() -> None:
    dated = decay.accumulate(ALGORITHM, SPEC, decay.empty(ALGORITHM, SPEC), batch(), None)
    assert dated.time is not None
    later = decay.advance(ALGORITHM, SPEC, dated, dated.time + 120_000_000)
    assert ALGORITHM.weight(later.summary) == pytest.approx(ALGORITHM.weight(dated.summary) / 4)
    assert decay.advance(ALGORITHM, SPEC, dated, dated.time - 5) is dated


def test_without_half_life_time_is_not_needed() -> None:
    spec = pca.Spec(n_features=3)
    dated = decay.accumulate(ALGORITHM, spec, decay.empty(ALGORITHM, spec), Batch.dense(np.ones((2, 3))), None)
    assert dated.time is None
    assert ALGORITHM.weight(dated.summary) == 2


def test_half_life_needs_times() -> None:
    with pytest.raises(InvalidBatch, match="half_life needs event times"):
        decay.accumulate(ALGORITHM, SPEC, decay.empty(ALGORITHM, SPEC), Batch.dense(np.ones((2, 3))), None)
