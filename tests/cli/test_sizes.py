"""What a run costs at rest is said before it begins."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from beam_ml import formats
from beam_ml.cli.group import main
from beam_ml.registry import Registry
from tests.beam.job.test_looking import rows

JOB = """
name = "shops"
registry = "registry"
features = { hashed = ["shop", "colour"], label = "label" }
spec = { algorithm = "linear.adagrad" }
models.plain = { kind = "classifier" }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text(JOB)
    topic = 'source = { kind = "kafka", brokers = "localhost:1", topic = "t", timeout = 1 }'
    timed = JOB.replace('"label" }', '"label", time = "time" }')
    Path("topic.toml").write_text(f'refresh = "5s"\n{timed}\n{topic}\n')
    Path("data").mkdir()
    formats.write("data/a.csv", [rows(0, 600, each=6)])
    return tmp_path


def mb(text: str, what: str) -> float:
    found = re.search(rf"{what}([\d.]+) MB", text)
    assert found is not None, text
    return float(found[1])


def test_the_first_line_says_how_large_a_version_is(here: Path) -> None:
    first = CliRunner().invoke(main, ["train", "job.toml", "--source", "data"])
    assert first.exit_code == 0, first.output
    line = first.stdout.splitlines()[0]
    assert line.startswith("shops: 9,216 features, ")
    assert "as the first 600 rows make it, and more as categories come; 20 are kept: " in line
    files = Registry("registry").manifest("shops", 1).files
    state, models = files["learner"].bytes / 1e6, files["models/plain"].bytes / 1e6
    assert mb(line, "state ") == pytest.approx(state, rel=0.1, abs=0.02)
    assert mb(line, "models ") == pytest.approx(models, abs=0.01)
    assert mb(line, "kept: ") == pytest.approx(20 * (state + models), rel=0.1, abs=0.2)
    formats.write("data/b.csv", [rows(600, 700)])
    then = CliRunner().invoke(main, ["train", "job.toml", "--source", "data", "--json"])
    assert "as v1 has; 20 are kept" in then.stderr
    assert mb(then.stderr, "state ") == pytest.approx(state, abs=0.01)
    assert [json.loads(one) for one in then.stdout.splitlines()]


def test_crowded_columns_follow(here: Path) -> None:
    for name, start in (("a", 0), ("b", 4_000)):
        formats.write(f"data/{name}.csv", [rows(start, start + 4_000)])
    found = CliRunner().invoke(main, ["train", "job.toml", "--source", "data"])
    assert found.stdout.splitlines()[1].startswith("shop: ")
    assert "share one of its 65,536 places" in found.stdout


def test_check_says_the_same_and_makes_no_registry(here: Path) -> None:
    found = json.loads(CliRunner().invoke(main, ["train", "job.toml", "--source", "data", "--check", "--json"]).stdout)
    assert found["places"] == {"shop": 8_192, "colour": 1_024}
    assert found["values_seen"] == {"shop": 100, "colour": 3}
    assert found["features"] == 9_216
    assert found["models_bytes"] > 0
    assert not Path("registry").exists()


def test_a_stream_of_given_buckets_says_it_before_it_looks_for_brokers(here: Path) -> None:
    given = [f'{{ column = "{name}", buckets = 65_536 }}' for name in ("shop", "colour")]
    text = Path("topic.toml").read_text().replace('["shop", "colour"]', f"[{', '.join(given)}]")
    Path("given.toml").write_text(text)
    found = CliRunner().invoke(main, ["stream", "given.toml", "--runner=PortableRunner", "--job_endpoint=localhost:1"])
    assert found.exit_code == 1
    assert found.stdout.splitlines()[0].startswith("shops: 131,072 features, ")
    assert "before any row: what is seen adds to it" in found.stdout


def test_where_a_topic_is_to_say_it_brokers_must_answer(here: Path) -> None:
    found = CliRunner().invoke(main, ["train", "topic.toml"])
    assert (found.exit_code, found.stdout) == (1, "")
    assert "localhost:1" in found.stderr
