"""Marks: what the step that prepares raw rows kept when a window ended, on its way to the version of that window."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from apache_beam import DoFn, Flatten, ParDo
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.artefact.cursors import cursors_from_json, cursors_to_json
from beam_ml.artefact.envelope import decode, encode
from beam_ml.beam.job.job import Job
from beam_ml.beam.kafka.positions import cursor_after
from beam_ml.beam.rounds.prepare.kept import encode_kept
from beam_ml.beam.rounds.prepare.preparer import BEYOND
from beam_ml.beam.stream.raw_state import Came, RawState, plain
from beam_ml.beam.stream.start import Start
from beam_ml.beam.stream.state import Held
from beam_ml.beam.wire.codec import decode_accumulation, encode_accumulation
from beam_ml.core import intervals
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.cursors import Cursors, TopicCursor
from beam_ml.core.spec import canonical_json
from beam_ml.errors import CorruptArtefact, MergeRefused
from beam_ml.formats.messages import place

__all__ = ["Mark", "accumulation_in", "mark_at", "read_mark", "together"]

_KIND = "raw_stream"
_LAST = 2**63 - 1
_ACCUMULATION, _MARK = b"a", b"m"
_ENTRY = tuple[bytes, tuple[int, bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """What a version must hold for a start from it to find the rows prepared as they were at the end of its last window.

    Attributes:
        kept: of raw rows, as rounds store it.
        facts: for the manifest.
        read: what was read of the rows' topic.
    """

    kept: bytes
    facts: Mapping[str, Any]
    read: Cursors

    @staticmethod
    def of(job: Job, state: RawState, rows: Start, reports: Start | None) -> "Mark":
        """Return the mark of a state whose clock is at a window's end."""
        read, beyond = _read(rows, state.rows)
        told, more = (Cursors(), {}) if reports is None else _read(reports, state.reports)
        kept = dataclasses.replace(state.kept, reports=told if told.topics else state.kept.reports)
        facts: dict[str, Any] = {"waiting": kept.n_waiting, "labels": dict(sorted(state.counts.items()))}
        if beyond or more:
            facts[BEYOND] = {**beyond, **more}
        return Mark(encode_kept(job, kept), facts, read)

    def encode(self) -> bytes:
        """Return the mark as bytes."""
        meta = {"facts": json.loads(canonical_json(self.facts)), "read": cursors_to_json(self.read)}
        return encode(_KIND, meta, {"kept": np.frombuffer(self.kept, np.uint8)})


def read_mark(data: bytes) -> Mark:
    """Read the bytes of `Mark.encode`.

    Raises:
        CorruptArtefact: they are damaged.
    """
    found = decode(data, _KIND)
    if "kept" not in found.arrays or "read" not in found.meta:
        message = "The mark of a stream of raw rows must hold what is kept and what was read; it does not."
        raise CorruptArtefact(message)
    return Mark(found.arrays["kept"].tobytes(), found.meta["facts"], cursors_from_json(found.meta["read"]))


def _read(start: Start, came: Came) -> tuple[Cursors, dict[str, dict[str, list[list[int]]]]]:
    """Return the cursor behind the places that have come without a hole, and those that have come behind it."""
    if not start.source:
        return Cursors(), {}
    at = cursor_after(start.begun, came, start.topic)
    offsets = TopicCursor(at.offsets, {}, at.id)  # a restart begins where this one has read to
    left = {
        partition: intervals.intersection(ranges, np.array([[place(at.offsets[partition]), _LAST]], dtype=np.int64))
        for partition, ranges in came.items()
    }
    beyond = {partition: ranges for partition, ranges in left.items() if len(ranges)}
    return Cursors(topics={start.source: offsets}), {start.source: plain(beyond)} if beyond else {}


def mark_at(marked: Mapping[int, Held], through: int, size_us: int) -> tuple[Mark, dict[int, Held]]:
    """Return the mark of the end of the last window that has ended by a time, and the marks of later ends.

    Raises:
        MergeRefused: it has not come.
    """
    end = through // size_us * size_us
    if end not in marked:
        message = f"The stream must have marked the window's end {end} before it is folded; it has {sorted(marked)}."
        raise MergeRefused(message)
    return read_mark(marked[end].data), {at: one for at, one in marked.items() if at > end}


@with_input_types(tuple[int, Accumulation])
@with_output_types(_ENTRY)
class _Accumulations(DoFn):
    def process(self, element: tuple[int, Accumulation]) -> Iterator[tuple[bytes, tuple[int, bytes]]]:
        yield b"job", (element[0], _ACCUMULATION + encode_accumulation(element[1]))


@with_input_types(tuple[int, bytes])
@with_output_types(_ENTRY)
class _Marks(DoFn):
    def process(self, element: tuple[int, bytes]) -> Iterator[tuple[bytes, tuple[int, bytes]]]:
        yield b"job", (element[0], _MARK + element[1])


def together(accumulations: PCollection, marks: PCollection) -> PCollection:
    """Bring the accumulations of all windows and the marks of their ends under one key, as bytes."""
    both = (accumulations | "Together" >> ParDo(_Accumulations()), marks | "Marks" >> ParDo(_Marks()))
    return both | "Both" >> Flatten()


def accumulation_in(entry: bytes) -> Accumulation | None:
    """Return the accumulation in an entry of `together`; None: it is a mark."""
    return decode_accumulation(entry[1:]) if entry[:1] == _ACCUMULATION else None
