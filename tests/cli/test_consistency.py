"""``beam-ml consistency``: what it prints, and how it ends."""

import json

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from beam_ml import formats
from beam_ml.cli import main


@pytest.fixture
def logs(tmp_path):
    n = 1_000
    x = np.arange(n) / 8
    formats.write(str(tmp_path / "a.parquet"), [pa.record_batch({"tx": np.arange(n), "x": x, "shop": ["s"] * n})])
    x = np.where(np.arange(n) == 500, -1.0, x)
    formats.write(
        str(tmp_path / "b.csv"), [pa.record_batch({"tx": np.arange(n - 1), "x": x[:-1], "shop": ["s"] * (n - 1)})]
    )
    return [str(tmp_path / "a.parquet"), str(tmp_path / "b.csv")]


def run(*arguments):
    return CliRunner().invoke(main, ["consistency", *arguments])


def test_more_than_the_bound_ends_in_exit_code_1(logs):
    found = run(*logs, "--id", "tx")
    assert found.exit_code == 1, found.output
    lines = found.output.splitlines()
    assert lines[0] == "A has 1,000 rows, B 999; both have 999"
    assert lines[1] == "missing: 0.1000% of rows are not in B: 999"
    assert lines[2].split() == ["feature", "mismatch", "missing", "extra", "largest", "difference"]
    assert lines[3].split() == ["x", "0.1001%", "0.0000%", "0.0000%", "63.5"]
    assert lines[5] == "  x of 500: A 62.5, B -1.0 (1.02 apart)"
    assert lines[6] == "bound 0: the largest rate is 0.001001: exceeded"


def test_within_the_bound_it_is_0(logs):
    assert run(*logs, "--id", "tx", "--bound", "0.0011").exit_code == 0
    assert run(logs[0], logs[0], "--id", "tx").exit_code == 0


def test_json_holds_the_whole_report(logs):
    found = run(*logs, "--id", "tx", "--json", "--columns", "x", "--examples", "1")
    assert found.exit_code == 1
    report = json.loads(found.output)
    assert report["features"]["x"]["mismatch_rate"] == 1 / 999
    assert report["features"]["x"]["worst"] == [{"id": "500", "a": 62.5, "b": -1.0, "relative": 63.5 / 62.5}]
    assert report["rows"] == {"a": 1_000, "b": 999, "both": 999}
    assert (report["bound"], report["holds"], list(report["features"])) == (0.0, False, ["x"])


def test_mistakes_are_one_sentence(logs):
    found = run(*logs, "--id", "key")
    assert found.exit_code == 1
    assert "--id names the column 'key'" in found.output + found.stderr
    assert run(logs[0], logs[0]).exit_code == 2
