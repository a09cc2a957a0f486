"""The program of a process of the pool: reads parts of rounds as the trainer asks, until the trainer ends.

It ends at once with the trainer, however that ends: its standard input is a pipe whose other end the trainer holds, and
the system closes it. SIGINT and SIGTERM, which a terminal or a supervisor may send to the whole group, are left to the
trainer: it decides whether the round is finished first.
"""

import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Hashable, Mapping
from typing import Any

from apache_beam import Pipeline

from beam_ml.algorithms import find
from beam_ml.beam.job import Job
from beam_ml.beam.rounds.handover import taking
from beam_ml.beam.rounds.opening import plan_from
from beam_ml.beam.rounds.pipeline import run_plan
from beam_ml.beam.rounds.pool.elements import to_message, values_in
from beam_ml.beam.rounds.pool.messages import Closed, receive, send
from beam_ml.beam.wire.elements import Slice
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.spec import canonical_json

__all__ = ["main"]

_SAID = 3
"""Ranges that an error of this process names."""
_LOOK_S = 1.0
"""How often the process looks whether its parent has changed: a copy of the trainer may hold the pipe open."""


class _Said(logging.Handler):
    """Passes warnings on to the trainer, whose logging is set up as its user wants it."""

    def __init__(self, to: socket.socket) -> None:
        super().__init__(logging.WARNING)
        self._to = to

    def emit(self, record: logging.LogRecord) -> None:
        said = {"kind": "said", "logger": record.name, "level": record.levelno, "text": record.getMessage()}
        send(self._to, said)


def main(channel: int) -> None:
    """Serve the trainer over a socket until it closes it.

    Args:
        channel: descriptor of the socket.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    trainer = socket.socket(fileno=channel)
    logging.getLogger("beam_ml").addHandler(_Said(trainer))
    logging.getLogger("beam_ml").propagate = False
    built: dict[str, dict[Hashable, Pipeline]] = {}
    try:
        send(trainer, {"kind": "ready"})
        while True:
            head, _ = receive(trainer)
            send(trainer, _answered(trainer, head, built))
    except Closed:
        return


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        if select.select([0], [], [], _LOOK_S)[0] and not os.read(0, 1):
            break
    os._exit(0)  # in the middle of whatever it is: nothing of it has had an effect


def _answered(
    trainer: socket.socket, asked: Mapping[str, Any], built: dict[str, dict[Hashable, Pipeline]]
) -> dict[str, Any]:
    """Read a part, sending what comes of it; return the message that ends it."""

    def take(end: int, piece: Slice | Accumulation) -> None:
        send(trainer, *to_message(end, piece))

    try:
        sys.path[:] = asked["path"]
        job, values = Job.parse(asked["job"]), values_in(asked["values"])
        find(job.algorithm_spec().algorithm)
        key = canonical_json([asked["job"], asked["where"], asked["options"], asked["in_order"]])
        if key not in built:
            built.clear()
        with taking(values["round_id"], take):
            run_plan(
                job, asked["where"], plan_from(job.source, asked["plan"]), values, asked["options"], asked["in_order"],
                built.setdefault(key, {}),
            )  # fmt: skip
    except Closed:
        raise
    except Exception as error:  # whatever it is, the trainer raises it
        text = "".join(traceback.format_exception(error))
        return {
            "kind": "failed", "error": type(error).__name__, "message": str(error), "traceback": text,
            "read": _said_of(asked["plan"]),
        }  # fmt: skip
    return {"kind": "done"}


def _said_of(plan: Mapping[str, Any]) -> str:
    """Return which files, or partitions of a topic, a part is of, and from where to where."""
    topic = f"partition {plan['name']}/" if "name" in plan else ""
    found = []
    for one in plan["ranges"]:
        what, start, stop = (one["path"], one["start"], one["stop"]) if isinstance(one, dict) else one
        found.append(f"{topic}{what} from {start} to {stop}")
    more = f" and {len(found) - _SAID} more" if len(found) > _SAID else ""
    return ", ".join(found[:_SAID]) + more
