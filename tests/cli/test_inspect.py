"""`beam-ml inspect`: columns of every format, rejects, guesses with their rules, and lines that fit the terminal."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from beam_ml import formats
from beam_ml.cli import main

PLAIN = pa.record_batch(
    {
        "amount": [0.5, None, 9.25, 1.0],
        "seen": pa.array([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)], pa.timestamp("us", "UTC")),
        "shop": ["x", "y", "x", "x"],
        "is_fraud": [0, 1, 0, 0],
    }
)
MATRIX = pa.record_batch({"features": pa.array([[0.5, 3.0], [1.5, 4.0]], pa.list_(pa.float64())), "label": [1.0, 0.0]})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, code: int = 0, columns: str = "") -> Result:
    result = CliRunner().invoke(main, ["inspect", *words], env={"COLUMNS": columns})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def found(*words: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(run(*words, "--json").stdout)
    return facts


@pytest.mark.parametrize("ending", [".csv", ".csv.zst", ".parquet", ".avro"])
def test_columns_of_rows(ending: str) -> None:
    formats.write(f"rows{ending}", [PLAIN])
    facts = found(f"rows{ending}")
    assert (facts["rows_looked_at"], facts["all"], facts["rejected"]) == (4, True, {})
    amount, seen, shop, fraud = facts["columns"]
    assert (amount["nulls"], amount["distinct"], amount["low"], amount["high"]) == (1, 3, 0.5, 9.25)
    assert seen["low"].startswith("2024-01-01 00:00:00")
    assert (shop["common"], shop["low"]) == ([["x", 3], ["y", 1]], None)
    assert fraud["common"] == [[0, 3], [1, 1]]
    guesses = facts["guesses"]
    assert guesses["label"] == {"column": "is_fraud", "rule": "its name ends in 'fraud'"}
    assert guesses["time"] == {"column": "seen", "rule": "the first column of times"}
    assert guesses["categories"] == [{"column": "shop", "rule": "texts that repeat"}]
    assert guesses["numbers"] == ["amount"]


@pytest.mark.parametrize("ending", [".libsvm", ".rec.gz"])
def test_rows_of_a_matrix(ending: str) -> None:
    formats.write(f"rows{ending}", [MATRIX])
    facts = found(f"rows{ending}")
    features = next(one for one in facts["columns"] if one["name"] == "features")
    assert (features["widths"], features["low"], features["high"]) == ([2, 2], 0.5, 4.0)
    assert facts["guesses"]["matrix"] == "features"
    assert facts["guesses"]["label"]["column"] == "label"
    assert "2 to 2 numbers in a row, 0.5 to 4" in run(f"rows{ending}").stdout


def test_only_the_first_rows_are_looked_at() -> None:
    formats.write("rows.parquet", [PLAIN, PLAIN])
    facts = found("rows.parquet", "--rows", "3")
    assert (facts["rows_looked_at"], facts["all"]) == (3, False)
    assert facts["columns"][2]["common"] == [["x", 2], ["y", 1]]
    assert found("rows.parquet", "--rows", "8")["all"] is True
    assert "the first 3 rows looked at" in run("rows.parquet", "--rows", "3").stdout


def test_rejects_are_counted() -> None:
    Path("rows.csv").write_text("a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert found("rows.csv")["rejected"] == {"malformed line": 2}
    assert "rejected: 2 rows, malformed line" in run("rows.csv").stdout
    Path("rows.libsvm").write_text("what\n1 x:1\n1 1:1\n")
    assert sum(found("rows.libsvm")["rejected"].values()) == 2


def test_a_file_without_rows_has_no_columns() -> None:
    Path("rows.csv").write_text("a,b\n")
    facts = found("rows.csv")
    assert (facts["rows_looked_at"], facts["columns"]) == (0, [])
    assert "label: none found" in run("rows.csv").stdout


@pytest.mark.parametrize("name", ["rows.parquet", "rows.avro", "rows.csv.gz", "rows.rec"])
def test_damaged_files_end_in_one_sentence(name: str) -> None:
    Path(name).write_bytes(b"\x1f\x8b damaged, whatever it was")
    stderr = run(name, code=1).stderr
    assert stderr.startswith("UnreadableInput: ")
    assert name in stderr


def test_lines_fit_the_terminal_and_a_pipe_has_all() -> None:
    table = {f"a_rather_long_name_of_a_column_{i}": [f"{'text' * 9} {i}", "other", "text"] for i in range(3)}
    formats.write("rows.parquet", [pa.record_batch(table)])
    cut = run("rows.parquet", columns="80").stdout.splitlines()
    assert max(len(line) for line in cut[1:5]) <= 80
    whole = run("rows.parquet").stdout.splitlines()
    assert whole[1].split() == ["column", "type", "nulls", "distinct", "values"]
    assert "other (1), text (1)" in whole[2]


@pytest.mark.parametrize(
    ("columns", "label", "time"),
    [
        ({"x": [0, 1, 2], "kind": ["a", "b", "a"]}, ("kind", "the last column of two values"), None),
        ({"FraudKind": [0, 1, 2], "TX_FRAUD": [0, 1, 0]}, ("TX_FRAUD", "its name ends in 'fraud'"), None),
        ({"fraud_kind": [0, 1, 2], "x": [0.5, 1.5, 2.5]}, ("fraud_kind", "its name holds 'fraud'"), None),
        (
            {"ts": [1_700_000_000_000] * 3, "x": [1, 2, 3]},
            None,
            ("ts", "its name, and numbers that are ms since 1970"),
        ),
        ({"ts": [1, 2, 3], "x": [0.5, 1.5, 2.5]}, None, None),
        ({"when": ["2024-01-01T10:00:00Z", "2024-01-02"]}, None, ("when", "the first column of texts that are dates")),
    ],
)
def test_guesses_say_their_rule(
    columns: dict[str, Any], label: tuple[str, str] | None, time: tuple[str, str] | None
) -> None:
    formats.write("rows.parquet", [pa.record_batch(columns)])
    guesses = found("rows.parquet")["guesses"]
    for guess, wanted in ((guesses["label"], label), (guesses["time"], time)):
        assert (guess and (guess["column"], guess["rule"])) == wanted


def test_what_is_no_feature_is_left_out_with_the_reason() -> None:
    table = {
        "id": list(range(50)),
        "one": [7] * 50,
        "none": pa.array([None] * 50, pa.float64()),
        "fraud_reason": [0, 1] * 25,
        "fraud": [0, 1] * 25,
        "parts": [["a"]] * 50,
        "x": [i / 7 for i in range(50)],
    }
    formats.write("rows.parquet", [pa.record_batch(table)])
    guesses = found("rows.parquet")["guesses"]
    assert {one["column"]: one["rule"] for one in guesses["left"]} == {
        "id": "most of its values are there once",
        "one": "it has one value",
        "none": "it has no values",
        "fraud_reason": "its name holds that of the label, fraud",
        "parts": "list<element: string> is neither number nor text",
    }
    assert guesses["numbers"] == ["x"]
