"""Write the generated pages: every setting of a job, and the public functions, from the code itself.

``python docs/generate.py`` writes `docs/jobs.md` and `docs/api.md`; a test compares them.
"""

import importlib
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

import pydantic
import pydantic_core

from beam_ml.algorithms import ALGORITHMS, find
from beam_ml.beam.job.job import Announce, Job, Retention
from beam_ml.beam.job.learned import Learned
from beam_ml.beam.job.sources import FileSource, KafkaSource, PipeSource
from beam_ml.core.limits import Limits
from beam_ml.core.passes import EarlyStopping
from beam_ml.core.spec import Duration, Settings
from beam_ml.features import (
    Bucketed,
    Clock,
    Coded,
    Cross,
    EventTime,
    Features,
    Hashed,
    Label,
    Matrix,
    OneHot,
    Plain,
    Spelled,
    Standardised,
    Targeted,
    Text,
    Words,
)
from beam_ml.formats.csv import Options as CsvOptions
from beam_ml.formats.image.options import Options as ImageOptions
from beam_ml.formats.image.options import Pixels
from beam_ml.formats.json import Options as JsonOptions
from beam_ml.formats.libsvm import Options as LibsvmOptions
from beam_ml.formats.recordio import Options as RecordioOptions
from beam_ml.ledger import Rules

__all__ = ["pages"]

FOLDER = Path(__file__).parent

JOBS = """# Jobs

A job is one TOML file: what a deployment reads, learns, derives, gates and keeps. This page lists every setting; it is
generated from the code by `make docs`. [Operating](operating.md) says how to run a job, `pipelines/jobs/` has examples.

```toml
name = "fraud"
registry = "registry"
refresh = "1d"
gate = ["auc >= 0.8", "log_loss not worse than 5 % over the last 10 refreshes"]

[source]
path = "incoming/"
format = "parquet"

[features]
numeric = ["TX_AMOUNT", { column = "TX_AMOUNT", transform = "log1p" }, { column = "TX_DATETIME", transform = "hour" }]
label = "TX_FRAUD"
time = "TX_DATETIME"

[spec]
algorithm = "linear.newton"
loss = "logistic"
half_life = "14d"

[models.plain]
kind = "classifier"
```

`beam-ml new-job my_job.toml --source data/` writes a job to begin with, and its JSON schema, by which editors complete and
check it. `beam-ml train --check my_job.toml` reads the first rows of the files, or the first messages
of the topic (10,000 at most, within 10 seconds; nothing is committed), and says which columns, windows and batches the job
would use, which rows it would reject and how large its state gets.

Durations are seconds or texts such as `"500ms"`, `"90s"`, `"15m"`, `"6h"`, `"14d"`, `"2w"`. Unknown settings are refused,
with one sentence that names field, rule and value.
"""

TABLES: tuple[tuple[str, str, type[Settings]], ...] = (
    ("The job", "Top level of the file.", Job),
    ("[source], files", '`kind = "files"`, the default.', FileSource),
    ("[source.options], CSV files", "How CSV text is to be understood.", CsvOptions),
    ("[source.options], JSON", "How JSON is to be understood, of files and of messages.", JsonOptions),
    ("[source.options], RecordIO", "How records are to be understood, of files and of messages.", RecordioOptions),
    ("[source.options], libsvm", "How lines are to be understood, of files and of messages.", LibsvmOptions),
    (
        "[source.options], images",
        "How files of images become rows; messages have all of these but `label`.",
        ImageOptions,
    ),
    (
        "[source], a pipe",
        '`pipe = "PREFIX"` or `path = "-"`, stdin: [Pipes](rounds.md#pipes) says what a restart does.',
        PipeSource,
    ),
    ("[source], Kafka", '`kind = "kafka"`.', KafkaSource),
    ("[features]", "Which columns become features, label, weight and event time.", Features),
    ("A number as it is", "In `features.numeric`; the column's name alone means the same.", Plain),
    ("A standardised number", "In `features.numeric`.", Standardised),
    (
        "A category as a number",
        "In `features.numeric`, for what learns of categories, as `distinct` does: equal values have equal codes.",
        Coded,
    ),
    (
        "A category as the numbers that spell it",
        "In `features.numeric`, for what learns the texts themselves; one number per six bytes.",
        Spelled,
    ),
    (
        "A category as the mean of its labels",
        'In `features.numeric`. `Model.target("shop")` of a trained `target` writes it. The means are learned from rows '
        'with `{ column = "shop", transform = "code" }`, and from earlier rows than those that they encode: a row '
        "whose own label is in its mean tells the label, and what learns from such rows believes the means too much.",
        Targeted,
    ),
    (
        "A part of a time",
        "In `features.numeric`. Hours count from 0, weekdays from 0, Monday; night is 1 up to and including hour 6; days of "
        "a month and of a year, months, quarters and weeks (ISO 8601) count from 1; days are those since 1970, with "
        "their fraction: a date as a number.",
        Clock,
    ),
    (
        "The unit of event times",
        "In `features.time`; the column's name alone leaves the unit to be recognised.",
        EventTime,
    ),
    (
        "A label of listed values",
        "In `features.label`; the column's name alone takes numbers and truth values, texts that spell them too, as they "
        "are. Each row is sorted by itself. Values are compared, not their spelling: "
        '1, 1.0, `"1"` and `true` are one value; texts count to the letter, without white space around them. '
        "What is not listed is a counted reject that shows the value; null, and an empty text, is a missing label. "
        '−1 is not taken for 0 by itself, since it often means "not known"; this says so: '
        '`label = { column = "y", positive = [1], negative = [-1] }`. '
        "`classes` numbers more than two: an algorithm of classes learns as many, and predictions name the class. "
        "The mapping is stored with every model, and a job with another one does not resume.",
        Label,
    ),
    ("A hashed category", "In `features.hashed`; the column's name alone takes the defaults.", Hashed),
    (
        "A category of a vocabulary",
        'In `features.one_hot`. Values are compared as hashed ones are: 7, `"7"` and 7.0 are one. A missing value is the '
        "empty text, which a vocabulary may list.",
        OneHot,
    ),
    ("A number by its span", "In `features.bucketed`.", Bucketed),
    (
        "Numbers that a trained model has",
        "`learned` in a term of features, in place of the numbers: `one_hot` takes the vocabulary of a `vocabulary` "
        "model, `text` that of one over words, which are then split alike; `bucketed` the bounds of `quantile`, kind "
        '`buckets`; `{ column, transform = "standardise" }` the median and '
        'range of `quantile`, kind `robust_scale`; `{ column, transform = "target" }` the means of `target`. So '
        '`one_hot = [{ column = "shop", learned = { name = "shops" } }]`; a text alone is the name. The model must have '
        "learned of a column of the same name. It is read when the job starts for the first time: the numbers are then "
        "part of the features that are stored with every version, and stay, whatever the other learner learns later.",
        Learned,
    ),
    (
        "A cross of columns",
        "In `features.crosses`; a list of columns alone takes the defaults. A column of `features.bucketed` takes part by "
        "its spans.",
        Cross,
    ),
    (
        "A text",
        "In `features.text`; the column's name alone takes the defaults. Words are runs of letters, digits and `_` of any "
        "script. A missing text has no words.",
        Text,
    ),
    (
        "The words of a text",
        'In `features.words`, for `algorithm = "vocabulary"`, which learns which words there are; the column\'s name alone '
        "takes the defaults. Words are split as those of `features.text`, which takes the vocabulary back: "
        '`text = [{ column = "line", learned = { name = "words" } }]`.',
        Words,
    ),
    ("[features.matrix]", "All features from one column.", Matrix),
    ("features.matrix.image", "How the bytes of images in a column become features.", Pixels),
    ("[early_stopping]", "When passes end early.", EarlyStopping),
    ("[limits]", "How large a row's values may be; others are counted rejects.", Limits),
    (
        "[ledger]",
        "What each closed window was learned from is kept beside the versions: [the ledger](ledger.md) composes models of "
        "any range of time from it. Needs `refresh` to be a duration, and an algorithm whose windows add.",
        Rules,
    ),
    ("[retention]", "Which payloads stay; manifests always do.", Retention),
    ("[announce]", "A Kafka topic to which each version is announced.", Announce),
)

# Settings whose fields have no description of their own.
MEANINGS = {
    "name": "letters, digits, dot, dash: what its versions are published under",
    "registry": "folder or URL of the registry",
    "source": "what is read: a table, below",
    "features": "which columns are used: a table, below",
    "limits": "how large values may be: a table, below",
    "spec": "what is learned: a table, below; `algorithm` names it, `n_features` follows from the features",
    "models": "candidate name → model to derive at each refresh: tables, below",
    "gate": "rules that a version must keep to be served",
    "retention": "which payloads stay: a table, below",
    "announce": "a topic to announce versions to: a table, below; none: nothing is announced",
    "kind": "which table this is",
    "path": "file, folder or pattern",
    "format": "none: by the files' names",
    "topic": "name of the topic",
    "delimiter": "one character between the values of a line",
    "isolation": "whether messages of unfinished transactions are read",
    "keep": "newest versions whose payloads stay",
    "column": "name of the column",
    "algorithm": "key in the table of algorithms, or `module:attribute`",
    "n_features": "width of a row; in a job it follows from the features",
    "seed": "of every random choice",
    "transform": "what becomes of the value",
    "mean": "subtracted from the value",
    "scale": "what the value is then divided by",
    "bias_lr": "learning rate of the bias",
    "linear_lr": "learning rate of the linear weights",
    "factors_lr": "learning rate of the factors",
    "bias_init_method": "how the bias starts",
    "linear_init_method": "how the linear weights start",
    "factors_init_method": "how the factors start",
}

API = """# API

The public functions and classes, generated from their docstrings by `make docs`. Every example runs in the tests.
"""

MODULES = (
    "beam_ml",
    "beam_ml.beam",
    "beam_ml.beam.kafka",
    "beam_ml.beam.job",
    "beam_ml.features",
    "beam_ml.late_labels",
    "beam_ml.consistency",
    "beam_ml.features.rolling",
    "beam_ml.beam.rounds",
    "beam_ml.beam.stream",
    "beam_ml.testing",
)


def _type(annotation: Any) -> str:
    """Return a type as a reader of TOML would write it."""
    if annotation == Duration:
        return "duration, > 0"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{_value(one)}`" for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in arguments if one is not type(None)))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is not None:
        return "table"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any"}
    if annotation in names:
        return names[annotation]
    return "table" if inspect.isclass(annotation) and issubclass(annotation, Settings) else str(annotation)


def _value(value: Any) -> str:
    """Return a default as TOML."""
    if isinstance(value, Settings):
        return "its defaults"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else "{}" if value == {} else f"{value!r}"


def _limits(metadata: list[Any]) -> str:
    """Return the rules that a value must keep."""
    signs = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}
    found = [text.format(getattr(one, name)) for one in metadata for name, text in signs.items() if hasattr(one, name)]
    return ", ".join(found)


def _table(kind: type[Settings]) -> str:
    lines = ["| setting | value | default | meaning |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else f"`{_value(field.get_default(call_default_factory=True))}`"
        if not field.is_required() and field.default is None:
            default = "none"
        if field.default is pydantic_core.PydanticUndefined and not field.is_required():
            default = "its defaults"
        limits = _limits(field.metadata)
        timed = any(
            one in typing.get_args(Duration) for one in field.metadata if isinstance(one, pydantic.BeforeValidator)
        )
        value = ("duration" if timed else _type(field.annotation)) + (f", {limits}" if limits else "")
        lines.append(
            f"| `{name}` | {_cell(value)} | {_cell(default)} | {_cell(field.description or MEANINGS.get(name, ''))} |"
        )
    return "\n".join(lines) + "\n"


def _prose(kind: type) -> str:
    """Return a class's docstring without its examples and its list of attributes."""
    return re.split(r"\n\s*(?:>>> |Attributes:|Args:)", inspect.getdoc(kind) or "", maxsplit=1)[0].strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def jobs() -> str:
    """Return the page of settings."""
    parts = [JOBS]
    for title, text, kind in TABLES:
        parts.append(f"## {title}\n\n{text}\n\n{_table(kind)}")
    for name in ALGORITHMS:
        algorithm = find(name)
        parts.append(
            f'## [spec], {name}\n\n`algorithm = "{name}"`. {_prose(algorithm.spec)}\n\n{_table(algorithm.spec)}'
        )
        for kind_name, kind in algorithm.models.items():
            title = f"### [models.NAME], {name}, {kind_name}"
            parts.append(f'{title}\n\n`kind = "{kind_name}"`. {_prose(kind.spec)}\n\n{_table(kind.spec)}')
    return "\n".join(parts)


def _signature(name: str, value: Any) -> str:
    try:
        signature = str(inspect.signature(value))
    except (TypeError, ValueError):
        return name
    plain = re.sub(r"<class '([\w.]+)'>", r"\1", re.sub(r"<function .*? at 0x[0-9a-f]+>", "...", signature))
    return name + re.sub(r"\b(?:[a-z_]+\.)+([A-Za-z_]\w*)", r"\1", plain)


_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$", re.MULTILINE)


def _docstring(text: str) -> str:
    """Return a docstring as Markdown: sections as lists, examples as code."""
    prose, *examples = re.split(r"\n(?=>>> )", text, maxsplit=1)
    first, *rest = _SECTION.split(prose)
    parts = [first.strip()]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        listed, _, after = body.strip("\n").partition("\n\n")
        lines = re.sub(r"\n {5,}", " ", listed).splitlines()
        # An entry of a table of arguments has a name; what is returned may be a sentence.
        bullets = [re.sub(r"^([\w*, ]+): ", lambda m: f"`{m[1]}`: ", line.strip()) for line in lines]
        parts.append(f"**{title}**\n\n" + "\n".join(f"- {one}" for one in bullets))
        if after.strip():
            parts.append(inspect.cleandoc(after))
    parts += [f"```pycon\n{one.strip()}\n```" for one in examples]
    return "\n\n".join(part for part in parts if part) + "\n"


def api() -> str:
    """Return the page of public names."""
    parts = [API]
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        parts.append(f"## {module_name}\n\n{inspect.getdoc(module)}\n")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value):
                parts.append(f"### {name}\n\n{(inspect.getdoc(value) or '').splitlines()[0]}\n")
                continue
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            text = inspect.getdoc(value) or ""
            call = f"```text\n{_signature(name, value)}\n```\n\n" if inspect.isfunction(value) else ""
            parts.append(f"### {name}\n\n{call}{_docstring(text)}")
    return "\n".join(parts)


def pages() -> dict[str, str]:
    """Return the generated pages: name → text."""
    return {"jobs.md": jobs(), "api.md": api()}


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
