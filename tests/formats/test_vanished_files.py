from pathlib import Path

import pytest

from beam_ml.core.cursors import FileId
from beam_ml.formats import files


def test_a_file_moved_away_between_listing_and_looking_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n")
    real = files.stat

    def archive_first(path: str) -> FileId:
        if path.endswith("a.csv"):
            Path(path).unlink()
        return real(path)

    monkeypatch.setattr(files, "stat", archive_first)
    assert [Path(one.path).name for one in files.list_files(str(tmp_path))] == ["b.csv"]
