"""The JSON schema of a job: what an editor checks and completes a job file by."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from beam_ml.algorithms import ALGORITHMS, find
from beam_ml.beam.job.job import Job
from beam_ml.beam.job.learned import KEY, Learned
from beam_ml.core.spec import DURATION_PATTERN, Settings, duration_s

__all__ = ["job_schema"]


_COLUMN = {"type": ["string", "integer"]}
_LENGTHS = ({"type": "number"}, {"type": "string", "pattern": DURATION_PATTERN})
_COLUMNS = {"type": "array", "items": _COLUMN, "minItems": 2}


class _Written(GenerateJsonSchema):
    """Schemas of settings as people write them: a duration may be a text with a unit."""

    def function_before_schema(self, schema: Any) -> dict[str, Any]:
        inner: dict[str, Any] = super().function_before_schema(schema)
        if schema["function"]["function"] is not duration_s:
            return inner
        return {"anyOf": [inner, {"type": "string", "pattern": DURATION_PATTERN}]}


def job_schema() -> dict[str, Any]:
    """Return the schema: the job's own settings, and those of each built-in algorithm and its kinds of model.

    >>> sorted(job_schema()["required"])
    ['features', 'models', 'name', 'registry', 'spec']
    """
    whole, shared = _of(Job)
    specs, models = [], []
    for name in ALGORITHMS:
        algorithm = find(name)
        spec, more = _of(algorithm.spec)
        shared |= more
        # The width follows from the features, and the algorithm must be named: its key decides which settings there are.
        spec["properties"] |= {"algorithm": {"const": name}}
        spec["required"] = sorted({*spec.get("required", []), "algorithm"} - {"n_features"})
        specs.append(spec)
        for kind in algorithm.models.values():
            model, more = _of(kind.spec)
            shared |= more
            if model not in models:
                models.append(model)
    columns = shared["Features"]["properties"]
    for name, bare in (
        ("numeric", _COLUMN),
        ("hashed", _COLUMN),
        ("text", _COLUMN),
        ("words", _COLUMN),
        ("crosses", _COLUMNS),
    ):
        # The column's name alone, or the list of them, stands for a table with nothing else in it.
        items = columns[name]["items"]
        columns[name]["items"] = {"anyOf": [bare, *items.get("oneOf", [items])]}
    shared["Learned"] = _of(Learned)[0]
    by_name = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Learned"}]}
    for name, setting in (
        ("OneHot", "vocabulary"),
        ("Text", ""),
        ("Bucketed", "bounds"),
        ("Targeted", "values"),
        ("Standardised", ""),
    ):
        # What a trained model completes is left out.
        shared[name]["properties"][KEY] = by_name
        shared[name]["required"] = [one for one in shared[name]["required"] if one != setting]
    aggregate = shared["Aggregate"]["properties"]
    aggregate["key"] = {"anyOf": [_COLUMN, aggregate["key"]]}
    aggregate["windows"]["items"] = {"anyOf": [*_LENGTHS, aggregate["windows"]["items"]]}
    foreign = {"properties": {"algorithm": {"type": "string", "pattern": ":"}}, "required": ["algorithm"]}
    whole["properties"]["spec"] = {"type": "object", "anyOf": [*specs, foreign]}
    whole["properties"]["models"] = {
        "type": "object",
        "additionalProperties": {"type": "object", "anyOf": [*models, _foreign_model(models)]},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "$defs": shared}


def _of(kind: type[Settings]) -> tuple[dict[str, Any], dict[str, Any]]:
    schema = kind.model_json_schema(schema_generator=_Written)
    return schema, schema.pop("$defs", {})


def _foreign_model(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a model of a user's own algorithm may be: of a kind that no built-in algorithm has."""
    kinds = sorted({model["properties"]["kind"]["const"] for model in models})
    return {"properties": {"kind": {"type": "string", "not": {"enum": kinds}}}, "required": ["kind"]}
