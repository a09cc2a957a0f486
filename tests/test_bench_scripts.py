"""Every bench says what it claims and how it is run, and ends with one JSON object of fixed keys."""

import ast
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

BENCH = Path(__file__).parent.parent / "integration" / "bench"
SCRIPTS = sorted(path for path in BENCH.glob("*.py") if path.stem not in ("bench_support", "fraud_rolling"))
KEYS = ("claim", "ours", "peer", "ratio", "quality", "rows", "seconds")


@pytest.fixture(scope="module")
def support() -> ModuleType:
    import bench_support

    return bench_support


def words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Za-z]{4,}", text)}


def text_of(node: ast.expr) -> str:
    return "".join(part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and part.value)


def claims(tree: ast.Module) -> list[str]:
    """Return what a script prints as its claim: what it names CLAIM or claim, or has beside "claim" in a dictionary."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id.upper() == "CLAIM" for t in node.targets
        ):
            found.append(text_of(node.value))
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [text_of(v) for k, v in pairs if isinstance(k, ast.Constant) and k.value == "claim"]
    return [claim for claim in found if claim]


def test_benches_are_found() -> None:
    assert {"growth", "vs_spark", "one_pass_quality"} <= {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_compiles_and_its_docstring_names_its_claim(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    compile(source, str(path), "exec")
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree) or ""
    assert docstring.splitlines()[0].endswith("."), "the first line is a sentence"
    assert f"python integration/bench/{path.name}" in docstring, "the docstring says how to run it"
    stated = claims(tree)
    assert stated, "the last line has a claim"
    for claim in stated:
        assert len(words(claim) & words(docstring)) >= 2, (claim, docstring)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_prints_every_key_or_asks_the_helper_to(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    given = [
        {key.value for key in node.keys if isinstance(key, ast.Constant)}
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
    ]
    assert "last_line" in named or any(set(KEYS) <= keys for keys in given)


def test_last_line_has_the_fixed_keys_in_order(support: ModuleType) -> None:
    line = support.last_line("a claim", 1.0, 2.0, 2.0, {"loss": 0.5}, 10, 3.0)
    assert "\n" not in line
    assert tuple(json.loads(line)) == KEYS == support.KEYS
    assert json.loads(line)["quality"] == {"loss": 0.5}


def test_last_line_refuses_what_is_no_json(support: ModuleType) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        support.last_line("a claim", float("nan"), 2.0, 2.0, None, 10, 3.0)


def test_skipped_line_has_the_fixed_keys_and_the_reason(support: ModuleType) -> None:
    value = json.loads(support.skipped_line("a claim", "no peer"))
    assert tuple(value) == (*KEYS, "skipped")
    assert (value["claim"], value["skipped"], value["ratio"]) == ("a claim", "no peer", None)


def test_machine_is_one_line(support: ModuleType) -> None:
    assert re.fullmatch(r"machine: \d+ cores of .+ GiB, .+ Python 3\..+ load average \d+\.\d", support.machine())


def test_timed_gives_the_result(support: ModuleType) -> None:
    seconds, value = support.timed(lambda: 7)
    assert value == 7
    assert seconds >= 0.0


def test_peak_memory_sees_what_was_held_and_given_back(support: ModuleType) -> None:
    before = support.reset_peak()
    held = np.ones(64 << 20, dtype=np.uint8)
    assert held.sum() == held.size
    del held
    assert support.peak_bytes() >= before + (48 << 20)


def test_rows_are_the_same_however_they_are_cut(support: ModuleType, tmp_path: Path) -> None:
    blocks = list(support.generate(3, 2_500, 1_000))
    assert [y.size for _, _, y in blocks] == [1_000, 1_000, 500]
    X, y = support.draw(3, 1, 1_000)
    assert np.array_equal(X, blocks[1][1])
    assert np.array_equal(y, blocks[1][2])
    assert not np.array_equal(X, blocks[0][1])
    assert 0.1 < y.mean() < 0.9
    assert support.write_files(tmp_path, 3, 2_500, 1_000) > 0
    table = pq.read_table(tmp_path)
    assert table.num_rows == 2_500
    assert table.column_names == [*support.features(), "label", "time"]
    assert np.array_equal(table["f0"].to_numpy(), np.concatenate([X[:, 0] for _, X, _ in blocks]))
    assert np.all(np.diff(table["time"].to_numpy().astype(np.int64)) > 0)


def test_vs_spark_skips_with_the_reason(
    support: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import vs_spark

    monkeypatch.setattr(vs_spark.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["vs_spark.py"])
    vs_spark.main()
    *said, last = capsys.readouterr().out.splitlines()
    assert said == ["skipped: pyspark is not installed (pip install pyspark)"]
    value = json.loads(last)
    assert tuple(value) == (*KEYS, "skipped")
    assert value["claim"] == vs_spark.CLAIM


def test_deepar_m4_skips_without_an_evaluator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import deepar_m4

    monkeypatch.setattr(deepar_m4, "DATA", tmp_path)
    monkeypatch.setattr(sys, "argv", ["deepar_m4.py"])
    deepar_m4.main()
    value = json.loads(capsys.readouterr().out)
    assert tuple(value) == (*KEYS, "skipped")
    assert value["skipped"].endswith("(pip install gluonts==0.17.0 packaging)")
