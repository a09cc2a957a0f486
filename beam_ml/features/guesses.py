"""What columns may be for, guessed from names, types and values of some rows; each guess says its rule."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from beam_ml.core.epochs import PER_SECOND, UnitOfNumbers, counting
from beam_ml.formats.profile import Column

__all__ = ["Guess", "Guesses", "guessed"]

_LABELS = frozenset(
    "label target class y outcome fraud fraudulent churn churned default defaulted clicked click converted survived".split()
)
_TIMES = frozenset("time ts timestamp date datetime at epoch".split())
_NAMES = frozenset("id code type kind category zip postcode country region city shop store brand".split())
_DATED = re.compile(r"[12]\d\d\d-\d\d-\d\d([T ]\d\d:\d\d.*)?$")
_FEW = 20
"""Texts of at most so many values are categories, however few rows were looked at."""
_WORDS = 2.5
"""Words of a text on average from which on a column of many texts is no column of names."""


@dataclasses.dataclass(frozen=True, slots=True)
class Guess:
    """A column, and the rule by which it was chosen."""

    column: str
    rule: str


@dataclasses.dataclass(frozen=True, slots=True)
class Guesses:
    """What columns may be for.

    Attributes:
        label, time: one column each, or none.
        unit: of a time that is a number.
        categories, texts, numbers: features.
        matrix: the column that holds all features.
        left: columns of none of these, and why.
    """

    label: Guess | None
    time: Guess | None
    unit: UnitOfNumbers | None
    categories: tuple[Guess, ...]
    numbers: tuple[str, ...]
    matrix: str | None
    left: tuple[Guess, ...]
    texts: tuple[Guess, ...] = ()


def guessed(columns: Sequence[Column]) -> Guesses:
    """Return what columns may be for.

    >>> found = guessed([Column("ts", "timestamp[us]", 9, 0, 9), Column("amount", "double", 9, 0, 9, 0.5, 9.5),
    ...                  Column("is_fraud", "int64", 9, 0, 2, 0, 1)])
    >>> found.label.column, found.time.column, found.numbers
    ('is_fraud', 'ts', ('amount',))
    """
    time, unit = _time(columns)
    rest = [one for one in columns if time is None or one.name != time.column]
    label = _label(rest)
    rest = [one for one in rest if label is None or one.name != label.column]
    matrix = next((one.name for one in rest if one.widths is not None), None)
    categories, texts, numbers, left = list[Guess](), list[Guess](), list[str](), list[Guess]()
    for one in rest:
        if one.name == matrix:
            continue
        reason = "features are all in one column" if matrix is not None else _telling(one, label)
        if not reason and one.words is not None and one.words >= _WORDS and (one.distinct or 0) > _FEW:
            texts.append(Guess(one.name, f"texts of {one.words:.1f} words on average"))
            continue
        reason = reason or _useless(one)
        rule = None if reason else _category(one)
        if reason:
            left.append(Guess(one.name, reason))
        elif rule:
            categories.append(Guess(one.name, rule))
        else:
            numbers.append(one.name)
    return Guesses(label, time, unit, tuple(categories), tuple(numbers), matrix, tuple(left), tuple(texts))


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def _is_text(one: Column) -> bool:
    return one.distinct is not None and "string" in one.type


def _is_number(one: Column) -> bool:
    return _is_whole(one) or one.type in ("halffloat", "float", "double") or one.type == "bool"


def _is_whole(one: Column) -> bool:
    return re.fullmatch(r"u?int\d+", one.type) is not None


def _time(columns: Sequence[Column]) -> tuple[Guess | None, UnitOfNumbers | None]:
    for one in columns:
        if one.type.startswith(("timestamp", "date")):
            return Guess(one.name, "the first column of times"), None
    for one in columns:
        if _is_whole(one) and one.low is not None and _TIMES & set(_words(one.name)):
            for unit in PER_SECOND:
                if counting(np.array([one.low, one.high]), unit).all():
                    return Guess(one.name, f"its name, and numbers that are {unit} since 1970"), unit
    for one in columns:
        if _is_text(one) and one.common and all(_DATED.match(value) for value, _ in one.common):
            return Guess(one.name, "the first column of texts that are dates"), None
    return None, None


def _label(columns: Sequence[Column]) -> Guess | None:
    able = [one for one in columns if one.distinct and (_is_number(one) or (_is_text(one) and one.distinct <= _FEW))]
    for one in able:
        words = _words(one.name)
        if words and words[-1] in _LABELS:
            return Guess(one.name, f"its name ends in {words[-1]!r}")
    for one in able:
        hit = [word for word in _words(one.name) if word in _LABELS]
        if hit:
            return Guess(one.name, f"its name holds {hit[0]!r}")
    two = [one for one in able if one.distinct == 2]
    return Guess(two[-1].name, "the last column of two values") if two else None


def _useless(one: Column) -> str | None:
    """Return why a column is no feature; None: it may be one."""
    if one.nulls == one.rows:
        return "it has no values"
    if one.distinct == 1:
        return "it has one value"
    if not (_is_text(one) or _is_number(one)):
        return f"{one.type} is neither number nor text"
    names = _is_text(one) or (_is_whole(one) and _words(one.name)[-1:] == ["id"])
    if names and one.distinct is not None and one.distinct > max(_FEW, (one.rows - one.nulls) // 2):
        return "most of its values are there once"
    return None


def _telling(one: Column, label: Guess | None) -> str | None:
    """Return why a column may hold what is to be predicted; None: nothing says so."""
    known = label is not None and set(_words(label.column))
    return (
        f"its name holds that of the label, {label.column}" if label and known and known < {*_words(one.name)} else None
    )


def _category(one: Column) -> str | None:
    if _is_text(one):
        return "texts that repeat"
    last = _words(one.name)[-1:]
    return f"whole numbers, and its name ends in {last[0]!r}" if _is_whole(one) and {*last} & _NAMES else None
