"""An unbounded pipeline with state: it appends a running count to a file, five times a second, until it is ended.

Run as `python -m counting FILE [Beam options]`, in a process of its own, so that it can be killed.
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.userstate import ReadModifyWriteRuntimeState, ReadModifyWriteStateSpec


class Count(beam.DoFn):
    """Count the elements of a key, the count kept in the runner's state."""

    SEEN = ReadModifyWriteStateSpec("seen", VarIntCoder())

    def __init__(self, file: str) -> None:
        self.file = file

    def process(
        self,
        element: tuple[str, float],
        seen: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(SEEN),  # noqa: B008  (Beam's way)
    ) -> Iterable[None]:
        count = (seen.read() or 0) + 1
        seen.write(count)
        with Path(self.file).open("a") as output:
            output.write(f"{count}\n")
        return ()


def main() -> None:
    """Run it until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    given, options = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        ticks = pipeline | PeriodicImpulse(start_timestamp=time.time(), fire_interval=0.2)
        _ = ticks | beam.Map(lambda tick: ("all", float(tick))) | beam.ParDo(Count(given.file))


if __name__ == "__main__":
    main()
