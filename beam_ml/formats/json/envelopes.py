"""Kafka Connect's envelope of JSON, ``{"schema": …, "payload": …}``: its payload as a message of its own.

Where the schema says that a field is a decimal, which is then text of base64, the payload has the number instead. All else
is as it stands: times are whole numbers, of the unit that the schema names.
"""

import base64
import binascii
import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.formats.messages import MALFORMED, Decoded, Decoder, Refusal, detail, refusals

__all__ = ["decoder"]

_HEAD, _BETWEEN = re.compile(r'\{\s*"schema"\s*:\s*'), re.compile(r'\s*,\s*"payload"\s*:\s*')
_DECIMALS = ("org.apache.kafka.connect.data.Decimal", "io.debezium.data.VariableScaleDecimal")
_MOST_SCALE, _MOST_BYTES, _MOST_KNOWN = 10_000, 4096, 8

Decimals = Mapping[tuple[str, ...], int | None]
"""Path of a decimal within the payload → its scale; None: the value has it."""


def _decimals(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int | None]]:
    """Yield the decimals that a schema of Connect names."""
    if not isinstance(schema, dict):
        return
    if schema.get("name") == _DECIMALS[0]:
        parameters = schema.get("parameters")
        scale = str(parameters.get("scale", 0)) if isinstance(parameters, dict) else "0"
        if scale.removeprefix("-").isdecimal() and len(scale) < 6:
            yield path, int(scale)
    elif schema.get("name") == _DECIMALS[1]:
        yield path, None
    elif schema.get("type") == "struct":
        for field in schema.get("fields") or ():
            yield from _decimals(field, (*path, str(field.get("field"))))


def _number(value: Any, scale: int | None) -> Any:
    """Return the number that a decimal is; a value that is none as it is."""
    if scale is None and isinstance(value, dict):
        scale, value = value.get("scale"), value.get("value")
    if not isinstance(value, str) or type(scale) is not int or abs(scale) > _MOST_SCALE or len(value) > 2 * _MOST_BYTES:
        return value
    try:
        unscaled = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
        return unscaled * 10**-scale if scale <= 0 else unscaled / 10**scale
    except (binascii.Error, OverflowError):
        return value


def _with_numbers(payload: Any, decimals: Decimals) -> Any:
    for path, scale in decimals.items():
        within = payload
        for name in path[:-1]:
            within = within.get(name) if isinstance(within, dict) else None
        if path and isinstance(within, dict) and within.get(path[-1]) is not None:
            within[path[-1]] = _number(within[path[-1]], scale)
    return payload


def _parsed(text: str) -> tuple[Any, Decimals, str | None]:
    """Return the payload of an envelope, its decimals, and how the text of all with the same schema begins.

    Raises:
        ValueError: it is no envelope.
    """
    message = json.loads(text)
    if not isinstance(message, dict) or message.keys() != {"schema", "payload"}:
        words = "neither schema nor payload"
        raise ValueError(words)
    return message["payload"], dict(_decimals(message["schema"])), _begins(text)


def _begins(text: str) -> str | None:
    """Return an envelope's text up to its payload; None: that does not stand behind the schema, with nothing after it."""
    head = _HEAD.match(text)
    between = _BETWEEN.match(text, _decoder.raw_decode(text, head.end())[1]) if head else None
    if between is None or text[_decoder.raw_decode(text, between.end())[1] :].strip() != "}":
        return None
    return text[: between.end()]


_decoder = json.JSONDecoder()


def _payload(text: str, known: dict[str, Decimals]) -> Any:
    """Return the payload of an envelope, with numbers for decimals; and note its schema in `known`."""
    for start, decimals in known.items():
        if text.startswith(start) and text.endswith("}"):
            with contextlib.suppress(ValueError):  # more than a payload: only the whole says what
                return _with_numbers(json.loads(text[len(start) : -1]), decimals)
    payload, decimals, begins = _parsed(text)
    if begins is not None:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[begins] = decimals
    return _with_numbers(payload, decimals)


def decoder(decode: Decoder, bare: bool = False) -> Decoder:
    """Return the decoder of envelopes whose payloads another decodes.

    A payload of null is refused as a tombstone, one that is no object as malformed, and so is what is no envelope.

    Args:
        decode: of JSON messages.
        bare: whether an object without an envelope is taken as a payload itself.

    >>> field = {"field": "x", "type": "bytes", "name": _DECIMALS[0], "parameters": {"scale": "2"}}
    >>> message = {"schema": {"type": "struct", "fields": [field]}, "payload": {"x": "AIA="}}
    >>> from beam_ml.formats.messages import decoder as of
    >>> decoder(of("json"))(pa.array([json.dumps(message).encode()]), ["x"]).batch.to_pydict()
    {'x': [1.28]}
    """
    known: dict[str, Decimals] = {}

    def read(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        kept: list[int] = []
        payloads: list[bytes] = []
        refused: list[Refusal] = []
        for i, value in enumerate(values.to_pylist()):
            try:
                payload = _payload(value.decode().strip(), known) if value.strip() else b""
            except (ValueError, RecursionError) as error:
                if not bare:
                    refused.append((MALFORMED, i, -1, detail(value, f"no envelope ({error})")))
                    continue
                payload = value
            if payload is None:
                refused.append(("tombstone", i, -1, ""))
                continue
            if not isinstance(payload, bytes | dict):
                refused.append((MALFORMED, i, -1, detail(value, "its payload is no object")))
                continue
            kept.append(i)
            payloads.append(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        of = np.array(kept, dtype=np.int64)
        found = decode(pa.array(payloads, pa.binary()), columns)
        others = (dataclasses.replace(one, message=of[one.message]) for one in found.refused)
        return dataclasses.replace(found, message=of[found.message], refused=(*others, *refusals(refused)))

    return read
