"""One row per hyperparameter: its values, and whether it is mapped, accepted with a note, or refused."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from beam_ml.core.meant import did_you_mean
from beam_ml.errors import InvalidValue

__all__ = ["Given", "Name", "Values", "anything", "metric_list", "one_of", "read", "real", "truth", "whole"]

_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TRUTH: Mapping[str, bool] = MappingProxyType({"true": True, "True": True, "false": False, "False": False})


@dataclasses.dataclass(frozen=True, slots=True)
class Values:
    """The values of a hyperparameter: how to read one, and the words that say what one must be.

    Attributes:
        text: follows "must be".
        parse: returns the value, or None for a text that is none.
    """

    text: str
    parse: Callable[[str], Any]


def _words(words: tuple[str, ...]) -> str:
    return "".join(f" or {word}" for word in words)


def whole(low: int, high: int | None, *words: str, because: str = "") -> Values:
    """Whole numbers from low to high (None: any), or one of a few words.

    >>> whole(1, 9, "auto").text
    'a whole number in [1, 9] or auto'
    """

    def parse(text: str) -> int | str | None:
        if text in words:
            return text
        if not _WHOLE.fullmatch(text) or len(text) > 19:
            return None
        return int(text) if low <= int(text) and (high is None or int(text) <= high) else None

    span = f">= {low}" if high is None else f"in [{low}, {high}]"
    return Values(f"a whole number {span}{_words(words)}{because}", parse)


def real(low: float, high: float | None, *words: str, open_low: bool = False, open_high: bool = False) -> Values:
    """Finite numbers from low to high (None: any), the ends left out where open, or one of a few words.

    >>> real(0, 1, "auto", open_high=True).parse("1") is None
    True
    """

    def parse(text: str) -> float | str | None:
        if text in words:
            return text
        if not _REAL.fullmatch(text):
            return None
        number = float(text)
        above = number > low if open_low else number >= low
        below = high is None or (number < high if open_high else number <= high)
        return number if math.isfinite(number) and above and below else None

    if high is not None:
        span = f" in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    else:
        span = "" if low == -math.inf else f" {'>' if open_low else '>='} {low:g}"
    return Values(f"a number{span}{_words(words)}", parse)


def truth(*words: str) -> Values:
    """True or false, either way of writing, or one of a few words."""
    return Values(f"true or false{_words(words)}", lambda text: text if text in words else _TRUTH.get(text))


def one_of(*words: str) -> Values:
    """Accept one of a few words."""
    return Values(f"one of {', '.join(words)}", lambda text: text if text in words else None)


def anything() -> Values:
    """Accept any text as it is."""
    return Values("text", lambda text: text)


def metric_list(*names: str) -> Values:
    """A JSON list of metrics, each once: ``["msd","ssd"]``."""

    def parse(text: str) -> tuple[str, ...] | None:
        try:
            found = json.loads(text)
        except ValueError:
            return None
        good = isinstance(found, list) and found and all(isinstance(x, str) and x in names for x in found)
        return tuple(found) if good and len(set(found)) == len(found) else None

    return Values(f"a JSON list of {', '.join(names)}", parse)


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """One hyperparameter. Exactly one of `to`, `note` and `refused` is given.

    Attributes:
        name: as SageMaker spells it.
        values: that SageMaker knows, within what can be honoured here.
        default: SageMaker's, as text, where it is not given; None: it must be given.
        to: mapped: the fields that it sets, and how.
        note: accepted without effect: why.
        refused: why it cannot be honoured.
        harmless: refused: values that are accepted all the same, since they ask for what happens anyway.
        when: mapped: it has an effect only where each of these names has one of these values; a note otherwise.
    """

    name: str
    values: Values
    default: str | None
    to: str = ""
    note: str = ""
    refused: str = ""
    harmless: tuple[str, ...] = ()
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def kind(self) -> Literal["mapped", "noted", "refused"]:
        """Whether it is mapped, accepted with a note, or refused."""
        return "mapped" if self.to else "noted" if self.note else "refused"


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """The hyperparameters that were read.

    Attributes:
        title: of the algorithm, for messages.
        values: name → value; the default where it is not given, or has no effect with what else was.
        named: the names that were given.
        notes: one sentence for each name that was given and has no effect.
    """

    title: str
    values: Mapping[str, Any]
    named: frozenset[str]
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        """Return a value by name."""
        return self.values[name]

    def require(self, holds: bool, name: str, rule: str) -> None:
        """Refuse a value that does not go with what else was given, in one sentence.

        Raises:
            InvalidValue: the rule does not hold.
        """
        if not holds:
            message = f"{self.title}.{name} {rule}; got {self.values[name]!r}."
            raise InvalidValue(message)


def read(title: str, table: tuple[Name, ...], given: Mapping[str, str]) -> Given:
    """Read hyperparameters by a table.

    Raises:
        InvalidValue: an unknown name, a value that is none, one that cannot be honoured, or a missing one.
    """
    rows = {row.name: row for row in table}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in rows:
            message = f"{title} has no hyperparameter {name!r}.{did_you_mean(name, rows)}"
            raise InvalidValue(message)
        values[name] = _value(title, rows[name], value)
    for row in table:
        if row.name in values:
            continue
        if row.default is None:
            message = f"{title}.{row.name} must be given, {row.values.text}."
            raise InvalidValue(message)
        values[row.name] = row.values.parse(row.default)
    notes: list[str] = []
    idle: dict[str, Any] = {}
    for name in given:
        row = rows[name]
        missed = [(other, values[other]) for other, wanted in row.when if values[other] not in wanted]
        if row.note:
            notes.append(f"{name} has no effect: {row.note}.")
        elif missed:
            notes.append(f"{name} has no effect with {missed[0][0]} {missed[0][1]!r}.")
        if missed and row.default is not None:
            idle[name] = row.values.parse(row.default)
    return Given(title, MappingProxyType({**values, **idle}), frozenset(given), tuple(notes))


def _value(title: str, row: Name, value: object) -> Any:
    text = str(value).strip() if isinstance(value, str | int | float) else None
    found = None if text is None else row.values.parse(text)
    if found is None:
        message = f"{title}.{row.name} must be {row.values.text}; got {value!r}."
        raise InvalidValue(message)
    if row.refused and found not in {row.values.parse(word) for word in row.harmless}:
        message = f"{title}.{row.name} may only be {' or '.join(row.harmless)}: {row.refused}; got {value!r}."
        raise InvalidValue(message)
    return found
