"""`pyarrow.RecordBatch` → `Batch`."""

from beam_ml.features.features import Features
from beam_ml.features.hashing import Hashed
from beam_ml.features.labels import Label
from beam_ml.features.matrix import Matrix
from beam_ml.features.terms import Clock, Plain, Standardised, Term
from beam_ml.features.times import EventTime

__all__ = ["Clock", "EventTime", "Features", "Hashed", "Label", "Matrix", "Plain", "Standardised", "Term"]
