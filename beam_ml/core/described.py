"""Models that say in lines of text what they have found."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

__all__ = ["Described"]


@runtime_checkable
class Described(Protocol):
    """A model record with this method is described wherever refreshes are printed."""

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return what a person reads of the model.

        Args:
            names: of the features, in order.
        """
        ...
