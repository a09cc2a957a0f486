"""What the step that prepares raw rows keeps: what rounds keep, which places have come, and what it owes the fold."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml.artefact.envelope import decode, encode
from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.prepare.kept import Kept, decode_kept, encode_kept
from beam_ml.beam.rounds.prepare.preparer import BEYOND
from beam_ml.beam.wire.references import STREAM_REFUSE_BYTES
from beam_ml.core import intervals
from beam_ml.errors import InvalidValue

__all__ = ["Came", "RawState", "beyond_of", "plain"]

_KIND = "raw_stream"

Came = Mapping[int, np.ndarray]
"""Partition → places that have come, (k, 2) int64."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RawState:
    """What is known of raw rows between two releases.

    Attributes:
        kept: as rounds keep it.
        rows, reports: which places of either topic have come.
        counts: what became of reports so far, and of the rows that waited for them.
        owed: the fold awaits a mark of each window end up to this one, µs.
    """

    kept: Kept
    rows: Came
    reports: Came
    counts: Counter[str]
    owed: int

    def encode(self, job: Job) -> bytes:
        """Return the state as bytes.

        Raises:
            InvalidValue: it is more than an engine can carry.
        """
        kept = encode_kept(job, self.kept)
        if len(kept) > STREAM_REFUSE_BYTES:
            message = (
                f"What a stream keeps of raw rows must be at most {STREAM_REFUSE_BYTES >> 20} MiB; got {len(kept) >> 20} "
                "MiB: shorten rolling.aggregates.windows or labels.maturity, or set rolling.kind = 'sawtooth'."
            )
            raise InvalidValue(message)
        meta = {
            "rows": plain(self.rows),
            "reports": plain(self.reports),
            "counts": dict(self.counts),
            "owed": self.owed,
        }
        return encode(_KIND, meta, {"kept": np.frombuffer(kept, np.uint8)})

    @staticmethod
    def decode(job: Job, data: bytes) -> "RawState":
        """Read the bytes of `encode`."""
        found = decode(data, _KIND)
        meta = found.meta
        kept = decode_kept(job, found.arrays["kept"].tobytes())
        return RawState(kept, _came(meta["rows"]), _came(meta["reports"]), Counter(meta["counts"]), meta["owed"])

    def came(self, reports: bool, partition: int, start: int, stop: int) -> "RawState":
        """Return the state with a span of places that has come."""
        held = dict(self.reports if reports else self.rows)
        span = np.array([[start, stop]], dtype=np.int64)
        held[partition] = intervals.union(held.get(partition, intervals.EMPTY), span)
        return dataclasses.replace(self, reports=held) if reports else dataclasses.replace(self, rows=held)


def plain(came: Came) -> dict[str, list[list[int]]]:
    """Return places as JSON holds them."""
    return {str(partition): ranges.tolist() for partition, ranges in sorted(came.items())}


def _came(plain: Mapping[str, Any]) -> dict[int, np.ndarray]:
    return {int(partition): np.array(ranges, np.int64).reshape(-1, 2) for partition, ranges in plain.items()}


def beyond_of(facts: Mapping[str, Any], source: str) -> dict[int, np.ndarray]:
    """Return partition → places of a topic that were read behind the first one that was not, by a version's facts.

    >>> beyond_of({"beyond": {"kafka://c/t": {"0": [[5, 7]]}}}, "kafka://c/t")[0].tolist()
    [[5, 7]]
    """
    return _came(facts.get(BEYOND, {}).get(source, {}))
