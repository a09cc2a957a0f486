"""A job as text, from a look at its files: what ``beam-ml new-job FILE --algorithm linear.newton`` prints."""

import dataclasses
import json as json_text
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beam_ml import formats
from beam_ml.algorithms import find, spec_from
from beam_ml.beam.job import Job
from beam_ml.errors import InvalidValue
from beam_ml.features.guesses import Guesses, guessed
from beam_ml.formats.profile import Column, head, profiled

__all__ = ["skeleton"]

_BEGINNINGS = {"k_max": 10, "k": 8, "n_components": 1}
"""Settings of algorithms and of models that must be given, and a number to begin with."""
_BINARY = ([0, 1], [False, True], [0.0, 1.0])


def skeleton(source: str, algorithm: str) -> str:
    """Return a job that reads files and learns by an algorithm: columns are used as they look.

    Raises:
        NoInput, UnreadableInput: there are no files, or they cannot be read.
        InvalidValue: no such algorithm, or it finds no label or no features in the files.
    """
    record = find(algorithm)
    if record.spec.feature_rule == "series":
        message = (
            f"--algorithm must learn from columns; got {algorithm!r}, whose rows are series (beam_ml.fit takes them)."
        )
        raise InvalidValue(message)
    files = formats.list_files(source)
    format = formats.of_files(formats.format_of(files[0].path))
    found = head(files, format)
    columns = {one.name: one for one in profiled(found.rows)}
    guesses = guessed(list(columns.values()))
    if record.spec.feature_rule == "count" and guesses.matrix is None:
        guesses = _counted(guesses, algorithm, source)
    label = None if guesses.label is None else columns[guesses.label.column]
    binary = label is not None and label.distinct is not None and label.distinct <= 2
    sorts = label is not None and (binary or "string" in label.type)
    spec = (
        {"algorithm": algorithm}
        | _begin(record.spec.model_fields)
        | _task(record.spec.model_fields, sorts or label is None)
        | _classes(record.spec.model_fields, label)
    )
    if spec_from({"n_features": 1, **spec}).label_target == "none":
        label = None
    elif label is None:
        message = f"FILE must have a label for {algorithm}; got none that beam-ml inspect {source} finds."
        raise InvalidValue(message)
    kinds = list(record.models)
    kind = next((one for one in kinds if one == ("classifier" if sorts else "regressor")), kinds[0])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source.rstrip("/")).name.split(".")[0]).strip("-._") or "job"
    many = spec.get("task") == "multiclass"
    lines = [
        f"# By the first {found.rows.num_rows:,} rows of {_text(source)}: beam-ml inspect says what is guessed, and how.",
        f"name = {_text(name)}",
        'registry = "registry"',
        f"refresh = {_text('1d' if guesses.time else 'round')}",
        "",
        "[source]",
        f"path = {_text(source)}",
        f"format = {_text(format.name)}",
        "",
        "[features]",
        *_features(guesses, columns, record.spec.takes_sparse, algorithm),
        *([] if label is None else [f"label = {_label(label, many)}"]),
        *_time(guesses),
        "",
        "[spec]",
        *(f"{name} = {_text(value)}" for name, value in spec.items()),
        "",
        "[models.plain]",
        f"kind = {_text(kind)}",
        *(f"{name} = {value}" for name, value in _begin(record.models[kind].spec.model_fields).items()),
    ]
    text = "\n".join(lines) + "\n"
    Job.parse(tomllib.loads(text))  # so that nothing is printed which is refused when it is loaded
    return text


def _counted(guesses: Guesses, algorithm: str, source: str) -> Guesses:
    """Return the texts alone, whose words are counted: numbers and ids are no counts.

    Raises:
        InvalidValue: there is no text.
    """
    if not guesses.texts:
        message = f"FILE must have a column of texts for {algorithm}; got none that beam-ml inspect {source} finds."
        raise InvalidValue(message)
    return dataclasses.replace(guesses, numbers=(), categories=())


def _text(value: Any) -> str:
    return json_text.dumps(value, ensure_ascii=False)


def _begin(fields: Mapping[str, Any]) -> dict[str, int]:
    return {name: value for name, value in _BEGINNINGS.items() if name in fields}


def _task(fields: Mapping[str, Any], binary: bool) -> dict[str, str]:
    """Return the settings that say whether classes or numbers are predicted, of algorithms that have one."""
    loss = {"loss": "logistic" if binary else "squared"} if "loss" in fields else {}
    return loss | ({"task": "binary" if binary else "regression"} if "task" in fields else {})


def _classes(fields: Mapping[str, Any], label: Column | None) -> dict[str, Any]:
    """Return the settings of texts of more than two values as labels, of algorithms that learn so many classes."""
    if label is None or "string" not in label.type or len(label.few) <= 2 or "n_classes" not in fields:
        return {}
    return {"task": "multiclass", "loss": "auto", "n_classes": len(label.few)}


def _features(guesses: Guesses, columns: Mapping[str, Column], sparse: bool, algorithm: str) -> list[str]:
    if guesses.matrix is not None:
        matrix = columns[guesses.matrix]
        wide = f"matrix = {{ column = {_text(matrix.name)}, width = {max(matrix.features or 1, 1)}"
        thin = ", sparse = true" if sparse and matrix.type.startswith("map") else ""
        return [f"{wide}{thin} }}    # the widest row seen: wider ones are rejected"]
    lines = [f"numeric = {_text(list(guesses.numbers))}"] if guesses.numbers else []
    names = [one.column for one in guesses.categories]
    texts = [one.column for one in guesses.texts]
    if sparse:
        return lines + [f"{what} = {_text(some)}" for what, some in (("hashed", names), ("text", texts)) if some]
    few = [name for name in names if columns[name].few]
    if few:
        tables = (f"    {{ column = {_text(name)}, vocabulary = {_text(_listed(columns[name]))} }}," for name in few)
        lines += ["one_hot = [", *tables, "]"]
    many = [name for name in (*names, *texts) if name not in few]
    return lines + ([f"# too many values for {algorithm}, which takes dense rows: {_text(many)}"] if many else [])


def _listed(column: Column) -> list[Any]:
    """Return all values of a column, in their order."""
    return sorted(column.few, key=lambda value: (isinstance(value, str), value))


def _label(label: Column, multiclass: bool) -> str:
    """Return the label's column, with its classes, or the rarer of two values as positive where they are not 0 and 1."""
    if multiclass:
        return f"{{ column = {_text(label.name)}, classes = {_text(_listed(label))} }}"
    values = sorted((value for value, _ in label.common), key=str)
    if "string" not in label.type and (values in _BINARY or label.distinct != 2):
        return _text(label.name)
    positive = _text([label.common[-1][0]])
    return f'{{ column = {_text(label.name)}, positive = {positive}, negative = "others" }}'


def _time(guesses: Guesses) -> list[str]:
    if guesses.time is None:
        return []
    name = _text(guesses.time.column)
    return [f"time = {name}" if guesses.unit is None else f"time = {{ column = {name}, unit = {_text(guesses.unit)} }}"]
