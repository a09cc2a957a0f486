"""Texts as whole numbers, six bytes each, so that rows of numbers can carry them, and back.

A text of at most k bytes becomes k / 6 numbers below 2^48: its UTF-8 bytes, filled up with 0, six by six, the first byte
highest, each six scrambled by a bijection. What differs in a byte lies far apart then, so that no number passes for an
outlier. A longer text has the number −1 in each place: it is counted, and has no spelling.

Letters: ``n`` texts, ``k`` bytes, ``s`` = k / 6 numbers.
"""

import numpy as np

__all__ = ["LONG", "MOST_BYTES", "WIDTH", "read", "spell"]

WIDTH = 6
"""Bytes of a number."""
MOST_BYTES = 96
"""The longest text that can be spelled."""
LONG = -1.0
"""Stands in each place of a text that is too long."""

_MASK = np.uint64((1 << 48) - 1)
_HALF = np.uint64(24)
_FACTOR = 0x9E3779B97F4B
_FORTH, _BACK = np.uint64(_FACTOR), np.uint64(pow(_FACTOR, -1, 1 << 48))


def _scrambled(x: np.ndarray) -> np.ndarray:
    x = (x * _FORTH) & _MASK
    x = x ^ (x >> _HALF)
    found: np.ndarray = (x * _FORTH) & _MASK
    return found


def _restored(x: np.ndarray) -> np.ndarray:
    x = (x * _BACK) & _MASK
    x = x ^ (x >> _HALF)
    found: np.ndarray = (x * _BACK) & _MASK
    return found


def spell(data: np.ndarray, offsets: np.ndarray, most: int) -> np.ndarray:
    """Return texts as numbers, (n, s) float64.

    Args:
        data: all their bytes one after the other, uint8.
        offsets: (n + 1,) where each begins and ends.
        most: k, a multiple of 6.

    >>> numbers = spell(np.frombuffer(b"shopbasket", np.uint8), np.array([0, 4, 10, 10]), 6)
    >>> read(numbers), numbers.shape
    (['shop', 'basket', ''], (3, 1))
    """
    sizes = np.diff(offsets)
    n, fits = sizes.size, sizes <= most
    kept = np.where(fits, sizes, 0)
    row = np.repeat(np.arange(n), kept)
    within = np.arange(row.size) - np.repeat(np.cumsum(kept) - kept, kept)
    table = np.zeros((n, most), np.uint64)
    table[row, within] = data[np.repeat(offsets[:-1], kept) + within]
    scale = np.uint64(256) ** np.arange(WIDTH - 1, -1, -1, dtype=np.uint64)
    numbers = _scrambled((table.reshape(n, most // WIDTH, WIDTH) * scale).sum(axis=2, dtype=np.uint64)).astype(
        np.float64
    )
    numbers[~fits] = LONG
    return numbers


def read(numbers: np.ndarray) -> list[str]:
    """Return the texts that numbers (n, s) spell; "" also where they spell none.

    >>> read(np.array([[LONG], [0.5], [2.0**60]]))
    ['', '', '']
    """
    n, s = numbers.shape
    good = ((numbers >= 0) & (numbers < 2.0**48) & (numbers == np.floor(numbers))).all(axis=1)
    whole = _restored(np.where(good[:, None], numbers, 0.0).astype(np.uint64))
    shifts = np.arange(8 * (WIDTH - 1), -1, -8, dtype=np.uint64)
    table = ((whole[:, :, None] >> shifts) & np.uint64(255)).astype(np.uint8).reshape(n, s * WIDTH)
    texts = [row.tobytes().rstrip(b"\0").decode("utf-8", "replace") for row in table]
    return [text if fits else "" for text, fits in zip(texts, good, strict=True)]
