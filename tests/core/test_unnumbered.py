"""Rows without origin and position: each is a row of its own, in whatever batch and worker it came."""

import numpy as np
import pytest

from beam_ml.algorithms import pca
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.batch import Batch, Origin

SPEC = pca.Spec(n_features=2)


def drawn(seed: int, n: int) -> Batch:
    return Batch.dense(np.random.default_rng(seed).normal(size=(n, 2)), weight=np.full(n, 0.5 + seed))


@pytest.mark.parametrize("sizes", [(40, 40, 40), (1, 90, 3, 3), (5,) * 20])
def test_rows_of_every_batch_are_in_the_sample(sizes: tuple[int, ...]) -> None:
    one = Accumulator(pca.PCA, SPEC)
    batches = [drawn(seed, n) for seed, n in enumerate(sizes)]
    for batch in batches:
        one.add(batch)
    found = one.result()
    estimate = found.sample.estimate(SPEC)
    assert estimate is not None
    everything = np.concatenate([batch.dense_x for batch in batches])
    assert sorted(estimate.dense_x.tolist()) == sorted(everything.tolist())
    assert estimate.weights.sum() == pytest.approx(sum(batch.weights.sum() for batch in batches))
    assert found.progress.rows == sum(sizes)


def test_rows_of_two_workers_are_in_the_sample() -> None:
    workers = [Accumulator(pca.PCA, SPEC) for _ in range(2)]
    for seed in range(4):
        workers[seed % 2].add(drawn(seed, 12))
    both = workers[0].merge(workers[1].result())
    assert both.sample.rows is not None
    assert len(both.sample.rows) == 48


def test_named_rows_between_them_keep_their_names() -> None:
    one = Accumulator(pca.PCA, SPEC)
    named = drawn(7, 10).replace(origin=Origin("s", "p"), position=np.arange(10))
    for batch in (drawn(0, 6), named, drawn(1, 6), named):
        one.add(batch)
    found = one.result()
    assert found.sample.rows is not None
    assert len(found.sample.rows) == 6 + 10 + 6
    assert found.progress.repeated == 10
