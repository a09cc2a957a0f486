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
