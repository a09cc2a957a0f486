"""The processes of the pool: started once for a trainer's process, kept from round to round, ended with it.

They are started afresh, never as copies of a process that has threads, and import what they need, which takes one or two
seconds of a core's time each.
"""

import atexit
import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from beam_ml.beam.engine import error_of
from beam_ml.beam.rounds.pool.messages import Closed, receive, send
from beam_ml.core.threads import VARIABLE

__all__ = ["Lost", "Pool", "Process", "pool"]

_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); import logging; logging.disable(logging.WARNING); "
    "from beam_ml.beam.rounds.pool.program import main; logging.disable(logging.NOTSET); main(int(sys.argv[1]))"
)
_ALONE = {VARIABLE: "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_log = logging.getLogger(__name__)


class Lost(Exception):
    """A process of the pool has ended in the middle of what it was asked; nothing of that has had an effect."""


class Process:
    """One process of the pool, as the trainer's sees it.

    Attributes:
        ready: it has been seen to have imported what it needs.
        lent: a round has it.
        warm: it has read a part of a round, for which it has loaded kernels and built a pipeline.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        for one in (ours, theirs):
            one.setblocking(True)  # whatever timeout the program has set for its own sockets
        with theirs:
            command = [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), json.dumps([*map(str, sys.path)])]
            try:
                self._process = subprocess.Popen(  # noqa: S603 this very interpreter
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=os.environ | _ALONE,
                    start_new_session=True,  # what a terminal sends to the trainer's group is the trainer's to act on
                )
            except BaseException:
                ours.close()
                raise
        self._socket, self.ready, self.lent, self.warm = ours, False, False, False

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def is_ready(self, wait_s: float = 0.0) -> bool:
        """Return whether it has imported what it needs.

        Args:
            wait_s: how long to wait for that.
        """
        looked = select.poll()
        if not self.ready and self.alive:
            looked.register(self._socket, select.POLLIN)
            with contextlib.suppress(Closed):
                self.ready = bool(looked.poll(wait_s * 1000)) and receive(self._socket)[0]["kind"] == "ready"
        return self.ready

    def ask(self, what: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], list[np.ndarray]]]:
        """Have a part of a round read; yield the messages that come of it.

        Raises:
            Lost: it has ended.
            BeamMLError: what went wrong there, as it was raised there.
        """
        try:
            send(self._socket, what)
            while True:
                head, buffers = receive(self._socket)
                if head["kind"] == "said":
                    logging.getLogger(head["logger"]).log(head["level"], "%s", head["text"])
                elif head["kind"] == "failed":
                    raise error_of(head["error"], head["message"], head["traceback"], head["read"])
                elif head["kind"] == "done":
                    self.warm = True
                    return
                else:
                    yield head, buffers
        except Closed as error:
            self.end()
            code = self._process.returncode
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            message = f"Process {self.pid} of the pool ended in the middle of a round, with {how}."
            raise Lost(message) from error

    def end(self) -> None:
        """End it, in the middle of whatever it does."""
        self._socket.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._stop_holding()

    def _stop_holding(self) -> None:
        assert self._process.stdin is not None  # noqa: S101 a pipe was asked for
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def forget(self) -> None:
        """Close what a copy of the trainer's process has of it."""
        self._socket.close()
        self._stop_holding()
        self._process.returncode = 0  # not this process's child: nothing to wait for


class Pool:
    """The processes that this one has started; rounds borrow them.

    Args:
        make: starts one.
    """

    def __init__(self, make: Callable[[], Process] = Process) -> None:
        self._make, self._lock = make, threading.Lock()
        self._processes: list[Process] = []
        self._refused = False
        self.shared_s = 0.0

    @property
    def pids(self) -> list[int]:
        """The numbers of its processes, in order of their start."""
        return [one.pid for one in self._processes]

    def start(self, number: int) -> None:
        """Start what is lacking of a number of processes; return at once, while they still import what they need.

        Where none can be started it is said once, and threads do the work.
        """
        with self._lock:
            gone = [one for one in self._processes if not (one.lent or one.alive)]
            self._processes = [one for one in self._processes if one not in gone]
            for one in gone:
                one.end()
            try:
                if not all(one.ready for one in gone):
                    message = "one ended before it was ready"
                    raise OSError(message)
                while len(self._processes) < number and not self._refused:
                    self._processes.append(self._make())
            except (OSError, ValueError, AttributeError) as error:
                self._refused = True
                _log.warning("Rounds use threads: no process can be started beside this one (%s).", error)

    def wait(self, seconds: float) -> bool:
        """Wait until all processes are ready; return whether they are."""
        return all([one.is_ready(seconds) for one in self._processes])

    @contextlib.contextmanager
    def borrowed(self, most: int) -> Iterator[list[Process]]:
        """Lend processes that are ready and that no other round has, warm ones first; those that fail in it are ended.

        Args:
            most: how many.
        """
        with self._lock:
            free = [one for one in self._processes if not one.lent and one.alive and one.is_ready()]
            free = sorted(free, key=lambda one: not one.warm)[:most]
            for one in free:
                one.lent = True
        try:
            yield free
        except BaseException:
            for one in free:
                one.end()  # what it still does must not write on
            raise
        finally:
            for one in free:
                one.lent = False

    def end(self) -> None:
        """End all processes."""
        with self._lock:
            for one in self._processes:
                one.end()
            self._processes = []

    def forget(self) -> None:
        """Close what a copy of this process has of them, so that they end with their parent and not with the copy."""
        for one in self._processes:
            one.forget()
        self._processes, self._lock = [], threading.Lock()


pool = Pool()
"""The pool of this process."""

atexit.register(pool.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.forget)
