"""Sets of positions as sorted, disjoint, non-touching half-open ranges: int64 arrays of shape (k, 2)."""

import numpy as np

__all__ = ["EMPTY", "difference", "first_hole", "from_positions", "intersection", "size", "union"]

EMPTY = np.zeros((0, 2), dtype=np.int64)
EMPTY.flags.writeable = False


def _joined(ranges: np.ndarray) -> np.ndarray:
    """Merge ranges sorted by start that touch or overlap."""
    if len(ranges) <= 1:
        return ranges
    ends = np.maximum.accumulate(ranges[:, 1])
    opens = np.concatenate([[True], ranges[1:, 0] > ends[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return np.stack([ranges[opens, 0], ends[closes]], axis=1)


def from_positions(start: np.ndarray, stop: np.ndarray | None = None) -> np.ndarray:
    """Return the set of the ranges [start_i, stop_i), empty ones aside; without `stop` each position is one wide.

    >>> from_positions(np.array([4, 1, 2, 9])).tolist()
    [[1, 3], [4, 5], [9, 10]]
    """
    if stop is not None and np.any(stop <= start):
        start, stop = start[stop > start], stop[stop > start]
    if start.size == 0:
        return EMPTY
    if stop is None and int(start[-1]) - int(start[0]) == start.size - 1 and bool(np.all(start[1:] > start[:-1])):
        return np.array([[start[0], start[-1] + 1]], dtype=np.int64)  # the common case: a run of rows
    end = start + 1 if stop is None else stop
    if start.size > 1 and np.any(start[1:] < start[:-1]):
        order = np.argsort(start, kind="stable")
        start, end = start[order], end[order]
    return _joined(np.stack([start, end], axis=1).astype(np.int64, copy=False))


def union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the positions in either set."""
    if len(a) == 0 or len(b) == 0:
        return b if len(a) == 0 else a
    both = np.concatenate([a, b])
    return _joined(both[np.argsort(both[:, 0], kind="stable")])


def size(a: np.ndarray) -> int:
    """Return the number of positions."""
    return int((a[:, 1] - a[:, 0]).sum()) if len(a) else 0


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the positions in both sets.

    >>> intersection(np.array([[0, 5], [8, 9]]), np.array([[3, 10]])).tolist()
    [[3, 5], [8, 9]]
    """
    out = []
    i = j = 0
    while i < len(a) and j < len(b):
        low, high = max(a[i, 0], b[j, 0]), min(a[i, 1], b[j, 1])
        if low < high:
            out.append((low, high))
        if a[i, 1] < b[j, 1]:
            i += 1
        else:
            j += 1
    return np.array(out, dtype=np.int64).reshape(-1, 2)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the positions of `a` that are not in `b`."""
    if len(a) == 0 or len(b) == 0:
        return a
    low, high = int(min(a[0, 0], b[0, 0])), int(max(a[-1, 1], b[-1, 1]))
    bounds = np.concatenate([[low], b.ravel(), [high]]).reshape(-1, 2)
    return intersection(a, bounds[bounds[:, 0] < bounds[:, 1]])


def first_hole(a: np.ndarray, start: int) -> int:
    """Return the smallest position ≥ `start` that is not in the set."""
    for low, high in a:
        if low <= start < high:
            start = int(high)
    return start
