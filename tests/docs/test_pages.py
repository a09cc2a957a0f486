"""The pages hold together: links lead somewhere, modules that are named exist, and what is generated is up to date."""

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from beam_ml import Batch, linear
from beam_ml.beam.job.job import Job
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import positions
from beam_ml.cli import main
from beam_ml.core import folding
from beam_ml.core.admit import admit
from beam_ml.formats import messages

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
MOST_LINES = {"README.md": 120, "ARCHITECTURE.md": 150}


def prose(text: str) -> str:
    """The page without its code blocks, whose brackets are no links."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The headings of a page as its links name them."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {re.sub(r"[ \-]+", "-", name.strip()) for name in plain}


def broken(page: Path, text: str) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        inside = there.is_relative_to(ROOT / "docs") or not page.is_relative_to(ROOT / "docs")
        if not there.exists() or not inside or (anchor and anchor not in anchors(there)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken(page, page.read_text(encoding="utf-8"))) == []


def test_a_broken_link_is_found() -> None:
    text = "[a](README.md) [b](gone.md) [c](ARCHITECTURE.md#layers) [d](ARCHITECTURE.md#attic) [e](https://x.org)"
    assert list(broken(ROOT / "README.md", text)) == ["gone.md", "ARCHITECTURE.md#attic"]
    assert list(broken(ROOT / "docs" / "index.md", "[out](../README.md)")) == ["../README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:beam_ml|pipelines|tests|integration|deploy)/[\w/.-]+)`", text)
    assert [path for path in named if not (ROOT / path).exists() and "NAME" not in path] == []


@pytest.mark.parametrize(("name", "most"), MOST_LINES.items())
def test_front_pages_stay_short(name: str, most: int) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= most


def test_generated_pages_are_up_to_date() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
    assert set(written) == {"jobs.md", "api.md"}
    for name, text in written.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"docs/{name}: run make docs"


def test_every_page_is_in_the_menu() -> None:
    menu = re.findall(r"([\w/]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2])
    assert sorted(menu) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in PAGES[3:])


def test_the_example_of_a_job_is_one() -> None:
    text = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")
    job = Job.parse(tomllib.loads(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0]))
    assert job.algorithm().name == "linear.newton"


def test_the_example_of_a_topic_is_a_source() -> None:
    text = (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8")
    source = KafkaSource.parse(tomllib.loads(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])["source"])
    assert source.client["sasl_plain_password"] == "$KAFKA_PASSWORD"


def commands() -> Iterator[list[str]]:
    """The commands of `beam-ml` that pages show."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", "")
        for line in re.findall(r"^beam-ml (.*)$", text, re.MULTILINE):
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_commands_that_are_shown_parse(words: list[str]) -> None:
    command: click.Command = main
    while isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), words.pop(0))
        assert inner is not None, words
        command = inner
    command.make_context("beam-ml", words)


def test_every_reason_of_a_reject_is_explained() -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    table = text.partition("## What each reject means")[2].partition("\n## ")[0]
    known = [messages.EMPTY, messages.MALFORMED, messages.UNPARSEABLE, folding.STALE, positions.LOST]
    _, rejected, _ = admit(
        linear.Newton(n_features=1),
        Batch.dense(
            [[float("nan")], [0.0], [0.0], [0.0], [0.0]],
            label=[0, float("nan"), 2, 0, 0],
            weight=[1, 1, 1, -1, 1e12],
        ),
    )
    assert len(rejected) == 5
    for reason in [*known, *rejected]:
        assert f"`{reason.partition(' {')[0]}" in table, reason
