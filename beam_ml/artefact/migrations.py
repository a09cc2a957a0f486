"""Old formats: one function per format version, each returning the next version's content."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from beam_ml.artefact.format import FORMAT, Envelope

__all__ = ["MIGRATIONS", "migrate"]

MIGRATIONS: Mapping[int, Callable[[Envelope], Envelope]] = MappingProxyType({})
"""Format version → function to the next version's envelope; one entry for each version below FORMAT."""


def migrate(version: int, envelope: Envelope) -> Envelope:
    """Bring an envelope of an older format, 1 ≤ version ≤ FORMAT, up to the current one."""
    for number in range(version, FORMAT):
        envelope = MIGRATIONS[number](envelope)
    return envelope
