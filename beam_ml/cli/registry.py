"""`beam-ml registry`: look at versions and choose the served one."""

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

from beam_ml.cli.console import Group, Screen
from beam_ml.cli.versions import manifest_of, number_of, open_registry
from beam_ml.errors import ArtefactError, InvalidValue
from beam_ml.registry import Manifest

__all__ = ["registry"]

_METRICS = ("auc", "average_precision", "log_loss", "rmse", "msd")


@click.group(cls=Group)
def registry() -> None:
    """Look at versions and choose the served one."""


@registry.command("ls")
@click.argument("url")
@click.argument("name", required=False)
def ls(url: str, name: str | None) -> None:
    """List the names in a registry, or the versions of one name."""
    store, console = open_registry(url), Screen()
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
def show(url: str, name: str, version: str | None) -> None:
    """Print the manifest of a version (default: the newest) as JSON."""
    manifest = manifest_of(open_registry(url), name, version)
    click.echo(json.dumps(manifest.to_dict(), indent=1, sort_keys=True))


@registry.command("diff")
@click.argument("url")
@click.argument("name")
@click.argument("a")
@click.argument("b")
def diff(url: str, name: str, a: str, b: str) -> None:
    """Show what differs between two versions: spec, rows, metrics, verdict."""
    store = open_registry(url)
    left, right = (_flat(manifest_of(store, name, v)) for v in (a, b))
    table = Table("field", f"v{number_of(a)}", f"v{number_of(b)}", "change", box=None)
    for field in sorted(left.keys() | right.keys()):
        x, y = left.get(field), right.get(field)
        if x != y:
            change = f"{y - x:+.6g}" if isinstance(x, int | float) and isinstance(y, int | float) else ""
            table.add_row(field, _text(x), _text(y), change)
    Screen().print(table)


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
def serve(url: str, name: str, version: str | None, newest: bool) -> None:
    """Serve one version (roll back or forward), or with --newest the newest accepted one again."""
    if newest == (version is not None):
        message = "serve needs either a version or --newest."
        raise InvalidValue(message)
    served = open_registry(url).serve(name, number_of(version))
    click.echo(f"{name}: " + ("nothing is served" if served is None else f"v{served.number} is served"))
