import dataclasses

import numpy as np
import pytest

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.progress import Progress

A, B = Origin("files", "a"), Origin("files", "b")


def rows(places: list[int], origin: Origin | None = A, ends: list[int] | None = None) -> Batch:
    return Batch.dense(np.ones((len(places), 2)), time=places, origin=origin, position=places, position_end=ends)


def test_places_scanned_once_are_as_many_as_those_covered() -> None:
    learned = Progress.of(rows([0, 1, 5]))
    lines = Progress.of(rows([10, 17], ends=[17, 30]))
    refused = Progress.of_rejected(rows([2, 3]), "late")
    between = Progress.of_range(A, 30, 40, {"malformed line": 2})
    total = learned.merge(lines).merge(refused).merge(between)
    assert total.places == 3 + 20 + 2 + 10
    assert total.repeated == 0
    assert total.covered[A].tolist() == [[0, 4], [5, 6], [10, 40]]
    assert total.as_rejected("stale anchor").places == total.places


@pytest.mark.parametrize(
    "again",
    [Progress.of(rows([1])), Progress.of_rejected(rows([1]), "late"), Progress.of_range(A, 1, 2)],
)
def test_a_place_scanned_twice_is_noticed(again: Progress) -> None:
    total = Progress.of(rows([0, 1, 5])).merge(again)
    assert total.repeated == 1
    assert total.covered[A].tolist() == [[0, 2], [5, 6]]
    assert total.merge(again).repeated == 2


def test_a_place_twice_in_one_batch_is_noticed() -> None:
    assert Progress.of(rows([4, 4])).repeated == 1
    assert Progress.of(rows([0, 3], ends=[5, 6])).repeated == 2
    assert Progress.of(rows([0, 3], ends=[0, 6])).repeated == 0


def test_rows_without_a_place_have_none() -> None:
    assert Progress.of(Batch.dense(np.ones((3, 2)))).places == 0
    assert Progress.of_ranges(None, np.zeros((0, 2), np.int64), {"late": 1}) == Progress(rejected={"late": 1})


def test_forgetting_an_origin_keeps_the_counts() -> None:
    total = Progress.of(rows([0, 1, 5])).merge(Progress.of(rows([0, 1], B)))
    left = total.without(lambda origin: origin == A)
    assert list(left.covered) == list(left.latest) == [B]
    assert left.places == 2
    assert left.repeated == 0
    assert left.summary() == total.summary()


def test_bytes_are_those_of_the_intervals() -> None:
    assert Progress.of(rows([0, 2, 4])).nbytes == 48


def test_the_newest_time_of_an_origin_stays_whatever_order_its_rows_come_in() -> None:
    parts = [Progress.of(rows(places)) for places in ([7, 90], [3], [40, 41], [12])]
    forwards, backwards = Progress(), Progress()
    for part in parts:
        forwards = forwards.merge(part)
    for part in parts[::-1]:
        backwards = backwards.merge(part)
    assert forwards.latest == backwards.latest == {A: 90}
    assert forwards == dataclasses.replace(backwards, covered=forwards.covered)
    other = Progress.of(rows([5], B)).merge(forwards).merge(Progress.of(rows([4], B)))
    assert other.latest == {A: 90, B: 5}


def test_weight_is_that_of_the_rows() -> None:
    weighed = rows([0, 1, 2]).replace(weight=np.array([0.25, 0.0, 4.0]))
    assert Progress.of(weighed).weight == 4.25
    assert Progress.of(weighed).merge(Progress.of(rows([5, 6]))).weight == 6.25


def test_rows_of_a_dropped_fold_are_neither_learned_nor_late_nor_dated() -> None:
    total = Progress.of(rows([5, 9]), late=2).merge(Progress.of_rejected(rows([3]), "late"))
    dropped = total.as_rejected("fold discarded")
    assert dropped.summary() == {
        **{"rows": 0, "weight": 0.0, "bytes": 0, "time_min": None, "time_max": None, "late": 0},
        "rejected": {"late": 1, "fold discarded": 2},
    }
    assert dropped.scanned == total.scanned
    assert Progress.of_rejected(rows([3]), "late").as_rejected("x").rejected == {"late": 1}
