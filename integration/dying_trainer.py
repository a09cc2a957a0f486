"""Train as `python -m pipelines.train`, and be killed (SIGKILL) before or after the numbered operation of the registry.

Run: ``python integration/dying_trainer.py NUMBER before|after JOB [options of pipelines.train]``.
"""

import dataclasses
import os
import signal
import sys
from typing import Any

from beam_ml.registry import registry as module
from beam_ml.registry.store import Objects
from pipelines.train import main
from tests.registry.faulty_store import FaultyStore


def dying(number: int, when: str) -> None:
    """Count the operations of every registry that this process opens."""
    real, done = module.open_objects, 0

    def hook(_: int, operation: str, path: str) -> None:
        nonlocal done
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(where: Any, **options: Any) -> Objects:
        objects = real(where, **options)
        return dataclasses.replace(objects, store=FaultyStore(objects.store, **{when: hook}))

    module.open_objects = wrapped  # type: ignore[assignment]


if __name__ == "__main__":
    dying(int(sys.argv[1]), sys.argv[2])
    main(sys.argv[3:])
