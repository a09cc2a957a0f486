"""A cell that is no number or no time costs its own row, with file, place and value, however it makes its column look."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.registry import Registry, round_files

ROWS = 300


def lines(**changes: tuple[int, str]) -> list[str]:
    """Return a header and rows of t, a, y; `changes` put a text in place of a column's cell in a row."""
    rng = np.random.default_rng(0)
    cells = [[f"2024-03-{1 + i // 100:02d} 10:00:{i % 60:02d}", f"{rng.normal():.3f}", str(i % 2)] for i in range(ROWS)]
    for column, (row, text) in changes.items():
        cells[row]["tay".index(column)] = text
    return ["t,a,y", *(",".join(row) for row in cells)]


MAPPED = {"column": "y", "positive": [1], "negative": [0]}


@pytest.mark.parametrize(
    ("column", "text", "reason", "label"),
    [
        ("a", "oops", "feature column a is not a number", "y"),
        ("y", "maybe", "label is not a number", "y"),
        ("y", "maybe", "label is neither positive nor negative", MAPPED),
        ("t", "yesterday", "event time cannot be read", "y"),
    ],
)
@pytest.mark.parametrize("row", [0, 17, ROWS - 1])
def test_one_bad_cell_of_a_csv_file(tmp_path: Path, column: str, text: str, reason: str, label: Any, row: int) -> None:
    written = lines(**{column: (row, text)})
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text("\n".join(written) + "\n", encoding="utf-8")
    settings: dict[str, Any] = {
        "name": "test",
        "registry": str(tmp_path / "registry"),
        "refresh": "1d",
        "source": {"path": str(data)},
        "features": {"numeric": ["a"], "label": label, "time": "t"},
        "spec": {"algorithm": "linear.newton"},
        "models": {"plain": {"kind": "classifier"}},
    }
    job = Job.parse(settings)
    registry = Registry(job.registry)
    *_, done = train(job, registry, Mode("once", close=True))
    progress = done.manifest.progress
    assert (progress["rows"], progress["rejected"]) == (ROWS - 1, {reason: 1})
    round_id = registry.manifest("test", 1).round_id
    (file,) = [one for one in round_files(registry, "test", round_id) if one.endswith(".jsonl")]
    told = json.loads((tmp_path / "registry" / "test" / "rounds" / round_id / file).read_text(encoding="utf-8"))
    place = len("\n".join(written[: row + 1])) + 1
    assert (told["detail"], told["position"], told["partition"]) == (text, place, str(data / "a.csv"))
