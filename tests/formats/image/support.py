"""Images made for tests."""

import io
from typing import Any

import numpy as np
from PIL import Image


def bytes_of(image: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def noise(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = rng.integers(0, 256, shape, np.uint8)
    if mode in ("1", "P"):
        return Image.fromarray(pixels, "L").convert(mode)
    return Image.frombytes(mode, (width, height), pixels.tobytes())
