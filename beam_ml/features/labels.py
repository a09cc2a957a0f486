"""Labels as jobs read them: numbers, or values that a setting sorts into positive and negative, or into classes.

Each row is read by itself. A number is itself; a truth value, and a text that spells one, is 1 or 0. A mapping compares
values, not their spelling: 1, 1.0, "1" and true are one value, so that every format's rows are sorted alike. −1 is not
taken for 0 unless a mapping says so: elsewhere it means "not known". Letters: ``n`` rows.
"""

import re
from collections import Counter
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field, field_validator, model_validator

from beam_ml.core.algorithm import Predictions
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue
from beam_ml.features.columns import NUMBER, Name, column, is_text, name_of, numbers, wrong

__all__ = ["NO_CLASS", "OUTSIDE", "Label", "LabelColumn", "Labelled", "labelled", "named"]

Value = bool | int | float | str
"""What a label may be listed as."""
OUTSIDE = "label is neither positive nor negative"
"""Reason to reject a row whose label a mapping does not hold."""
NO_CLASS = "label is no listed class"
"""Reason to reject a row whose label is not among the classes."""
UNREAD = "label is not a number"
"""Reason to reject a row whose label is a text that spells no number, where there is no mapping."""

_PREDICTED, _NAMED = "predicted_label", "predicted_class"
_FIELD = "Features.label"
_WANTED = "a number, a truth value or a text"
_EXACT = 2**53  # from here on a float stands for several whole numbers
_TRUTH = {"true": 1.0, "false": 0.0}
_TRUTHS = frozenset((0.0, 1.0))


def _meant(value: Any) -> float | str:
    """Return what a label is compared as: a number, or else a text without the white space around it."""
    if not isinstance(value, str):
        return float(value)
    text = value.strip()
    return float(text) if re.fullmatch(NUMBER, text) else _TRUTH.get(text.lower(), text)


def _named(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Label(Settings):
    """Which values of a column are positive (1) and which negative (0), or the classes 0, 1, …; any other value makes its
    row a counted reject.

    A null, and an empty text that is not listed, is a missing label.

    >>> label = Label(column="status", positive=["fraud", "chargeback"], negative="others")
    >>> labelled(pa.record_batch({"status": ["fraud", "paid", None]}), label).values.tolist()
    [1.0, 0.0, nan]
    >>> Label(column="species", classes=["setosa", "versicolor", "virginica"]).names
    ('setosa', 'versicolor', 'virginica')
    """  # noqa: D205 one sentence

    called: ClassVar[str] = _FIELD

    column: Name
    positive: Annotated[
        tuple[Value, ...] | None,
        Field(
            min_length=1, description="values that become 1: texts, numbers, truth values; none: `classes` lists them"
        ),
    ] = None
    negative: Annotated[
        tuple[Value, ...] | Literal["others"] | None,
        Field(
            description="values that become 0, or 'others': every other value that is there; it may be left out where "
            "one truth value is positive, whose other one is negative"
        ),
    ] = None
    classes: Annotated[
        tuple[Value, ...] | None,
        Field(
            min_length=2, max_length=100_000,
            description="values that become 0, 1, … in this order, in place of positive and negative; predictions name the "
            "class (`predicted_class`)",
        ),
    ] = None  # fmt: skip

    @field_validator("positive", "negative", "classes")
    @classmethod
    def _exact(cls, value: Any) -> Any:
        for one in value if isinstance(value, tuple) else ():
            if isinstance(one, int | float) and abs(one) >= _EXACT:
                message = "must list numbers below 2⁵³, which floating numbers tell apart"
                raise ValueError(message)
        return value

    @field_validator("positive", "negative")
    @classmethod
    def _ordered(cls, value: Any) -> Any:
        """Keep the values in an order of their own, so that theirs in the file does not matter."""
        if not isinstance(value, tuple):
            return value
        return tuple(sorted(value, key=lambda one: (str(_meant(one)), str(one))))

    @model_validator(mode="after")
    def _sorted_out(self) -> "Label":
        if self.classes is not None and (self.positive is not None or self.negative is not None):
            message = f"positive and negative must be left out with classes; got {list(self.positive or ())!r}"
            raise ValueError(message)
        counts = Counter(map(_meant, self._listed))
        twice = [one for one in self._listed if counts[_meant(one)] > 1]
        if twice:
            what = "positive and negative" if self.classes is None else "classes"
            message = f"{what} must list no value twice (1, '1' and true are one); got {twice}"
            raise ValueError(message)
        if self.classes is not None:
            return self
        if self.positive is None:
            message = (
                "positive must be given, a list of values that become 1 (or classes, of values that become 0, 1, …)"
            )
            raise ValueError(message)
        if self.negative is None and not (len(self.positive) == 1 and isinstance(self.positive[0], bool)):
            message = (
                f"negative must be given where positive is {list(self.positive)!r}: a list of values, or 'others', "
                "every other value that is there"
            )
            raise ValueError(message)
        if self.negative == ():
            message = "negative must list at least one value, or be 'others'; got []"
            raise ValueError(message)
        return self

    @property
    def _listed(self) -> tuple[Value, ...]:
        negative = self.negative if isinstance(self.negative, tuple) else ()
        return (*(self.positive or ()), *negative, *(self.classes or ()))

    @property
    def names(self) -> tuple[str, ...] | None:
        """What the classes 0, 1, … are called, where one value stands for each."""
        if self.classes is not None:
            return tuple(map(_named, self.classes))
        if isinstance(self.negative, tuple) and self.positive is not None and len(self._listed) == 2:
            return _named(self.negative[0]), _named(self.positive[0])
        return None

    def sorted_out(self, values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of each value, or NaN (missing), and which are of no class."""
        of: dict[float | str, float] = {_meant(one): float(i) for i, one in enumerate(self.classes or ())}
        of |= {_meant(one): 0.0 for one in (self.negative if isinstance(self.negative, tuple) else ())}
        of |= {_meant(one): 1.0 for one in self.positive or ()}
        if self.negative is None and self.classes is None:
            of |= dict.fromkeys(_TRUTHS - of.keys(), 0.0)
        other = 0.0 if self.negative == "others" else None
        found, outside = np.full(len(values), np.nan), np.zeros(len(values), dtype=bool)
        for i, value in enumerate(values):
            meant = None if value is None else _meant(value)
            if meant in of:
                found[i] = of[meant]
            elif meant is None or meant == "" or meant != meant:  # the last: a float that is NaN
                continue
            elif other is None:
                outside[i] = True
            else:
                found[i] = other
        return found, outside


def _spelled_out(value: Any) -> Any:
    value = name_of(value)
    if isinstance(value, dict):
        return Label.parse(value)
    if value is not None and not isinstance(value, str | Label):
        message = (
            "Features.label must be a column's name, or a table such as "
            "{ column = 'status', positive = ['fraud'], negative = ['paid'] }; got " + repr(value)
        )
        raise InvalidValue(message + ".")
    return value


LabelColumn = Annotated[Name | Label, BeforeValidator(_spelled_out, json_schema_input_type=str | int | Label)]
"""A column's name, or a name and which of its values are positive and negative."""


class Labelled(NamedTuple):
    """A column of labels.

    Attributes:
        values: (n,) labels; NaN where there is none.
        reason: why rows are refused.
        refused: (n,) bool: where a value is no label; None: nowhere.
        texts: the values as they were, where `refused` is not None.
    """

    values: np.ndarray
    reason: str = UNREAD
    refused: np.ndarray | None = None
    texts: pa.Array | None = None


def labelled(batch: pa.RecordBatch, label: str | Label) -> Labelled:
    """Return a column's labels.

    Raises:
        MissingColumn: it is absent or of another type.

    >>> labelled(pa.record_batch({"y": ["0", "True", "perhaps"]}), "y").values.tolist()
    [0.0, 1.0, nan]
    """
    if isinstance(label, str):
        return _plain(batch, label)
    array = column(batch, label.column, _FIELD, _WANTED)
    kind, types = array.type, pa.types
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    if not (numeric or types.is_null(kind) or is_text(kind)):
        raise wrong(label.column, _FIELD, _WANTED, kind)
    # A column of labels holds few values: each is looked at once.
    coded = (array.cast(pa.string()) if is_text(kind) else array).dictionary_encode()
    of, outside = label.sorted_out(coded.dictionary.to_pylist())
    index = coded.indices.fill_null(len(of)).to_numpy(zero_copy_only=False)
    refused, reason = np.append(outside, False)[index], OUTSIDE if label.classes is None else NO_CLASS
    values = np.append(of, np.nan)[index]
    return Labelled(values, reason, refused, _shown(array)) if refused.any() else Labelled(values)


def named(label: str | Label | None, predictions: Predictions) -> Predictions:
    """Return predictions with `predicted_class`, the names of the predicted labels, where a setting has names for them.

    >>> label = Label(column="kind", classes=["oak", "ash", "elm"])
    >>> named(label, {"predicted_label": np.array([2, 0])})["predicted_class"].tolist()
    ['elm', 'oak']
    """
    names = label.names if isinstance(label, Label) else None
    if names is None or _PREDICTED not in predictions:
        return predictions
    return {**predictions, _NAMED: np.array(names)[predictions[_PREDICTED]]}


def _plain(batch: pa.RecordBatch, name: str) -> Labelled:
    found = numbers(batch, name, _FIELD)
    return Labelled(found.values, UNREAD, found.unread, found.texts)


def _shown(array: pa.Array) -> pa.Array:
    if pa.types.is_decimal(array.type):
        return pa.array([None if one is None else str(Decimal(one)) for one in array.to_pylist()], pa.string())
    return array.cast(pa.string())
