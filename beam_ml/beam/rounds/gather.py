"""Rows gathered by window, for a trainer that learns from a round's windows one after the other."""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from apache_beam import Flatten, GroupByKey, ParDo, PTransform
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.rounds.handover import hand_over
from beam_ml.beam.steps import Step
from beam_ml.beam.telemetry import count_rows
from beam_ml.beam.transforms.accumulate import Count
from beam_ml.beam.transforms.batches import Slices
from beam_ml.beam.transforms.windowing import many_in_or_out
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.codec import decode_slices, encode_slice, join_slices
from beam_ml.beam.wire.elements import Slice
from beam_ml.beam.wire.references import spec_of
from beam_ml.core.admit import admit
from beam_ml.core.limits import ABSOLUTE, Limits, Seen
from beam_ml.core.progress import Progress
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import Spec
from beam_ml.core.threads import one_thread
from beam_ml.registry import Registry, drop_round, put_round, read_round, round_files

__all__ = ["Gather", "Gathered", "HandOver", "WriteRows", "drop_rows", "in_place", "rows_of"]

_ENDING = ".rows"
_KEY = struct.Struct(">q")


class Gathered(NamedTuple):
    """The outputs of `Gather`.

    Attributes:
        rows: PCollection of (window end in µs as 8 bytes, Slice): rows that may be learned from.
        counted: PCollection of (`ROUND`, Accumulation): the progress of every other place that was read.
        rejected: PCollection of Reject: every row rejected anywhere on the way.
    """

    rows: PCollection
    counted: PCollection
    rejected: PCollection


@with_input_types(tuple[int, Slice])
@with_output_types(tuple[bytes, Slice], rejected=Reject, progress=Progress)
class _Admit(Step):
    renewed = ("before",)

    def __init__(self, spec: str, limits: str, names: tuple[str, ...]) -> None:
        self._spec_json, self._limits_json, self._names, self._before = spec, limits, names, ""

    def start_bundle(self) -> None:
        self._limits = Limits.parse(json.loads(self._limits_json))
        self._seen = Seen.from_json(self._before) if self._before else None

    def process(self, element: tuple[int, Slice]) -> Iterator[Any]:
        end, piece = element
        with one_thread():
            good, refused, adjusted = admit(
                spec_of(self._spec_json)[1], piece.rows, self._limits, self._seen, self._names, piece.set_back
            )
        for reason, rows in refused.items():
            bad = piece.rows.take(rows)
            yield TaggedOutput("rejected", Reject.of_batch(bad, reason))
            yield TaggedOutput("progress", Progress.of_rejected(bad, reason))
        if adjusted:
            yield TaggedOutput("progress", Progress(adjusted=adjusted))
        if len(good):
            late = min(piece.late, len(good))
            count_rows(len(good), good.feature_bytes, late)
            yield _KEY.pack(end), Slice(good, late)


class Gather(PTransform):
    """`Slices` → `Gathered`.

    Args:
        spec: what will be learned: says what a label must be; shipped as JSON.
        limits: how large values may be; shipped as JSON.
        names: of the first features, for reasons.
    """

    def __init__(self, spec: Spec, limits: Limits = ABSOLUTE, names: Sequence[str] = ()) -> None:
        super().__init__()
        self._spec = spec.to_json()
        self._admit = _Admit(self._spec, limits.to_json(), tuple(names))

    @many_in_or_out
    def expand(self, pcoll: Slices) -> Gathered:
        """Admit rows where they lie, and count what is not admitted."""
        coders.install(pcoll.slices.pipeline)
        out = pcoll.slices | "Admit" >> ParDo(self._admit).with_outputs("rejected", "progress", main="rows")
        progress = (pcoll.progress, out.progress) | "Progress" >> Flatten()
        rejected = (pcoll.rejected, out.rejected) | "Rejected" >> Flatten()
        return Gathered(out.rows, progress | "Count" >> Count(self._spec), rejected)


@with_input_types(tuple[bytes, Slice])
class _HandOver(Step):
    renewed = ("round_id",)
    _round_id = ""

    def process(self, element: tuple[bytes, Slice]) -> None:
        (end,) = _KEY.unpack(element[0])
        hand_over(self._round_id, end, element[1])


class HandOver(PTransform):
    """`Gathered.rows` → the memory of the trainer, where it is this very process: see `handover`."""

    def expand(self, pcoll: PCollection) -> PCollection:
        """Hand over each slice as it arrives."""
        return pcoll | ParDo(_HandOver())


@with_input_types(tuple[bytes, Slice])
@with_output_types(tuple[bytes, tuple[str, str, int, bytes]])
class _Encode(Step):
    """Rows as the bytes that are grouped and then written as they are, behind the place of their first row."""

    def process(self, element: tuple[bytes, Slice]) -> Iterator[tuple[bytes, tuple[str, str, int, bytes]]]:
        end, piece = element
        yield end, (*_place(piece), encode_slice(piece))


@with_input_types(tuple[bytes, Iterable[tuple[str, str, int, bytes]]])
class _WriteRows(Step):
    """Writes a window's rows as one file, in order of place: a retried bundle writes the same file again."""

    renewed = ("round_id",)

    def __init__(self, registry: str, name: str, round_id: str) -> None:
        self._where, self._name, self._round_id = registry, name, round_id

    def setup(self) -> None:
        self._registry = Registry(self._where)

    def process(self, element: tuple[bytes, Iterable[tuple[str, str, int, bytes]]]) -> None:
        (end,) = _KEY.unpack(element[0])
        data = join_slices([piece for *_, piece in sorted(element[1])])
        put_round(self._registry, self._name, self._round_id, f"{end}{_ENDING}", data)


class WriteRows(PTransform):
    """`Gathered.rows` → one file per window, where workers are other processes than the trainer.

    Args:
        registry: path or URL.
        name: the learner's.
        round_id: of this attempt.
    """

    def __init__(self, registry: str, name: str, round_id: str) -> None:
        super().__init__()
        self._written = (registry, name, round_id)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Group the encoded rows by window, and write a file for each."""
        return pcoll | ParDo(_Encode()) | GroupByKey() | ParDo(_WriteRows(*self._written))


def _place(piece: Slice) -> tuple[str, str, int]:
    """Return where a slice begins."""
    rows = piece.rows
    assert rows.origin is not None  # noqa: S101 rows of a round always know
    assert rows.position is not None  # noqa: S101
    return rows.origin.source, rows.origin.partition, int(rows.position[0])


def in_place(slices: Iterable[Slice]) -> list[Slice]:
    """Return a window's rows in order of place."""
    return sorted(slices, key=_place)


def rows_of(
    registry: Registry, name: str, round_id: str, handed: Mapping[int, Sequence[Slice]]
) -> dict[int, list[Slice]]:
    """Return a round's rows by window end, those of each window in order of place.

    Args:
        registry: where `WriteRows` has written them, unless they were handed over.
        name: the learner's.
        round_id: of this attempt.
        handed: what `HandOver` has put into memory; empty: nothing, or another engine ran the pipeline.
    """
    if handed:
        return {end: in_place(slices) for end, slices in handed.items()}
    return {
        int(file.removesuffix(_ENDING)): decode_slices(read_round(registry, name, round_id, file))
        for file in _files(registry, name, round_id)
    }


def drop_rows(registry: Registry, name: str, round_id: str) -> None:
    """Remove a round's rows once a version has learned from them: a registry keeps what was learned, not the data.

    What a kill leaves behind goes with the round (`beam_ml.registry.sweep`).
    """
    drop_round(registry, name, round_id, _files(registry, name, round_id))


def _files(registry: Registry, name: str, round_id: str) -> list[str]:
    return [file for file in round_files(registry, name, round_id) if file.endswith(_ENDING)]
