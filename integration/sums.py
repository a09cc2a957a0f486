"""A bounded pipeline: it writes the sums by `i % 7` of the numbers below 1,000 to a file.

Run as `python -m sums FILE [Beam options]`, in a process of its own: the threads of Beam's workers can end with errors
when the runner ends before them.
"""

import argparse

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    given, options = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        numbers = pipeline | beam.Create(range(1000)) | beam.Map(lambda i: (i % 7, i))
        _ = numbers | beam.CombinePerKey(sum) | beam.MapTuple("{} {}".format) | beam.io.WriteToText(given.file)


if __name__ == "__main__":
    main()
