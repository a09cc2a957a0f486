"""Labels that come later: rows wait for the reports of their labels, in event time and within bounds."""

from beam_ml.features.ids import shards_of
from beam_ml.late_labels.arrivals import due_of
from beam_ml.late_labels.join import END, Joined, join
from beam_ml.late_labels.spec import CORRECTION, KNOWN_AT, LABEL_WEIGHT, LateLabels
from beam_ml.late_labels.state import State
from beam_ml.late_labels.stored import from_bytes, to_bytes

__all__ = [
    "CORRECTION",
    "END",
    "KNOWN_AT",
    "LABEL_WEIGHT",
    "Joined",
    "LateLabels",
    "State",
    "due_of",
    "from_bytes",
    "join",
    "shards_of",
    "to_bytes",
]
