"""`Kept`: what a trainer keeps of raw rows between rounds. It is published with the learner, in one version with it."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml import late_labels
from beam_ml.artefact.cursors import cursors_from_json, cursors_to_json
from beam_ml.artefact.envelope import decode, encode
from beam_ml.beam.job.job import Job
from beam_ml.beam.job.raw import ReportedLabels
from beam_ml.beam.rounds.prepare.reported import of_labels, waiting_for
from beam_ml.beam.versions.contents import PREPARED
from beam_ml.beam.wire.codec import decode_block, encode_block
from beam_ml.core.cursors import Cursors
from beam_ml.core.spec import canonical_json
from beam_ml.errors import CorruptArtefact, InvalidValue
from beam_ml.features import rolling
from beam_ml.formats.block import Block
from beam_ml.late_labels import LateLabels

__all__ = ["BEGINNING", "PAYLOAD", "Kept", "decode_kept", "encode_kept", "nothing_kept", "rule_of_known", "windows_of"]

BEGINNING = -(2**63)
"""Before every time."""
PAYLOAD = PREPARED
"""The name of what is kept among a version's files."""
_KIND = "prepared"
_DIGITS = 6


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What is known of raw rows after a round.

    Attributes:
        until: everything with an event time before it has been prepared, µs.
        newest: newest event time of a row, µs, those dated far ahead left out.
        released: rows that were passed on to be learned so far: the place of the next one.
        held: rows that came, and are not before `until`.
        rolling: number of the state → state of the rolling windows.
        known: labels on their way into rolling windows; None: no window is of the label.
        waiting: rows that wait for their label; None: labels are in the rows.
        reports: what has been read of the reports.
        early: rows whose label is known and that are not learned before they mature; None: none.
    """

    until: int
    newest: int
    released: int
    held: tuple[Block, ...]
    rolling: Mapping[int, rolling.State]
    known: late_labels.State | None
    waiting: late_labels.State | None
    reports: Cursors
    early: Block | None = None

    @property
    def n_waiting(self) -> int:
        """The number of rows that came and were not passed on yet."""
        known = 0 if self.early is None else len(self.early)
        return sum(map(len, self.held)) + known + (0 if self.waiting is None else self.waiting.n_waiting)


def rule_of_known(labels: ReportedLabels) -> LateLabels:
    """Return the rules by which labels come into rolling windows: a correction is counted, for none of them takes back."""
    return labels.rule.model_copy(update={"corrections": "count"})


def nothing_kept(job: Job) -> Kept:
    """Return what is kept before the first row."""
    labels = job.labels
    of_label = labels is not None and job.rolling is not None and waiting_for(job.rolling, labels)
    known = late_labels.State.empty() if of_label else None
    waiting = None if labels is None else late_labels.State.empty()
    return Kept(BEGINNING, BEGINNING, 0, (), {}, known, waiting, Cursors())


def encode_kept(job: Job, kept: Kept) -> bytes:
    """Return what is kept as the bytes of one file; equal for equal content.

    Args:
        job: whose settings shape the states.
        kept: by a round.
    """
    parts: dict[str, bytes] = {f"held/{i}": encode_block(block) for i, block in enumerate(kept.held)}
    if kept.rolling:
        spec = windows_of(job)
        parts |= {f"rolling/{i}": rolling.to_bytes(spec, state) for i, state in sorted(kept.rolling.items())}
    if kept.early is not None:
        parts["early"] = encode_block(kept.early)
    if job.labels is not None:
        if kept.known is not None:
            parts["known"] = late_labels.to_bytes(rule_of_known(job.labels), kept.known)
        if kept.waiting is not None:
            parts["waiting"] = late_labels.to_bytes(job.labels.rule, kept.waiting)
    meta = {
        "until": kept.until,
        "newest": kept.newest,
        "released": kept.released,
        "settings": settings_of(job),
        "reports": cursors_to_json(kept.reports),
    }
    return encode(_KIND, meta, {name: np.frombuffer(data, np.uint8) for name, data in parts.items()})


def decode_kept(job: Job, data: bytes) -> Kept:
    """Read the bytes of `encode_kept`.

    Raises:
        InvalidValue: they were kept under other settings.
        CorruptArtefact: they are damaged, or hold what nothing kept does.
    """
    found = decode(data, _KIND)
    meta, left = found.meta, {name: values.tobytes() for name, values in found.arrays.items()}
    differ = _differing(meta.get("settings"), settings_of(job))
    if differ:
        where, was, now = differ[0]
        message = (
            f"job.{where} must be as {job.name} was trained with it, {was}; got {now}"
            f"{f' (and {len(differ) - 1} more differ)' if len(differ) > 1 else ''} (another name starts afresh)."
        )
        raise InvalidValue(message)
    empty = nothing_kept(job)
    numbers = [meta.get(name) for name in ("until", "newest", "released")]
    if not all(isinstance(one, int) and not isinstance(one, bool) and -(2**63) <= one < 2**63 for one in numbers):
        message = f"What is kept of raw rows must have whole numbers of 64 bits; got {numbers}."
        raise CorruptArtefact(message)
    until, newest, released = (int(one or 0) for one in numbers)
    held = [decode_block(left.pop(name)) for name in sorted(_of(left, "held/"), key=_number)]
    states = {}
    if job.rolling is not None:
        spec = windows_of(job)
        names = sorted(_of(left, "rolling/"), key=_number)
        states = {_number(name): rolling.from_bytes(spec, left.pop(name)) for name in names}
    known, waiting = empty.known, empty.waiting
    if job.labels is not None and known is not None and "known" in left:
        known = late_labels.from_bytes(rule_of_known(job.labels), left.pop("known"))
    if job.labels is not None and "waiting" in left:
        waiting = late_labels.from_bytes(job.labels.rule, left.pop("waiting"))
    early = decode_block(left.pop("early")) if "early" in left else None
    if left:
        message = f"What is kept of raw rows has parts that there are none of: {sorted(left)[:5]}."
        raise CorruptArtefact(message)
    reports = cursors_from_json(meta.get("reports"))
    return Kept(until, newest, released, tuple(held), states, known, waiting, reports, early)


def settings_of(job: Job) -> dict[str, Any]:
    """Return what shapes the states that are kept."""
    windows = None if job.rolling is None else windows_of(job).shape
    labels = None if job.labels is None else {**job.labels.rule.shape, "learned": job.labels.learned}
    plain: dict[str, Any] = json.loads(canonical_json({"rolling": windows, "labels": labels}))
    return plain


def _differing(was: Any, now: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the settings that differ, each with what it was and what it is."""
    found = []
    for table, settings in now.items():
        before = was.get(table) if isinstance(was, dict) else None
        if isinstance(before, dict) and isinstance(settings, dict):
            names = sorted(name for name in before.keys() | settings.keys() if before.get(name) != settings.get(name))
            found += [(f"{table}.{name}", f"{before.get(name)!r}", f"{settings.get(name)!r}") for name in names]
        elif before != settings:
            found.append((table, f"{before!r}", f"{settings!r}"))
    return found


def windows_of(job: Job) -> rolling.Rolling:
    """Return the job's rolling windows, those of the label by label rows."""
    assert job.rolling is not None  # noqa: S101
    return job.rolling if job.labels is None else of_labels(job.rolling, job.labels)


def _of(parts: Mapping[str, bytes], prefix: str) -> list[str]:
    return [name for name in parts if name.startswith(prefix)]


def _number(name: str) -> int:
    text = name.rpartition("/")[2]
    if not text.isdecimal() or len(text) > _DIGITS:
        message = f"What is kept of raw rows has a part {name!r}, which must end in a number."
        raise CorruptArtefact(message)
    return int(text)
