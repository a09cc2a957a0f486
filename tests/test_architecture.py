"""The layers and the rooms, checked from the imports, lazy ones too: arrows go one way, and nobody reaches into another."""

import ast
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("beam_ml", "pipelines")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

Sources = Mapping[str, str]
"""Module → its text. A package is the module of its `__init__`."""
Arrows = Mapping[str, set[str]]
"""Module → the modules that it imports anywhere in it."""

# layer → layers of beam_ml that it may import (itself and errors always)
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "kernels": set(),
    "core": set(),
    "algorithms": {"core", "kernels"},
    "artefact": {"core"},
    "registry": {"artefact", "core"},
    "formats": {"core", "kernels"},
    "features": {"core", "formats", "artefact", "kernels"},
    "consistency": {"core", "features", "formats"},
    "late_labels": {"core", "kernels", "artefact", "features", "formats"},
    "predictor": {"core", "registry", "artefact", "features", "formats", "algorithms"},
    "ledger": {"core", "registry", "artefact", "algorithms"},
    "api": {"core", "artefact", "algorithms", "features"},
    "schemas": {"core", "algorithms", "artefact", "registry"},
    "sagemaker": {"core", "algorithms"},
    "testing": {"core", "algorithms", "artefact", "api", "kernels"},
    "beam": {
        "core",
        "algorithms",
        "kernels",
        "artefact",
        "registry",
        "features",
        "formats",
        "late_labels",
        "predictor",
        "ledger",
    },
    "cli": {
        "core",
        "algorithms",
        "artefact",
        "registry",
        "api",
        "predictor",
        "formats",
        "features",
        "beam",
        "consistency",
        "ledger",
    },
}
# rooms of beam_ml.beam, from the ground up: a room imports those of lower storeys, and none beside it
STOREYS: tuple[set[str], ...] = (
    {"wire", "job", "telemetry", "steps"},
    {"engine", "versions"},
    {"transforms"},
    {"kafka"},
    {"rounds"},
    {"stream"},
    {"worker"},
)
# package → children that know nothing of one another, nor does anything beside them; the package itself brings them together
APART: dict[str, set[str]] = {
    "beam_ml.algorithms": {
        "deepar",
        "distinct",
        "fm",
        "kmeans",
        "linear",
        "ntm",
        "pca",
        "quantile",
        "target",
        "vocabulary",
    },
    "beam_ml.algorithms.linear": {"adagrad", "newton"},
    "beam_ml.kernels": {
        "adagrad",
        "deepar",
        "distinct",
        "fm",
        "json",
        "kmeans",
        "late_labels",
        "libsvm",
        "newton",
        "ntm",
        "quantile",
        "recordio",
        "rolling",
    },
    "beam_ml.formats": {"avro", "csv", "json", "libsvm", "parquet", "recordio"},
}
# room → what it may not know
UNKNOWN: dict[str, tuple[str, ...]] = {
    "beam_ml.beam.kafka": (
        "beam_ml.algorithms",
        "beam_ml.core.accumulation",
        "beam_ml.core.learner",
        "beam_ml.core.refresh",
    ),
}
# third-party module → where alone it may be imported
ONLY_IN = {
    "apache_beam": ("beam_ml/beam/",),
    "numba": ("beam_ml/kernels/",),
    "jax": ("beam_ml/kernels/",),
    "kafka": ("beam_ml/beam/kafka/",),
    "obstore": ("beam_ml/registry/",),
    "optax": ("beam_ml/kernels/",),
    "safetensors": ("beam_ml/artefact/",),
}
NOWHERE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return named(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


SOURCES: Sources = {module_of(path): path.read_text(encoding="utf-8") for path in FILES}


parsed = functools.cache(ast.parse)


@functools.cache
def imports(text: str, where: str = "") -> tuple[tuple[str, str | None], ...]:
    """Return what a module imports, (module, name) or (module, None), in functions too, and by `import_module`."""
    return tuple(_imports(text, where))


def _imports(text: str, where: str) -> Iterator[tuple[str, str | None]]:
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: relative import"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            if ast.unparse(node.func).endswith("import_module"):
                yield str(node.args[0].value), None


def arrows(sources: Sources) -> Arrows:
    """Return the arrows between modules of ours: to a submodule where the imported name is one, else to its package."""
    found: dict[str, set[str]] = {}
    for module, text in sources.items():
        targets = found[module] = set()
        for package, name in imports(text, module):
            inner = f"{package}.{name}"
            targets.update({inner} if inner in sources else {package} & set(sources))
        targets.discard(module)
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def child_of(module: str, package: str) -> str | None:
    """Return the child of a package that a module is or is in; None: it is the package itself, or elsewhere."""
    return module[len(package) + 1 :].split(".")[0] if module.startswith(package + ".") else None


def circles(sources: Sources) -> list[str]:
    """Return the groups of modules that import one another (Tarjan's strongly connected components)."""
    edges, number, low = arrows(sources), dict[str, int](), dict[str, int]()
    stack, found = list[str](), list[str]()

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for target in sorted(edges[module]):
            if target not in number:
                visit(target)
            if target in stack:
                low[module] = min(low[module], low[target])
        if low[module] == number[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(" ↔ ".join(sorted(stack[at:])))
            del stack[at:]

    for module in sorted(edges):
        if module not in number:
            visit(module)
    return found


def upward_between_layers(sources: Sources) -> list[str]:
    found = []
    for module, targets in arrows(sources).items():
        layer = child_of(module, "beam_ml")
        if layer is not None and layer != "__main__":
            allowed = ALLOWED.get(layer, set()) | {layer, "errors"}
            found += [
                f"{module} → {target}" for target in sorted(targets) if child_of(target, "beam_ml") not in allowed
            ]
    return found


def upward_between_rooms(sources: Sources) -> list[str]:
    storey = {room: number for number, rooms in enumerate(STOREYS) for room in rooms}
    found = []
    for module, targets in arrows(sources).items():
        room = child_of(module, "beam_ml.beam")
        if room is None:
            continue  # the door of the whole house
        if room not in storey:
            found.append(f"{module} stands in no room")
            continue
        for target in sorted(targets):
            other = child_of(target, "beam_ml.beam")
            if within(target, "beam_ml.beam") and other != room and storey.get(other or "", 99) >= storey[room]:
                found.append(f"{module} → {target}")
    return found


def into_a_sibling(sources: Sources) -> list[str]:
    found = []
    for module, targets in arrows(sources).items():
        for package, children in APART.items():
            mine = child_of(module, package)
            if mine is not None:
                others = children - {mine}
                found += [f"{module} → {target}" for target in sorted(targets) if child_of(target, package) in others]
    return found


def into_the_unknown(sources: Sources) -> list[str]:
    found = []
    for module, targets in arrows(sources).items():
        for room, unknown in UNKNOWN.items():
            if within(module, room):
                found += [
                    f"{module} → {target}" for target in sorted(targets) if any(within(target, one) for one in unknown)
                ]
    return found


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@functools.cache
def nodes(text: str) -> tuple[ast.AST, ...]:
    """Return a module's imports, and the attributes whose names are private."""
    walked = ast.walk(parsed(text))
    kinds = (ast.ImportFrom, ast.Import)
    return tuple(
        one for one in walked if isinstance(one, kinds) or (isinstance(one, ast.Attribute) and private(one.attr))
    )


def private_reaches(sources: Sources) -> list[str]:
    """Return underscore names of a module that another takes: imported, or by an attribute of the module."""
    found = []
    for module, text in sources.items():
        modules = dict[str, str]()
        for node in nodes(text):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    if inner in sources:
                        modules[alias.asname or alias.name] = inner
                    if private(alias.name):
                        found.append(f"{module} → {inner}")
            elif isinstance(node, ast.Import):
                modules |= {alias.asname or alias.name: alias.name for alias in node.names if alias.name in sources}
        for node in nodes(text):
            if isinstance(node, ast.Attribute):
                whole = modules.get(ast.unparse(node.value))
                if whole is not None and whole != module:
                    found.append(f"{module} → {whole}.{node.attr}")
    return found


RULES: tuple[Callable[[Sources], list[str]], ...] = (
    circles,
    upward_between_layers,
    upward_between_rooms,
    into_a_sibling,
    into_the_unknown,
    private_reaches,
)
PLANTED: tuple[tuple[Callable[[Sources], list[str]], dict[str, str]], ...] = (
    (circles, {"beam_ml.core.spec": "def late():\n    from beam_ml.core import sample\n"}),
    (
        circles,
        {"beam_ml.formats.csv.files": 'import importlib\nimportlib.import_module("beam_ml.formats.csv.messages")\n'},
    ),
    (
        circles,
        {
            "beam_ml.artefact.format": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import beam_ml.artefact.migrations\n"
        },
    ),
    (circles, {"beam_ml.beam.rounds.files": "from beam_ml.beam.rounds import train\n"}),
    (upward_between_layers, {"beam_ml.core.spec": "from beam_ml.artefact import format\n"}),
    (upward_between_layers, {"beam_ml.registry.store": "def late():\n    import beam_ml.beam.job.sources\n"}),
    (upward_between_layers, {"beam_ml.newcomer": "from beam_ml.core import spec\n"}),
    (upward_between_rooms, {"beam_ml.beam.transforms.read": "from beam_ml.beam.kafka import gaps\n"}),
    (upward_between_rooms, {"beam_ml.beam.engine": "from beam_ml.beam.versions import resume\n"}),
    (upward_between_rooms, {"beam_ml.beam.rounds.seen": "from beam_ml.beam import Train\n"}),
    (upward_between_rooms, {"beam_ml.beam.newcomer": ""}),
    (into_a_sibling, {"beam_ml.algorithms.fm.spec": "from beam_ml.algorithms.linear import Threshold\n"}),
    (into_a_sibling, {"beam_ml.algorithms.shared.moves": "from beam_ml.algorithms.fm import spec\n"}),
    (
        into_a_sibling,
        {"beam_ml.algorithms.linear.adagrad.spec": "from beam_ml.algorithms.linear.newton import losses\n"},
    ),
    (into_a_sibling, {"beam_ml.kernels.fm.run": "from beam_ml.kernels.adagrad.run import dense_run\n"}),
    (into_a_sibling, {"beam_ml.formats.lines": "from beam_ml.formats.csv.files import Options\n"}),
    (into_the_unknown, {"beam_ml.beam.kafka.stream.clock": "from beam_ml.core.learner import Learner\n"}),
    (private_reaches, {"beam_ml.core.spec": "from beam_ml.core.batch import _anything\n"}),
    (private_reaches, {"beam_ml.cli.train": "from beam_ml.beam.rounds import driver\ndriver._rounds()\n"}),
    (private_reaches, {"beam_ml.cli.train": "import beam_ml.beam.engine\nbeam_ml.beam.engine._anything\n"}),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house(rule: Callable[[Sources], list[str]]) -> None:
    assert rule(SOURCES) == []


@pytest.mark.parametrize(
    ("rule", "planted"), PLANTED, ids=[f"{rule.__name__}-{next(iter(at))}" for rule, at in PLANTED]
)
def test_a_planted_fault_is_found(rule: Callable[[Sources], list[str]], planted: dict[str, str]) -> None:
    (module, text), *_ = planted.items()
    assert module in SOURCES or module.endswith(".newcomer")
    found = rule({**SOURCES, module: SOURCES.get(module, "") + "\n" + text})
    assert len(found) == 1
    assert module in found[0]


def test_every_rule_has_a_planted_fault() -> None:
    assert {rule for rule, _ in PLANTED} == set(RULES)


def test_every_layer_and_room_is_there() -> None:
    layers = {child_of(module, "beam_ml") for module in SOURCES} - {None}
    assert layers == set(ALLOWED)
    rooms = {child_of(module, "beam_ml.beam") for module in SOURCES} - {None}
    assert rooms == set().union(*STOREYS)
    for package, children in APART.items():
        assert children <= {child_of(module, package) for module in SOURCES}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_third_parties_stand_where_they_may(path: Path) -> None:
    name = named(path)
    for module, _ in imports(path.read_text(encoding="utf-8"), name):
        top = module.split(".")[0]
        assert top not in NOWHERE, f"{name} imports {module}"
        homes = ONLY_IN.get(top)
        assert homes is None or name.startswith(homes), f"{name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_one_concept_a_module(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_say_return(path: Path) -> None:
    tree = parsed(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    said = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    assert not [text for text in said if text.startswith(("Give ", "Tell "))]


def test_commands_hold_no_dofn() -> None:
    for path in FILES:
        if named(path).startswith(("beam_ml/cli/", "pipelines/")):
            text = path.read_text(encoding="utf-8")
            assert "DoFn" not in text, path
            assert "CombineFn" not in text, path


def test_the_imports_are_seen() -> None:
    """A planted import must be found: a test that cannot fail is no test."""
    text = "import pickle\ndef late():\n    from beam_ml.beam.wire import coders\n"
    assert set(imports(text)) == {("pickle", None), ("beam_ml.beam.wire", "coders")}
    assert "beam_ml.beam.wire.coders" in arrows({**SOURCES, "one": text})["one"]
    assert "beam_ml.core.refresh" in SOURCES


TESTS = sorted(path for folder in ("tests", "integration") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=named)
def test_no_test_edits_the_path(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not edits_of_the_path(text)


def edits_of_the_path(text: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("sys.path.", "site.addsitedir")):
            found.append(ast.unparse(node))
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [ast.unparse(one) for one in targets if ast.unparse(one).startswith("sys.path")]
    return found


@pytest.mark.parametrize("text", ["sys.path.insert(0, '.')", "sys.path += ['.']", "sys.path[:0] = ['.']"])
def test_an_edit_of_the_path_is_seen(text: str) -> None:
    assert edits_of_the_path("import sys\n" + text)
