"""`Job`: one training deployment as data: source, features, spec, model specs, refresh, gate, registry, retention."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from beam_ml.algorithms import algorithm_of, find, model_spec_from, spec_from
from beam_ml.beam.job.fitting import check_kinds, settings_of
from beam_ml.beam.job.learned import completed
from beam_ml.beam.job.raw import Predictions, ReportedLabels, check_raw, raw_columns, raw_roles, source_from
from beam_ml.beam.job.sources import STDIN, Brokers, FileSource, KafkaSource, PipeSource, Source
from beam_ml.core.algorithm import Algorithm, LawKind
from beam_ml.core.champions import check_gate
from beam_ml.core.gate import Gate
from beam_ml.core.leaps import leap_us
from beam_ml.core.limits import Limits
from beam_ml.core.passes import EarlyStopping, check_passes
from beam_ml.core.refresh import Plan
from beam_ml.core.secrets import has_password, shown
from beam_ml.core.spec import Duration, ModelSpec, Settings, Spec
from beam_ml.core.windows import Windows
from beam_ml.errors import InvalidValue, UnreadableInput
from beam_ml.features import Features, Label
from beam_ml.features.rolling import Rolling
from beam_ml.features.times import TimeColumn
from beam_ml.formats.table import TABLE
from beam_ml.ledger.book import unfit
from beam_ml.ledger.rules import Rules
from beam_ml.registry.naming import LONGEST_NAME

__all__ = ["Announce", "Job", "Retention", "load_job"]


class Retention(Settings):
    """Which payloads stay: manifests always do.

    >>> Retention(keep=5).grace
    3600.0
    """

    called: ClassVar[str] = "retention"

    keep: Annotated[int, Field(ge=1)] = 20
    grace: Annotated[Duration, Field(description="seconds that a version's payloads stay however many follow")] = 3600.0


class Announce(Settings):
    """A Kafka topic in which each version is announced: its name, number, metrics and path.

    >>> Announce(brokers="localhost:9092", topic="models").topic
    'models'
    """

    called: ClassVar[str] = "announce"

    brokers: Brokers
    topic: Annotated[str, Field(min_length=1)]
    client: Annotated[
        Mapping[str, str | int | float | bool],
        Field(description="options of kafka-python; '$NAME' is read from the environment"),
    ] = {}


class Job(Settings):
    """One deployment. `models` and `spec` are mappings as read from TOML; `features` settles the spec's n_features.

    >>> job = Job(
    ...     name="fraud",
    ...     registry="registry",
    ...     features=Features(numeric=("amount",), label="fraud"),
    ...     spec={"algorithm": "linear.newton", "loss": "logistic"},
    ...     models={"plain": {"kind": "classifier"}},
    ... )
    >>> job.algorithm_spec().n_features, job.plan().models["plain"].threshold
    (1, 0.5)
    """

    called: ClassVar[str] = "job"

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=LONGEST_NAME)]
    registry: str
    refresh: Annotated[Duration | Literal["round"], Field(description="length of a window, or 'round'")] = "round"
    order: Annotated[
        Literal["auto", "in_order", "together"],
        Field(
            description="how the windows of one round are learned: 'together', in parallel on the workers, each from the "
            "state before the round; 'in_order', in the trainer's process, each from the state that the window before "
            "left; 'auto': in order for learners by gradients or gathered rows, where the trainer's process is the engine"
        ),
    ] = "auto"
    source: Source = FileSource()
    features: Features
    limits: Limits = Limits()
    spec: dict[str, Any]
    models: dict[str, dict[str, Any]]
    gate: tuple[str, ...] = ()
    passes: Annotated[
        int,
        Field(ge=1, description="how often the files are read, each time in rounds of their own; gradient learners"),
    ] = 1
    early_stopping: Annotated[EarlyStopping | None, Field(description="when passes end early; None: never")] = None
    retention: Retention = Retention()
    ledger: Annotated[
        Rules | None, Field(description="closed windows are kept beside the versions, to compose models of; None: not")
    ] = None
    announce: Announce | None = None
    rolling: Annotated[
        Rolling | None, Field(description="aggregates over rolling windows, computed of the rows as they come")
    ] = None
    labels: Annotated[
        ReportedLabels | None, Field(description="labels that come later than the rows, from a source of their own")
    ] = None
    predictions: Annotated[
        Predictions | None, Field(description="every row is scored as it comes, by the version served then")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, value: Any) -> Any:
        """Build the parts first, so that their messages name their own fields."""
        if isinstance(value, dict):
            kinds: tuple[tuple[str, type[Settings]], ...] = (
                ("features", Features), ("retention", Retention), ("limits", Limits), ("announce", Announce),
                ("early_stopping", EarlyStopping), ("rolling", Rolling), ("labels", ReportedLabels),
                ("predictions", Predictions), ("ledger", Rules),
            )  # fmt: skip
            parts = {name: kind.parse(value[name]) for name, kind in kinds if isinstance(value.get(name), dict)}
            given = value.get("source")
            sources = {"source": source_from(given)} if isinstance(given, dict) else {}
            whole = {**value, **sources, **parts}
            source, features = whole.get("source"), whole.get("features")
            if isinstance(source, Source) and isinstance(features, Features):
                whole["source"] = source.with_roles(features.roles)
                whole["source"] = whole["source"].with_roles(raw_roles(whole.get("rolling"), whole.get("labels")))
            return whole
        return value

    @model_validator(mode="after")
    def _whole(self) -> "Job":
        """Build everything once, so that a bad job is refused before it starts."""
        if has_password(self.registry):
            message = (
                f"registry must hold no user and password in its URL; got {shown(self.registry)} (stores take them from "
                "the environment)"
            )
            raise ValueError(message)
        check_kinds(self.features, self.spec.get("algorithm"))
        self.plan()
        self.windows()
        self._check_label()
        self._check_matrix()
        if self.algorithm_spec().n_features != self.features.n_features:
            message = f"spec.n_features must be that of the features, {self.features.n_features}"
            raise ValueError(message)
        if self.algorithm_spec().half_life is not None and self.features.time is None:
            message = "features.time must be given where spec.half_life is"
            raise ValueError(message)
        if self.refresh != "round" and self.features.time is None:
            message = "features.time must be given where refresh is a duration (refresh = 'round' needs none)"
            raise ValueError(message)
        if self.refresh == "round" and self.order == "in_order":
            message = "order must not be 'in_order' where refresh is 'round', which has one window; got in_order"
            raise ValueError(message)
        self._check_passes()
        self._check_ledger()
        if self.prepares:
            check_raw(self.features, self.source, self.rolling, self.labels, self.passes)
        return self

    def _check_label(self) -> None:
        spec = self.algorithm_spec()
        if spec.label_target != "none" and self.features.label is None:
            message = (
                f"features.label must name the column that {spec.algorithm} learns to predict "
                '(label = "COLUMN"); got none'
            )
            raise ValueError(message)
        label = self.features.label
        if not isinstance(label, Label) or spec.label_target == "none":
            return
        if label.classes is None:
            if spec.n_label_classes > 2:
                message = (
                    "features.label must list classes, or be a column of class numbers, where spec.n_classes is more than "
                    f"2: positive and negative are two; got n_classes = {spec.n_label_classes}"
                )
                raise ValueError(message)
        elif spec.label_target != "class" or len(label.classes) != spec.n_label_classes:
            learned = f"{spec.n_label_classes} classes" if spec.label_target == "class" else "numbers"
            hint = " (spec.task = 'multiclass')" if "task" in type(spec).model_fields and learned != "numbers" else ""
            message = (
                f"features.label.classes must be as many as {spec.algorithm} learns{hint}, {learned}; got "
                f"{len(label.classes)}"
            )
            raise ValueError(message)

    def _check_matrix(self) -> None:
        """Refuse a matrix from a format without lists, or of another width: every row would be rejected."""
        known = TABLE.get(self.source.format or "")
        if self.features.matrix is None or known is None:
            return
        try:
            options = known.options(self.source.options)
        except InvalidValue as error:
            raise ValueError(str(error).rstrip(".")) from error
        if known.under(options).matrices:
            self._check_width(known.matrix_width(options))
            return
        kafka = isinstance(self.source, KafkaSource)
        able = [one.name for one in TABLE.values() if one.matrices and (one.messages if kafka else one.endings)]
        message = (
            f"source.format must be one that holds lists of numbers in one column with features.matrix, of {able}, "
            "'csv' with options.header = false and options.width, or 'json' with options.form = 'dense' or 'sparse'; got "
            f"{known.name!r}"
        )
        raise ValueError(message)

    def _check_width(self, width: int | None) -> None:
        """Refuse a matrix of another width than the source's options say."""
        assert self.features.matrix is not None  # noqa: S101
        if width is not None and self.features.matrix.image is None and self.features.matrix.width != width:
            message = (
                f"features.matrix.width must be {width}, the features that source.options make of a row; got "
                f"{self.features.matrix.width}"
            )
            raise ValueError(message)

    def _check_ledger(self) -> None:
        size = None if self.order == "in_order" else self.windows().size_us
        wrong = None if self.ledger is None else unfit(self.ledger, self.algorithm(), self.algorithm_spec(), size)
        if wrong is not None:
            raise ValueError(wrong)

    def _check_passes(self) -> None:
        if self.passes == 1 and self.early_stopping is not None:
            message = "early_stopping ends passes before their number: passes must be > 1 with it; got 1"
            raise ValueError(message)
        if self.passes == 1:
            return
        if isinstance(self.source, KafkaSource):
            message = f"passes must be 1 with a Kafka topic, which has no end to begin again after; got {self.passes}"
            raise ValueError(message)
        check_passes(self.algorithm(), self.algorithm_spec(), self.passes, "job.passes")
        if self.refresh != "round":
            message = (
                f"passes must be 1 where refresh is a duration, since a window is folded once; got {self.passes} "
                "(refresh = 'round')"
            )
            raise ValueError(message)
        if self.source.on_bad_file == "skip":
            message = f"passes must be 1 with source.on_bad_file = 'skip', which leaves files unread; got {self.passes}"
            raise ValueError(message)
        if isinstance(self.source, PipeSource):
            if self.source.pipe == STDIN:
                message = f"passes must be 1 with stdin, which can be read once; got {self.passes}"
                raise ValueError(message)
            return
        if self.source.remember is not None:
            message = f"passes must be 1 with source.remember, which forgets what to read again; got {self.passes}"
            raise ValueError(message)

    @property
    def prepares(self) -> bool:
        """Whether rows are prepared before they are learned: with rolling features, scores, or labels that come later."""
        return not (self.rolling is None and self.labels is None and self.predictions is None)

    @property
    def event_time(self) -> TimeColumn | None:
        """The column of the event times of rows as they are read."""
        if self.rolling is not None:
            return self.rolling.time
        return self.features.time if self.labels is None else self.labels.time

    @property
    def raw_columns(self) -> list[str]:
        """The columns to read."""
        if not self.prepares:
            return self.features.columns()
        kept = () if self.predictions is None else self.predictions.columns
        return raw_columns(self.features, self.rolling, self.labels, kept)

    def algorithm_spec(self) -> Spec:
        """Return the Spec: what it does not say and its features do, such as its width, is theirs."""
        return spec_from(settings_of(self.features, self.spec))

    def with_features(self, features: Features) -> "Job":
        """Return the job with other sizes of its features."""
        return self.model_copy(update={"features": features})

    def algorithm(self) -> Algorithm:
        """Return the algorithm that the spec names."""
        return algorithm_of(self.algorithm_spec())

    def plan(self) -> Plan:
        """Return the model specs and the gate."""
        algorithm = find(self.algorithm_spec().algorithm)
        models: dict[str, ModelSpec] = {name: model_spec_from(algorithm, value) for name, value in self.models.items()}
        gate = Gate(self.gate)
        check_gate(algorithm, self.algorithm_spec(), models, gate)
        return Plan(models, gate)

    def windows(self) -> Windows:
        """Return the windows in µs."""
        size = None if self.refresh == "round" else self.refresh
        past_now = None if isinstance(self.source, KafkaSource) else self.source.max_ahead
        windows = Windows.of_seconds(size, self.source.allowed_lateness, past_now)
        leap = leap_us(self.source.max_leap, windows.size_us, self.algorithm_spec().half_life)
        return dataclasses.replace(windows, max_leap_us=leap)

    def in_order(self, in_process: bool) -> bool:
        """Return whether the trainer learns from a round's windows one after the other.

        Args:
            in_process: the trainer's own process is the engine.
        """
        law = self.algorithm().law(self.algorithm_spec())
        restarts = law.kind is LawKind.GATHERED or (law.kind is LawKind.ANCHORED and not law.across_anchors)
        chosen = self.order == "in_order" or (self.order == "auto" and in_process and restarts)
        return self.refresh != "round" and chosen

    def max_ahead_of_record(self) -> float | None:
        """Return how far past its record time an event may be dated, s; None where rows have none."""
        return self.source.max_ahead if isinstance(self.source, KafkaSource) else None


def load_job(path: str | Path, **overrides: Any) -> Job:
    """Read a job from a TOML file; terms of features that a trained model completes (`learned`) get their numbers.

    Args:
        path: the file.
        overrides: dotted settings that replace the file's (`{"source.path": "…"}`); None leaves the file's.

    Raises:
        UnreadableInput: no such file, or not TOML.
        InvalidValue: a setting was refused.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "job.toml")
    >>> lines = ['name = "shape"', 'registry = "registry"', 'features.numeric = ["x"]', 'spec.algorithm = "pca"']
    >>> _ = path.write_text(chr(10).join([*lines, 'models.first = { kind = "components", n_components = 1 }']))
    >>> load_job(path, **{"source.path": "incoming/"}).source.where
    'incoming/'
    """
    try:
        value = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"job file {path} must be readable TOML: {error}."
        raise UnreadableInput(message) from error
    for dotted, setting in overrides.items():
        if setting is None:
            continue
        into = value
        *parents, last = dotted.split(".")
        for parent in parents:
            into = into.setdefault(parent, {})
            if not isinstance(into, dict):
                message = f"job.{parent} must be a table; got {into!r}."
                raise InvalidValue(message)
        into[last] = setting
    return Job.parse(completed(value))
