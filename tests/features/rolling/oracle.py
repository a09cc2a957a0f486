"""The definition of every aggregate, row by row in plain Python: what the kernels are compared with."""

import math
from collections import Counter
from typing import Any

from beam_ml.features.rolling import Aggregate, Rolling

Row = dict[str, Any]


def inside(one: Aggregate, length: int, delay: int, time: int, dated: int) -> bool:
    """Return whether a time lies in the window of a row; tails of sawtooth windows are in hops."""
    from beam_ml.features.rolling.spec import hop_us

    last = time - delay
    if one.kind == "exact":
        return last - length < dated <= last
    hop = hop_us(length)
    first = (last - length) // hop
    stop = last // hop + (delay == 0)
    return first <= dated // hop < stop


def seen(rows: list[Row], i: int, one: Aggregate, length: int, delay: int) -> list[tuple[int, Any]]:
    """Return time and value of what row i sees, in order of the time it is dated, then in row order."""
    found = []
    for j in range(i + 1 if one.includes_row else i):
        other = rows[j]
        if any(other[name] is None or other[name] != rows[i][name] for name in one.key):
            continue
        dated = other["ts"] if one.dated is None else other[str(one.dated)]
        known = other["ts"] if one.known is None else other[str(one.known)]
        if dated is None or known is None or known > rows[i]["ts"]:
            continue
        value = 0 if one.value is None else other[one.value]
        if value is not None and inside(one, length, delay, rows[i]["ts"], dated):
            found.append((dated, j, value))
    return [(dated, value) for dated, _, value in sorted(found, key=lambda entry: entry[:2])]


def aggregate(one: Aggregate, found: list[tuple[int, Any]], time: int) -> Any:
    values = [value for _, value in found]
    empty = one.empty
    if one.of == "count":
        return len(values) or (0 if empty is None else empty)
    if one.of == "sum":
        return math.fsum(values) if values else (0.0 if empty is None else empty)
    if one.of == "distinct":
        return len(set(values)) or (0 if empty is None else empty)
    if one.of == "top_k":
        return values
    if not values:
        return empty
    mean = math.fsum(values) / len(values) if one.of in ("mean", "ratio", "variance") else 0.0
    return {
        "mean": lambda: mean,
        "ratio": lambda: mean,
        "variance": lambda: math.fsum((value - mean) ** 2 for value in values) / len(values),
        "min": lambda: min(values),
        "max": lambda: max(values),
        "first": lambda: values[0],
        "last": lambda: values[-1],
        "time_since_last": lambda: (time - found[-1][0]) / 1e6,
        "share": lambda: sum(value == one.category for value in values) / len(values),
    }[one.of]()


def expected(spec: Rolling, rows: list[Row]) -> dict[str, list[Any]]:
    """Return what rows in order have, by output; top_k: a Counter of what is in the window."""
    found: dict[str, list[Any]] = {}
    for output in spec.outputs:
        one, window = output.aggregate, output.window
        for i, row in enumerate(rows):
            value: Any = None
            if all(row[name] is not None for name in one.key):
                value = aggregate(one, seen(rows, i, one, window.length_us, window.delay_us), row["ts"])
                if one.of == "ratio":
                    own = row[str(one.value)]
                    value = own / value if own is not None and value else one.empty
                if one.of == "top_k":
                    value = Counter(value)
            found.setdefault(output.name, []).append(value)
    return found
