"""Who may publish: several trainers under one name, restarts of one of them, and which of them continues.

A submission of a pipeline has a run id of its own and an epoch above that of the version it starts from. The newest
submission continues; an older one that finds its versions on top ends. Within one submission an engine may take the fold
back to a checkpoint: what was published since is published again, under the next free numbers.
"""

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from beam_ml.core.gate import Verdict
from beam_ml.errors import CorruptArtefact, HeadMoved, UnsupportedVersion
from beam_ml.registry import Manifest, Registry, new_round_id

__all__ = ["Lineage", "Own", "may_publish", "publish_next"]

_log = logging.getLogger(__name__)
_TRIES = 5
"""Attempts against another trainer that publishes at the same time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lineage:
    """The place of a learner among the versions.

    Attributes:
        run_id: of this submission.
        epoch: of this submission: one above that of the version it starts from.
        parent: the version that the learner is; None: it has no version yet.
        head: the newest number when that version was read or published.
    """

    run_id: str
    epoch: int
    parent: int | None
    head: int


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


def may_publish(mine: Lineage, name: str, head: int, newest: Manifest | None, remembered: int) -> None:
    """Return whether to publish on top of version `head`.

    Args:
        mine: the place of this run's learner.
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


def publish_next(
    registry: Registry,
    name: str,
    mine: Lineage,
    payloads: Mapping[str, bytes],
    verdict: Verdict,
    facts: Mapping[str, Any],
) -> tuple[Manifest, Lineage]:
    """Publish the next version of a run, under the next free number; return the learner's place then.

    A bundle that an engine tries again finds its version made, and makes no second one.

    Raises:
        HeadMoved: a newer submission continues.
        PublishFailed: the store refused a write.
    """
    memory = own(registry.objects.where, name, mine.run_id)
    digest = hashlib.sha256(payloads["learner"]).hexdigest()
    for attempt in range(_TRIES):
        head = registry.head_number(name)
        newest = _newest_manifest(registry, name, head) if head != mine.head else None
        if newest is not None and newest.number == memory.number and digest == memory.digest:
            return newest, dataclasses.replace(mine, parent=newest.number, head=head)
        try:
            may_publish(mine, name, head, newest, memory.number)
        except HeadMoved:
            memory.number, memory.digest = 0, ""  # should the engine bring this run back here, then from a checkpoint
            raise
        if head < mine.head:
            message = f"{name} must still have version {mine.head}, from which this run resumes; its newest is {head}."
            raise HeadMoved(message)
        if head != mine.head:
            _log.warning("%s resumes from version %s under number %d.", name, mine.parent, head + 1)
        try:
            made = _publish(registry, name, mine, head, payloads, verdict, facts)
        except HeadMoved:
            if attempt == _TRIES - 1:
                raise
            continue
        memory.number, memory.digest = made.number, digest
        return made, dataclasses.replace(mine, parent=made.number, head=made.number)
    raise AssertionError  # the last attempt returns or raises


def _publish(
    registry: Registry,
    name: str,
    mine: Lineage,
    head: int,
    payloads: Mapping[str, bytes],
    verdict: Verdict,
    facts: Mapping[str, Any],
) -> Manifest:
    reasons: Sequence[str] = verdict.reasons
    return registry.publish(
        name, payloads, parent=mine.parent, head=head, round_id=new_round_id(head), run_id=mine.run_id,
        epoch=mine.epoch, serve=verdict.accepted, reasons=reasons, facts=facts,
    )  # fmt: skip


def _newest_manifest(registry: Registry, name: str, head: int) -> Manifest | None:
    for number in range(head, 0, -1):
        try:
            return registry.manifest(name, number)
        except (CorruptArtefact, UnsupportedVersion) as error:
            _log.warning("Version skipped: %s", error)
    return None
