"""Counts, places and samples without a part; the sums of algorithms are in the law "removal"."""

import dataclasses

import numpy as np
import pytest

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.progress import Progress
from beam_ml.core.removal import sample_without
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec
from beam_ml.errors import RemoveRefused

A, B = Origin("files", "a"), Origin("files", "b")


class Two(Spec):
    algorithm: str = "two"
    label_rule = "class"

    @property
    def n_label_classes(self) -> int:
        return 2


SPEC = Two(n_features=1)


def rows(origin: Origin, n: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.3).astype(float)
    return Batch.dense(rng.normal(size=(n, 1)), label=label, time=np.arange(n), origin=origin, position=np.arange(n))


def test_counts_and_places_of_a_part_are_gone() -> None:
    a, b = Progress.of(rows(A, 5)), Progress.of(rows(B, 7)).merge(Progress.of_range(B, 7, 9, {"nan": 2}))
    assert a.merge(b).remove(b) == dataclasses.replace(a, time_max=6)
    assert a.merge(b).remove(a) == b
    assert a.remove(a) == Progress()


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (Progress.of(rows(B, 5)), "files b from 0 to 5 was not"),
        (Progress.of(rows(A, 6)), "files a from 5 to 6 was not"),
        (Progress(rows=6), "it has 6 rows of 5"),
        (Progress(rejected={"late": 1}), "must have been learned"),
    ],
)
def test_what_was_not_scanned_cannot_be_removed(part: Progress, why: str) -> None:
    with pytest.raises(RemoveRefused, match=why):
        Progress.of(rows(A, 5)).remove(part)


@pytest.mark.parametrize("scorer", [None, lambda batch: 1.0 / (1.0 + np.exp(-batch.X[:, 0]))])
def test_the_rest_of_a_sample_is_that_of_the_other_rows(scorer) -> None:
    a, b = (Sample.of(SPEC, rows(origin, 9_000, seed), scorer=scorer) for seed, origin in enumerate((A, B)))
    whole = a.merge(b, SPEC)
    rest = sample_without(SPEC, whole, b)
    assert rest.mass == pytest.approx(a.mass)
    expected = a.order < whole.tau[a.kind]
    assert np.array_equal(rest.identity, a.identity[expected])
    assert rest.rows is not None
    assert rest.estimate(SPEC).weight.sum() == pytest.approx(9_000)
    assert rest.ranked(SPEC).weight.sum() == pytest.approx(9_000)


def test_a_sample_can_be_removed_once_and_not_thinned() -> None:
    a, b = (Sample.of(SPEC, rows(origin, 200, seed)) for seed, origin in enumerate((A, B)))
    rest = sample_without(SPEC, a.merge(b, SPEC), b)
    assert np.array_equal(rest.identity, a.identity)
    with pytest.raises(RemoveRefused, match="must have been learned"):
        sample_without(SPEC, rest, b)
    kept = b.order < np.median(b.order)
    thinned = dataclasses.replace(
        b, rows=b.rows.take(kept), order=b.order[kept], identity=b.identity[kept], kind=b.kind[kept],
        tau=np.full(2, np.median(b.order)),
    )  # fmt: skip
    with pytest.raises(RemoveRefused, match="drawn again from the samples"):
        sample_without(SPEC, a.merge(b, SPEC), thinned)
