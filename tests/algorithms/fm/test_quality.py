"""Shards learn as well as one: 8 and 32, four windows a pass, five passes, within half a per cent of the sequential run."""

import functools
import statistics

import pytest

from beam_ml import fm
from beam_ml.core.threads import one_thread
from tests.algorithms.fm.support import learned, loss, ratings

SEEDS = range(5)
MARGIN = 0.005
ROWS = {"regression": 30_000, "binary": 60_000}
HELD_OUT = 10_000


def spec_and_rows(task, seed):
    n = ROWS[task]
    rows = ratings(seed, n + HELD_OUT, task)
    return fm.Spec(n_features=rows.n_features, n_factors=8, task=task), rows.take(slice(n)), rows.take(slice(n, None))


@functools.cache
def sequential(task, seed):
    spec, train, test = spec_and_rows(task, seed)
    return loss(spec, learned(spec, train, 1), test)


def excess(task, shards, rule="search", seeds=SEEDS):
    """Return the median over seeds of how far the shards' held-out loss is above the sequential run's."""
    found = []
    with one_thread():
        for seed in seeds:
            spec, train, test = spec_and_rows(task, seed)
            found.append(loss(spec, learned(spec, train, shards, rule=rule), test) / sequential(task, seed) - 1.0)
    return statistics.median(found)


@pytest.mark.parametrize("task", ["regression", "binary"])
@pytest.mark.parametrize("shards", [8, 32])
def test_shards_are_within_the_stated_margin_of_the_sequential_run(task, shards):
    assert excess(task, shards) <= MARGIN


@pytest.mark.parametrize("rule", ["mean", "sum", "curvature"])
@pytest.mark.parametrize("task", ["regression", "binary"])
def test_averages_sums_and_no_line_search_are_not(task, rule):
    assert excess(task, 32, rule, seeds=(3,)) > MARGIN
