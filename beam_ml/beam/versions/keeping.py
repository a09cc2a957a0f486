"""What a trainer keeps of the windows that a publish closes: the ledger, in rounds and in streams."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_accumulation
from beam_ml.core.accumulation import COLD, Accumulation, Part
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Refresh
from beam_ml.core.threads import one_thread
from beam_ml.errors import InvalidValue
from beam_ml.ledger import Rules
from beam_ml.ledger.book import added
from beam_ml.ledger.drift import refreshed, sentence
from beam_ml.registry import File, Index, Kept, Manifest, Registry, Window, read_index, read_window

__all__ = ["Keeper"]

_log = logging.getLogger(__name__)
_RARE = 1e-4  # p-value of a concept from which a log warns: one window in ten thousand where nothing changes
_MOST_HELD = 32
"""Accumulations that are kept in memory: nearly all that the next spans are merged from."""


class Keeper:
    """Adds what is folded to the ledger of the version that the next one is grown from.

    Args:
        registry: where.
        name: published under.
        algorithm: the record.
        rules: what is kept.
        size_us: length of the windows.
    """

    def __init__(self, registry: Registry, name: str, algorithm: Algorithm, rules: Rules, size_us: int) -> None:
        self._registry, self._name, self._rules, self._size = registry, name, rules, size_us
        self._algorithm = algorithm
        self._find = finder([algorithm])
        # What this process has published itself it need not read again.
        self._held: dict[str, Accumulation] = {}
        self._made: Kept | None = None
        self._newest: tuple[int, File, Index] | None = None

    def kept(
        self, version: int | None, before: Learner, after: Learner, refreshes: Iterable[tuple[Refresh, float]]
    ) -> Kept | None:
        """Return what the next version adds to the ledger; None: it has none yet.

        Args:
            version: that it is grown from; None: none.
            before: the learner with the windows still open.
            after: with those folded.
            refreshes: the folds between the two; what was discarded is not kept.

        Raises:
            InvalidValue: the ledger has windows of another length.
            ArtefactError, VersionNotFound: the version's index is damaged or gone.
        """
        ends = [one.window_end for one, _ in refreshes if one.discarded is None and one.window_end is not None]
        known = self._known(version)
        if not ends:
            return None if known is None else Kept(known[0])
        index = self._first(before, min(ends)) if known is None else known[1]
        if index.size != self._size:
            message = (
                f"refresh must be that of the ledger of {self._name}, {index.size / 1e6:g} s; got {self._size / 1e6:g} s "
                "(without [ledger], or under another name, it is free)."
            )
            raise InvalidValue(message)
        closed = {end: self._settled(before.pending[end], after) for end in ends}
        through = max(ends) if after.folded_through is None else after.folded_through
        made = added(
            self._name, self._algorithm, before.spec, self._rules, index, closed, through, self._read, self._held
        )
        self._made = dataclasses.replace(made, facts=self._concepts(before, {end: before.pending[end] for end in ends}))
        self._held = dict([*self._held.items()][-_MOST_HELD:])
        return self._made

    def _settled(self, window: Accumulation, after: Learner) -> Accumulation:
        """Return a window without rows that wait for an anchor, once there is one: sums are kept, not rows."""
        settle, part = self._algorithm.settle, window.parts.get(COLD)
        anchor = None if settle is None or part is None else self._algorithm.anchor(after.spec, after.state)
        if settle is None or part is None or anchor is None:
            return window
        with one_thread():
            dated = dataclasses.replace(part.dated, summary=settle(after.spec, part.dated.summary, anchor))
        parts = {at: one for at, one in window.parts.items() if at != COLD}
        number = after.version if after.version not in parts else COLD
        return dataclasses.replace(window, parts=dict(sorted({**parts, number: Part(dated, part.progress)}.items())))

    def _concepts(self, before: Learner, closed: Mapping[int, Accumulation]) -> dict[str, Any]:
        """Return by how much the concept of each window closed differs from what was learned before this version."""
        told = []
        for end, window in closed.items():
            one = refreshed(self._algorithm, before, window)
            if one is not None:
                told.append(
                    {
                        "window_end": end,
                        "p_value": one.p_value,
                        "statistic": one.statistic,
                        "directions": one.directions,
                    }
                )
                start = dataclasses.replace(one, start=end - self._size, end=end)
                say = _log.warning if one.p_value < _RARE else _log.info
                say("Concept of the window from %s", sentence(start))
        return {"concepts": told} if told else {}

    def published(self, manifest: Manifest) -> None:
        """Remember the ledger of a version that this process has published."""
        made = self._made
        if made is not None and made.content is not None and made.index == manifest.ledger:
            self._newest = (manifest.number, made.index, made.content)

    def _known(self, version: int | None) -> tuple[File, Index] | None:
        if self._newest is not None and self._newest[0] == version:
            return self._newest[1:]
        manifest = None if version is None else self._registry.manifest(self._name, version)
        if manifest is None or manifest.ledger is None:
            return None
        return manifest.ledger, read_index(self._registry.objects, manifest)

    def _first(self, before: Learner, end: int) -> Index:
        """Return the index of a ledger that begins here: it does not reach back to what was folded without it."""
        return Index(
            fingerprint=before.spec.fingerprint,
            size=self._size,
            through=end - self._size,
            since=before.folded_through,
        )

    def _read(self, window: Window) -> Accumulation:
        return decode_accumulation(read_window(self._registry.objects, window), self._find)[1]
