"""Writes `schemas/`: the wire contracts, generated from the code and reviewed in diffs.

``python -m beam_ml.schemas`` writes them; with ``--check`` it compares and exits 1 where one differs.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from beam_ml.algorithms import ALGORITHMS, find
from beam_ml.artefact.format import FORMAT
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import schema
from beam_ml.core.spec import Settings
from beam_ml.registry.manifest import manifest_schema

__all__ = ["main", "schemas"]

_ROOT = Path(__file__).parents[1] / "schemas"


def _settings(kind: type[Settings]) -> dict[str, Any]:
    """Return the JSON schema of a spec; its docstrings are documentation, not contract."""
    return _without_prose(kind.model_json_schema(mode="serialization"))


def _without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _without_prose(v) for k, v in value.items() if k != "description" or not isinstance(v, str)}
        return {k: v for k, v in kept.items() if k != "title" or not isinstance(v, str)}
    return [_without_prose(one) for one in value] if isinstance(value, list) else value


def _learner(algorithm: Algorithm) -> dict[str, Any]:
    contract = {
        "format": FORMAT,
        "kind": "learner",
        "algorithm": algorithm.name,
        "algorithm_version": algorithm.version,
        "spec": _settings(algorithm.spec),
        "state": schema(algorithm.state),
        "partial": schema(algorithm.partial),
    }
    if algorithm.anchor_type is not None:
        contract["anchor"] = schema(algorithm.anchor_type)
    return contract


def _model(algorithm: Algorithm, kind: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": "model",
        "algorithm": algorithm.name,
        "algorithm_version": algorithm.version,
        "model_spec": _settings(algorithm.models[kind].spec),
        "arrays": schema(algorithm.models[kind].model),
    }


def schemas(algorithms: Sequence[Algorithm]) -> Mapping[str, str]:
    """Return every contract: path under ``schemas/`` → JSON text."""
    files: dict[str, Any] = {"manifest.json": _without_prose(manifest_schema())}
    for algorithm in algorithms:
        files[f"learner/{algorithm.name}.json"] = _learner(algorithm)
        for kind in algorithm.models:
            files[f"model/{algorithm.name}.{kind}.json"] = _model(algorithm, kind)
    return {path: json.dumps(value, sort_keys=True, indent=2) + "\n" for path, value in sorted(files.items())}


def _differences(files: Mapping[str, str], root: Path) -> list[str]:
    """Return one sentence for each file that is missing, differs, or belongs to nothing."""
    there = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.json"))}
    sentences = []
    for name, text in files.items():
        if name not in there:
            sentences.append(f"{root / name} is missing.")
        elif there[name].read_text(encoding="utf-8") != text:
            sentences.append(f"{root / name} is not what the code generates.")
    return sentences + [f"{there[name]} belongs to no algorithm." for name in there if name not in files]


def _write(files: Mapping[str, str], root: Path) -> None:
    for path in root.rglob("*.json"):
        if path.relative_to(root).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or compare the contracts; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m beam_ml.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is there; exit 1 where it differs")
    parser.add_argument("--root", type=Path, default=_ROOT, help="folder of the contracts (default: %(default)s)")
    options = parser.parse_args(arguments)
    files = schemas([find(name) for name in ALGORITHMS])
    if not options.check:
        _write(files, options.root)
        return 0
    differences = _differences(files, options.root)
    for sentence in differences:
        print(sentence, file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
