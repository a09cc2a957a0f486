"""`beam-ml stream`: what it refuses, in one sentence."""

import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from beam_ml.beam.job import load_job
from beam_ml.cli import stream
from beam_ml.cli.console import Screen
from beam_ml.cli.jobs import find_job
from beam_ml.errors import RegistryError
from beam_ml.registry import Registry

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


def test_what_cannot_be_shown_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    registry = Registry(tmp_path)
    facts = {"progress": {"rows": 7, "rejected": {}}, "refreshes": []}

    def publish() -> None:
        head = registry.head_number("n")
        registry.publish("n", {"learner": b"x"}, parent=head or None, round_id=f"r{head}", facts=facts)

    watch = stream._Watch(Screen(file=said, width=300), _Named(), registry, lambda: False)  # type: ignore[arg-type]
    publish()
    publish()
    registry.objects.put("n/v1/manifest.json", b"{")
    assert watch.ask() is False
    first, second = said.getvalue().splitlines()
    assert first.startswith("v1: ")
    assert second.startswith("v2: 0 windows, 7 rows, 0 rejected")

    def gone(name: str) -> int:
        message = "The store does not answer."
        raise RegistryError(message)

    with monkeypatch.context() as patch:
        patch.setattr(registry, "head_number", gone)
        assert [watch.ask(), watch.ask()] == [False, False]
    publish()
    watch.ask()
    third, fourth = said.getvalue().splitlines()[2:]
    assert third == "Versions cannot be shown just now: The store does not answer."
    assert fourth.startswith("v3: ")


class _Named:
    name = "n"
