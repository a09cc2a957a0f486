"""Writer schemas by id, from a registry that answers as Confluent's: ``GET /schemas/ids/{id}``.

A schema is kept for the life of the process: a registry never assigns an id twice.
"""

import functools
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from beam_ml.errors import InvalidValue, NoInput, SourceUnavailable

__all__ = ["schema"]

_MAX_BYTES = 16 << 20


def _secret(value: str) -> str:
    """Return a value, or that of the environment's variable where it is '$NAME'."""
    if not value.startswith("$"):
        return value
    found = os.environ.get(value[1:])
    if found is None:
        message = f"avro.Options.authorization names {value}, which must be set in the environment; it is not."
        raise InvalidValue(message)
    return found


def _get(where: str, authorization: str | None, timeout_s: float, what: str) -> dict[str, Any]:
    if urllib.parse.urlsplit(where).scheme not in ("http", "https"):
        message = f"avro.Options.registry must be an http or https URL; got {where!r}."
        raise InvalidValue(message)
    request = urllib.request.Request(where, headers={"Accept": "application/vnd.schemaregistry.v1+json"})  # noqa: S310
    if authorization is not None:
        request.add_unredirected_header("Authorization", _secret(authorization))
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
            body = reply.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            text = f"schema registry {where} must return {what}; it answered {error.code} {error.reason}."
        raise (NoInput if error.code == 404 else SourceUnavailable)(text) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        message = f"schema registry {where} must return {what}; it cannot be reached ({reason})."
        raise SourceUnavailable(message) from error
    try:
        found = json.loads(body)
        if isinstance(found["schema"], str):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    message = f"schema registry {where} must return {what} as JSON with a field 'schema'; got {body[:80]!r}."
    raise SourceUnavailable(message)


@functools.lru_cache(maxsize=4096)
def schema(url: str, id: int, authorization: str | None = None, timeout_s: float = 10.0) -> tuple[str, ...]:
    """Return an Avro schema as JSON text, after those that it refers to.

    Args:
        url: of the registry.
        id: the schema's.
        authorization: value of the header of that name, or '$NAME' of the environment's variable that holds it.
        timeout_s: s to wait for an answer.

    Raises:
        NoInput: the registry has no such schema, or it is not Avro.
        SourceUnavailable: the registry does not answer, or refuses.
    """
    base = url.rstrip("/")
    where, what = f"{base}/schemas/ids/{id}", f"the schema of id {id}"
    found = _get(where, authorization, timeout_s, what)
    if found.get("schemaType", "AVRO") != "AVRO":
        message = f"schema registry {where} must return {what} in Avro; it is {found['schemaType']}."
        raise NoInput(message)
    named: dict[str, None] = {}
    for one in found.get("references") or ():
        _add(base, one, authorization, timeout_s, what, named)
    return (*named, found["schema"])


def _add(
    base: str, one: dict[str, Any], authorization: str | None, timeout_s: float, what: str, named: dict[str, None]
) -> None:
    """Add a schema referred to, after those that it refers to itself."""
    subject, version = urllib.parse.quote(str(one["subject"]), safe=""), int(one["version"])
    found = _get(f"{base}/subjects/{subject}/versions/{version}", authorization, timeout_s, f"what {what} refers to")
    for other in found.get("references") or ():
        _add(base, other, authorization, timeout_s, what, named)
    named.setdefault(found["schema"])
