"""How many categories rows have, and so how many places their columns and crosses get."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pyarrow as pa

from beam_ml.features.crosses import Crossed
from beam_ml.features.features import Features
from beam_ml.features.hashing import Hashed, places_for

__all__ = ["places_by", "seen_in"]


def seen_in(
    features: Features, batches: Iterable[pa.RecordBatch], among: Collection[str] | None = None
) -> dict[str, int]:
    """Return name of a column or cross by hash → how many different values it has in some rows, nothing among them.

    Args:
        features: that name them.
        batches: the rows.
        among: the names that are asked for; None: all.

    Raises:
        MissingColumn: a column is absent, or holds neither numbers nor text.

    >>> rows = pa.record_batch({"shop": ["a", "b", "a", None], "day": [1, 1, 2, 2]})
    >>> seen_in(Features(hashed=["shop"], crosses=[["shop", "day"]]), [rows, rows])
    {'shop': 3, 'shop×day': 4}
    """
    asked = [one.term for one in features.by_hash if among is None or one.name in among]
    terms = [term for term in asked if isinstance(term, Hashed | Crossed)]
    found: dict[str, np.ndarray] = {term.name: np.zeros(0, dtype=np.uint64) for term in terms}
    for batch in batches:
        for term in terms:
            codes, rules = term.codes(batch)
            good = np.ones(codes.size, dtype=bool)
            for rule in rules:
                good &= ~rule.broken
            found[term.name] = np.union1d(found[term.name], codes[good])
    return {name: int(codes.size) for name, codes in found.items()}


def places_by(seen: Mapping[str, int]) -> dict[str, int]:
    """Return column → places by how many values were seen of it."""
    return {column: places_for(count) for column, count in seen.items()}
