"""Bytes of Avro walked through before fastavro decodes them, where a schema lets few bytes mean much.

A type that holds itself may nest as deep as there are bytes, which ends a process; an array of nulls may claim 2⁶⁰ items in
ten bytes. Schemas without any of these are not walked: of all else, a decoder reads no more than is there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Walk", "walk_for"]

_LEVELS = 300
_FIXED = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_PRIMITIVE = {*_FIXED, "int", "long", "bytes", "string"}


def walk_for(schema: Any, named: Mapping[str, Any]) -> "Walk | None":
    """Return the walk through values of a schema; None: it needs none.

    Args:
        schema: as `fastavro.parse_schema` returns it.
        named: the types that it names, by full name.

    >>> from fastavro import parse_schema
    >>> walk_for(parse_schema({"type": "array", "items": "long"}), {}) is None
    True
    >>> nulls = walk_for(parse_schema({"type": "array", "items": "null"}), {})
    >>> nulls(bytes([8, 0]))
    Traceback (most recent call last):
    ...
    ValueError: an array claims 4 items in 2 bytes
    """
    walk = Walk(schema, named)
    return walk if walk.needed() else None


class Walk:
    """Walks through values of one schema.

    Args:
        schema, named: see `walk_for`.
    """

    def __init__(self, schema: Any, named: Mapping[str, Any]) -> None:
        self._schema, self._named = schema, named
        self._known: dict[str, int] = {}

    def __call__(self, data: bytes, at: int = 0, rows: int = 1) -> int:
        """Return where so many values end that begin at `at`.

        Raises:
            ValueError: they are cut off, nested too deep, or claim more than their bytes can hold.
        """
        for _ in range(rows):
            at = self._value(self._schema, data, at, 0)
        return at

    def needed(self) -> bool:
        """Return whether any type holds itself, or is an array of what takes no bytes."""
        return any(
            one is None or (_kind(one) in ("array", "map") and self._least(_items(one)) == 0)
            for one in self._types(self._schema, (), set())
        )

    def _types(self, schema: Any, within: tuple[str, ...], done: set[str]) -> Iterator[Any]:
        """Return every type that a value may be made of, each record once; None for one that holds itself."""
        one = self._of(schema)
        if isinstance(one, list):
            for branch in one:
                yield from self._types(branch, within, done)
            return
        yield one
        if _kind(one) in ("array", "map"):
            yield from self._types(_items(one), within, done)
        elif _kind(one) == "record":
            name = one["name"]
            if name in within:
                yield None
            elif name not in done:
                for field in one["fields"]:
                    yield from self._types(field["type"], (*within, name), done)
                done.add(name)

    def _of(self, schema: Any) -> Any:
        """Return the type itself, where it is named or wrapped."""
        while True:
            if isinstance(schema, str) and schema not in _PRIMITIVE:
                schema = self._named[schema]
            elif isinstance(schema, dict) and isinstance(schema["type"], dict | list):
                schema = schema["type"]
            elif isinstance(schema, dict) and schema["type"] in self._named:
                schema = self._named[schema["type"]]
            else:
                return schema

    def _least(self, schema: Any, within: tuple[str, ...] = ()) -> int:
        """Return 0 where a value may take no bytes, else 1."""
        one = self._of(schema)
        if isinstance(one, list):
            return 1
        kind = _kind(one)
        if kind == "fixed":
            return min(1, int(one["size"]))
        if kind == "record":
            name = one["name"]
            if name in within:
                return 0
            if name not in self._known:
                fields = (self._least(field["type"], (*within, name)) for field in one["fields"])
                self._known[name] = max(fields, default=0)
            return self._known[name]
        return min(1, _FIXED.get(kind, 1))

    def _value(self, schema: Any, data: bytes, at: int, level: int) -> int:
        if level > _LEVELS:
            message = f"nested deeper than {_LEVELS} levels"
            raise ValueError(message)
        one = self._of(schema)
        if isinstance(one, list):
            branch, at = _long(data, at)
            if not 0 <= branch < len(one):
                message = f"a union of {len(one)} types has no type {branch}"
                raise ValueError(message)
            return self._value(one[branch], data, at, level + 1)
        kind = _kind(one)
        if kind in _FIXED:
            return _skipped(data, at, _FIXED[kind])
        if kind in ("int", "long", "enum"):
            return _long(data, at)[1]
        if kind in ("bytes", "string", "fixed"):
            size, at = (int(one["size"]), at) if kind == "fixed" else _long(data, at)
            return _skipped(data, at, size)
        if kind in ("array", "map"):
            return self._many(one, data, at, level)
        for field in one["fields"]:
            at = self._value(field["type"], data, at, level + 1)
        return at

    def _many(self, one: Any, data: bytes, at: int, level: int) -> int:
        items, named = _items(one), _kind(one) == "map"
        empty, total = not named and self._least(items) == 0, 0
        while True:
            count, at = _long(data, at)
            if count == 0:
                return at
            if count < 0:
                count, (_, at) = -count, _long(data, at)
            total += count
            if total > len(data):
                message = f"{'a map' if named else 'an array'} claims {total} items in {len(data)} bytes"
                raise ValueError(message)
            for _ in range(0 if empty and _kind(self._of(items)) != "record" else count):
                if named:
                    size, at = _long(data, at)
                    at = _skipped(data, at, size)
                at = self._value(items, data, at, level + 1)


def _kind(one: Any) -> Any:
    return one["type"] if isinstance(one, dict) else one


def _items(one: Any) -> Any:
    return one["items"] if one["type"] == "array" else one["values"]


def _long(data: bytes, at: int) -> tuple[int, int]:
    """Return a zigzag varint, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            message = "a value is cut off"
            raise ValueError(message)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _skipped(data: bytes, at: int, size: int) -> int:
    if not 0 <= size <= len(data) - at:
        message = f"a value of {size} bytes is cut off"
        raise ValueError(message)
    return at + size
