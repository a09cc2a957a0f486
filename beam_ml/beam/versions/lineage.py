"""Who may publish: several trainers under one name, restarts of one of them, and which of them continues.

A submission of a pipeline has a run id of its own and an epoch above that of the version it starts from. The newest
submission continues; an older one that finds its versions on top ends. Within one submission an engine may take the fold
back to a checkpoint: what was published since is published again, under the next free numbers.
"""

import dataclasses
import functools
import hashlib
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from beam_ml.beam.wire.references import AnchorRef
from beam_ml.core.gate import Verdict
from beam_ml.errors import HeadMoved
from beam_ml.registry import Kept, Manifest, Registry, new_round_id

__all__ = ["NONE_CLOSED", "Own", "Standing", "begin", "may_publish", "publish", "publish_next"]

_log = logging.getLogger(__name__)
_TRIES = 5
"""Attempts against another trainer that publishes at the same time."""


NONE_CLOSED = Verdict(False, ("no window has closed yet",))
"""Of a version before the first refresh."""


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Where a trainer stands among the versions of its name: plain values, which travel as JSON.

    Attributes:
        run_id: of this submission.
        epoch: of this submission: one above that of the newest version when it began.
        version: the version that its learner is; None: it has none yet.
        head: the newest number when that version was read or published; above it where damaged ones were stepped over.
        digest: SHA-256 of the version's learner; empty: not known.
        verdict: of the version: the next one repeats it where no window closes.
    """

    run_id: str
    epoch: int
    version: int | None = None
    head: int = 0
    digest: str = ""
    verdict: Verdict = NONE_CLOSED

    def at(self, manifest: Manifest, head: int | None = None) -> "Standing":
        """Return the standing with another version.

        Args:
            manifest: of the version that the learner is.
            head: the newest number; None: that version's.
        """
        verdict = Verdict(manifest.verdict.accepted, manifest.verdict.reasons)
        return dataclasses.replace(
            self,
            version=manifest.number,
            head=manifest.number if head is None else head,
            digest=manifest.files["learner"].sha256,
            verdict=verdict,
        )

    def learner_in(self, registry: str, name: str) -> AnchorRef | None:
        """Return where the learner is stored; None: it has no version yet.

        >>> Standing("run", 1, version=3, head=3).learner_in("/models", "fraud").version
        3
        """
        return None if self.version is None else AnchorRef(registry, name, self.version, self.digest)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> "Standing":
        """Read the form of `to_dict`."""
        verdict = Verdict(value["verdict"]["accepted"], tuple(value["verdict"]["reasons"]))
        return Standing(**{**value, "verdict": verdict})


@dataclasses.dataclass(slots=True)
class Own:
    """The version that this process published last: an engine may restore an older state of a fold, never this.

    Attributes:
        number: of the version; 0 if there is none.
        digest: SHA-256 of its learner.
    """

    number: int = 0
    digest: str = ""


@functools.lru_cache(maxsize=64)
def own(where: str, name: str, run_id: str) -> Own:
    """Return what this process remembers of a run; empty at first."""
    return Own()


def may_publish(mine: Standing, name: str, head: int, newest: Manifest | None, remembered: int) -> None:
    """Refuse to publish on top of version `head` where another trainer continues.

    Args:
        mine: the trainer's standing.
        name: published under.
        head: the newest number now.
        newest: the newest readable manifest; None if there is none.
        remembered: the version that this process published last in this run; 0 if there is none.

    Raises:
        HeadMoved: a newer submission continues.
    """
    if head == mine.head or newest is None:
        return
    if newest.run_id != mine.run_id:
        if newest.epoch < mine.epoch:
            return  # an older trainer has not noticed yet that this one began; it ends at its next publish
        message = (
            f"{name} v{newest.number} was published by another trainer, of epoch {newest.epoch}, since this one, of "
            f"epoch {mine.epoch}, began: that one continues and this one ends (a start from the registry, without a "
            "savepoint, takes over)."
        )
        raise HeadMoved(message)
    if remembered and remembered == mine.head:
        message = (
            f"{name} v{newest.number} was published by another worker of this run since this one published "
            f"v{remembered}: the engine has restored the job elsewhere, and this worker ends."
        )
        raise HeadMoved(message)


def begin(registry: Registry, name: str, found: Manifest | None, head: int, run_id: str = "") -> Standing:
    """Return the standing of a new submission.

    Args:
        registry: where the versions are.
        name: published under.
        found: the manifest of the version that it resumes from; None: from nothing.
        head: the newest number.
        run_id: of the submission; empty: a new one.

    Raises:
        UnsupportedVersion: a newer library has published.
    """
    newest = found if found is not None and found.number == head else _newest(registry, name, head)
    epochs = (one.epoch for one in (found, newest) if one is not None)
    fresh = Standing(run_id or uuid.uuid4().hex, 1 + max(epochs, default=0), head=head)
    return fresh if found is None else fresh.at(found, head)


def publish(
    registry: Registry,
    name: str,
    mine: Standing,
    payloads: Mapping[str, bytes],
    verdict: Verdict,
    facts: Mapping[str, Any],
    round_id: str | None = None,
    ledger: Kept | None = None,
) -> tuple[Manifest, Standing]:
    """Publish the version after the newest that a trainer knows; return it, and the trainer's standing then.

    Args:
        registry: where.
        name: under which.
        mine: the trainer's standing; `mine.head` must still be the newest number.
        payloads: the version's files.
        verdict: whether it is served.
        facts: what its manifest says besides.
        round_id: of this attempt; None: a new one. The same one again finds the version made.
        ledger: what is kept of its windows; None: nothing.

    Raises:
        HeadMoved: another trainer has published since.
        PublishFailed: the store refused a write.
    """
    reasons: Sequence[str] = verdict.reasons
    made = registry.publish(
        name, payloads, parent=mine.version, head=mine.head, round_id=round_id or new_round_id(mine.head),
        run_id=mine.run_id, epoch=mine.epoch, serve=verdict.accepted, reasons=reasons, facts=facts, ledger=ledger,
    )  # fmt: skip
    return made, mine.at(made)


def publish_next(
    registry: Registry,
    name: str,
    mine: Standing,
    payloads: Mapping[str, bytes],
    verdict: Verdict,
    facts: Mapping[str, Any],
    ledger: Kept | None = None,
) -> tuple[Manifest, Standing]:
    """Publish the next version of a run, under the next free number; return it, and the trainer's standing then.

    A bundle that an engine tries again finds its version made, and makes no second one.

    Raises:
        HeadMoved: a newer submission continues.
        UnsupportedVersion: a newer library has published.
        PublishFailed: the store refused a write.
    """
    memory = own(registry.objects.where, name, mine.run_id)
    digest = hashlib.sha256(payloads["learner"]).hexdigest()
    for attempt in range(_TRIES):
        head = registry.head_number(name)
        newest = _newest(registry, name, head) if head != mine.head else None
        if newest is not None and newest.number == memory.number and digest == memory.digest:
            return newest, mine.at(newest, head)
        try:
            may_publish(mine, name, head, newest, memory.number)
        except HeadMoved:
            memory.number, memory.digest = 0, ""  # should the engine bring this run back here, then from a checkpoint
            raise
        if head < mine.head:
            message = f"{name} must still have version {mine.head}, from which this run resumes; its newest is {head}."
            raise HeadMoved(message)
        if head != mine.head:
            _log.warning("%s resumes from version %s under number %d.", name, mine.version, head + 1)
        try:
            made, standing = publish(
                registry, name, dataclasses.replace(mine, head=head), payloads, verdict, facts, ledger=ledger
            )  # fmt: skip
        except HeadMoved:
            if attempt == _TRIES - 1:
                raise
            continue
        memory.number, memory.digest = made.number, digest
        return made, standing
    raise AssertionError  # the last attempt returns or raises


def _newest(registry: Registry, name: str, head: int) -> Manifest | None:
    """Return the newest readable manifest, of whatever learner; None if there is none."""
    return next(registry.manifests(name, head), None)
