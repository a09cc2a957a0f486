"""`beam-ml`: look at versions, choose the served one, derive and merge models, all without the data."""

import json
import sys
import uuid
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from beam_ml import api
from beam_ml.algorithms import algorithm_of, find, model_spec_from
from beam_ml.artefact.records import decode_learner, encode_learner, encode_model
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.errors import ArtefactError, BeamMLError, InvalidValue, MergeRefused, VersionNotFound
from beam_ml.registry import Manifest, Registry, new_round_id

__all__ = ["main"]

_METRICS = ("auc", "average_precision", "log_loss", "rmse", "msd")


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors raised on purpose into one sentence and exit code 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BeamMLError as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            sys.exit(1)

    return run


def _open(url: str) -> Registry:
    return Registry(url, create=False)


def _version(text: str | None) -> int | None:
    """Read ``v12`` or ``12``."""
    if text is None:
        return None
    digits = text.removeprefix("v")
    if not digits.isdigit():
        message = f"version must be a number such as 12 or v12; got {text!r}."
        raise InvalidValue(message)
    return int(digits)


def _manifest(registry: Registry, name: str, version: str | None) -> Manifest:
    number = _version(version)
    found = registry.head(name) if number is None else registry.manifest(name, number)
    if found is None:
        message = f"The registry has no version of {name}."
        raise VersionNotFound(message)
    return found


@click.group()
@click.version_option(package_name="beam_ml")
def main() -> None:
    """Streaming machine learning: versions, models and merges without the data."""


@main.group()
def registry() -> None:
    """Look at versions and choose the served one."""


@registry.command("ls")
@click.argument("url")
@click.argument("name", required=False)
@_told
def ls(url: str, name: str | None) -> None:
    """List the names in a registry, or the versions of one name."""
    store, console = _open(url), Console()
    if name is None:
        table = Table("name", "versions", "served", "rows", box=None)
        for one in store.names():
            served, newest = store.served(one), store.newest_readable(one)
            rows = "" if newest is None else f"{newest.progress.get('rows', 0):,}"
            table.add_row(one, str(store.head_number(one)), "" if served is None else f"v{served.number}", rows)
    else:
        served = store.served(name)
        table = Table("version", "created", "rows", "refreshes", "champion", *_METRICS, "gate", box=None)
        for number in store.versions(name):
            try:
                version = store.manifest(name, number)
            except ArtefactError as error:
                table.add_row(f"v{number}", *[""] * (4 + len(_METRICS)), f"damaged: {error}")
                continue
            gate = "accepted" if version.verdict.accepted else f"refused: {'; '.join(version.verdict.reasons)}"
            if served is not None and served.number == number:
                gate += "  ← served"
            values = _measured(version)
            cells = [_cell(values, metric) for metric in _METRICS]
            rows, champion = f"{version.progress.get('rows', 0):,}", version.champion or ""
            table.add_row(f"v{number}", version.created, rows, str(len(version.refreshes)), champion, *cells, gate)
    console.print(table)


def _cell(values: Mapping[str, float], metric: str) -> str:
    """Return a metric with its standard error, where there is one."""
    if metric not in values:
        return ""
    error = values.get(f"{metric}_se")
    return f"{values[metric]:.4f}" + ("" if error is None else f" ±{error:.4f}")


def _measured(manifest: Manifest) -> dict[str, float]:
    """Return the champion's progressive metrics after this version's last refresh."""
    if not manifest.refreshes:
        return {}
    progressive = manifest.refreshes[-1]["progressive"]
    return dict(progressive.get(manifest.champion or "", {}))


@registry.command("show")
@click.argument("url")
@click.argument("name")
@click.argument("version", required=False)
@_told
def show(url: str, name: str, version: str | None) -> None:
    """Print the manifest of a version (default: the newest) as JSON."""
    manifest = _manifest(_open(url), name, version)
    click.echo(json.dumps(manifest.to_dict(), indent=1, sort_keys=True))


@registry.command("diff")
@click.argument("url")
@click.argument("name")
@click.argument("a")
@click.argument("b")
@_told
def diff(url: str, name: str, a: str, b: str) -> None:
    """Show what differs between two versions: spec, rows, metrics, verdict."""
    store = _open(url)
    left, right = (_flat(_manifest(store, name, v)) for v in (a, b))
    table = Table("field", f"v{_version(a)}", f"v{_version(b)}", "change", box=None)
    for field in sorted(left.keys() | right.keys()):
        x, y = left.get(field), right.get(field)
        if x != y:
            change = f"{y - x:+.6g}" if isinstance(x, int | float) and isinstance(y, int | float) else ""
            table.add_row(field, _text(x), _text(y), change)
    Console().print(table)


def _text(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _flat(manifest: Manifest) -> dict[str, Any]:
    """Return the fields worth comparing under dotted names."""
    out: dict[str, Any] = {"champion": manifest.champion, "accepted": manifest.verdict.accepted}
    out |= {f"spec.{key}": value for key, value in manifest.spec.items()}
    out |= {f"progress.{k}": v for k, v in manifest.progress.items() if not isinstance(v, dict)}
    out |= {f"rejected.{k}": v for k, v in manifest.progress.get("rejected", {}).items()}
    out |= {f"metrics.{key}": value for key, value in _measured(manifest).items()}
    out |= {f"files.{key}.bytes": file.bytes for key, file in manifest.files.items()}
    return out


@registry.command("serve")
@click.argument("url")
@click.argument("name")
@click.argument("version", required=False)
@click.option("--newest", is_flag=True, help="Follow the newest accepted version again.")
@_told
def serve(url: str, name: str, version: str | None, newest: bool) -> None:
    """Serve one version (roll back or forward), or with --newest the newest accepted one again."""
    if newest == (version is not None):
        message = "serve needs either a version or --newest."
        raise InvalidValue(message)
    served = _open(url).serve(name, _version(version))
    click.echo(f"{name}: " + ("nothing is served" if served is None else f"v{served.number} is served"))


def _learner(url: str, name: str, version: str | None) -> tuple[Manifest, Learner]:
    store = _open(url)
    manifest = _manifest(store, name, version)
    return manifest, decode_learner(store.read(name, manifest.number), find)


@main.command()
@click.argument("url")
@click.argument("name")
@click.option("--version", help="Version of the learner (default: the newest).")
@click.option("--model", "setting", required=True, help='Model spec as JSON, such as {"kind": "clusters", "k": 8}.')
@click.option("--out", required=True, help="File to write the model to, or a name in the registry to publish under.")
@_told
def derive(url: str, name: str, version: str | None, setting: str, out: str) -> None:
    """Derive another model from a stored learner."""
    manifest, learner = _learner(url, name, version)
    algorithm = algorithm_of(learner.spec)
    model = api.derive(learner, model_spec_from(algorithm, _json(setting)))
    facts = {**model.facts, "features": manifest.extra.get("features"), "from": f"{name} v{manifest.number}"}
    model = Model(model.spec, model.model_spec, model.arrays, facts)
    _write(url, out, learner, {"derived": model}, facts, model)


@main.command()
@click.argument("url")
@click.argument("a")
@click.argument("b")
@click.option("--out", required=True, help="File to write the learner to, or a name in the registry to publish under.")
@click.option("--allow-overlap", is_flag=True, help="Merge even when both have seen the same rows (they count twice).")
@_told
def merge(url: str, a: str, b: str, out: str, allow_overlap: bool) -> None:
    """Merge two stored learners, each NAME or NAME:VERSION."""
    (first, left), (second, right) = (_learner(url, *_named(text)) for text in (a, b))
    if first.extra.get("features") != second.extra.get("features"):
        message = f"Learners of the same features merge; those of {a} and {b} were trained on different columns."
        raise MergeRefused(message)
    both = api.merge(left, right, allow_overlap=allow_overlap)
    facts = {
        "features": first.extra.get("features"),
        "from": f"{first.name} v{first.number} + {second.name} v{second.number}",
    }
    _write(url, out, both, {}, facts, both)


def _named(text: str) -> tuple[str, str | None]:
    name, colon, version = text.partition(":")
    return name, version if colon else None


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        message = f"--model must be JSON: {error}."
        raise InvalidValue(message) from error
    if not isinstance(value, dict):
        message = f"--model must be a JSON object; got {text}."
        raise InvalidValue(message)
    return value


def _write(
    url: str, out: str, learner: Learner, models: dict[str, Model], facts: dict[str, Any], single: Learner | Model
) -> None:
    """Write one artefact to a file, or publish a version of its own under another name."""
    if out.endswith(".safetensors"):
        api.save(single, Path(out))
        click.echo(f"wrote {out}")
        return
    store = _open(url)
    if store.head_number(out):
        message = f"--out must be a new name: {out} has versions already."
        raise InvalidValue(message)
    algorithm = algorithm_of(learner.spec)
    payloads = {"learner": encode_learner(algorithm, learner)}
    payloads |= {f"models/{key}": encode_model(algorithm, model) for key, model in models.items()}
    spec = {"spec": learner.spec.to_dict(), "fingerprint": learner.spec.fingerprint}
    manifest = store.publish(
        out,
        payloads,
        parent=None,
        round_id=new_round_id(0),
        run_id=uuid.uuid4().hex,
        facts={**facts, **spec, "progress": learner.progress.summary(), "champion": next(iter(models), None)},
        serve=bool(models),
        reasons=() if models else ("a learner without models",),
    )
    click.echo(f"published {out} v{manifest.number}")


if __name__ == "__main__":
    main()
