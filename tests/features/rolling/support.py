"""Rows for tests of rolling windows, and a spec with every function of every kind."""

from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.features.rolling import Rolling
from beam_ml.formats.block import Block

S = 10**6
BEGIN = 1_700_000_000 * S
DELAYED = {"length": "40s", "delay": "15s"}
NUMBERS = ("sum", "mean", "variance", "min", "max", "first", "last")


def every(key: Any = "card", **more: Any) -> list[dict[str, Any]]:
    """Return every function of the rows of a key."""
    windows = ["10s", "1m", DELAYED]
    common = {"key": key, "windows": windows, **more}
    found = [{**common, "of": of, "value": "x"} for of in NUMBERS]
    found += [{**common, "of": "count"}, {**common, "of": "time_since_last"}]
    found += [{**common, "of": "count", "value": "x", "name": f"values_{key}_{more}"}]
    found += [
        {**common, "of": "distinct", "value": "shop"},
        {**common, "of": "share", "value": "shop", "category": "b"},
    ]
    if not more.keys() & {"known", "dated"}:
        found += [{**common, "of": "ratio", "value": "x"}]
    if more.get("kind") != "sawtooth":
        found += [{**common, "of": "top_k", "value": "shop", "k": 2}]
    return found


def spec(aggregates: list[dict[str, Any]], **more: Any) -> Rolling:
    return Rolling(time="ts", aggregates=aggregates, **{"shards": 2, **more})


def rows(seed: int, n: int, span_s: int = 200, cards: int = 3) -> list[dict[str, Any]]:
    """Return rows in order of time, with ties, gaps and labels that become known later."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, span_s, n)) * S + BEGIN
    found = []
    for i in range(n):
        later = int(time[i]) + int(rng.integers(0, 30)) * S
        found.append(
            {
                "ts": int(time[i]),
                "card": None if rng.random() < 0.05 else int(rng.integers(cards)),
                "shop": None if rng.random() < 0.1 else "abcd"[rng.integers(4)],
                "x": None if rng.random() < 0.1 else round(float(rng.normal()), 3),
                "label_time": None if rng.random() < 0.2 else later,
                "of_time": None if rng.random() < 0.2 else int(time[i]) - int(rng.integers(0, 30)) * S,
            }
        )
    return found


TYPES = pa.schema(
    [
        ("ts", pa.timestamp("us", tz="UTC")),
        ("card", pa.int64()),
        ("shop", pa.string()),
        ("x", pa.float64()),
        ("label_time", pa.timestamp("us", tz="UTC")),
        ("of_time", pa.timestamp("us", tz="UTC")),
    ]
)


def block(given: list[dict[str, Any]], start: int = 0) -> Block:
    batch = pa.RecordBatch.from_pylist(given, TYPES) if given else pa.RecordBatch.from_pylist([], TYPES)
    place = np.arange(start, start + len(given), dtype=np.int64)
    return Block(batch, Origin("topic", "0"), place, None, start, start + len(given))
