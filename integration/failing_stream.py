"""Train as `python -m pipelines.stream`, each stage failing once: an exception, some seconds apart.

Run: ``python integration/failing_stream.py JOB [options of pipelines.stream]``; it prints each failure as it plants it.
"""

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

from beam_ml.beam.kafka.stream import reader
from beam_ml.beam.stream import fold
from beam_ml.beam.stream.state import OpenWindows
from beam_ml.beam.transforms import batches, decode
from beam_ml.core.accumulation import Accumulator
from pipelines.stream import main

APART_S = 4.0
STAGES: tuple[tuple[str, Any, str, str], ...] = (
    ("read", reader, "messages_block", "before"),
    ("decode", decode.messages, "to_blocks", "before"),
    ("batches", batches, "features_of", "before"),
    ("slices", batches, "cut", "after"),
    ("accumulate", Accumulator, "add_admitted", "after"),
    ("hold", OpenWindows, "add", "after"),
    ("fold", fold, "fold_open", "before"),
    ("publish", fold, "publish_next", "before"),
    ("published", fold, "publish_next", "after"),
)


class Faults:
    """Fires each stage's fault once, no two within some seconds, none before the stream runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fired: set[str] = set()
        self._last = time.monotonic() + APART_S

    def fire(self, stage: str) -> None:
        with self._lock:
            if stage in self._fired or time.monotonic() - self._last < APART_S:
                return
            self._fired.add(stage)
            self._last = time.monotonic()
        print(f"PLANTED {stage}", flush=True)
        message = f"planted in {stage}"
        raise RuntimeError(message)


def plant(faults: Faults, stage: str, where: Any, name: str, when: str) -> None:
    """Put a function that fails once in the place of another."""
    real: Callable[..., Any] = getattr(where, name)

    @functools.wraps(real)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if when == "before":
            faults.fire(stage)
        result = real(*arguments, **options)
        if when == "after":
            faults.fire(stage)
        return result

    setattr(where, name, wrapped)


if __name__ == "__main__":
    planted = Faults()
    for one in STAGES:
        plant(planted, *one)
    main()
