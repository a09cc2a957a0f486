"""What a job does with raw rows before they are learned: rolling features, labels that come later, predictions."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from beam_ml.beam.job.sources import STDIN, FileSource, KafkaSource, PipeSource, Source
from beam_ml.core.meant import did_you_mean
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.features.labels import Label
from beam_ml.features.rolling import Rolling
from beam_ml.features.times import EventTime, TimeColumn
from beam_ml.formats.table import Roles, of_files
from beam_ml.late_labels import CORRECTION, KNOWN_AT, LABEL_WEIGHT, LateLabels

__all__ = [
    "ADDED",
    "Predictions",
    "ReportedLabels",
    "check_raw",
    "column_of",
    "raw_columns",
    "raw_roles",
    "source_from",
]


def source_from(value: Mapping[str, Any], where: str = "source") -> Source:
    """Build a source from its settings.

    Raises:
        InvalidValue: its kind is none, or one of its settings is refused.

    >>> source_from({"path": "incoming/"}).where
    'incoming/'
    """
    piped = "pipe" in value or value.get("path") == STDIN
    which = value.get("kind", "pipe" if piped else "files")
    if not isinstance(which, str) or which not in _KINDS:
        hint = did_you_mean(which, _KINDS) if isinstance(which, str) else ""
        message = f"{where}.kind must be 'files', 'pipe' or 'kafka'; got {which!r}.{hint}"
        raise InvalidValue(message)
    if which != "kafka" and value.get("path") == STDIN:
        return PipeSource.parse(_as_stdin(value))
    return _KINDS[which].parse(value)


_KINDS: Mapping[str, type[FileSource | PipeSource | KafkaSource]] = {
    "files": FileSource,
    "pipe": PipeSource,
    "kafka": KafkaSource,
}
"""What `kind` says → the settings that there are."""


def _as_stdin(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a pipe for files' whose path stands for stdin: what only files have says nothing of it."""
    of_files = set(FileSource.model_fields) - set(PipeSource.model_fields)
    return {name: one for name, one in value.items() if name not in of_files} | {"kind": "pipe", "pipe": STDIN}


def _with_source(value: Any, where: str) -> Any:
    """Return settings whose source is built, so that its messages name its own fields."""
    given = value.get("source") if isinstance(value, dict) else None
    return {**value, "source": source_from(given, where)} if isinstance(given, dict) else value


class ReportedLabels(LateLabels):
    """Labels that come later, as reports from a source of their own: see `LateLabels` for the rules.

    >>> labels = ReportedLabels(
    ...     id="tx", time="at", label="fraud", reported="at", maturity="7d", source=FileSource(path="reports/")
    ... )
    >>> labels.columns
    ['tx', 'at', 'fraud']
    """

    called: ClassVar[str] = "labels"

    learned: Annotated[
        Literal["mature", "known"],
        Field(
            description="when a row is learned: 'mature', once `maturity` is over, whatever is known before, so that rows "
            "of one time are learned together; 'known', as soon as its label is: reported rows then come before those of "
            "their time that nobody reports, and what is new in the features looks like a cause of reports"
        ),
    ] = "mature"
    source: Annotated[
        Source, Field(description="where the reports come from: files or a topic, as the rows' own source")
    ]

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, value: Any) -> Any:
        return _with_source(value, "labels.source")

    @model_validator(mode="after")
    def _known_roles(self) -> "ReportedLabels":
        source = self.source.with_roles(Roles((self.report_id,), (self.label_column,) if self._is_table else ()))
        object.__setattr__(self, "source", source)
        return self

    @property
    def _is_table(self) -> bool:
        return isinstance(self.label, Label)

    @property
    def rule(self) -> LateLabels:
        """The rules of the join alone, without where the reports come from."""
        own = ("source", "learned")
        return LateLabels.parse({name: value for name, value in self.to_dict().items() if name not in own})

    @property
    def columns(self) -> list[str]:
        """The columns of reports."""
        return list(dict.fromkeys([self.report_id, self.dated(True)[0], self.label_column]))


class Predictions(Settings):
    """Where predictions go. In rounds, a file per round, each row once; in a stream, a topic, each row at least once.

    >>> Predictions(path="predictions", columns=("tx",)).format
    'parquet'
    """

    called: ClassVar[str] = "predictions"

    path: Annotated[
        str | None,
        Field(min_length=1, description="in rounds: folder for a file per round, named by the version it led to"),
    ] = None
    format: Annotated[str, Field(description="parquet, csv, avro or another format of files")] = "parquet"
    topic: Annotated[
        str | None,
        Field(
            min_length=1, description="in streams: Kafka topic, in the cluster of `source`, for a JSON message per row"
        ),
    ] = None
    columns: Annotated[
        tuple[str, ...], Field(description="columns of the rows that are kept beside the predictions")
    ] = ()
    features: Annotated[
        bool, Field(description="whether rolling features are kept, too, to be compared by `beam-ml consistency`")
    ] = False

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            of_files(value)
        except InvalidValue as error:
            raise ValueError(str(error).rstrip(".")) from error
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> "Predictions":
        if self.path is None and self.topic is None:
            message = "path or topic must be given: a folder for rounds, a Kafka topic for a stream"
            raise ValueError(message)
        return self


def column_of(time: TimeColumn) -> str:
    """Return the column of a time."""
    return time.column if isinstance(time, EventTime) else time


def check_raw(
    features: Features, source: Source, rolling: Rolling | None, labels: ReportedLabels | None, passes: int
) -> None:
    """Refuse settings that do not fit together.

    Raises:
        ValueError: one does not fit; the message names it.
    """
    if passes > 1:
        message = f"passes must be 1 with rolling, labels or predictions, which follow event time; got {passes}"
        raise ValueError(message)
    if rolling is not None and rolling.lateness:
        message = (
            "rolling.lateness must be left out in a job, whose source.out_of_orderness says how far rows may be out of "
            f"order; got {rolling.lateness:g} s"
        )
        raise ValueError(message)
    if rolling is None and labels is None and features.time is None:
        message = "features.time must be given with predictions, which are made in order of event time"
        raise ValueError(message)
    if labels is not None:
        _check_labels(features, source, rolling, labels)


def _check_labels(features: Features, source: Source, rolling: Rolling | None, labels: ReportedLabels) -> None:
    if rolling is not None and rolling.time != labels.time:
        message = f"labels.time must be that of rolling, {rolling.time!r}; got {labels.time!r}"
        raise ValueError(message)
    if features.time is None or column_of(features.time) != KNOWN_AT:
        message = (
            f"features.time must be {KNOWN_AT!r} with labels, since a row is learned when its label is known; got "
            f"{features.time!r}"
        )
        raise ValueError(message)
    if features.label != labels.label_column:
        wanted = labels.label_column
        message = f"features.label must be the column that labels.label names, {wanted!r}; got {features.label!r}"
        raise ValueError(message)
    if labels.corrections == "pair":
        message = "labels.corrections must be 'add' or 'count' in a job, whose learners take no row back; got 'pair'"
        raise ValueError(message)
    if labels.source.kind == source.kind and labels.source.where == source.where:
        message = f"labels.source must not be that of the rows; got {source.where!r} for both"
        raise ValueError(message)


def raw_columns(
    features: Features, rolling: Rolling | None, labels: ReportedLabels | None, kept: Sequence[str]
) -> list[str]:
    """Return the columns to read of raw rows: all that are used and not computed.

    Args:
        features: of the rows to be learned.
        rolling: of the job.
        labels: of the job.
        kept: beside predictions.
    """
    made: set[str] = set() if rolling is None else set(rolling.names)
    names = [] if rolling is None else list(rolling.columns())
    if labels is not None:
        made |= {labels.label_column, *ADDED}
        names += [labels.id, labels.dated(False)[0]]
    names += [*features.columns(), *kept]
    return [name for name in dict.fromkeys(names) if name not in made]


def raw_roles(rolling: Any, labels: Any) -> Roles:
    """Return what columns of raw rows are for: keys of windows and ids of rows are no numbers."""
    keys = [name for key in rolling.keys for name in key] if isinstance(rolling, Rolling) else []
    ids = [labels.id] if isinstance(labels, ReportedLabels) else []
    return Roles(tuple(dict.fromkeys([*keys, *ids])))


ADDED = (KNOWN_AT, LABEL_WEIGHT, CORRECTION)
"""Columns that rows with late labels have besides their own."""
