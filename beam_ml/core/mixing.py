"""`mix64`: one hash of whole numbers, for whatever is drawn by who it is instead of by when it came."""

import numpy as np

__all__ = ["GOLDEN", "mix64", "places_of"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""What SplitMix64 steps by: multiples of it are far from each other."""


def mix64(x: np.ndarray) -> np.ndarray:
    """Return SplitMix64's finaliser (Steele, Lea and Flood 2014) of uint64 numbers, in their own memory.

    It is a bijection that leaves no visible pattern.

    >>> mix64(np.array([0, 1, 2], dtype=np.uint64)).tolist()
    [0, 6238072747940578789, 15839785061582574730]
    """
    shifted = x >> np.uint64(30)
    x ^= shifted
    x *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(x, np.uint64(27), out=shifted)
    x ^= shifted
    x *= np.uint64(0x94D049BB133111EB)
    np.right_shift(x, np.uint64(31), out=shifted)
    x ^= shifted
    return x


def places_of(numbers: np.ndarray, places: int) -> np.ndarray:
    """Return the place of each number among so many by the hash of its 64 bits, int64 of the same shape; −0 is 0.

    >>> bool((places_of(np.array([1.0, -0.0, 0.0]), 8) == places_of(np.array([1, 0, 0], np.float32), 8)).all())
    True
    """
    bits = (numbers.astype(np.float64) + 0.0).view(np.uint64)
    return (mix64(bits) % np.uint64(places)).astype(np.int64)
