"""README's commands for Kafka and those that `make kafka` prints work as they are written."""

import re
import shlex
import socket
from pathlib import Path

import click
import pytest
from services import kafka

from beam_ml.cli import main

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/kafka.md", "pipelines/jobs/fraud_kafka.toml", "pipelines/jobs/fraud_stream.toml")


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_the_port_that_make_kafka_listens_on(page: str) -> None:
    named = re.findall(r"localhost:(\d+)", (ROOT / page).read_text(encoding="utf-8"))
    assert named
    assert set(named) == {str(kafka.PORT)}


def test_the_next_commands_parse_and_are_those_of_the_readme() -> None:
    printed = re.findall(r"^  \.venv/bin/beam-ml (.*)$", kafka.next_commands(f"localhost:{kafka.PORT}"), re.MULTILINE)
    assert len(printed) == 3
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in printed:
        assert f"beam-ml {line}" in readme or line.startswith("registry ls")
        command: click.Command | None = main
        words = shlex.split(line)
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None
        command.make_context("beam-ml", words)


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as one:
        one.bind((kafka.HOST, 0))
        one.listen()
        port = one.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"Port {port} is taken: .* make kafka KAFKA="):
            kafka.refuse_taken([port])
    kafka.refuse_taken([port])
