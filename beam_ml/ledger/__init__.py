"""The ledger: models of any range of time, from what each closed window was learned from, without the data."""

from beam_ml.ledger.ledger import Composed, Ledger, shown
from beam_ml.ledger.rules import Rules

__all__ = ["Composed", "Ledger", "Rules", "shown"]
