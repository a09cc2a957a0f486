"""A job as text, from a look at its files: what ``beam-ml new-job FILE --algorithm linear.newton`` prints."""

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
    files = formats.list_files(source)
    format = formats.of_files(formats.format_of(files[0].path))
    found = head(files, format)
    columns = {one.name: one for one in profiled(found.rows)}
    guesses = guessed(list(columns.values()))
    label = None if guesses.label is None else columns[guesses.label.column]
    binary = label is not None and label.distinct is not None and label.distinct <= 2
    spec = (
        {"algorithm": algorithm}
        | _begin(record.spec.model_fields)
        | _task(record.spec.model_fields, binary or label is None or "string" in label.type)
    )
    if spec_from({"n_features": 1, **spec}).label_target == "none":
        label = None
    elif label is None:
        message = f"FILE must have a label for {algorithm}; got none that beam-ml inspect {source} finds."
        raise InvalidValue(message)
    kinds = list(record.models)
    kind = next((one for one in kinds if one == ("classifier" if binary else "regressor")), kinds[0])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source.rstrip("/")).name.split(".")[0]).strip("-._") or "job"
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
        *([] if label is None else [f"label = {_label(label)}"]),
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


def _text(value: Any) -> str:
    return json_text.dumps(value, ensure_ascii=False)


def _begin(fields: Mapping[str, Any]) -> dict[str, int]:
    return {name: value for name, value in _BEGINNINGS.items() if name in fields}


def _task(fields: Mapping[str, Any], binary: bool) -> dict[str, str]:
    """Return the settings that say whether classes or numbers are predicted, of algorithms that have one."""
    loss = {"loss": "logistic" if binary else "squared"} if "loss" in fields else {}
    return loss | ({"task": "binary" if binary else "regression"} if "task" in fields else {})


def _features(guesses: Guesses, columns: Mapping[str, Column], sparse: bool, algorithm: str) -> list[str]:
    if guesses.matrix is not None:
        matrix = columns[guesses.matrix]
        wide = f"matrix = {{ column = {_text(matrix.name)}, width = {max(matrix.features or 1, 1)}"
        thin = ", sparse = true" if sparse and matrix.type.startswith("map") else ""
        return [f"{wide}{thin} }}    # the widest row seen: wider ones are rejected"]
    lines = [f"numeric = {_text(list(guesses.numbers))}"] if guesses.numbers else []
    names = [one.column for one in guesses.categories]
    if names:
        lines.append(f"hashed = {_text(names)}" if sparse else f"# {algorithm} takes no categories: {_text(names)}")
    return lines


def _label(label: Column) -> str:
    """Return the label's column, with the rarer of two values as the positive one where these are not 0 and 1."""
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
