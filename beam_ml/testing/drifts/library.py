"""The library of drifts, by what changes."""

import dataclasses
from collections.abc import Iterator

from beam_ml.testing.drifts.drift import Drift
from beam_ml.testing.drifts.rows import Regime

__all__ = [
    "awakening",
    "cold_shards",
    "everything",
    "missing_day",
    "moving",
    "one_class",
    "one_fold",
    "one_row",
    "outliers",
    "ratio_jumps",
    "turning",
    "unit_rows",
    "weightless",
]

_FIRST = 4_500  # enough for a learner that starts with a large block to have an anchor before the change
_ROWS = 1_000
_MANY = 3_000  # without forgetting, the rows after a change must outnumber those before it to be followed at all
_UNIT_FEATURES = 60
_FEW = 250
_CROWD = 8_000


def _windows(before: Regime, *after: Regime, steady: int = 1) -> tuple[Regime, ...]:
    """Return a large window and a common one of the regime before, then those after."""
    first = dataclasses.replace(before, rows=_FIRST)
    return (first, *(dataclasses.replace(before, rows=_ROWS) for _ in range(steady)), *after)


def _after(regime: Regime, half_life: float | None) -> tuple[Regime, ...]:
    """Return the windows after a change: three common ones, or two large ones where nothing is forgotten."""
    return (regime,) * 3 if half_life is not None else (dataclasses.replace(regime, rows=_MANY),) * 2


def moving() -> Iterator[Drift]:
    """All inputs move, at once, by 2, 5 and 20 deviations: a new region, a new season."""
    for shift in (2.0, 5.0, 20.0):
        for half_life in (None, 1.0):
            yield Drift(
                f"inputs move by {shift:g} deviations",
                _windows(Regime(_ROWS), *_after(Regime(_ROWS, shift=shift), half_life)),
                changes=(0, 2),
                half_life=half_life,
            )


def ratio_jumps() -> Iterator[Drift]:
    """The level of the label jumps by ±3 and ±6 logits (or deviations of the label's noise): an attack begins, or ends."""
    for jump in (3.0, 6.0, -3.0, -6.0):
        start = -3.0 if jump > 0 else 3.0
        for half_life in (None, 1.0):
            yield Drift(
                f"the label's level jumps by {jump:+g}",
                _windows(Regime(_ROWS, level=start), *_after(Regime(_ROWS, level=start + jump), half_life)),
                changes=(0, 2),
                half_life=half_life,
            )


def turning() -> Iterator[Drift]:
    """The slope of the strongest feature turns over: at once, and in six steps; only forgetting can follow."""
    plain = Regime(_ROWS)
    yield Drift(
        "a slope turns over at once",
        _windows(plain, *[Regime(_ROWS, turn=1.0)] * 3),
        changes=(0, 2),
        half_life=1.0,
    )
    steps = [Regime(_ROWS, turn=k / 6.0) for k in range(1, 7)]
    yield Drift(
        "a slope turns over slowly",
        _windows(plain, *steps, Regime(_ROWS, turn=1.0)),
        changes=(0, 4, 5),  # where nothing is left of the slope, any memory of it is in the way
        half_life=1.0,
    )


def awakening() -> Iterator[Drift]:
    """A feature is constant, among rows of uneven weights that come one by one, then moves."""
    moving = Regime(_ROWS, weights="uneven")
    for value, half_life in ((0.0, None), (0.37, 8.0), (7.0, 8.0)):
        # Each row's sum rounds, and rounding adds up to a deviation of its own.
        still = dataclasses.replace(moving, rows=_FEW, still=value, batch_rows=1)
        yield Drift(
            f"a feature is constant at {value:g}, then moves",
            (still, still, *[moving] * 3),
            changes=(0, 2),
            half_life=half_life,
            shards=1,
        )


def unit_rows() -> Iterator[Drift]:
    """Rows of norm 1 with a few entries other than 0 in many features, most of them rare: normalised word counts."""
    for half_life in (None, 1.0):
        yield Drift(
            "rows of norm 1 in many rare features",
            _windows(Regime(_ROWS, unit=True), Regime(_ROWS, unit=True)),
            changes=(0,),
            half_life=half_life,
            n_features=_UNIT_FEATURES,
        )


def outliers() -> Iterator[Drift]:
    """One row lies 100 or a million deviations out, among the first rows or later; then the ratio jumps."""
    plain, after = Regime(_ROWS), Regime(_ROWS, level=3.0)
    for distance, seed in ((100.0, 0), (1e6, 0), (1e6, 1)):  # the far row gets into the sample, or does not
        far = Regime(_ROWS, outlier=distance)
        yield Drift(
            f"one of the first rows lies {distance:g} deviations out",
            (dataclasses.replace(far, rows=_FIRST), plain, plain),
            changes=(0,),
            seed=seed,
        )
        yield Drift(
            f"one row of many lies {distance:g} deviations out",  # more rows than a sample holds
            _windows(plain, dataclasses.replace(far, rows=_CROWD), plain, after, after),
            changes=(0, 2, 4),
            half_life=1.0,
            seed=seed,
        )


def one_fold() -> Iterator[Drift]:
    """All rows there are come in one window, of one worker or of four."""
    for rows, shards in ((2_000, 1), (6_000, 4)):
        yield Drift(f"one fold of {rows} rows", (Regime(rows),), shards=shards)


def cold_shards() -> Iterator[Drift]:
    """The first window is the work of 1, 8 and 64 workers, none of which has anything to start from."""
    for shards in (1, 8, 64):
        yield Drift("a first window of cold shards", (Regime(6_000), Regime(_ROWS)), shards=shards)


def one_class() -> Iterator[Drift]:
    """For two windows all rows have one label; then both classes are back."""
    for half_life in (None, 1.0):
        yield Drift(
            "one label only for a while",
            _windows(Regime(_ROWS), *[Regime(_ROWS, only=0.0)] * 2, *[Regime(_ROWS)] * 2),
            changes=(0, 2, 3, 4),
            half_life=half_life,
        )


def one_row() -> Iterator[Drift]:
    """A window of one row, and one of two."""
    for half_life in (None, 1.0):
        yield Drift(
            "windows of one row and of two",
            _windows(Regime(_ROWS), Regime(1), Regime(2), Regime(_ROWS)),
            changes=(0,),
            half_life=half_life,
        )


def weightless() -> Iterator[Drift]:
    """Rows of weight 0 with wrong labels and features astray, a window without any weight, a row of weight 1e300."""
    plain = Regime(_ROWS)
    yield Drift(
        "rows of weight 0 are astray",
        _windows(plain, Regime(_ROWS, weights="against"), Regime(_ROWS, weights="absent"), plain),
        changes=(0,),
        half_life=1.0,
    )
    yield Drift(
        "a row of weight 1e300",
        _windows(plain, Regime(_ROWS, weights="huge"), plain, plain),
        changes=(0, 2),
        half_life=1.0,
    )


def missing_day() -> Iterator[Drift]:
    """A feature is NaN for a day, in nearly all rows and in all; then it is back."""
    for share in (0.9, 1.0):
        yield Drift(
            f"a feature is NaN in {share:.0%} of a day's rows",
            _windows(Regime(_ROWS), Regime(_ROWS, missing=share), *[Regime(_ROWS)] * 2),
            changes=(0,),
            half_life=1.0,
        )


def everything() -> Iterator[Drift]:
    """Return every drift of the library."""
    for each in (
        moving, ratio_jumps, turning, awakening, unit_rows, outliers, one_fold, cold_shards, one_class, one_row,
        weightless, missing_day,
    ):  # fmt: skip
        yield from each()
