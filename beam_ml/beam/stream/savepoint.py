"""Ending a stream on Flink with its state kept: a savepoint, through Flink's own REST interface."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from beam_ml.errors import EngineRefused

__all__ = ["savepoint"]

_LOOK_S = 0.5


def savepoint(rest: str, folder: str, timeout_s: float = 120.0) -> str:
    """Take a savepoint of the running job and stop it; return where the savepoint lies.

    Flink's own stop, with or without a drain, is not used: it waits forever for sources like these to end.

    Args:
        rest: URL of Flink's REST interface, whose cluster runs this job alone.
        folder: URL of the folder for the savepoint.
        timeout_s: to wait for the savepoint.

    Raises:
        EngineRefused: no job runs, several do, or Flink fails to take the savepoint.
    """
    running = [one["jid"] for one in _ask(rest, "/jobs/overview")["jobs"] if one["state"] == "RUNNING"]
    if len(running) != 1:
        message = f"Flink at {rest} must run exactly the one job to be ended; it runs {len(running)}."
        raise EngineRefused(message)
    job = f"/jobs/{running[0]}"
    asked = _ask(rest, f"{job}/savepoints", {"target-directory": folder, "cancel-job": True})
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        answer = _ask(rest, f"{job}/savepoints/{asked['request-id']}")
        if answer["status"]["id"] == "COMPLETED":
            location = answer["operation"].get("location")
            if location is None:
                cause = answer["operation"].get("failure-cause", {}).get("class", "no reason given")
                message = f"Flink at {rest} took no savepoint in {folder}: {cause}."
                raise EngineRefused(message)
            return str(location)
        time.sleep(_LOOK_S)
    message = f"Flink at {rest} must take the savepoint in {folder} within {timeout_s:g} s; it did not."
    raise EngineRefused(message)


def _ask(rest: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{rest.rstrip('/')}{path}", data=data)  # noqa: S310 the user's own server
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        message = f"Flink's REST interface at {rest} must answer {path}; {error}."
        raise EngineRefused(message) from error
