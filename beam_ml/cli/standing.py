"""Which version a registry serves, and what that makes of any other: what the commands say is what the registry says."""

import dataclasses

from rich.text import Text

from beam_ml.cli.console import styled
from beam_ml.errors import RegistryError
from beam_ml.registry import Manifest, Registry
from beam_ml.registry.pin import read_pin

__all__ = ["Standing", "gate_of", "standing_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What is served under a name.

    Attributes:
        served: number of the served version; None: nothing is served.
        pinned: number that a person has pinned; None: the newest accepted version is served.
    """

    served: int | None
    pinned: int | None

    def of(self, manifest: Manifest) -> str:
        """Return what a version is: `served`, `not served` or `refused`, and why."""
        number, verdict = manifest.number, manifest.verdict
        refused = "" if verdict.accepted else f"refused: {'; '.join(verdict.reasons)}"
        if number == self.served:
            pinned = "served, pinned" if number == self.pinned else "served"
            return f"{pinned}, though {refused}" if refused else pinned
        if number == self.pinned:
            return f"pinned, but unreadable: v{self.served} is served" if self.served else "pinned, but unreadable"
        if refused:
            return refused
        if self.pinned is not None and number > self.pinned:
            return f"not served: v{self.pinned} is pinned"
        return "accepted"

    def coloured(self, manifest: Manifest) -> Text:
        """Return `of` in the colour of its kind."""
        text = self.of(manifest)
        return styled(text, "green" if manifest.number == self.served else "yellow")


def gate_of(registry: Registry, manifest: Manifest) -> Text:
    """Return what the registry makes of a version that was just published; a store that fails ends no training."""
    try:
        return standing_of(registry, manifest.name).coloured(manifest)
    except RegistryError as error:
        return Text(f"published; whether it is served cannot be read: {error}")


def standing_of(registry: Registry, name: str) -> Standing:
    """Ask the registry what it serves.

    >>> registry = Registry("memory://")
    >>> version = registry.publish("n", {"learner": b""}, parent=None, round_id="a")
    >>> standing_of(registry, "n").of(version)
    'served'
    """
    served = registry.served(name)
    return Standing(None if served is None else served.number, read_pin(registry.objects, name))
