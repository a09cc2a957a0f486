"""Faults of removal, and of what a ledger keeps; as `beam_ml.testing.faults`."""

from typing import Any

from beam_ml.core.algorithm import Algorithm
from beam_ml.errors import RemoveRefused

__all__ = ["elsewhere", "stays", "thinned", "unchecked", "waits"]


def stays(algorithm: Algorithm) -> Any:
    """Removing changes nothing."""
    del algorithm

    def remove(spec: Any, summary: Any, part: Any) -> Any:
        return summary

    return remove


def thinned(algorithm: Algorithm) -> Any:
    """The part's weight is taken off all rows alike: the rest looks like the whole."""
    own: Any = algorithm.remove

    def remove(spec: Any, summary: Any, part: Any) -> Any:
        rest = algorithm.weight(own(spec, summary, part))
        return algorithm.scale(spec, summary, rest / algorithm.weight(summary)) if rest > 0.0 else algorithm.empty(spec)

    return remove


def elsewhere(algorithm: Algorithm) -> Any:
    """The anchor is forgotten: as if no row had been linearised anywhere."""
    del algorithm

    def grown_from(spec: Any, partial: Any) -> Any:
        return None

    return grown_from


def waits(algorithm: Algorithm) -> Any:
    """Rows that wait for an anchor are left to wait."""
    del algorithm

    def settle(spec: Any, partial: Any, anchor: Any) -> Any:
        return partial

    return settle


def unchecked(algorithm: Algorithm) -> Any:
    """What was never learned is removed as well as can be."""
    own: Any = algorithm.remove

    def remove(spec: Any, summary: Any, part: Any) -> Any:
        try:
            return own(spec, summary, part)
        except RemoveRefused:
            return algorithm.empty(spec)

    return remove
