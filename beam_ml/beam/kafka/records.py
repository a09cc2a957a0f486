"""Fetched bytes → arrays: what the client library does record by record in Python, done by the batch.

`use` exchanges the one class of the library's fetcher that unpacks what was fetched. Everything else, such as leaders,
fetch sessions, checksums, positions and transactions, stays the library's.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.util import decode_varint

from beam_ml import kernels

__all__ = ["HEADERS", "Messages", "Run", "use"]

HEADERS = pa.list_(pa.struct([("key", pa.utf8()), ("value", pa.binary())]))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Messages of one batch: n of them, whose keys and values lie in one piece of memory.

    Attributes:
        data: uint8 that memory.
        fields: (7, n) int64 as `kernels.kafka_records.FIELDS`, offset and time made absolute (ms since the epoch).
    """

    data: np.ndarray
    fields: np.ndarray

    @staticmethod
    def of_records(records: Sequence[Any]) -> "Run":
        """Make a run of the library's records, of message formats before 2, which have no headers."""
        fields = np.zeros((len(kernels.kafka_records.FIELDS), len(records)), dtype=np.int64)
        parts: list[bytes] = [b"\0"]  # no headers
        at = 1
        for i, record in enumerate(records):
            fields[:2, i] = record.offset, -1 if record.timestamp is None else record.timestamp
            for row, part in ((2, record.key), (4, record.value)):
                fields[row : row + 2, i] = at, -1 if part is None else len(part)
                parts.append(part or b"")
                at += len(parts[-1])
        return Run(np.frombuffer(b"".join(parts), dtype=np.uint8), fields)

    def __len__(self) -> int:
        return int(self.fields.shape[1])

    @property
    def offset(self) -> int:
        """Return the last offset: the library leaves out what lies before the one that was asked for."""
        return int(self.fields[0, -1])

    @property
    def nbytes(self) -> int:
        """Return the bytes of keys and values."""
        return int(np.maximum(self.fields[3], 0).sum() + np.maximum(self.fields[5], 0).sum())


class Messages:
    """Messages of one partition, in order of offset.

    Attributes:
        runs: one or more messages each.
    """

    def __init__(self, runs: Sequence[Run] = ()) -> None:
        self.runs = tuple(runs)

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    @property
    def offsets(self) -> np.ndarray:
        """Return (n,) int64 offsets."""
        return self._field(0)

    @property
    def times(self) -> np.ndarray:
        """Return (n,) int64 times of record, ms since the epoch."""
        return self._field(1)

    def __bool__(self) -> bool:
        return bool(self.runs)

    def before(self, stop: int) -> "Messages":
        """Leave out the messages at `stop` and behind it."""
        if not self.runs or self.runs[-1].offset < stop:
            return self
        cut = (Run(run.data, _cut(run.fields, int(np.searchsorted(run.fields[0], stop)))) for run in self.runs)
        return Messages([run for run in cut if len(run)])

    def keys(self) -> pa.Array:
        """Return the keys as a binary array, null where a message has none."""
        return self._gathered(2)

    def values(self) -> pa.Array:
        """Return the values as a binary array, null for tombstones."""
        return self._gathered(4)

    def headers(self) -> pa.Array:
        """Return the headers, as lists of (key, value)."""
        found = [_headers(run.data, at) for run in self.runs for at in run.fields[6].tolist()]
        return pa.array(found, type=HEADERS)

    def _field(self, number: int) -> np.ndarray:
        if not self.runs:
            return np.zeros(0, dtype=np.int64)
        return np.concatenate([run.fields[number] for run in self.runs])

    def _gathered(self, number: int) -> pa.Array:
        size = self._field(number + 1)
        ends = np.zeros(len(size) + 1, dtype=np.int64)
        np.cumsum(np.maximum(size, 0), out=ends[1:])
        null = size < 0
        nulls = int(null.sum())
        if nulls == len(size):
            return pa.nulls(nulls, pa.binary())
        data = np.empty(int(ends[-1]), dtype=np.uint8)
        at = 0
        for run in self.runs:
            at = kernels.kafka_records.gather(run.data, run.fields[number], run.fields[number + 1], data, at)
        valid = pa.array(~null).buffers()[1] if nulls else None
        large = int(ends[-1]) > np.iinfo(np.int32).max
        kind, bounds = (pa.large_binary(), ends) if large else (pa.binary(), ends.astype(np.int32))
        return pa.Array.from_buffers(kind, len(size), [valid, pa.py_buffer(bounds), pa.py_buffer(data)], nulls)


def _cut(fields: np.ndarray, n: int) -> np.ndarray:
    return np.ascontiguousarray(fields[:, :n])


def _headers(data: np.ndarray, at: int) -> list[dict[str, Any]]:
    count, at = decode_varint(data, at)
    if not count:
        return []
    found, buffer = [], data.data
    for _ in range(count):
        size, at = decode_varint(buffer, at)
        key, at = str(buffer[at : at + size], "utf-8"), at + size
        size, at = decode_varint(buffer, at)
        value = None if size < 0 else bytes(buffer[at : at + size])
        at += max(0, size)
        found.append({"key": key, "value": value})
    return found


def use(consumer: KafkaConsumer) -> None:
    """Make a consumer's polls return `Run`s, by batch, instead of the library's records; `max_records` counts them."""
    consumer._fetcher.PartitionRecords = _Batches


class _Batches(Fetcher.PartitionRecords):
    """The part of one fetch that is of one partition; the library asks it for more until it is empty."""

    def _unpack_records(self, tp: Any, records: Any, key_deserializer: Any, value_deserializer: Any) -> Iterator[Run]:
        last = None
        while (batch := records.next_batch()) is not None:
            last = batch
            if self.check_crcs and not batch.validate_crc():
                message = f"the checksum of the batch at offset {batch.base_offset} is wrong"
                raise CorruptRecordError(message)
            if batch.magic == 2:
                self.leader_epoch = batch.leader_epoch
                if not self._wanted(batch):
                    self.next_fetch_offset = batch.next_offset
                    continue
                run = _index(batch)
                self.next_fetch_offset = batch.next_offset
            else:
                run = Run.of_records(list(batch))
                self.next_fetch_offset = run.offset + 1 if len(run) else self.next_fetch_offset
            first = int(np.searchsorted(run.fields[0], self.fetch_offset))
            if first:  # a fetch returns whole batches: what lies before is left out
                run = Run(run.data, np.ascontiguousarray(run.fields[:, first:]))
            self.records_read += len(run)
            self.bytes_read += batch.size_in_bytes if batch.magic == 2 else run.nbytes
            if len(run):
                yield run
        if last is not None and last.magic == 2:
            self.next_fetch_offset = last.next_offset
        self.drain()

    def _wanted(self, batch: Any) -> bool:
        """Return whether a batch holds messages that may be read: no markers, no aborted transaction's messages."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return False
        return not batch.is_control_batch


def _index(batch: Any) -> Run:
    """Find the parts of a batch's records."""
    iter(batch)  # the library uncompresses here
    data = np.frombuffer(batch._buffer, dtype=np.uint8)
    fields = np.empty((len(kernels.kafka_records.FIELDS), batch.records_count), dtype=np.int64)
    if kernels.kafka_records.index(data, batch._pos, fields) != data.size:
        message = f"the batch at offset {batch.base_offset} does not hold {batch.records_count} whole records"
        raise CorruptRecordError(message)
    fields[0] += batch.base_offset
    if batch.timestamp_type == batch.LOG_APPEND_TIME:
        fields[1] = batch.max_timestamp
    else:
        fields[1] += batch.first_timestamp
    return Run(data, fields)
