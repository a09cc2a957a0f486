"""The order in which items are settled: by id, time, and what they hold, not by when they came."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.late_labels.state import Items

__all__ = ["ordered"]


def ordered(rows: Items, columns: pa.RecordBatch | None, reports: Items) -> tuple[np.ndarray, np.ndarray]:
    """Return the n = r + q items in order, (n,) int64 numbers, reports behind the rows, and whose item each is, (n,) int64.

    By id, time, rows before reports, then by label (reports) or what the row holds, and last by origin and place.
    """
    n, q = len(rows), len(reports)
    coded = pa.concat_arrays([rows.id, reports.id]).dictionary_encode()
    rank = np.empty(len(coded.dictionary), dtype=np.int64)
    rank[pc.array_sort_indices(coded.dictionary).to_numpy()] = np.arange(rank.size)
    code = rank[coded.indices.to_numpy(zero_copy_only=False)]
    time = np.concatenate([rows.time, reports.time])
    is_report = np.repeat(np.array([0, 1], np.uint8), [n, q])
    at = np.lexsort((is_report, time, code))
    tied = _tied(at, code, time, is_report)
    if tied.size:
        label = np.concatenate([np.zeros(n), reports.label])
        place, origin = (np.concatenate([getattr(rows, name), getattr(reports, name)]) for name in ("place", "origin"))
        mine, held = tied[tied < n], np.zeros(n + q, dtype=np.int64)
        if mine.size and columns is not None:
            held[mine] = _by_content(columns.take(pa.array(mine, pa.int64())))
        at = np.lexsort((place, origin, held, label, is_report, time, code))
    return at, code[at]


def _tied(at: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Return the items that share all keys with one beside them, by number, rising."""
    same = np.ones(max(at.size - 1, 0), dtype=bool)
    for key in keys:
        same &= key[at[1:]] == key[at[:-1]]
    return np.unique(np.concatenate([at[1:][same], at[:-1][same]]))


def _by_content(rows: pa.RecordBatch) -> np.ndarray:
    """Return a number per row that orders rows by what they hold; equal rows have equal ones."""
    names = sorted(rows.schema.names)
    texts = [repr([row[name] for name in names]) for row in rows.to_pylist()]
    number = {text: i for i, text in enumerate(sorted(set(texts)))}
    return np.array([number[text] for text in texts], dtype=np.int64)
