"""Where workers get the parameters that they start from: read once per process, and held up to a limit of bytes.

A part is held by the version (`Learner.version`) that its worker started from, so that the fold can tell how many were
published since. What holds where a version cannot be read:

- in a round, whose anchor is pinned, the bundle fails with one sentence and nothing of the round has an effect; the next
  start resumes from the newest readable version. (Stores retry by themselves before they fail.)
- in a stream a worker continues from the newest anchor that it can get, as long as the fold still takes what grows from
  it (`Spec.max_staleness`); beyond that the bundle fails, so that its rows are not all rejected.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, Protocol

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.telemetry import count
from beam_ml.beam.wire.references import AnchorRef, LiveAnchor, check_spec, learner_of, spec_of
from beam_ml.core.accumulation import COLD
from beam_ml.core.arrays import nbytes
from beam_ml.core.batch import Batch
from beam_ml.core.limits import Seen
from beam_ml.errors import CorruptArtefact, RegistryError, VersionNotFound
from beam_ml.registry import Registry

__all__ = ["HELD_BYTES", "anchor_of", "newest_anchor", "newest_seen"]

HELD_BYTES = 512 << 20
"""The bytes of anchors that a process holds; the one asked for last stays however large it is."""
_HELD = 8
"""How many anchors a process holds: a worker needs those of the jobs that it works for, and no older ones."""

_log = logging.getLogger(__name__)


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


class Held:
    """Values by key; over a limit of number or bytes those not asked for the longest go. Each is made once.

    Args:
        most: values.
        most_bytes: of all entries in total.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._values: dict[Hashable, _Sized] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of a key, made where it is not held; threads that ask at once wait for one of them to make it."""
        with self._lock:
            value = self._values.pop(key, None) or make()
            self._values[key] = value
            while len(self._values) > 1 and (len(self._values) > self._most or self.nbytes > self._most_bytes):
                del self._values[next(iter(self._values))]
            return value

    @property
    def nbytes(self) -> int:
        """The size of all entries held."""
        return sum(one.nbytes for one in self._values.values())


@cache
def held() -> Held:
    """Return the anchors that this process holds."""
    return Held(_HELD, HELD_BYTES)


class _Pinned:
    """One version's anchor."""

    def __init__(self, reference: AnchorRef, spec_json: str) -> None:
        algorithm, spec = spec_of(spec_json)
        try:
            learner = learner_of(reference, spec)
        except (RegistryError, CorruptArtefact) as error:
            count("anchors_missing", 1)
            message = f"Workers must start from {reference.name} v{reference.version}, and cannot: {error}"
            raise type(error)(message) from error
        count("anchors_read", 1)
        self.number = learner.version
        self.anchor = algorithm.anchor(spec, learner.state)

    @property
    def nbytes(self) -> int:
        return 0 if self.anchor is None else nbytes(self.anchor)


def anchor_of(reference: AnchorRef | None, spec_json: str) -> tuple[int, Any]:
    """Return the `Learner.version` and the anchor of a stored learner; it is read once per process.

    Raises:
        MergeRefused: that learner has another spec.
        RegistryError, ArtefactError: it cannot be read.
    """
    if reference is None or spec_of(spec_json)[0].anchor_type is None:
        return COLD, None
    pinned = held().get((reference, spec_json), lambda: _Pinned(reference, spec_json))
    return pinned.number, pinned.anchor


class Newest:
    """The newest anchor that this process has seen of one name."""

    def __init__(self, reference: LiveAnchor, spec_json: str) -> None:
        self._reference = reference
        self._algorithm, self._spec = spec_of(spec_json)
        self._registry = Registry(reference.registry)
        self._lock = threading.Lock()
        self._looked, self._wait_s = float("-inf"), reference.ttl_s
        self._head = self._read = 0
        self._found: tuple[int, Any] = (COLD, None)
        self._rows: Batch | None = None
        self._seen: dict[int, Seen | None] = {}

    @property
    def nbytes(self) -> int:
        anchor, rows = self._found[1], self._rows
        return (0 if anchor is None else nbytes(anchor)) + (0 if rows is None else rows.nbytes)

    def get(self, now_s: float) -> tuple[int, Any]:
        """Return `Learner.version` and anchor, looked for again where the last look is `ttl_s` ago, or versions come fast.

        Raises:
            VersionNotFound: no readable version is recent enough for the fold to take rows from.
            MergeRefused: the learner there has another spec.
        """
        with self._lock:
            if now_s - self._looked >= self._wait_s:
                before = self._head
                try:
                    self._look()
                except VersionNotFound:
                    raise
                except RegistryError as error:  # versions cannot be published either: what is here ages no further
                    count("anchors_kept", 1)
                    _log.warning("Workers continue from the anchor of version %d: %s", self._read, error)
                self._wait_s = self._next_wait_s(now_s - self._looked, self._head - before)
                self._looked = now_s
            return self._found

    def seen(self, numbers: int) -> Seen | None:
        """Return what the version of the anchor has seen, as `Seen.of` does."""
        with self._lock:
            if numbers not in self._seen:
                self._seen[numbers] = Seen.of(self._rows, numbers)
            return self._seen[numbers]

    def _next_wait_s(self, passed_s: float, versions: int) -> float:
        """Return when to look again: before so many versions are out that half of the staleness allowed is used up."""
        limit, ttl_s = self._spec.anchor_staleness, self._reference.ttl_s
        if limit is None or versions <= 0 or passed_s == float("inf"):
            return ttl_s
        return min(ttl_s, passed_s * max(0.5, limit / 2) / versions)

    def _look(self) -> None:
        name, mine = self._reference.name, self._read
        head = self._registry.head_number(name)
        if head == self._head:
            return
        number, data = self._newest()
        if data is not None and (number > mine or head < mine):  # below mine: the registry was recreated
            learner = decode_learner(data, finder([self._algorithm]))
            check_spec(learner, self._spec, f"{name} v{number}")
            self._found = (learner.version, self._algorithm.anchor(self._spec, learner.state))
            self._rows, self._seen = learner.sample.estimate(self._spec), {}
            self._read = number
            count("anchors_read", 1)
        if self._read != head:
            self._fall_back(name, head)
        self._head = head

    def _newest(self) -> tuple[int, bytes | None]:
        """Return the newest version whose learner is readable, and that learner."""
        try:
            found = self._registry.latest(self._reference.name)
        except CorruptArtefact:
            return COLD, None
        return (COLD, None) if found is None else (found.manifest.number, found.data)

    def _fall_back(self, name: str, head: int) -> None:
        """Continue from an older anchor than there should be, if the fold takes it."""
        mine, limit = self._read, self._spec.anchor_staleness
        if limit is not None and head - mine > limit:
            count("anchors_missing", 1)
            message = (
                f"Workers of {name} must start from an anchor at most {limit} versions behind v{head}; the newest "
                f"readable one is {f'v{mine}' if mine else 'none'}."
            )
            raise VersionNotFound(message)
        count("anchors_kept", 1)
        _log.warning("Workers continue from the anchor of version %d: %s v%d cannot be read.", mine, name, head)


def newest_anchor(reference: LiveAnchor, spec_json: str) -> tuple[int, Any]:
    """Return the `Learner.version` and the anchor of the newest version; looked for once every `ttl_s` in a process.

    A registry that cannot be read leaves a worker the anchor that it has. Before the first version there is none.

    Raises:
        VersionNotFound: no readable version is recent enough for the fold to take rows from.
        MergeRefused: the learner there has another spec.
    """
    if spec_of(spec_json)[0].anchor_type is None:
        return COLD, None
    return _newest_of(reference, spec_json).get(time.monotonic())


def _newest_of(reference: LiveAnchor, spec_json: str) -> Newest:
    found: Newest = held().get((reference, spec_json), lambda: Newest(reference, spec_json))
    return found


def newest_seen(reference: LiveAnchor, spec_json: str, numbers: int) -> Seen | None:
    """Return what the newest version has seen, looked for as the newest anchor is; None before the first version.

    Args:
        reference: which name.
        spec_json: of its learner.
        numbers: of sparse rows, how many columns at the front are numbers.

    Raises:
        MergeRefused: the learner there has another spec.
    """
    newest = _newest_of(reference, spec_json)
    newest.get(time.monotonic())
    return newest.seen(numbers)
