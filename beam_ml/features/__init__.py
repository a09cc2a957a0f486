"""`pyarrow.RecordBatch` → `Batch`."""

from beam_ml.features.features import Features
from beam_ml.features.hashing import Hashed
from beam_ml.features.terms import Clock, Plain, Standardised, Term

__all__ = ["Clock", "Features", "Hashed", "Plain", "Standardised", "Term"]
