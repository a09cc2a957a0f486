"""`pyarrow.RecordBatch` → `Batch`."""

from beam_ml.features.bucketed import Bucketed
from beam_ml.features.calendar import Clock
from beam_ml.features.coded import Coded, Spelled, Targeted
from beam_ml.features.crosses import Cross
from beam_ml.features.features import Features
from beam_ml.features.hashing import Hashed
from beam_ml.features.labels import Label
from beam_ml.features.matrix import Matrix
from beam_ml.features.one_hot import OneHot
from beam_ml.features.terms import Plain, Standardised, Term
from beam_ml.features.text import Text
from beam_ml.features.times import EventTime
from beam_ml.features.words import Words

__all__ = [
    "Bucketed",
    "Clock",
    "Coded",
    "Cross",
    "EventTime",
    "Features",
    "Hashed",
    "Label",
    "Matrix",
    "OneHot",
    "Plain",
    "Spelled",
    "Standardised",
    "Targeted",
    "Term",
    "Text",
    "Words",
]
