"""Images become the pixels that Pillow itself makes of them."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from beam_ml.errors import InvalidValue
from beam_ml.formats.image.decoding import decoded, pixels_of
from beam_ml.formats.image.options import Pixels
from tests.formats.image.support import bytes_of, noise

SAME = Pixels(height=6, width=5)


def by_pillow(data: bytes, mode: str, size: tuple[int, int]) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        turned = ImageOps.exif_transpose(image).convert(mode).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(turned, np.float32).reshape(-1) / np.float32(255)


@pytest.mark.parametrize("color", ["rgb", "grey"])
@pytest.mark.parametrize(("mode", "kind"), [
    ("RGB", "PNG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"),
])  # fmt: skip
def test_modes_are_those_of_pillow(mode: str, kind: str, color: str) -> None:
    data = bytes_of(noise(12, 9, mode), kind)
    expected = by_pillow(data, "RGB" if color == "rgb" else "L", (5, 6))
    if mode == "P" and color == "grey":  # by way of its colours
        expected = by_pillow(bytes_of(noise(12, 9, mode).convert("RGB")), "L", (5, 6))
    np.testing.assert_array_equal(pixels_of(data, SAME.model_copy(update={"color": color})), expected)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["rgb", "grey"]),
    st.sampled_from(["stretch", "crop", "pad"]), st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
    st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "P", "CMYK"]), st.integers(1, 8), st.booleans(),
)  # fmt: skip
def test_any_image_has_the_width_and_range_that_are_asked_for(
    height: int, width: int, to_height: int, to_width: int, color: str, fit: str, resample: str, mode: str, turn: int,
    unit: bool,
) -> None:  # fmt: skip
    asked = Pixels.parse({
        "height": to_height, "width": to_width, "color": color, "fit": fit, "resample": resample,
        "scale": "unit" if unit else "byte",
    })  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    data = bytes_of(noise(height, width, mode), "JPEG" if mode == "CMYK" else "PNG", exif=exif)
    found = pixels_of(data, asked)
    assert found.dtype == np.float32
    assert found.shape == (asked.features,)
    assert 0 <= found.min()
    assert found.max() <= (1 if unit else 255)
    np.testing.assert_array_equal(found, pixels_of(data, asked))


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_orientation_is_applied_as_pillow_applies_it(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    for kind in ("PNG", "JPEG"):
        data = bytes_of(noise(6, 5), kind, exif=exif)
        np.testing.assert_array_equal(pixels_of(data, SAME), by_pillow(data, "RGB", (5, 6)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_metadata_that_cannot_be_read_say_nothing_of_the_pixels() -> None:
    plain, spoilt = (bytes_of(noise(6, 5), "JPEG", exif=exif) for exif in (b"", b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    np.testing.assert_array_equal(pixels_of(spoilt, SAME), pixels_of(plain, SAME))


def test_what_is_transparent_lies_on_the_background() -> None:
    clear = bytes_of(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))
    half = bytes_of(Image.new("LA", (2, 2), (0, 128)))
    of_a_palette = Image.new("P", (2, 2), 0)
    of_a_palette.putpalette([9, 9, 9])
    small = Pixels(height=1, width=1, color="grey", scale="byte", background=40)
    assert pixels_of(clear, small).tolist() == [40]
    assert pixels_of(half, small).tolist() == [pytest.approx(20, abs=1)]
    assert pixels_of(bytes_of(of_a_palette, transparency=0), small).tolist() == [40]
    assert pixels_of(bytes_of(of_a_palette), small).tolist() == [9]
    deep = Image.fromarray(np.array([[300, 65_535]], np.uint16))
    assert pixels_of(bytes_of(deep, transparency=300), small.model_copy(update={"width": 2})).tolist() == [40, 255]


def test_sixteen_bits_of_grey_stay_real_numbers() -> None:
    deep = np.array([[0, 1, 257], [40_000, 65_534, 65_535]], np.uint16)
    data = bytes_of(Image.fromarray(deep))
    for color, times in (("grey", 1), ("rgb", 3)):
        found = pixels_of(data, Pixels.parse({"height": 2, "width": 3, "color": color, "scale": "byte"}))
        np.testing.assert_allclose(found, np.repeat(deep.reshape(-1) / 257, times), rtol=1e-6)


def test_fit_crops_the_middle_or_pads_with_the_background() -> None:
    wide = np.zeros((2, 6), np.uint8)
    wide[:, 2:4] = 200
    data = bytes_of(Image.fromarray(wide))
    asked = Pixels(height=2, width=2, color="grey", scale="byte", resample="nearest", background=7)
    assert pixels_of(data, asked.model_copy(update={"fit": "crop"})).tolist() == [200] * 4
    padded = pixels_of(data, Pixels(height=6, width=6, color="grey", scale="byte", fit="pad", background=7))
    assert padded.reshape(6, 6)[:2].tolist() == [[7] * 6] * 2 == padded.reshape(6, 6)[4:].tolist()
    np.testing.assert_array_equal(padded.reshape(6, 6)[2:4], wide)


def test_a_large_jpeg_is_close_to_what_its_full_size_gives() -> None:
    smooth = noise(16, 16).resize((512, 512), Image.Resampling.BICUBIC)
    data = bytes_of(smooth, "JPEG", quality=95)
    found, full = pixels_of(data, SAME), by_pillow(data, "RGB", (5, 6))
    assert np.abs(found - full).max() < 0.02


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


GOOD, PHOTO = bytes_of(noise(8, 8)), bytes_of(noise(8, 8), "JPEG")
CLAIMING = PHOTO.replace(b"\x00\x08\x00\x08\x03\x01", b"\xff\xff\xff\xff\x03\x01")


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "neither a JPEG nor a PNG image"),
    (bytes_of(noise(8, 8), "GIF"), "neither a JPEG nor a PNG image"),
    (GOOD[:-1], "an image that is cut off"),
    (GOOD[:60], "an image that is cut off"),
    (PHOTO[:-20], "an image that is cut off"),
    (PHOTO[:40], "an image that is cut off"),
    (GOOD[:50] + b"\0\0" + GOOD[52:], "a damaged image"),
    (png(8, 8), "a damaged image"),
    (png(8, 8, chunk(b"IDAT", b"no deflate")), "an image that is cut off|a damaged image"),
    (png(0, 8), "a damaged image"),
    (png(1 << 20, 1 << 20, chunk(b"IDAT", b"")), "an image of too many pixels"),
    (png(5000, 5000, chunk(b"IDAT", zlib.compress(b""))), "an image that claims more pixels than its bytes can hold"),
    (CLAIMING, "an image of too many pixels"),
    (PHOTO[:-2] + b"\xff\xda" * 200, "an image of too many scans"),
    (GOOD + b"\0" * (1 << 20), "an image of too many bytes"),
    (png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * (8 << 20)))), "a damaged image"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused_by_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidValue, match=f"^({reason})$"):
        pixels_of(data, Pixels(max_bytes=1 << 20))
    found = decoded([GOOD, data, None], 3, Pixels(max_bytes=1 << 20))
    assert [at.tolist() for at in found.refused.values()] == [[1]]
    assert found.X[0].any()
    assert not found.X[1:].any()


def test_a_claim_is_refused_before_pillow_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    new = Image.core.new
    monkeypatch.setattr(Image.core, "new", lambda mode, size: asked.append(size) or new(mode, size))
    for data in (CLAIMING, png(1 << 20, 1 << 20), png(5000, 5000)):
        with pytest.raises(InvalidValue):
            pixels_of(data, Pixels())
    assert not asked
    pixels_of(GOOD, Pixels())
    assert asked == [(8, 8)]
