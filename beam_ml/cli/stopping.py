"""SIGTERM and SIGINT: heard at any instant, said at once, acted on where the work can end."""

import os
import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["hear_stop"]


def hear_stop(said: str) -> Callable[[], bool]:
    """Handle SIGTERM and SIGINT from now on; return a function that says whether one of them has come.

    The handler may interrupt whatever runs, a print or an import too, so it writes to the file of standard error itself.

    Args:
        said: what is done about it.
    """
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        os.write(2, f"{signal.Signals(number).name}: {said}\n".encode())

    signal.signal(signal.SIGTERM, hear)
    signal.signal(signal.SIGINT, hear)
    return lambda: bool(heard)
