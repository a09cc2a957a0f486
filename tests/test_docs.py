"""Every example runs: docstrings of the package, and the Python code of the README and of the pages in docs."""

import doctest
import importlib
import pkgutil
import re
import types
from pathlib import Path

import pytest

import beam_ml

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    info.name for info in pkgutil.walk_packages(beam_ml.__path__, "beam_ml.") if not info.name.endswith("__main__")
)


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


FRONT_DOOR = (
    "beam_ml",
    "beam_ml.beam",
    "beam_ml.beam.job",
    "beam_ml.beam.kafka",
    "beam_ml.features",
    "beam_ml.testing",
    "beam_ml.algorithms.deepar",
    "beam_ml.algorithms.distinct",
    "beam_ml.algorithms.fm",
    "beam_ml.algorithms.kmeans",
    "beam_ml.algorithms.linear",
    "beam_ml.algorithms.pca",
    "beam_ml.algorithms.quantile",
    "beam_ml.algorithms.target",
    "beam_ml.algorithms.vocabulary",
)
"""The packages whose names README and the page of the API show."""


PAGES = [page for page in [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))] if python_blocks(page)]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_docstring_examples_are_found() -> None:
    finder = doctest.DocTestFinder()
    with_examples = [n for n in MODULES if any(t.examples for t in finder.find(importlib.import_module(n)))]
    assert len(with_examples) >= 10


def test_readme_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(ROOT / "README.md")
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_examples_of_the_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}  # a page's examples go on from one another
    for block in python_blocks(page):
        exec(compile(block, page.name, "exec"), names)


def exported() -> list[str]:
    """Return the classes and functions that the packages of the front door export, as "package:name"."""
    packages = ((package, importlib.import_module(package)) for package in FRONT_DOOR)
    return [
        f"{package}:{name}"
        for package, module in packages
        for name in module.__all__
        if isinstance(getattr(module, name), type | types.FunctionType)
    ]


def lacks_example(value: object) -> bool:
    """Return whether a docstring has no example; that a class has inherited is not its own."""
    return not doctest.DocTestParser().get_examples(value.__doc__ or "")


@pytest.mark.parametrize("name", exported())
def test_everything_at_the_front_door_has_an_example(name: str) -> None:
    package, _, attribute = name.partition(":")
    assert not lacks_example(getattr(importlib.import_module(package), attribute))


def test_a_name_without_an_example_is_found() -> None:
    class Bare(beam_ml.Batch):
        """Rows."""

    class Inherits(beam_ml.Batch):
        pass

    def shown() -> None:
        """Return nothing.

        >>> 1 + 1
        2
        """

    assert [lacks_example(value) for value in (Bare, Inherits, shown, beam_ml.Batch, beam_ml.fit)] == [
        True, True, False, False, False
    ]  # fmt: skip
    assert len(exported()) > 60
