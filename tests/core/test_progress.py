import dataclasses
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


SCANS = st.tuples(
    st.sampled_from(["learned", "late", "malformed", "between", "adjusted"]),
    st.sampled_from([A, B]),
    st.integers(0, 12),  # where it begins
    st.integers(0, 4),  # how many places
    st.integers(0, 50),  # the time of its first row
)


def scanned(kind: str, origin: Origin, start: int, n: int, time: int) -> Progress:
    places = np.arange(start, start + n)
    batch = Batch.dense(np.ones((n, 2)), time=time + np.arange(n), origin=origin, position=places)
    if kind == "between":
        return Progress.of_range(origin, start, start + n, {"malformed": 1})
    if kind == "malformed":
        return Progress.of_rejected(batch, kind)
    found = Progress.of(batch, late=n if kind == "late" else 0)
    return dataclasses.replace(found, adjusted={"set back": n}) if kind == "adjusted" and n else found


def total_of(parts: list[Progress]) -> Progress:
    """All parts merged, in a tree."""
    if len(parts) < 2:
        return parts[0] if parts else Progress()
    half = len(parts) // 2
    return total_of(parts[:half]).merge(total_of(parts[half:]))


@given(st.lists(SCANS, max_size=7), st.randoms())
@settings(deadline=None)
def test_everything_scanned_is_counted_once_whatever_the_order(
    scans: list[tuple[str, Origin, int, int, int]], random: Random
) -> None:
    drawn = list(scans)
    random.shuffle(drawn)
    total = total_of([scanned(*one) for one in drawn])
    learned = [one for one in scans if one[0] in ("learned", "late", "adjusted") and one[3]]
    rows = sum(n for *_, n, _ in learned)
    refused = sum({"malformed": n, "between": 1}.get(kind, 0) for kind, _, _, n, _ in scans)
    late, adjusted = (sum(n for kind, _, _, n, _ in learned if kind == name) for name in ("late", "adjusted"))
    expected = {
        "rows": rows, "weight": float(rows), "bytes": 16 * rows, "late": late,
        "time_min": min((time for *_, time in learned), default=None),
        "time_max": max((time + n - 1 for *_, n, time in learned), default=None),
        "rejected": {"malformed": refused} if refused else {}, **({"adjusted": {"set back": adjusted}} if adjusted else {}),
    }  # fmt: skip
    assert total.summary() == expected
    covered = {
        origin: {place for _, at, start, n, _ in scans if at == origin for place in range(start, start + n)}
        for origin in (A, B)
    }
    found = {origin: {p for low, high in ranges for p in range(low, high)} for origin, ranges in total.covered.items()}
    assert found == {origin: places for origin, places in covered.items() if places}
    assert total.places == sum(n for *_, n, _ in scans)
    assert total.latest == {
        origin: max(time + n - 1 for _, at, _, n, time in learned if at == origin)
        for origin in {at for _, at, *_ in learned}
    }
    dropped = total.as_rejected("malformed")
    assert dropped.summary() == {
        **{"rows": 0, "weight": 0.0, "bytes": 0, "late": 0, "time_min": None, "time_max": None},
        "rejected": {"malformed": refused + rows} if refused + rows else {},
    }
    assert dropped.scanned == total.scanned


@given(st.lists(SCANS, max_size=4), st.lists(SCANS, max_size=4))
@settings(deadline=None)
def test_the_overlap_is_what_both_have_scanned(
    first: list[tuple[str, Origin, int, int, int]], second: list[tuple[str, Origin, int, int, int]]
) -> None:
    a, b = (total_of([scanned(*one) for one in scans]) for scans in (first, second))
    places = [
        {(at, place) for _, at, start, n, _ in scans for place in range(start, start + n)} for scans in (first, second)
    ]
    both = {(origin, p) for origin, ranges in a.overlap(b).items() for low, high in ranges for p in range(low, high)}
    assert both == places[0] & places[1]
    assert all(len(ranges) for ranges in a.overlap(b).values())


def test_an_empty_range_covers_nothing() -> None:
    nothing = Progress.of_range(A, 4, 4, {"blank": 1})
    assert (dict(nothing.covered), nothing.places, nothing.scanned) == ({}, 0, 1)
