"""Bytes of images → rows of pixels, through Pillow. Letters: ``n`` images, ``d`` features of each.

Only Pillow's decoders of JPEG and PNG are used, and none is asked to open what claims more than is allowed (`claims`).
Everything becomes 8 bits of grey or RGB, in this order:

- a large JPEG is decoded at a half, a quarter or an eighth of its size, at least twice as large as what is wanted;
- the orientation that its EXIF or XMP states is applied, where that can be read;
- palettes are looked up; what is transparent is laid on the background; CMYK and YCCK become RGB without colour profiles;
- 16 bits of grey are divided by 257 and stay real numbers; of 16 bits of colour the upper eight count, as Pillow has it;
- it is cropped or padded if that is asked for, resized, and scaled to 0 … 1 if that is.
"""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from beam_ml.errors import InvalidValue
from beam_ml.formats.image.claims import CUT, DAMAGED, claim_of
from beam_ml.formats.image.options import Pixels

__all__ = ["Decoded", "decoded", "pixels_of"]

_READERS = {"JPEG": JpegImageFile, "PNG": PngImageFile}
_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, struct.error,
    zlib.error, Warning,
)  # fmt: skip
"""What Pillow raises at bytes that it cannot use; its warnings where they are errors."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_GAP = 2
"""How many times as large as what is wanted a JPEG is decoded at least, as `Image.thumbnail` does."""
_DETAIL = 200


class Decoded(NamedTuple):
    """What became of n images.

    Attributes:
        X: (n, d) float32; 0 where an image was refused.
        refused: reason → (m,) int64 images.
        detail: image that was refused → the decoder's words, where it had any.
    """

    X: np.ndarray
    refused: dict[str, np.ndarray]
    detail: dict[int, str]


def _turned(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _FAULTS:  # metadata that cannot be read says nothing of the pixels, which are there
        turn = None
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image, settings: Pixels) -> Image.Image:
    """Return an image as grey (L, or F of 16 bits) or RGB."""
    mode = "RGB" if settings.color == "rgb" else "L"
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.float32) / np.float32(257)
        clear = image.info.get("transparency")
        if clear is not None:
            deep[np.asarray(image) == clear] = settings.background
        return Image.fromarray(deep)
    if image.has_transparency_data:
        under = Image.new("RGBA", image.size, (*[settings.background] * 3, 255))
        return Image.alpha_composite(under, image.convert("RGBA")).convert(mode)
    if image.mode == "P":
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _padded(image: Image.Image, size: tuple[int, int], way: Image.Resampling, background: int) -> Image.Image:
    """Return an image in the middle of a ground; a side is a pixel at least, where `ImageOps.pad` fails."""
    part = min(size[0] / image.width, size[1] / image.height)
    width, height = (max(1, min(most, round(part * n))) for n, most in zip(image.size, size, strict=True))
    inner = image.resize((width, height), way)
    ground = Image.new(image.mode, size, (background,) * 3 if image.mode == "RGB" else background)
    ground.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
    return ground


def _sized(image: Image.Image, settings: Pixels) -> Image.Image:
    size, way = (settings.width, settings.height), _FILTERS[settings.resample]
    if settings.fit == "crop":
        return ImageOps.fit(image, size, way)
    if settings.fit == "pad":
        return _padded(image, size, way, settings.background)
    return image if image.size == size else image.resize(size, way)


def pixels_of(data: bytes, settings: Pixels) -> np.ndarray:
    """Return the d features of an image, float32.

    Raises:
        InvalidValue: its bytes cannot be used; the message is the reason, and the decoder's words are its cause.

    >>> out = io.BytesIO()
    >>> Image.new("RGB", (4, 4), (255, 0, 51)).save(out, "PNG")
    >>> pixels_of(out.getvalue(), Pixels(height=1, width=1)).round(6).tolist()
    [1.0, 0.0, 0.20000000298023224]
    """
    claim = claim_of(data, settings.max_pixels, settings.max_bytes)
    try:
        with _READERS[claim.format](io.BytesIO(data)) as image:
            if image.size != (claim.width, claim.height):
                raise InvalidValue(DAMAGED)
            # Drawn on either axis, since only the pixels' metadata say which is which.
            most = _GAP * max(settings.height, settings.width)
            image.draft(None, (most, most))
            image.load()
            small = _sized(_plain(_turned(image), settings), settings)
    except InvalidValue:
        raise
    except _FAULTS as error:
        reason = CUT if "truncated" in str(error) else DAMAGED
        raise InvalidValue(reason) from error
    found = np.asarray(small, np.float32)
    if found.ndim == 2 and settings.channels == 3:
        found = np.repeat(found[:, :, None], 3, axis=2)
    flat = np.clip(found.reshape(-1), 0, 255)
    return flat / np.float32(255) if settings.scale == "unit" else flat


def decoded(images: Iterable[bytes | None], n: int, settings: Pixels) -> Decoded:
    """Return the features of n images; None stands for one that is missing, and is refused by nobody.

    >>> found = decoded([b"?"], 1, Pixels())
    >>> found.X.shape, {reason: at.tolist() for reason, at in found.refused.items()}
    ((1, 3072), {'neither a JPEG nor a PNG image': [0]})
    """
    X = np.zeros((n, settings.features), np.float32)
    refused: dict[str, list[int]] = {}
    detail: dict[int, str] = {}
    for i, data in enumerate(images):
        if data is None:
            continue
        try:
            X[i] = pixels_of(data, settings)
        except InvalidValue as error:
            refused.setdefault(str(error), []).append(i)
            detail[i] = "" if error.__cause__ is None else " ".join(str(error.__cause__).split())[:_DETAIL]
    return Decoded(X, {reason: np.array(at, np.int64) for reason, at in sorted(refused.items())}, detail)
