"""A steady load on a Kafka topic, as a process of its own, with what streams really hold: late, skewed, poisoned, doubled.

Row number i holds its number (``id``, so that sums tell losses and duplicates apart), a 32-bit hash of it (``hash``, whose
sums no lucky pair of mistakes leaves unchanged), d − 2 further numbers drawn from the seed, a label and an event time in
µs. At the end, or on SIGTERM, the last line printed is one JSON object: what was produced and acknowledged, by kind.

Run: ``python integration/producer.py --bootstrap localhost:9092 --topic load --rows-per-second 20000 --seconds 120``.
"""

import argparse
import collections
import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import fastavro
import numpy as np
from kafka import KafkaProducer
from kafka.errors import KafkaError

_POOL = 1024
"""Distinct draws of the further numbers; rows take them in turn."""
_WAITING = 20_000
"""Messages under way at most."""
_TICK_S = 0.01
POISON = (b"\xff\xfe poison", b'{"id": ', b"\x00\x00\x00\x00\x07 no such schema", b"[[[")
"""What is no row in any format."""


def hash32(ids: np.ndarray) -> np.ndarray:
    """Return (n,) 32-bit hashes of (n,) ids, as uint64 (splitmix64's upper half)."""
    z = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(32)


def names(n_features: int) -> list[str]:
    """Return the feature columns: `id`, `hash`, then `f2` and so on."""
    return ["id", "hash", *(f"f{j}" for j in range(2, n_features))]


def avro_schema(n_features: int, rows_per_message: int = 1) -> dict[str, Any]:
    """Return the writer schema of the Avro messages, which have no framing: a record, or an array of records."""
    fields = [{"name": name, "type": "double" if name in ("id", "hash") else "float"} for name in names(n_features)]
    fields += [{"name": "label", "type": "int"}, {"name": "time", "type": "long"}]
    row = {"type": "record", "name": "Row", "fields": fields}
    return row if rows_per_message == 1 else {"type": "array", "items": row}


class Rows:
    """The further numbers and labels, drawn once, and their text."""

    def __init__(self, n_features: int, seed: int, rows_per_message: int) -> None:
        rng = np.random.default_rng(seed)
        self.values = rng.normal(size=(_POOL, max(n_features - 2, 0))).astype(np.float32)
        eta = self.values[:, :5].sum(axis=1)
        self.labels = (rng.random(_POOL) < 1.0 / (1.0 + np.exp(-eta))).astype(int)
        self.n_features = n_features
        of = names(n_features)[2:]
        self.json = [
            "".join(f'"{name}": {value}, ' for name, value in zip(of, row.tolist(), strict=True)) + f'"label": {label}'
            for row, label in zip(self.values.round(6), self.labels.tolist(), strict=True)
        ]
        self._many = rows_per_message > 1
        self._schema = fastavro.parse_schema(avro_schema(n_features, rows_per_message))

    def encoder(self, format: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], bytes]:
        """Return the function from ids, hashes and event times of a message's rows to its bytes."""
        found: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], bytes]] = {
            "json": self._json, "avro": self._avro, "csv": self._csv, "raw": self._raw,
        }  # fmt: skip
        return found[format]

    def _json(self, ids: np.ndarray, hashes: np.ndarray, times: np.ndarray) -> bytes:
        pool = self.json
        rows = zip(ids.tolist(), hashes.tolist(), times.tolist(), strict=True)
        return "\n".join(f'{{"id": {i}.0, "hash": {h}.0, {pool[i % _POOL]}, "time": {t}}}' for i, h, t in rows).encode()

    def _csv(self, ids: np.ndarray, hashes: np.ndarray, times: np.ndarray) -> bytes:
        lines = []
        for i, h, t in zip(ids.tolist(), hashes.tolist(), times.tolist(), strict=True):
            values = ",".join(map(str, self.values[i % _POOL].tolist()))
            lines.append(f"{i}.0,{h}.0,{values},{self.labels[i % _POOL]},{t}")
        return "\n".join(lines).encode()

    def _avro(self, ids: np.ndarray, hashes: np.ndarray, times: np.ndarray) -> bytes:
        of = names(self.n_features)[2:]
        rows = []
        for i, h, t in zip(ids.tolist(), hashes.tolist(), times.tolist(), strict=True):
            more = dict(zip(of, self.values[i % _POOL].tolist(), strict=True))
            rows.append({"id": float(i), "hash": float(h), **more, "label": int(self.labels[i % _POOL]), "time": t})
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._schema, rows if self._many else rows[0])
        return out.getvalue()

    def _raw(self, ids: np.ndarray, hashes: np.ndarray, times: np.ndarray) -> bytes:
        """Return (n, d) float32, little-endian: no label and no time; for measuring transport."""
        matrix = np.empty((len(ids), self.n_features), dtype="<f4")
        matrix[:, 0], matrix[:, 1] = ids, hashes
        matrix[:, 2:] = self.values[ids % _POOL]
        return matrix.tobytes()


class Tally:
    """Sums and counts of what is produced, by kind."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def rows(self, kind: str, ids: np.ndarray, hashes: np.ndarray) -> None:
        """Count rows of a kind: how many, the sums of their ids and of their hashes."""
        self.counts[f"{kind}_rows"] += len(ids)
        self.counts[f"{kind}_sum_id"] += int(ids.sum())
        self.counts[f"{kind}_sum_hash"] += int(hashes.sum())


def event_times(
    options: argparse.Namespace, rng: np.random.Generator, now_us: int, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the rows' event times: (n,) µs, and which of them are late, and which dated in the future."""
    time_us = np.full(n, now_us + int(options.skew_seconds * 1e6), dtype=np.int64)
    if options.disorder_seconds:
        time_us -= (rng.random(n) * options.disorder_seconds * 1e6).astype(np.int64)
    chance = rng.random(n)
    late = chance < options.late_share
    future = (chance >= options.late_share) & (chance < options.late_share + options.future_share)
    time_us[late] -= int(options.late_seconds * 1e6)
    time_us[future] += int(options.future_seconds * 1e6)
    return time_us, late, future


class Load:
    """Sends messages and waits for no more than some of them."""

    def __init__(self, options: argparse.Namespace, producer: Any) -> None:
        self._options, self._producer = options, producer
        self._waiting: collections.deque[Any] = collections.deque()
        self._rng = np.random.default_rng((options.seed, 1))
        self._encode = Rows(options.features, options.seed, options.rows_per_message).encoder(options.format)
        self._partitions = sorted(producer.partitions_for(options.topic) or {0})
        self._number, self._next = 0, options.first_id
        self.tally = Tally()

    def _send(self, value: bytes, partition: int) -> None:
        while len(self._waiting) >= _WAITING or (self._waiting and self._waiting[0].is_done):
            self._settle()
        self._waiting.append(self._producer.send(self._options.topic, value=value, partition=partition))

    def _settle(self) -> None:
        try:
            self._waiting.popleft().get(timeout=180)
            self.tally.counts["acknowledged"] += 1
        except KafkaError as error:
            self.tally.counts["failed"] += 1
            print(f"a message was not acknowledged: {type(error).__name__}: {error}", file=sys.stderr)

    def message(self) -> None:
        """Send the next message, twice or poisoned as chance has it."""
        options, tally = self._options, self.tally
        partition = self._partitions[self._number % len(self._partitions)]
        self._number += 1
        poisoned, twice = self._rng.random(2) < (options.poison_share, options.duplicate_share)
        if poisoned:
            self._send(POISON[int(self._rng.integers(len(POISON)))], partition)
            tally.counts["poison_messages"] += 1
            return
        n = options.rows_per_message
        ids = np.arange(self._next, self._next + n)
        self._next += n
        hashes = hash32(ids)
        time_us, late, future = event_times(options, self._rng, time.time_ns() // 1000, n)
        value = self._encode(ids, hashes, time_us)
        tally.rows("distinct", ids, hashes)
        tally.counts["messages"] += 1
        copies = 2 if twice else 1
        if twice:
            tally.counts["duplicate_messages"] += 1
            tally.rows("duplicate", ids, hashes)
        for _ in range(copies):
            self._send(value, partition)
            tally.rows("sent", ids, hashes)
            for kind, of in (("late", late), ("future", future)):
                if of.any():
                    tally.rows(kind, ids[of], hashes[of])

    def flush(self) -> None:
        """Wait until everything is acknowledged or has failed."""
        while self._waiting:
            self._settle()


def due(rate: float, seconds: float, rows_per_message: int, stopping: Callable[[], bool]) -> Iterator[float]:
    """Yield for each message when it is due, with how late it is, s; messages late go at once."""
    begun, i = time.monotonic(), 0
    total = int(rate * seconds / rows_per_message)
    while i < total and not stopping():
        late = time.monotonic() - begun - i * rows_per_message / rate
        if late < 0:
            time.sleep(min(-late, _TICK_S))
            continue
        yield late
        i += 1


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bootstrap", required=True, help="host:port, several by commas")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rows-per-second", type=float, default=20_000)
    parser.add_argument("--rows-per-message", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--features", type=int, default=30, help="d, the id and its hash included")
    parser.add_argument("--format", choices=["json", "avro", "csv", "raw"], default="json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-id", type=int, default=0)
    parser.add_argument(
        "--skew-seconds", type=float, default=0.0, help="added to every event time: a clock that is wrong"
    )
    parser.add_argument("--disorder-seconds", type=float, default=0.0, help="event times lie up to this behind now")
    parser.add_argument("--late-share", type=float, default=0.0, help="of the rows")
    parser.add_argument("--late-seconds", type=float, default=60.0)
    parser.add_argument("--future-share", type=float, default=0.0, help="of the rows")
    parser.add_argument("--future-seconds", type=float, default=86_400.0)
    parser.add_argument("--poison-share", type=float, default=0.0, help="of the messages: no rows")
    parser.add_argument("--duplicate-share", type=float, default=0.0, help="of the messages: sent twice")
    parser.add_argument("--client", default="{}", help="options of kafka-python, as JSON")
    return parser.parse_args(arguments)


def main() -> None:
    """Produce; the last line is one JSON object."""
    options = parsed()
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    producer = KafkaProducer(
        bootstrap_servers=options.bootstrap.split(","), acks="all", linger_ms=5, batch_size=1 << 18,
        **json.loads(options.client),
    )  # fmt: skip
    load = Load(options, producer)
    begun, began_us, worst, late = time.monotonic(), time.time_ns() // 1000, 0.0, 0.0
    for late in due(options.rows_per_second, options.seconds, options.rows_per_message, lambda: stopping):
        load.message()
        worst = max(worst, late)
    sent_s = time.monotonic() - begun
    load.flush()
    producer.close()
    facts = {
        "began_us": began_us,
        "ended_us": time.time_ns() // 1000,
        "seconds": round(sent_s, 3),
        "worst_behind_s": round(worst, 3),
        "ended_behind_s": round(late, 3),
        "rows_per_second": round(load.tally.counts["sent_rows"] / sent_s, 1),
        "stopped": stopping,
    }
    print(json.dumps({**load.tally.counts, **facts}), flush=True)


if __name__ == "__main__":
    main()
