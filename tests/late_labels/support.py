"""Small logs of rows and reports, and what a join made of them."""

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.formats.block import Block
from beam_ml.late_labels import LateLabels

SECOND = 1_000_000
BASE = 1_767_225_600 * SECOND
"""2026-01-01: times of the logs count seconds from here."""


def spec(**given):
    return LateLabels(**{"id": "tx", "time": "at", "label": "fraud", "reported": "said_at", "maturity": 10, **given})


def times(seconds):
    return pa.array([BASE + one * SECOND for one in seconds], pa.timestamp("us", tz="UTC"))


def rows_block(rows, first=0, partition="rows"):
    """(id, second, value) → a block."""
    names = pa.array([one[0] for one in rows], pa.string())
    value = pa.array([one[2] for one in rows], pa.int64())
    batch = pa.record_batch({"tx": names, "at": times(one[1] for one in rows), "value": value})
    return Block(batch, Origin("log", partition), np.arange(first, first + len(rows)), None, first, first + len(rows))


def reports_block(reports, first=0, partition="reports"):
    """(id, second, label) → a block."""
    names = pa.array([one[0] for one in reports], pa.string())
    label = pa.array([one[2] for one in reports], pa.float64())
    batch = pa.record_batch({"tx": names, "said_at": times(one[1] for one in reports), "fraud": label})
    n = len(reports)
    return Block(batch, Origin("log", partition), np.arange(first, first + n), None, first, first + n)


def seen(released):
    """What was emitted, as the oracle says it."""
    found = []
    for row in released.batch.to_pylist():
        known, at = (int(one.timestamp()) - BASE // SECOND for one in (row["known_at"], row["at"]))
        found.append((known, at, row["tx"], row["value"], row["fraud"], row["label_weight"], row["correction"]))
    return found


def in_seconds(emitted):
    """What the oracle says, in the seconds of the logs."""
    return [((one[0] - BASE) // SECOND, (one[1] - BASE) // SECOND, *one[2:]) for one in emitted]


def us(second):
    return BASE + second * SECOND


def as_us(log):
    return [(name, us(at), value) for name, at, value in log]


def reasons(joined):
    found = {}
    for reject in joined.rejected:
        found[reject.reason] = found.get(reject.reason, 0) + len(reject)
    return found
