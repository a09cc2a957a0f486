"""Signals are heard at any instant."""

import os
import signal
from collections.abc import Iterator

import pytest

from beam_ml.cli.stopping import hear_stop


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_said_at_once_and_stays_heard(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    stopping = hear_stop("ending.")
    assert not stopping()
    os.kill(os.getpid(), signal.Signals[name])
    assert stopping()
    assert stopping()
    assert capfd.readouterr().err == f"{name}: ending.\n"


def test_it_may_come_while_something_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """What is written within a handler to a stream that is being written raises RuntimeError (reentrant call)."""
    stopping = hear_stop("ending.")

    class Text:
        def __str__(self) -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            return "text"

    print(Text())
    assert stopping()
    assert capfd.readouterr() == ("text\n", "SIGTERM: ending.\n")
