"""How many categories rows have, and so how many places their columns get."""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from beam_ml.features.features import Features
from beam_ml.features.hashing import codes_of, places_for

__all__ = ["places_by", "seen_in"]


def seen_in(features: Features, batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
    """Return column of categories → how many different values it has in some rows, nothing among them.

    Raises:
        MissingColumn: a column is absent, or holds neither numbers nor text.

    >>> rows = pa.record_batch({"shop": ["a", "b", "a", None]})
    >>> seen_in(Features(hashed=["shop"]), [rows, rows])
    {'shop': 3}
    """
    found: dict[str, np.ndarray] = {term.column: np.zeros(0, dtype=np.uint64) for term in features.hashed}
    for batch in batches:
        for term in features.hashed:
            codes, refused = codes_of(batch, term, "Features.hashed")
            found[term.column] = np.union1d(found[term.column], codes if refused is None else codes[~refused])
    return {column: int(codes.size) for column, codes in found.items()}


def places_by(seen: Mapping[str, int]) -> dict[str, int]:
    """Return column → places by how many values were seen of it."""
    return {column: places_for(count) for column, count in seen.items()}
