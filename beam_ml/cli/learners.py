"""`beam-ml derive` and `beam-ml merge`: models and learners of stored ones, without the data."""

import json as json_text
import uuid
from pathlib import Path
from typing import Any

import click

from beam_ml import api
from beam_ml.algorithms import algorithm_of, model_spec_from
from beam_ml.artefact.records import encode_learner, encode_model
from beam_ml.cli.console import Command, Screen, as_json, print_json
from beam_ml.cli.versions import learner_of, open_registry
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.errors import InvalidValue, MergeRefused
from beam_ml.registry import new_round_id

__all__ = ["derive", "merge", "write_out"]


@click.command(cls=Command)
@click.argument("url")
@click.argument("name")
@click.option("--version", help="Version of the learner (default: the newest).")
@click.option("--model", "setting", required=True, help='Model spec as JSON, such as {"kind": "clusters", "k": 8}.')
@click.option("--out", required=True, help="File to write the model to, or a name in the registry to publish under.")
@as_json
def derive(url: str, name: str, version: str | None, setting: str, out: str, json: bool) -> None:
    """Derive another model from a stored learner."""
    manifest, learner = learner_of(url, name, version)
    algorithm = algorithm_of(learner.spec)
    model = api.derive(learner, model_spec_from(algorithm, _json(setting)))
    facts = {**model.facts, "features": manifest.extra.get("features"), "from": f"{name} v{manifest.number}"}
    model = Model(model.spec, model.model_spec, model.arrays, facts)
    write_out(url, out, learner, {"derived": model}, facts, model, json)


@click.command(cls=Command)
@click.argument("url")
@click.argument("a")
@click.argument("b")
@click.option("--out", required=True, help="File to write the learner to, or a name in the registry to publish under.")
@click.option("--allow-overlap", is_flag=True, help="Merge even when both have seen the same rows (they count twice).")
@as_json
def merge(url: str, a: str, b: str, out: str, allow_overlap: bool, json: bool) -> None:
    """Merge two stored learners, each NAME or NAME:VERSION."""
    (first, left), (second, right) = (learner_of(url, *_named(text)) for text in (a, b))
    if first.extra.get("features") != second.extra.get("features"):
        message = f"Learners of the same features merge; those of {a} and {b} were trained on different columns."
        raise MergeRefused(message)
    both = api.merge(left, right, allow_overlap=allow_overlap)
    facts = {
        "features": first.extra.get("features"),
        "from": f"{first.name} v{first.number} + {second.name} v{second.number}",
    }
    write_out(url, out, both, {}, facts, both, json)


def _named(text: str) -> tuple[str, str | None]:
    name, colon, version = text.partition(":")
    return name, version if colon else None


def _json(text: str) -> dict[str, Any]:
    try:
        value = json_text.loads(text)
    except ValueError as error:
        message = f"--model must be JSON: {error}."
        raise InvalidValue(message) from error
    if not isinstance(value, dict):
        message = f"--model must be a JSON object; got {text}."
        raise InvalidValue(message)
    return value


def write_out(
    url: str,
    out: str,
    learner: Learner,
    models: dict[str, Model],
    facts: dict[str, Any],
    single: Learner | Model,
    json: bool,
) -> None:
    """Write one artefact to a file, or publish a version of its own under another name."""
    if out.endswith(".safetensors"):
        api.save(single, Path(out))
        if json:
            print_json({"wrote": out})
        else:
            Screen().say(f"wrote {out}")
        return
    store = open_registry(url)
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
    if json:
        print_json({"name": out, "version": manifest.number, "served": bool(models)})
    else:
        Screen().say(f"published {out} v{manifest.number}")
