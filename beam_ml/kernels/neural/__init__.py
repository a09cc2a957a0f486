"""What networks share: JAX set up for this machine, parameters as one vector, the step and its schedule.

Importing it needs the extra `neural`; a kernel of a network imports it before JAX, so that who lacks the extra reads how to
get it.
"""

from beam_ml.kernels.layout import Layout
from beam_ml.kernels.neural.starting import begin, start

start()

from beam_ml.kernels.neural.devices import on_all, rows_apart  # noqa: E402 importing them imports JAX
from beam_ml.kernels.neural.training import (  # noqa: E402
    Stepping,
    Training,
    fresh,
    learned,
    rate,
    stepper,
    to_arrays,
    to_device,
)

__all__ = [
    "Layout",
    "Stepping",
    "Training",
    "begin",
    "fresh",
    "learned",
    "on_all",
    "rate",
    "rows_apart",
    "stepper",
    "to_arrays",
    "to_device",
]
