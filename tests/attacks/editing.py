"""Small damage to bytes, by chance: what attacks on formats of several kinds share."""

import random
from collections.abc import Sequence

__all__ = ["edited"]


def edited(
    rng: random.Random,
    one: bytes,
    odd: Sequence[int],
    pieces: Sequence[bytes],
    seeds: Sequence[bytes],
    edits: Sequence[int] = (1, 1, 1, 2, 4),
    cut: int = 5,
    most: int = 40,
) -> bytes:
    """Return bytes after a few edits: one is set, some are left out, a piece or the beginning of a seed is put in.

    Args:
        rng: draws.
        one: the bytes.
        odd: what a byte is set to, or itself with one bit turned.
        pieces: that are put in.
        seeds: whose beginnings are.
        edits: how many, one of these.
        cut: fewer bytes than these are left out at once.
        most: bytes of a seed's beginning, fewer than these.
    """
    out = bytearray(one)
    for _ in range(rng.choice(edits)):
        at = rng.randrange(len(out) + 1)
        what = rng.randrange(4)
        if what == 0 and at < len(out):
            out[at] = rng.choice([*odd, out[at] ^ (1 << rng.randrange(8))])
        elif what == 1:
            del out[at : at + rng.randrange(1, cut)]
        elif what == 2:
            out[at:at] = rng.choice(pieces)
        else:
            out[at:at] = rng.choice(seeds)[: rng.randrange(1, most)]
    return bytes(out)
