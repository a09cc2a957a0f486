"""Files, messages and columns of images."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from beam_ml import formats
from beam_ml.beam.job import Job
from beam_ml.cli.skeleton import skeleton
from beam_ml.errors import InputChanged, InvalidValue, MissingColumn, NoInput
from beam_ml.features import Features
from beam_ml.features.matrix import Matrix
from beam_ml.formats import Block, image
from beam_ml.formats.image.decoding import pixels_of
from beam_ml.formats.image.options import Pixels
from beam_ml.formats.messages import decoder
from tests.formats.image.support import bytes_of, noise

SMALL = {"height": 2, "width": 2, "color": "grey"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("cats/1.jpg", "cats/2.PNG", "dogs/1.jpeg", "dogs/.hidden.png", "_old/1.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes_of(noise(4, 4, seed=i), "PNG" if name.lower().endswith("png") else "JPEG"))
    return tmp_path


def blocks(source: Path, options: image.Options | None = None) -> list[Block]:
    return [
        block
        for file in formats.list_files(str(source))
        for piece in formats.ranges(file, 1, options=options)
        for block in formats.read(piece, options=options)
    ]


def test_a_folder_stands_for_the_images_in_its_folders(folder: Path) -> None:
    found = blocks(folder, image.Options.parse(SMALL))
    assert [one.batch["label"].to_pylist() for one in found] == [["cats"], ["cats"], ["dogs"]]
    assert [Path(one.origin.partition).name for one in found if one.origin] == ["1.jpg", "2.PNG", "1.jpeg"]
    assert {(one.start, one.stop) for one in found} == {(0, 1)}
    paths = sorted((folder / "cats").iterdir())
    expected = [pixels_of(path.read_bytes(), Pixels.parse(SMALL)) for path in paths]
    np.testing.assert_array_equal([one.batch["features"].to_pylist()[0] for one in found[:2]], expected)
    assert blocks(folder, image.Options.parse({**SMALL, "label": "none"}))[0].batch["label"].to_pylist() == [None]


def test_files_directly_in_a_folder_come_first_and_other_formats_have_no_folders(folder: Path) -> None:
    (folder / "a.csv").write_text("x\n1\n")
    assert [file.path for file in formats.list_files(str(folder))] == [str(folder / "a.csv")]
    assert len(formats.list_files(str(folder), "image")) == 3
    with pytest.raises(NoInput):
        formats.list_files(str(folder), "parquet")


def test_a_bad_file_is_a_reject_with_its_place_and_the_run_continues(folder: Path) -> None:
    (folder / "cats" / "0.png").write_bytes(b"no image")
    first, *others = blocks(folder)
    [reject] = first.rejected
    assert (reject.reason, reject.position.tolist(), len(first)) == ("neither a JPEG nor a PNG image", [0], 0)
    assert reject.origin is not None
    assert reject.origin.partition == str(folder / "cats" / "0.png")
    assert sum(map(len, others)) == 3
    reasons = [one.rejected[0].reason for one in blocks(folder, image.Options(max_bytes=10))]
    assert reasons == ["neither a JPEG nor a PNG image", *["an image of too many bytes"] * 3]


def test_a_file_that_changes_is_noticed(folder: Path) -> None:
    [piece] = formats.ranges(formats.stat(str(folder / "cats" / "1.jpg")), 1)
    (folder / "cats" / "1.jpg").write_bytes(b"")
    with pytest.raises(InputChanged):
        list(formats.read(piece))


def test_columns(folder: Path) -> None:
    [piece] = formats.ranges(formats.stat(str(folder / "cats" / "1.jpg")), 1)
    assert [one.batch.schema.names for one in formats.read(piece, ["label"])] == [["label"]]
    assert [one.batch.num_rows for one in formats.read(piece, [])] == [1]
    with pytest.raises(MissingColumn, match="must have a column 'pixels'"):
        list(formats.read(piece, ["pixels"]))


def test_round_trip_of_eight_bits(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    options = image.Options.parse(SMALL)
    rows = pa.record_batch(
        {"features": pa.array([[0.0, 1.0, 0.2, 0.4]], pa.list_(pa.float32())), "label": pa.array(["b"])}
    )
    formats.write(str(tmp_path / "b" / "x.png"), [rows], options=options)
    assert blocks(tmp_path, options)[0].batch.equals(rows)
    for path, batch, words in (
        ("b/x.jpg", rows, "written as .png"),
        ("a.png", rows, "the folder of its label"),
        ("b/x.png", pa.concat_batches([rows, rows]), "must be one row"),
        ("b/x.png", pa.record_batch({"features": [[0.0]]}), "a list of 4 numbers"),
        ("b/x.png", pa.record_batch({"features": [[0.0, 0.0, 0.0, 1.5]]}), "from 0 to 1; got 0.0 to"),
    ):
        with pytest.raises(InvalidValue, match=words):
            formats.write(str(tmp_path / path), [batch], options=options)


def test_messages() -> None:
    good = bytes_of(noise(4, 4))
    found = decoder("image", SMALL)(pa.array([good, b"", b"?", good[:-4]], pa.binary()))
    assert found.message.tolist() == [0]
    assert found.batch.num_rows == 1
    assert {one.reason: one.message.tolist() for one in found.refused} == {
        "empty message": [1],
        "neither a JPEG nor a PNG image": [2],
        "an image that is cut off": [3],
    }
    with pytest.raises(InvalidValue, match=r"image\.Options\.label must not be given"):
        decoder("image", {"label": "folder"})


def test_a_column_of_bytes_is_decoded_as_files_are() -> None:
    good = bytes_of(noise(4, 4))
    features = Features(matrix=Matrix(column="picture", width=4, image=Pixels.parse(SMALL)), label="y")
    rows = pa.record_batch({"picture": pa.array([good, None, b"?", good], pa.binary()), "y": [1, 0, 0, 1]})
    batch, rejected = features.to_batch(Block(rows))
    np.testing.assert_array_equal(batch.X, [pixels_of(good, Pixels.parse(SMALL))] * 2)
    assert batch.label is not None
    assert batch.label.tolist() == [1, 1]
    assert {one.reason: one.position.tolist() for one in rejected} == {
        "missing features": [1],
        "neither a JPEG nor a PNG image": [2],
    }
    with pytest.raises(MissingColumn, match=r"must be the bytes of images; got list"):
        features.to_batch(Block(pa.record_batch({"picture": [[1.0]], "y": [1]})))


def test_the_width_is_that_of_the_pixels() -> None:
    with pytest.raises(InvalidValue, match="width must be 3072, height · width · channels of image; got 5"):
        Matrix.parse({"width": 5, "image": {}})


@pytest.mark.parametrize(
    ("format", "options", "width", "wanted"),
    [
        ("image", {}, 784, 3072),
        ("image", {"height": 28, "width": 28, "color": "grey"}, 28, 784),
        ("csv", {"header": False, "width": 5}, 4, 5),
        ("recordio", {"width": 5}, 6, 5),
    ],
)
def test_a_job_whose_options_and_matrix_differ_in_width_is_refused(
    format: str, options: dict[str, object], width: int, wanted: int
) -> None:
    job = {
        "name": "a",
        "registry": "registry",
        "refresh": "round",
        "source": {"path": "x", "format": format, "options": options},
        "features": {"matrix": {"width": width}},
        "spec": {"algorithm": "kmeans", "k_max": 3},
        "models": {"plain": {"kind": "clusters", "k": 2}},
    }
    with pytest.raises(InvalidValue, match=rf"features\.matrix\.width must be {wanted}, .*; got {width}"):
        Job.parse(job)
    assert Job.parse({**job, "features": {"matrix": {"width": wanted}}}).features.n_features == wanted


def test_a_job_is_begun_from_a_folder(folder: Path) -> None:
    text = skeleton(str(folder), "linear.adagrad")
    assert 'format = "image"' in text
    assert 'positive = ["dogs"]' in text
    assert "width = 3072" in text


def test_both_classes_of_many_images_are_looked_at(tmp_path: Path) -> None:
    data = bytes_of(Image.new("L", (1, 1)))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(1200 if name == "a" else 400):
            (tmp_path / name / f"{i}.png").write_bytes(data)
    assert 'positive = ["b"]' in skeleton(str(tmp_path), "linear.adagrad")
