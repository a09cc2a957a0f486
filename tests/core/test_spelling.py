import numpy as np
import pyarrow as pa
import pytest

from beam_ml.core.spelling import LONG, read, spell


def spelled(texts, most):
    array = pa.array(texts, pa.large_binary())
    offsets = np.frombuffer(array.buffers()[1], np.int64)
    return spell(np.frombuffer(array.buffers()[2] or b"", np.uint8), offsets, most)


TEXTS = ["", "a", "shop_1", "shop_2", "shop_12", "Zoë", "東京都新宿区", "é" * 12, "x" * 24]


@pytest.mark.parametrize("most", [24, 96])
def test_texts_come_back_as_they_were(most):
    numbers = spelled([text.encode() for text in TEXTS], most)
    assert numbers.shape == (len(TEXTS), most // 6)
    assert read(numbers) == TEXTS
    assert ((numbers >= 0) & (numbers < 2.0**48) & (numbers == np.floor(numbers))).all()
    assert len({row.tobytes() for row in numbers}) == len(TEXTS)


def test_longer_texts_have_no_spelling_and_do_not_pass_for_shorter_ones():
    numbers = spelled([b"abcdef", b"abcdefg"], 6)
    assert numbers[1].tolist() == [LONG]
    assert read(numbers) == ["abcdef", ""]


def test_texts_that_differ_in_a_byte_lie_far_apart():
    """Of two hundred shops numbered on, none is a thousand times as far out as the others: no outlier."""
    numbers = spelled([f"shop{i:02d}".encode() for i in range(100)] + [b"\x01" * 6, b"zz"], 6)[:, 0]
    gaps = np.abs(numbers - np.median(numbers))
    assert gaps.max() < 10 * np.sort(gaps)[50]


def test_bytes_that_are_no_utf8_are_read_with_marks_in_their_place():
    assert read(spelled([b"\xff\xfeab"], 6)) == ["��ab"]
