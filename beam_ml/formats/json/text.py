"""One JSON message at a time, by the standard library; and rows as JSON."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from beam_ml.errors import InvalidValue
from beam_ml.formats import lines
from beam_ml.formats.far_times import check_times

__all__ = ["Twice", "compact", "encode", "first", "is_one", "is_text", "names", "nearly", "quoted", "twice", "values"]

_SPACE = re.compile(r"[ \t\r\n]*")


def _int(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # more digits than Python reads
        return float(text)


class Twice(dict[str, Any]):
    """An object with fields that are in it more than once, each with its last value; `fields` names them."""

    __slots__ = ("fields",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.fields = frozenset(name for name, n in counts.items() if n > 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Twice(pairs)


def twice(row: Any, path: Sequence[str]) -> str | None:
    """Return the first field on a path that is in its object more than once, by its own path; None: none is.

    >>> (row,) = values(b'{"a": {"b": 1, "b": 2}, "c": {"d": 3}, "c": 4}')
    >>> twice(row, ["a", "b"]), twice(row, ["a"]), twice(row, ["c", "d"])
    ('a.b', None, 'c')
    """
    for i, name in enumerate(path):
        if not isinstance(row, dict):
            return None
        if isinstance(row, Twice) and name in row.fields:
            return ".".join(path[: i + 1])
        row = row.get(name)
    return None


_unsuspecting = json.JSONDecoder(parse_int=_int)
_decoder = json.JSONDecoder(parse_int=_int, object_pairs_hook=_object)


def is_text(name: str) -> bool:
    r"""Return whether a name can be a column's: JSON spells halves of characters, which are no Unicode text.

    >>> is_text(""), is_text("betrag €"), is_text("\ud800")
    (True, True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_one(value: bytes) -> bool:
    """Return whether bytes are one JSON value and nothing after it.

    >>> is_one(b'[{"x": 1}]'), is_one(b'[{"x": 1}], "more": [2]')
    (True, False)
    """
    try:
        text = value.decode()
        return _decoder.raw_decode(text)[1] == len(text)
    except (ValueError, RecursionError):
        return False


def nearly(value: bytes) -> bool:
    """Return whether a text that does not parse may be what other parsers take: odd infinities, or very deep nesting."""
    return lines.is_text(value) and (
        b"NaN" in value or b"Inf" in value or max(value.count(b"["), value.count(b"{")) > 900
    )


def values(message: bytes, suspect: bool = True) -> list[Any]:
    r"""Return the values of a message: those of an array, or several in sequence.

    Args:
        message: its bytes.
        suspect: whether an object with a field twice becomes `Twice`, which takes longer to find out.

    Raises:
        ValueError: it is not JSON, or neither an array nor objects.

    >>> values(b'{"x": 1}\n{"x": 2}')
    [{'x': 1}, {'x': 2}]
    """
    try:
        text = message.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = f"not UTF-8 at byte {error.start}"
        raise ValueError(text) from error
    found: list[Any] = []
    decode = (_decoder if suspect else _unsuspecting).raw_decode
    at = _end(text, 0)
    while at < len(text):
        try:
            value, at = decode(text, at)
        except RecursionError as error:
            words = "nested too deeply"
            raise ValueError(words) from error
        except json.JSONDecodeError as error:
            words = f"{error.msg[:1].lower()}{error.msg[1:]} at character {error.pos}"
            raise ValueError(words) from error
        at = _end(text, at)
        found.append(value)
    if len(found) == 1 and isinstance(found[0], list):
        return found[0]
    if found and not any(isinstance(value, dict) for value in found):
        words = "neither an object nor an array"
        raise ValueError(words)
    return found


def first(message: bytes) -> Any:
    """Return the first row of a message, or None where it does not begin with one.

    >>> first(b'[{"x": 1}, {"x"')
    {'x': 1}
    """
    try:
        text = message.decode("utf-8-sig", errors="ignore")
        return _decoder.raw_decode(text, _SPACE.match(text, text[:1] == "[").end())[0]  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return None


def names(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of a row's values, and the paths of those within objects.

    >>> list(names({"x": 1, "a": {"b": 2, "c": {}}}))
    ['x', 'a.b', 'a.c']
    """
    left: list[tuple[str, Any]] = [*row.items()][::-1]
    while left:
        name, value = left.pop()
        if isinstance(value, dict) and value:
            left += [(f"{name}.{inner}", one) for inner, one in value.items()][::-1]
        else:
            yield name


def _end(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


def _float(value: float | None) -> str:
    return "null" if value is None or not math.isfinite(value) else repr(value)


def _plain(value: Any) -> str:
    return "null" if value is None else str(value)


def _truth(value: bool | None) -> str:
    return "null" if value is None else "true" if value else "false"


def quoted(value: str | None) -> str:
    """Return a text as JSON."""
    return "null" if value is None else json.dumps(value, ensure_ascii=False)


def _texts(name: str, array: pa.Array) -> list[str]:
    """Return a column's values as JSON, each with its name before it."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind, types = array.type, pa.types
    as_text: Callable[[Any], str]
    if types.is_floating(kind):
        as_text = _float
    elif types.is_integer(kind) or types.is_null(kind):
        as_text = _plain
    elif types.is_boolean(kind):
        as_text = _truth
    elif types.is_string(kind) or types.is_large_string(kind):
        as_text = quoted
    elif types.is_timestamp(kind) or types.is_date(kind):
        if types.is_timestamp(kind):
            array = array.cast(pa.timestamp(kind.unit, tz="UTC") if kind.tz else kind)
        as_text, array = quoted, array.cast(pa.string())
    else:
        message = f"column {name!r} must be of a type that JSON has; got {kind}."
        raise InvalidValue(message)
    head = json.dumps(name, ensure_ascii=False) + ":"
    return [head + as_text(value) for value in array.to_pylist()]


def encode(rows: pa.RecordBatch) -> list[bytes]:
    r"""Return rows as objects.

    Raises:
        InvalidValue: a column that has no JSON equal, or a time that no text says.

    >>> encode(pa.record_batch({"x": [1.5, None], "s": ["a", "b"]}))
    [b'{"x":1.5,"s":"a"}', b'{"x":null,"s":"b"}']
    """
    check_times(rows)
    columns = [_texts(name, column) for name, column in zip(rows.schema.names, rows.columns, strict=True)]
    texts = ["{" + ",".join(row) + "}" for row in zip(*columns, strict=True)] if columns else ["{}"] * rows.num_rows
    return [text.encode() for text in texts]


def compact(row: Mapping[str, Any]) -> bytes:
    """Return one row as JSON, with null for numbers that are not finite.

    >>> compact({"start": "2024-01-01", "target": [1.0, float("nan")]})
    b'{"start":"2024-01-01","target":[1.0,null]}'
    """
    return json.dumps(_finite(row), ensure_ascii=False, separators=(",", ":"), default=str).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
