"""`beam-ml registry`: look at versions and choose the served one."""

from collections.abc import Mapping
from typing import Any

import click

from beam_ml.cli.console import Group, Screen, as_json, print_json
from beam_ml.cli.layout import laid_out
from beam_ml.cli.standing import Standing, standing_of
from beam_ml.cli.versions import known_name, manifest_of, number_of, open_registry
from beam_ml.errors import ArtefactError, InvalidValue
from beam_ml.registry import Manifest, Registry

__all__ = ["registry"]

_METRICS = ("auc", "average_precision", "log_loss", "rmse", "msd", "perplexity", "mean_wql", "score")
_SPARE = ("refreshes", "msd", "rmse", "average_precision", "champion", "log_loss", "created", "auc", "rows")
"""Columns that narrow terminals do without, the least important first."""


@click.group(cls=Group)
def registry() -> None:
    """Look at versions and choose the served one."""


@registry.command("ls")
@click.argument("url")
@click.argument("name", required=False)
@as_json
def ls(url: str, name: str | None, json: bool) -> None:
    """List the names in a registry, or the versions of one name: one line each."""
    store = open_registry(url)
    found = [_named(store, one) for one in store.names()] if name is None else _versions(store, known_name(store, name))
    if json:
        print_json(found)
    elif not found:
        Screen().say(f"The registry at {url} holds no version yet.")
    elif name is None:
        header = ["name", "versions", "served", "rows"]
        table = [[one["name"], str(one["versions"]), _served(one), f"{one['rows'] or 0:,}"] for one in found]
        Screen().table(laid_out(header, table, Screen().limit, ["versions", "rows"]))
    else:
        metrics = [metric for metric in _METRICS if any(metric in one["metrics"] for one in found)]
        header = ["version", "created", "rows", "refreshes", "champion", *metrics, "gate"]
        table = [_row(one, metrics) for one in found]
        Screen().table(laid_out(header, table, Screen().limit, ["rows", "refreshes"], _SPARE))


def _named(store: Registry, name: str) -> dict[str, Any]:
    standing, newest = standing_of(store, name), next(store.manifests(name), None)
    rows = None if newest is None else newest.progress.get("rows", 0)
    return {
        "name": name,
        "versions": store.head_number(name),
        "served": standing.served,
        "pinned": standing.pinned,
        "rows": rows,
    }


def _served(one: Mapping[str, Any]) -> str:
    served = "nothing" if one["served"] is None else f"v{one['served']}"
    if one["pinned"] is None:
        return served
    return f"{served} (pinned)" if one["pinned"] == one["served"] else f"{served} (v{one['pinned']} is pinned)"


def _versions(store: Registry, name: str) -> list[dict[str, Any]]:
    standing = standing_of(store, name)
    return [_version(store, name, number, standing) for number in store.versions(name)]


def _version(store: Registry, name: str, number: int, standing: Standing) -> dict[str, Any]:
    served, pinned = number == standing.served, number == standing.pinned
    found: dict[str, Any] = {"version": number, "served": served, "pinned": pinned, "metrics": {}}
    try:
        manifest = store.manifest(name, number)
    except ArtefactError as error:
        return found | {"gate": f"damaged: {error}"}
    return found | {
        "created": manifest.created,
        "rows": manifest.progress.get("rows", 0),
        "refreshes": len(manifest.refreshes),
        "champion": manifest.champion,
        "accepted": manifest.verdict.accepted,
        "reasons": list(manifest.verdict.reasons),
        "metrics": _measured(manifest),
        "gate": standing.of(manifest),
    }


def _row(one: Mapping[str, Any], metrics: list[str]) -> list[str]:
    created = str(one.get("created", ""))[:16].replace("T", " ")
    rows = f"{one['rows']:,}" if "rows" in one else ""
    cells = [_cell(one["metrics"], metric) for metric in metrics]
    refreshes = str(one.get("refreshes", ""))
    return [f"v{one['version']}", created, rows, refreshes, one.get("champion") or "", *cells, one["gate"]]


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
@as_json
def show(url: str, name: str, version: str | None, json: bool) -> None:
    """Print the manifest of a version (default: the newest) as JSON, indented unless --json is given."""
    manifest = manifest_of(open_registry(url), name, version)
    print_json(manifest.to_dict(), None if json else 1)


@registry.command("diff")
@click.argument("url")
@click.argument("name")
@click.argument("a")
@click.argument("b")
@as_json
def diff(url: str, name: str, a: str, b: str, json: bool) -> None:
    """Show what differs between two versions: spec, rows, metrics, verdict."""
    store = open_registry(url)
    left, right = (_flat(manifest_of(store, name, v)) for v in (a, b))
    changed = {key: (left.get(key), right.get(key)) for key in sorted(left.keys() | right.keys())}
    changed = {key: (x, y) for key, (x, y) in changed.items() if x != y}
    if json:
        print_json({key: {"a": x, "b": y} for key, (x, y) in changed.items()})
        return
    table = [[key, _text(x), _text(y), _change(x, y)] for key, (x, y) in changed.items()]
    Screen().table(laid_out(["field", f"v{number_of(a)}", f"v{number_of(b)}", "change"], table))


def _change(x: object, y: object) -> str:
    return f"{y - x:+.6g}" if isinstance(x, int | float) and isinstance(y, int | float) else ""


def _text(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _flat(manifest: Manifest) -> dict[str, Any]:
    """Return the fields worth comparing under dotted names."""
    out: dict[str, Any] = {"champion": manifest.champion, "accepted": manifest.verdict.accepted}
    out |= {f"spec.{key}": value for key, value in manifest.spec.items()}
    out |= {f"progress.{k}": v for k, v in manifest.progress.items() if not isinstance(v, dict)}
    out |= {f"{kind}.{k}": v for kind in ("rejected", "adjusted") for k, v in manifest.progress.get(kind, {}).items()}
    out |= {f"metrics.{key}": value for key, value in _measured(manifest).items()}
    out |= {f"files.{key}.bytes": file.bytes for key, file in manifest.files.items()}
    return out


@registry.command("serve")
@click.argument("url")
@click.argument("name")
@click.argument("version", required=False)
@click.option("--newest", is_flag=True, help="Follow the newest accepted version again.")
@as_json
def serve(url: str, name: str, version: str | None, newest: bool, json: bool) -> None:
    """Serve one version (roll back or forward), or with --newest the newest accepted one again."""
    if newest == (version is not None):
        message = "serve needs either a version or --newest."
        raise InvalidValue(message)
    store = open_registry(url)
    served = store.serve(known_name(store, name), number_of(version))
    standing = standing_of(store, name)
    if json:
        print_json(_named(store, name) | {"accepted": None if served is None else served.verdict.accepted})
        return
    screen = Screen()
    screen.say(f"{name}: " + ("nothing is served" if served is None else f"v{served.number} is {standing.of(served)}"))
    if standing.pinned is not None:
        screen.say(f"Newer versions are not served until: beam-ml registry serve {url} {name} --newest")
