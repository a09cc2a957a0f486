"""Who a row is: a hash of seed, origin and position, the same wherever and however often the row is read."""

import hashlib

import numpy as np

from beam_ml.core.batch import FIT, Batch, Origin
from beam_ml.core.mixing import GOLDEN, mix64

__all__ = ["draws", "identities", "sorted_places"]


def identities(seed: int, batch: Batch) -> np.ndarray:
    """Return one uint64 per row; without positions, rows count as 0 … n − 1 of their origin."""
    origin = batch.origin or Origin("", "")
    return _hashes(seed, batch, f"{origin.source}\0{origin.partition}")


def draws(seed: int, batch: Batch, known: np.ndarray) -> np.ndarray:
    """Return one uint64 per row by which it is drawn: its identity, but that of two equal fits is the same.

    A sample of `fit`'s is then the same for the same call, and its rows are other rows all the same.

    Args:
        seed: of the spec.
        batch: n rows.
        known: (n,) their identities.
    """
    origin = batch.origin
    return known if origin is None or origin.source != FIT else _hashes(seed, batch, origin.drawn_as)


def _hashes(seed: int, batch: Batch, origin: str) -> np.ndarray:
    text = f"{seed}\0{origin}".encode()
    salt = np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
    place = np.arange(len(batch), dtype=np.int64) if batch.position is None else batch.position
    with np.errstate(over="ignore"):
        x = place.astype(np.uint64)
        x += np.uint64(1)
        x *= GOLDEN
        x += salt
        return mix64(x)


def sorted_places(order: np.ndarray, identity: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Return what sorts rows by class, order and identity: ``lexsort((identity, order, kind))``.

    Samples that are added are sorted already, and a stable sort by one key goes through such runs in one pass.
    """
    place = np.argsort(order, kind="stable")
    if kind.size and kind.max() > 0:
        place = place[np.argsort(kind[place], kind="stable")]
    equal = (order[place][1:] == order[place][:-1]) & (kind[place][1:] == kind[place][:-1])
    if (equal & (identity[place][1:] != identity[place][:-1])).any():
        return np.lexsort((identity, order, kind))
    return place
