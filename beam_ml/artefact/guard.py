"""How reading a stored header ends: in the record or in a typed error, since the bytes come from outside."""

from collections.abc import Callable
from typing import Any, TypeVar

import pydantic

from beam_ml.artefact.format import Envelope
from beam_ml.core.algorithm import Algorithm
from beam_ml.errors import CorruptArtefact, InvalidBatch, InvalidValue, MissingAlgorithm

__all__ = ["Find", "found", "guarded"]

Find = Callable[[str], Algorithm]
T = TypeVar("T")
_WRONG = (
    LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError, pydantic.ValidationError
)  # fmt: skip
"""What reading a header of the wrong content raises; JSON within it may nest deeper than Python reads."""


def found(find: Find, name: Any) -> Algorithm:
    """Find the algorithm that an artefact names.

    Raises:
        MissingAlgorithm: its module is not here, which is no damage; or the caller does not take it (`find` says so).
    """
    try:
        return find(name)
    except InvalidValue as error:
        if error.__cause__ is None:
            raise
        message = (
            f"The artefact is whole, but its algorithm {name!r} cannot be imported here ({error.__cause__}): install the "
            "module that defines it, or put its folder on PYTHONPATH."
        )
        raise MissingAlgorithm(message) from error


def guarded(read: Callable[[Envelope], T], envelope: Envelope) -> T:
    """Read an envelope; whatever a wrong header provokes becomes a `CorruptArtefact`."""
    try:
        return read(envelope)
    except _WRONG as error:
        if isinstance(error, (InvalidValue, InvalidBatch)) or not isinstance(error, CorruptArtefact):
            message = f"The {envelope.kind} artefact has a header that does not fit its kind: {error}"
            raise CorruptArtefact(message) from error
        raise
