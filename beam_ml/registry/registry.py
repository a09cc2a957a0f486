"""`Registry`: numbered versions of named learners in an object store.

::

    <root>/<name>/v<number>/learner-<sha256>.safetensors
                            models/<model>-<sha256>.safetensors
                            manifest.json                         created exclusively, last: then the version exists
                  ledger/…                                        what each window was learned from (`registry.ledger`)
                  serving.json                                    only where a person has pinned a version
                  rounds/<round id>/…                             what a round's workers wrote

One exclusive create makes a version with all that belongs to it, so a kill at any instant leaves the old head or the
new one. Manifests are never deleted, so a number is used once; publishing names the head it expects.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from beam_ml.artefact.envelope import library_version
from beam_ml.errors import CorruptArtefact, InvalidValue, VersionNotFound
from beam_ml.registry import walk
from beam_ml.registry.ledger import Kept
from beam_ml.registry.manifest import File, Manifest, Verdict, describe, file_of, manifest_path, part_facts
from beam_ml.registry.naming import check_name, is_name
from beam_ml.registry.pin import write_pin
from beam_ml.registry.publishing import own_version, publishing, read_manifest, write_version
from beam_ml.registry.store import Objects, Store, open_objects, utc_now
from beam_ml.registry.whole import whole

__all__ = ["Found", "Held", "Registry"]

LOGGER = logging.getLogger("beam_ml.registry")


@dataclass(frozen=True, slots=True)
class Found:
    """A readable version.

    Attributes:
        manifest: of the version.
        data: the payload asked for, verified.
        head: the newest number when the search began; above `manifest.number` where damaged versions were stepped over.
    """

    manifest: Manifest
    data: bytes
    head: int


class Held(NamedTuple):
    """Versions of a name that may still lose something by retention.

    Attributes:
        since: from this number on, all.
        older: and these, which were spared: pinned, served, or the parent of one.
    """

    since: int
    older: tuple[int, ...] = ()


class Registry:
    """Versions of named learners: publish, read, serve.

    Args:
        where: a local folder, a URL (``file://``, ``s3://``, ``gs://``, ``az://``, ``memory://``) or an obstore store.
        create: make a local folder that is not there.
        clock: seconds since the epoch.
        store_options: of a cloud store, as `obstore.store.from_url` takes them.

    Attributes:
        held: by name, what this process's `tidy` has to look at next time.

    Raises:
        RegistryError: it cannot be opened.

    >>> registry = Registry("memory://")
    >>> registry.publish("fraud", {"learner": b"bytes"}, parent=None, round_id="1-a").number
    1
    >>> registry.read("fraud", 1)
    b'bytes'
    """

    def __init__(
        self,
        where: "str | os.PathLike[str] | Store",
        *,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        **store_options: Any,
    ) -> None:
        self.objects: Objects = open_objects(where, create=create, **store_options)
        self.clock = clock
        self.held: dict[str, Held] = {}
        self._heads: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Registry({self.objects.where!r})"

    def names(self) -> list[str]:
        """Return the names that have a version, sorted."""
        return [name for name in self.objects.folders() if is_name(name) and self.head_number(name)]

    def head_number(self, name: str) -> int:
        """Return the newest version's number, 0 where there is none: a few existence checks, however many versions."""
        low = self._heads.get(check_name("name", name), 0)
        step = 1
        while self._exists(name, low + step):
            low += step
            step *= 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._exists(name, middle) else (low, middle)
        if low == 0:
            low = max(filter(lambda number: self._exists(name, number), walk.numbers(self.objects, name)), default=0)
        self._heads[name] = low
        return low

    def versions(self, name: str) -> list[int]:
        """Return the numbers of all versions, ascending."""
        head = self.head_number(name)
        return [number for number in walk.numbers(self.objects, name) if number <= head]

    def head(self, name: str) -> Manifest | None:
        """Return the newest version's manifest; None if there is no version.

        Raises:
            CorruptArtefact: the newest manifest is damaged; `latest` skips it.
        """
        number = self.head_number(name)
        return self.manifest(name, number) if number else None

    def manifest(self, name: str, number: int) -> Manifest:
        """Return a version's manifest.

        Raises:
            VersionNotFound: no such version.
            CorruptArtefact, UnsupportedVersion: it is damaged, or of a newer format.
        """
        return read_manifest(self.objects, check_name("name", name), number)

    def _exists(self, name: str, number: int) -> bool:
        return self.objects.size(manifest_path(name, number)) is not None

    def read(self, name: str, number: int | None = None, what: str = "learner") -> bytes:
        """Return a payload, its SHA-256 verified.

        Args:
            name: the learner's.
            number: of the version; None: the head.
            what: ``"learner"`` or ``"models/<model>"``.

        Raises:
            VersionNotFound: no such version, no such payload, or retention has removed it.
            CorruptArtefact: the payload is damaged.
        """
        manifest = self.manifest(name, self.head_number(name) if number is None else number)
        return self._payload(manifest, what, file_of(manifest, what))

    def _payload(self, manifest: Manifest, what: str, file: File) -> bytes:
        title = f"{manifest.name} version {manifest.number}"
        return whole(
            self.objects,
            file,
            f"{title} no longer has its {what}: it was removed, by retention or by hand.",
            f"{title} has a damaged {what}: its bytes do not match the manifest's SHA-256.",
        )

    def latest(self, name: str, what: str = "learner", beside: Sequence[str] = ()) -> Found | None:
        """Return the newest version whose payload is readable, where training resumes; None if there is no version.

        A damaged version is skipped with a warning. `Found.head` is what `publish` must be given.

        Args:
            name: the learner's.
            what: the payload.
            beside: payloads that must be readable as well, in versions that have them.

        Raises:
            CorruptArtefact: there are versions, and none of them is readable.
        """
        head = self.head_number(name)
        if head == 0:
            return None
        found = self._first_readable(name, what, walk.descending(self.objects, name, head), head, beside)
        if found is None:
            message = f"{name} has {head} versions, and no readable manifest."
            raise CorruptArtefact(message)
        return found

    def serving(self, name: str, what: str) -> Found | None:
        """Return the served version's payload, or that of the newest readable accepted version before it.

        None if no version was ever accepted.

        Raises:
            CorruptArtefact: versions were accepted, and none of them is readable.
        """
        head = self.head_number(name)
        return self._first_readable(name, what, walk.served(self.objects, name, head), head)

    def served(self, name: str) -> Manifest | None:
        """Return the served version: the pinned one, else the newest accepted, else None."""
        return next(walk.served(self.objects, name, self.head_number(name)), None)

    def _first_readable(
        self, name: str, what: str, manifests: Iterator[Manifest], head: int, beside: Sequence[str] = ()
    ) -> Found | None:
        first: Exception | None = None
        for manifest in manifests:
            if first is None:
                file_of(manifest, what)  # a payload that no version has is no damage to step back from
            try:
                for other in beside:
                    if other in manifest.files:
                        self._payload(manifest, other, manifest.files[other])
                return Found(manifest, self._payload(manifest, what, file_of(manifest, what)), head)
            except walk.DAMAGE as error:
                first = first or error
                LOGGER.warning("Version skipped: %s", error)
        if first is not None:
            message = f"{name} has {head} versions, and no readable {what}: {first}"
            raise CorruptArtefact(message) from first
        return None

    def manifests(self, name: str, head: int | None = None) -> Iterator[Manifest]:
        """Return the manifests that are readable, newest first; damaged ones are skipped with a warning.

        Args:
            name: the learner's.
            head: the number to begin at; None: the newest.

        Raises:
            UnsupportedVersion: a newer library has written one.
        """
        return walk.descending(self.objects, name, self.head_number(name) if head is None else head)

    def serve(self, name: str, number: int | None) -> Manifest | None:
        """Pin the served version, whatever the gate said; None: serve the newest accepted one again.

        Returns:
            The version served from now on.

        Raises:
            VersionNotFound: no such version, or retention has removed its payloads.
            PublishFailed: the store refused the write.
        """
        if number is not None:
            manifest = self.manifest(name, number)
            for what, file in manifest.files.items():
                if self.objects.size(file.path) != file.bytes:
                    message = f"{name} version {number} cannot be served: its {what} is missing or incomplete."
                    raise VersionNotFound(message)
        with publishing(f"Pinning {name}", self.objects):
            write_pin(self.objects, check_name("name", name), number, utc_now(self.clock()))
        return self.served(name)

    def publish(
        self,
        name: str,
        payloads: Mapping[str, bytes],
        *,
        parent: int | None,
        round_id: str,
        head: int | None = None,
        run_id: str = "",
        epoch: int = 0,
        facts: Mapping[str, Any] | None = None,
        serve: bool = True,
        reasons: Sequence[str] = (),
        ledger: Kept | None = None,
    ) -> Manifest:
        """Add the next version: payloads first, then in one step the manifest that makes it exist.

        Publishing again with the same `round_id` returns the version that the first attempt made.

        Args:
            name: the learner's.
            payloads: ``"learner"``, ``"models/<model>"`` → encoded artefact.
            parent: number of the version that the learner was grown from; None: from nothing.
            round_id: of this attempt, as returned by `new_round_id`.
            head: number expected to be the newest; None: the parent. Above the parent where damaged versions were
                stepped over (`Found.head`).
            run_id: of the training run.
            epoch: of the run's restart.
            facts: spec, fingerprint, progress, refreshes, champion, next, rejects; anything else goes to `extra`.
            serve: the gate's verdict: False stores the version, marked refused, and leaves served what was.
            reasons: of the verdict.
            ledger: what is kept of its windows beside the versions; None: nothing.

        Returns:
            The new version's manifest.

        Raises:
            HeadMoved: another trainer has published the number first.
            VersionNotFound: there is no version `head`.
            InvalidValue: a name, or a fact that is not JSON.
            PublishFailed: the store refused a write; what was served is still served.
        """
        head = (parent or 0) if head is None else head
        if head < (parent or 0):
            message = f"publish.head must be >= the parent {parent}; got {head}."
            raise InvalidValue(message)
        number = head + 1
        check_name("name", name)
        check_name("round_id", round_id)
        for what in payloads:
            check_name("payload name", what, nested=True)
        fields = part_facts(facts or {})
        with publishing(f"Publishing {name} version {number}", self.objects):
            own = own_version(self.objects, name, number, round_id)
            if own is not None:
                return own
            if head and not self._exists(name, head):
                message = f"{name} has no version {head} to publish on in the registry at {self.objects.where}."
                raise VersionNotFound(message)
            last = number if serve else next((one.number for one in walk.accepted(self.objects, name, head)), None)
            manifest = Manifest(
                name=name,
                number=number,
                parent=parent,
                created=utc_now(self.clock()),
                files={what: describe(name, number, what, data) for what, data in payloads.items()},
                verdict=Verdict(accepted=serve, reasons=tuple(reasons)),
                last_accepted=last,
                run_id=run_id,
                epoch=epoch,
                round_id=round_id,
                library=library_version(),
                ledger=None if ledger is None else ledger.index,
                **fields,
            )
            made = write_version(self.objects, manifest, payloads, {} if ledger is None else ledger.files)
        self._heads[name] = max(number, self._heads.get(name, 0))
        return made
