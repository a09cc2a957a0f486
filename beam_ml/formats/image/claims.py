"""What an image claims to be, read from its bytes before anything is decoded.

PNG (ISO/IEC 15948) is walked chunk by chunk, and every checksum is compared. JPEG (ISO/IEC 10918-1) is walked up to the
frame's header. Neither takes memory, whatever is claimed.
"""

import struct
import zlib
from typing import NamedTuple

from beam_ml.errors import InvalidValue

__all__ = ["CUT", "DAMAGED", "LARGE", "LONG", "OTHER", "SCANS", "SMALL", "Claim", "claim_of"]

OTHER = "neither a JPEG nor a PNG image"
CUT = "an image that is cut off"
DAMAGED = "a damaged image"
LONG = "an image of too many bytes"
LARGE = "an image of too many pixels"
SMALL = "an image that claims more pixels than its bytes can hold"
SCANS = "an image of too many scans"

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a frame's header; the three others define tables."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers that no length follows."""
_SCAN, _END = 0xDA, 0xD9
_MOST_SCANS = 128
"""A progressive image has some ten; each takes as long as the whole image, however few bytes it has."""
_PER_BYTE, _SLACK = 4096, 1 << 16
"""Pixels that a byte may stand for: a flat PNG of one bit takes 8 · 1032, a flat JPEG at least a bit per block of 64."""


class Claim(NamedTuple):
    """What an image claims: its format as Pillow calls it, and its size in pixels."""

    format: str
    width: int
    height: int


def claim_of(data: bytes, max_pixels: int, max_bytes: int) -> Claim:
    """Return what an image claims.

    Raises:
        InvalidValue: its bytes are no image, or more is claimed than may be; the message is one of this module's reasons.

    >>> claim_of(b"GIF89a", 100, 100)
    Traceback (most recent call last):
    beam_ml.errors.InvalidValue: neither a JPEG nor a PNG image
    """
    if len(data) > max_bytes:
        raise InvalidValue(LONG)
    if data.startswith(_PNG):
        claim, per_byte = _png(data), 2 * _PER_BYTE
    elif data.startswith(_JPEG):
        claim, per_byte = _jpeg(data), _PER_BYTE
    else:
        raise InvalidValue(OTHER)
    pixels = claim.width * claim.height
    if pixels == 0:
        raise InvalidValue(DAMAGED)
    if pixels > max_pixels:
        raise InvalidValue(LARGE)
    if pixels > _SLACK + per_byte * len(data):
        raise InvalidValue(SMALL)
    return claim


def _png(data: bytes) -> Claim:
    claim, at = None, len(_PNG)
    view = memoryview(data)
    while True:
        if at + 12 > len(data):
            raise InvalidValue(CUT)
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if end > len(data):
            raise InvalidValue(CUT)
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise InvalidValue(DAMAGED)
        if claim is None:
            if kind != b"IHDR" or size != 13:
                raise InvalidValue(DAMAGED)
            claim = Claim("PNG", *struct.unpack_from(">II", data, at + 8))
        if kind == b"IEND":
            return claim
        at = end


def _jpeg(data: bytes) -> Claim:
    if data.count(b"\xff\xda") > _MOST_SCANS:
        raise InvalidValue(SCANS)
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise InvalidValue(DAMAGED)
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in (0x00, _SCAN, _END):
            raise InvalidValue(DAMAGED)
        elif marker in _FRAMES:
            if at + 9 > len(data):
                raise InvalidValue(CUT)
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Claim("JPEG", width, height)
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise InvalidValue(CUT)
