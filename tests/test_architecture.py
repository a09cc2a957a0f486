"""The layers of the package, checked from the imports: arrows go one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("beam_ml", "pipelines")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# layer → layers of beam_ml that it may import (itself and errors always)
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "kernels": set(),
    "core": set(),
    "algorithms": {"core", "kernels"},
    "artefact": {"core"},
    "registry": {"artefact", "core"},
    "formats": {"core"},
    "features": {"core", "formats"},
    "predictor": {"core", "registry", "artefact", "features", "formats", "algorithms"},
    "api": {"core", "artefact", "algorithms"},
    "schemas": {"core", "algorithms", "artefact", "registry"},
    "sagemaker": {"core", "algorithms"},
    "testing": {"core", "algorithms", "artefact", "api", "kernels"},
    "beam": {"core", "algorithms", "kernels", "artefact", "registry", "features", "formats", "predictor"},
    "cli": {"core", "algorithms", "artefact", "registry", "api", "predictor", "formats", "features"},
}
# third-party module → where alone it may be imported
ONLY_IN = {
    "apache_beam": ("beam_ml/beam/", "pipelines/"),
    "numba": ("beam_ml/kernels/",),
    "jax": ("beam_ml/kernels/",),
    "kafka": ("beam_ml/beam/kafka/",),
    "obstore": ("beam_ml/registry/",),
    "safetensors": ("beam_ml/artefact/",),
}
NOWHERE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            if node.module == "beam_ml":
                yield from (f"beam_ml.{alias.name}" for alias in node.names)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_layers(path: Path) -> None:
    name = named(path)
    parts = name.removesuffix(".py").split("/")
    found = list(imports(path))
    for module in found:
        top = module.split(".")[0]
        assert top not in NOWHERE, f"{name} imports {module}"
        homes = ONLY_IN.get(top)
        assert homes is None or name.startswith(homes), f"{name} imports {module}"
    if parts[0] != "beam_ml" or parts[1] in ("__init__", "__main__"):
        return
    layer = parts[1]
    allowed = ALLOWED[layer] | {layer, "errors"}
    for module in found:
        if module.startswith("beam_ml."):
            assert module.split(".")[1] in allowed, f"{name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_one_concept_a_module(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_say_return(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    said = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    assert not [text for text in said if text.startswith(("Give ", "Tell "))]


def test_pipelines_hold_no_dofn() -> None:
    for path in FILES:
        if named(path).startswith("pipelines/"):
            text = path.read_text(encoding="utf-8")
            assert "DoFn" not in text, path
            assert "CombineFn" not in text, path


def test_the_rules_see_what_they_should() -> None:
    """A planted import must be found: a test that cannot fail is no test."""
    tree = ast.parse("import pickle\nfrom beam_ml.beam import coders\n")
    assert [n.names[0].name for n in ast.walk(tree) if isinstance(n, ast.Import)] == ["pickle"]
    assert any(named(path) == "beam_ml/core/refresh.py" for path in FILES)
    assert "beam_ml.core.decay" in set(imports(ROOT / "beam_ml/core/refresh.py")) or "beam_ml.core" in set(
        imports(ROOT / "beam_ml/core/refresh.py")
    )
