"""Any bytes as an image: pixels within their range, or a typed refusal, never more memory than an honest image takes."""

import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from beam_ml.errors import InvalidValue
from beam_ml.formats import image
from beam_ml.formats.image.decoding import pixels_of
from beam_ml.formats.image.options import Pixels
from tests.attacks.editing import edited
from tests.attacks.effort import EFFORT
from tests.formats.image.support import bytes_of, noise

EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F] = 6, "maker"
SEEDS = [
    bytes_of(noise(9, 7), "JPEG", exif=EXIF),
    bytes_of(noise(9, 7), "JPEG", progressive=True, subsampling=2),
    bytes_of(noise(9, 7, "CMYK"), "JPEG"),
    bytes_of(noise(9, 7, "L"), "JPEG", quality=10),
    bytes_of(noise(9, 7), exif=EXIF),
    bytes_of(noise(9, 7, "RGBA"), icc_profile=b"profile"),
    bytes_of(noise(9, 7, "P"), transparency=3),
    bytes_of(noise(9, 7, "1")),
    bytes_of(Image.fromarray(np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000)),
    bytes_of(noise(3, 3), save_all=True, append_images=[noise(3, 3, seed=1)]),
]
PIECES = [
    b"\xff\xd8\xff",
    b"\xff\xda",
    b"\xff\xc0",
    b"\xff\xd9",
    b"\xff\xe1",
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"acTL",
    b"\xff" * 4,
    b"\0" * 4,
]
ASKED = Pixels(height=4, width=3, max_pixels=1 << 20)


def mutated(rng: random.Random, one: bytes) -> bytes:
    return edited(rng, one, (0, 1, 0x7F, 0x80, 0xFF), PIECES, SEEDS, edits=(1, 1, 2, 4), cut=9, most=60)


def mended(data: bytes) -> bytes:
    """Return a PNG whose checksums are right again, so that what lies behind them is reached."""
    out, at = bytearray(data), 8
    while data[:4] == b"\x89PNG" and at + 12 <= len(out):
        (size,) = struct.unpack_from(">I", out, at)
        if at + 12 + size > len(out):
            break
        struct.pack_into(">I", out, at + 8 + size, zlib.crc32(out[at + 4 : at + 8 + size]))
        at += 12 + size
    return bytes(out)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_become_pixels_or_a_refusal(seed: int) -> None:
    rng = random.Random(seed)
    accepted = 0
    for _ in range(250 * EFFORT):
        data = mutated(rng, rng.choice(SEEDS))
        data = mended(data) if rng.random() < 0.7 else data
        reason = None
        try:
            found = pixels_of(data, ASKED)
        except InvalidValue as error:
            reason = str(error)
        if reason is not None:
            [reject] = image.decode(data, options=image.Options.parse(ASKED.to_dict())).rejected
            assert (reject.reason, reject.position.tolist()) == (reason, [0])
            continue
        accepted += 1
        assert found.shape == (36,)
        assert 0 <= found.min() <= found.max() <= 1
    assert 20 < accepted < 240 * EFFORT


def test_sizes_that_are_claimed_take_no_memory() -> None:
    rng = random.Random(7)
    tracemalloc.start()
    try:
        for _ in range(100 * EFFORT):
            data = bytearray(rng.choice(SEEDS[4:8]))
            struct.pack_into(">II", data, 16, *(rng.choice([1 << 15, 1 << 30, (1 << 31) - 1]) for _ in range(2)))
            with pytest.raises(InvalidValue, match="too many pixels"):
                pixels_of(mended(bytes(data)), ASKED)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
