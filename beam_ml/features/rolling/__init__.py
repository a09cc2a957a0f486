"""Aggregates over rolling event-time windows: `Rolling` says which, `roll` computes them, `State` is what they need."""

from beam_ml.features.rolling.aggregates import FUNCTIONS
from beam_ml.features.rolling.blocks import RolledBlocks, roll_blocks
from beam_ml.features.rolling.roll import Rolled, roll
from beam_ml.features.rolling.rows import Read, Rows, rows_of
from beam_ml.features.rolling.spec import Aggregate, Rolling, Window
from beam_ml.features.rolling.state import END, State, empty, from_bytes, to_bytes

__all__ = [
    "END",
    "FUNCTIONS",
    "Aggregate",
    "Read",
    "Rolled",
    "RolledBlocks",
    "Rolling",
    "Rows",
    "State",
    "Window",
    "empty",
    "from_bytes",
    "roll",
    "roll_blocks",
    "rows_of",
    "to_bytes",
]
