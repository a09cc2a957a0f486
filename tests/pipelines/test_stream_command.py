"""`python -m pipelines.stream`: what it refuses, in one sentence."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from beam_ml.beam.job import load_job
from pipelines import stream
from pipelines.command import find_job

JOB = "jobs/fraud_stream.toml"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.toml"], "UnreadableInput: job file none.toml must be readable TOML"),
        ([JOB, "--onse"], "options must be this command's (see --help) or Beam's; got --onse"),
        ([JOB, "--savepoint", "file:///x"], "--savepoint and --flink-rest must be given together"),
        ([JOB, "--drain"], "options must be this command's (see --help) or Beam's; got --drain"),
        (
            [JOB, "--savepoint", "file:///x", "--flink-rest", "http://h:1", "--close-windows"],
            "--close-windows must not be given with --savepoint",
        ),
        (["jobs/fraud_replay.toml", "--runner=PrismRunner"], "job.source must be a Kafka topic in a stream"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(stream.main, [*arguments, "--registry", str(tmp_path / "r")], env={"COLUMNS": "300"})
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_the_job_shipped_is_whole() -> None:
    job = load_job(find_job(JOB))
    assert job.source.where == "topic transactions at localhost:9092"
    assert job.refresh == 86_400.0
