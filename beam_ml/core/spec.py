"""Specs: frozen, validated, JSON-able settings.

A `Spec` shapes the state (change it and the data is needed again); a `ModelSpec` is chosen after training, at derive.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pydantic
from pydantic import Field

from beam_ml.core.batch import Batch
from beam_ml.core.meant import did_you_mean
from beam_ml.core.secrets import shown
from beam_ml.errors import InvalidValue

__all__ = [
    "DURATION_PATTERN",
    "LONGEST_S",
    "Duration",
    "ModelSpec",
    "Settings",
    "Spec",
    "canonical_json",
    "duration_s",
    "parse_duration_s",
    "to_us",
]

_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
DURATION_PATTERN = r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*$"
"""What a duration with a unit looks like, such as `14d`."""
_DURATION = re.compile(DURATION_PATTERN)


_WORDS = {
    "sec": "s",
    "second": "s",
    "min": "m",
    "minute": "m",
    "hr": "h",
    "hour": "h",
    "day": "d",
    "wk": "w",
    "week": "w",
}
_WORDED = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+?)s?\s*$")
LONGEST_S = 9e12
"""Longest duration: in µs it still is an int64."""


def parse_duration_s(value: object) -> object:
    """Turn `"14d"`, `"5s"`, `"1.5h"` into seconds; numbers pass through as seconds.

    >>> parse_duration_s("2w")
    1209600.0
    """
    if isinstance(value, str):
        match = _DURATION.match(value)
        if match:
            return float(match[1]) * _UNITS_S[match[2]]
    return value


def duration_s(value: object) -> object:
    """Return seconds; raise ValueError for a text that is no duration, and for more than 285,000 years."""
    seconds = parse_duration_s(value)
    if isinstance(seconds, str) and not _is_number(seconds):
        message = "must be a duration such as '90s', '15m', '6h' or '14d' (units: ms, s, m, h, d, w)"
        raise ValueError(message)
    if isinstance(seconds, int | float) and seconds > LONGEST_S:
        message = f"must be a duration of at most {LONGEST_S:g} s"
        raise ValueError(message)
    return seconds


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _meant_duration(text: object) -> str:
    """Return the question whether a duration in words was meant as one in a unit."""
    match = _WORDED.match(text) if isinstance(text, str) else None
    unit = _WORDS.get(match[2].lower(), match[2].lower()) if match else ""
    meant = f"{match[1]}{unit}" if match and unit in _UNITS_S else text
    return "" if meant == text else f" Did you mean '{meant}'?"


Duration = Annotated[float, pydantic.BeforeValidator(duration_s), Field(gt=0)]
"""Seconds, or a string such as ``"14d"``; greater than 0."""


def to_us(seconds: float) -> int:
    """Return a duration in whole µs, the nearest: 0.7 s are not 699,999 µs.

    >>> to_us(16.1)
    16100000
    """
    return round(seconds * 1e6)


def canonical_json(value: object) -> str:
    """Serialise with sorted keys and no spaces: equal content yields equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


_RULES = {
    "greater_than": "be > {gt}",
    "greater_than_equal": "be >= {ge}",
    "less_than": "be < {lt}",
    "less_than_equal": "be <= {le}",
    "multiple_of": "be a multiple of {multiple_of}",
    "finite_number": "be a finite number",
    "literal_error": "be one of {expected}",
    "extra_forbidden": "not be given: there is no such field",
    "missing": "be given",
    "model_type": "be a table of settings",
    "dict_type": "be a table of settings",
    "tuple_type": "be a list",
    "string_type": "be text",
    "string_too_long": "have at most {max_length} characters",
    "int_parsing": "be a whole number",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_parsing": "be a number",
    "float_type": "be a number",
    "bool_parsing": "be true or false",
    "bool_type": "be true or false",
}


_BARE = {"float", "int", "str", "bool"}


def _is_branch(part: object) -> bool:
    """Return whether a part of an error's place names a branch of a union, which no user has written."""
    if not isinstance(part, str):
        return False
    # pydantic calls the branch of a bounded number `constrained-float`.
    kinds = {kind.__name__ for kind in Settings.__subclasses__()}
    return "[" in part or part in kinds or part.rpartition("-")[2] in _BARE


def _sentences(kind: "type[Settings]", errors: Sequence[Any]) -> str:
    """Return a sentence per field that was refused, whatever number of alternatives its value misses."""
    name, of_field = kind.called or kind.__name__, dict[tuple[Any, ...], list[Any]]()
    for error in errors:
        place = tuple(part for part in error["loc"] if not _is_branch(part))
        of_field.setdefault(place, []).append(error)
    return " ".join(_sentence(kind, ".".join(map(str, (name, *place))), group) for place, group in of_field.items())


def _sentence(kind: "type[Settings]", field: str, errors: Sequence[Any]) -> str:
    error = errors[0]
    cause = (error.get("ctx") or {}).get("error")
    if isinstance(cause, InvalidValue):
        return str(cause)  # a sentence already, about the part that was refused
    if not error["loc"]:
        return f"{field}.{str(cause or error['msg']).rstrip('.')}."  # about several fields at once: the text names them
    rules = list(dict.fromkeys(_rule(one) for one in errors))
    text = " or ".join([rules[0], *(rule.removeprefix("must ") for rule in rules[1:])])
    if error["type"] == "missing":
        return f"{field} {text}."
    return f"{field} {text}; got {shown(error['input'], error['loc'])}.{_meant(kind, errors)}"


def _rule(error: Any) -> str:
    context = error.get("ctx") or {}
    rule = _RULES.get(error["type"])
    if error["type"] == "literal_error" and " or " not in context["expected"]:
        return f"must be {context['expected']}"
    if rule is not None:
        return f"must {rule.format(**context)}"
    if error["type"] == "value_error":
        return str(context.get("error") or error["msg"]).rstrip(".")
    return f"must be valid: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _meant(kind: "type[Settings]", errors: Sequence[Any]) -> str:
    for error in errors:
        if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
            return did_you_mean(error["loc"][0], kind.model_fields)
        if error["type"] == "literal_error":
            found = did_you_mean(error["input"], re.findall(r"'([^']+)'", error["ctx"]["expected"]))
            if found:
                return found
    return _meant_duration(errors[0]["input"]) if "duration" in _rule(errors[0]) else ""


class Settings(pydantic.BaseModel):
    """Base of everything a user sets: frozen, no unknown fields, no infinities, no bool where a number is meant.

    Raises `InvalidValue`: one sentence that names field, rule and value.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    called: ClassVar[str] = ""
    """How messages call this class; the default is its own name."""

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except pydantic.ValidationError as error:
            raise InvalidValue(_sentences(type(self), error.errors())) from None
        except TypeError as error:  # a mapping within, whose keys are no text: pydantic hands them on as keywords
            if "keywords must be strings" not in str(error):
                raise
            called = self.called or type(self).__name__
            message = f"{called} must name its settings by text, nested ones too; got a name that is none."
            raise InvalidValue(message) from None

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: object, info: pydantic.ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name is not None:
            annotation = str(cls.model_fields[info.field_name].annotation)
            if "bool" not in annotation:
                message = "must be a number or text, not a truth value"
                raise ValueError(message)
        return value

    @classmethod
    def parse(cls, value: object) -> Self:
        """Build from a mapping (of strings, numbers) as read from JSON or TOML."""
        if not isinstance(value, dict):
            message = f"{cls.called or cls.__name__} must be a mapping of settings; got {shown(value, (cls.called,))}."
            raise InvalidValue(message)
        for name in value:
            if not isinstance(name, str):
                message = f"{cls.called or cls.__name__} must name its settings by text; got {name!r}."
                raise InvalidValue(message)
        return cls(**value)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form, defaults included."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """Return the canonical JSON."""
        return canonical_json(self.to_dict())


class Spec(Settings):
    """What shapes the state of one algorithm. Its fingerprint decides what may merge.

    Every concrete Spec has a field ``algorithm: Literal["…"]`` (a key of ALGORITHMS, or ``module:attribute``), so that its
    JSON alone names its algorithm.

    >>> from beam_ml import pca
    >>> spec = pca.Spec(n_features=2, half_life="1d")
    >>> isinstance(spec, Spec), spec.half_life, spec.fingerprint == pca.Spec(n_features=2, half_life=86_400).fingerprint
    (True, 86400.0, True)
    """

    algorithm: str
    n_features: Annotated[int, Field(ge=1, le=100_000_000)]
    half_life: Annotated[Duration | None, Field(description="seconds of event time; None: nothing is forgotten")] = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    label_rule: ClassVar[Literal["none", "real", "class"]] = "none"
    """What a row's label must be: absent or ignored, a finite number, or a class index."""
    feature_rule: ClassVar[Literal["number", "category", "count", "series"]] = "number"
    """What a row's features are: numbers, of which greater and smaller mean something, categories, equal or not, or counts,
    as of a document's words, of which a row with one below 0 is rejected; or they are together a series over time
    (`beam_ml.core.series`)."""
    takes_sparse: ClassVar[bool] = True
    """Whether rows may be sparse, as hashed columns make them."""
    takes_words: ClassVar[bool] = False
    """Whether rows may be texts' words, sparse, as `Features.words` spells them."""
    max_staleness: ClassVar[int | None] = None
    """How many published versions may lie between an anchor and the fold; None: any number (EXACT, SKETCH, Newton)."""

    @property
    def label_target(self) -> Literal["none", "real", "class"]:
        """What a row's label must be, for this spec."""
        return type(self).label_rule

    @property
    def n_label_classes(self) -> int:
        """Number of label classes the sample keeps apart (1: none)."""
        return 1

    @property
    def aims_at_mean(self) -> bool:
        """Whether scores are meant as probabilities, or as means of the label: what a prior can be compared with."""
        return True

    @property
    def anchor_staleness(self) -> int | None:
        """Published versions that may lie between an anchor and the fold before its rows are rejected (None: any)."""
        return type(self).max_staleness

    def refused(self, batch: Batch) -> Sequence[tuple[str, np.ndarray]]:
        """Return, by reason, the masks (n,) of rows that this algorithm may not learn from, besides those that none may."""
        return ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


class ModelSpec(Settings):
    """What is chosen after training, at derive. Every concrete ModelSpec has ``kind: Literal["…"]``.

    >>> from beam_ml import pca
    >>> chosen = pca.Components(n_components=1)
    >>> isinstance(chosen, ModelSpec), chosen.to_json()
    (True, '{"center":true,"kind":"components","n_components":1,"whiten":false}')
    """

    kind: str
