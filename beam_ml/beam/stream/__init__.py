"""Training as one pipeline that never ends."""

from beam_ml.beam.stream.pipeline import Streamed, build, close_windows, kafka_start, run_stream

__all__ = ["Streamed", "build", "close_windows", "kafka_start", "run_stream"]
