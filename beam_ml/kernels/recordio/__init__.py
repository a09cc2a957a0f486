"""RecordIO: its frames, and the protobuf messages in them."""

from beam_ml.kernels.recordio import frames, records, written

__all__ = ["frames", "records", "written"]
