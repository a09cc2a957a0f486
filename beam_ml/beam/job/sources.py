"""What a job reads: files, a pipe or a Kafka topic, as data."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from beam_ml.core import secrets
from beam_ml.core.spec import Duration, Settings
from beam_ml.errors import InvalidValue
from beam_ml.formats.table import Roles, of_files

__all__ = ["STDIN", "Brokers", "FileSource", "KafkaSource", "PipeSource", "Source"]

STDIN = "-"
"""The path that stands for stdin."""

Brokers = Annotated[
    str, Field(min_length=1, description="host:port, several by commas"), AfterValidator(secrets.brokers)
]
"""Addresses of brokers, without a user and password."""

_Categories = Annotated[
    tuple[str, ...],
    Field(description="columns of categories, for formats of text; a job adds those of features.hashed"),
]
_Labels = Annotated[
    tuple[str, ...],
    Field(description="columns of listed values, for formats of text; a job adds features.label where it is a table"),
]
_Behind = Annotated[Duration | Literal[0], Field(description="s the watermark stays behind")]
_Lateness = Annotated[Duration | Literal[0], Field(description="seconds that a row may lie behind a folded window")]
_Leap = Annotated[
    Duration | None,
    Field(
        description="seconds that few rows (1 % of a batch) may be dated ahead of all others, and few records move a "
        "stream's time; None: the longest of a day, three windows, and a half-life"
    ),
]


_TOLD = {"csv": ("categories", "labels"), "json": ("categories",)}
"""The roles of columns that formats of messages must be given; JSON says itself what is a text and what a number."""


class FileSource(Settings):
    """Files on local disk: a file, a folder or a pattern; read in order of name, each row once.

    >>> FileSource(path="incoming/", format="parquet", settle="5s").settle
    5.0
    """

    called: ClassVar[str] = "source"

    kind: Literal["files"] = "files"
    path: str = ""
    format: Annotated[
        str | None,
        Field(
            description="parquet, csv, json, avro, recordio, libsvm, image, or 'module:attribute' of one's own; "
            "none: by the files' names"
        ),
    ] = None
    options: Annotated[Mapping[str, Any], Field(description="the format's own; `format` must be given with them")] = {}
    categories: _Categories = ()
    labels: _Labels = ()
    round_rows: Annotated[int, Field(ge=1, description="rows that one round takes at most, to the next block")] = (
        500_000
    )
    round_files: Annotated[int | None, Field(ge=1, description="files that one round takes at most")] = None
    out_of_orderness: _Behind = 0
    allowed_lateness: _Lateness = 0
    max_ahead: Annotated[Duration, Field(description="seconds that an event may be dated past now")] = 3600.0
    max_leap: _Leap = None
    on_bad_file: Annotated[
        Literal["fail", "skip"],
        Field(
            description="when a file cannot be read or lacks a column that others have, or has changed or gone since it was "
            "read; skip sets aside what is left of it, counts the file, and continues"
        ),
    ] = "fail"
    poll: Annotated[Duration, Field(description="s between two looks for new files under --follow")] = 1.0
    settle: Annotated[
        Duration | Literal[0],
        Field(
            description="s since its last change before a file is taken under --follow; files that settle later are read "
            "after those behind them in order of name. Only the modification time is looked at: a writer that pauses for "
            "longer, or sets an old one while it writes, must rename the finished file into place"
        ),
    ] = 2.0
    remember: Annotated[
        Duration | None,
        Field(
            description="None: the names of consumed files are kept forever. Otherwise seconds of modification time behind "
            "the newest consumed file for which they are kept, which bounds them at a price: a new file with an older "
            "modification time (cp -p, rsync, tar) is never read, only warned of, and a forgotten one that is touched "
            "is read again"
        ),
    ] = None

    @model_validator(mode="after")
    def _check_format(self) -> "FileSource":
        if self.format is None and self.options:
            message = f"format must be given where options are; got {dict(self.options)!r}"
            raise ValueError(message)
        try:
            record = None if self.format is None else of_files(self.format)
        except InvalidValue as error:
            raise ValueError(str(error).rstrip(".")) from error
        if record is not None:
            record.options(self.options)
        return self

    def format_options(self) -> Settings | None:
        """Return the options as the format's own model; None: its defaults.

        Raises:
            InvalidValue: there is no such format, or it refuses them.
        """
        return None if self.format is None else of_files(self.format).options(self.options, self.roles)

    @property
    def where(self) -> str:
        """The place it reads from, for messages."""
        return self.path

    @property
    def roles(self) -> Roles:
        """What columns are for, where that decides how a format of text reads them."""
        return Roles(self.categories, self.labels)

    def with_roles(self, roles: Roles) -> "FileSource":
        """Return the source with the roles of columns known to the format."""
        return self.model_copy(update=_with_roles(self.roles, roles))


class PipeSource(Settings):
    """A pipe, in rounds as its bytes come: a FIFO for each epoch, PREFIX_0, PREFIX_1 …, or stdin.

    Each can be read once. What has been read and not been learned yet is kept in `spool`, and learned first after a
    restart; what was learned is passed over where the restart finds the stream from its beginning.

    >>> PipeSource(pipe="/opt/ml/input/data/train", format="recordio").where
    '/opt/ml/input/data/train_0'
    """

    called: ClassVar[str] = "source"

    kind: Literal["pipe"] = "pipe"
    pipe: Annotated[
        str,
        Field(
            min_length=1,
            description="prefix of the FIFOs' paths, which end in _0, _1 …, one per epoch (`passes`); '-' (also as "
            "`path`): stdin",
        ),
    ]
    format: Annotated[
        str,
        Field(
            description="csv, json (Lines), recordio, libsvm, or 'module:attribute' of one's own whose package has `ends`; "
            "gzip and bzip2 are recognised"
        ),
    ]
    options: Annotated[Mapping[str, Any], Field(description="the format's own")] = {}
    categories: _Categories = ()
    labels: _Labels = ()
    round_rows: Annotated[int, Field(ge=1, description="rows that one round takes at most, guessed by their bytes")] = (
        500_000
    )
    linger: Annotated[
        Duration, Field(description="s after the first byte of a round that it begins with the rows that have come")
    ] = 60.0
    timeout: Annotated[
        Duration,
        Field(description="s to wait for a FIFO that is not there, or that nobody writes, before the run fails"),
    ] = 60.0
    spool: Annotated[
        str,
        Field(
            description="folder of the bytes that were read and are not learned yet, which workers must reach, too; empty: "
            "beam_ml/pipes in $XDG_STATE_HOME, or else in ~/.local/state"
        ),
    ] = ""
    out_of_orderness: _Behind = 0
    allowed_lateness: _Lateness = 0
    max_ahead: Annotated[Duration, Field(description="seconds that an event may be dated past now")] = 3600.0
    max_leap: _Leap = None
    on_bad_file: Annotated[
        Literal["fail", "skip"],
        Field(
            description="where a stream cannot be read any further; skip counts it, gives up the rest of it, and continues "
            "with the next epoch"
        ),
    ] = "fail"

    @model_validator(mode="after")
    def _check_format(self) -> "PipeSource":
        try:
            record = of_files(self.format)
        except InvalidValue as error:
            raise ValueError(str(error).rstrip(".")) from error
        if not hasattr(record.module, "ends"):
            message = (
                f"format must be one that can be read from its beginning to its end, 'csv', 'json', 'recordio' or "
                f"'libsvm'; got {self.format!r}"
            )
            raise ValueError(message)
        record.options(self.options)
        if record.name == "json" and self.options.get("layout") == "document":
            message = "options.layout must be 'lines' in a pipe, whose rows are learned as they come; got 'document'"
            raise ValueError(message)
        return self

    def format_options(self) -> Settings | None:
        """Return the options as the format's own model; None: its defaults."""
        return of_files(self.format).options(self.options, self.roles)

    @property
    def name(self) -> str:
        """The pipe's name in rows' places and in messages."""
        return "stdin" if self.pipe == STDIN else self.pipe

    def path(self, epoch: int) -> str:
        """Return the path of an epoch's FIFO; of stdin, its name."""
        return self.name if self.pipe == STDIN else f"{self.pipe}_{epoch}"

    @property
    def where(self) -> str:
        """The place it reads from, for messages."""
        return self.path(0)

    @property
    def roles(self) -> Roles:
        """What columns are for, where that decides how a format of text reads them."""
        return Roles(self.categories, self.labels)

    def with_roles(self, roles: Roles) -> "PipeSource":
        """Return the source with the roles of columns known to the format."""
        return self.model_copy(update=_with_roles(self.roles, roles))


def _with_roles(known: Roles, more: Roles) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(dict.fromkeys([*before, *added]))
        for name, before, added in zip(Roles._fields, known, more, strict=True)
    }


class KafkaSource(Settings):
    """A Kafka topic, all its partitions, from the newest version's read positions.

    >>> KafkaSource(kind="kafka", brokers="localhost:9092", topic="payments").where
    'topic payments at localhost:9092'
    """

    called: ClassVar[str] = "source"

    kind: Literal["kafka"]
    brokers: Brokers
    topic: Annotated[str, Field(min_length=1)]
    format: Annotated[
        str, Field(description="json, avro, csv, recordio, libsvm, image, or 'module:attribute' of one's own")
    ] = "json"
    options: Annotated[Mapping[str, Any], Field(description="the format's own")] = {}
    client: Annotated[
        Mapping[str, str | int | float | bool],
        Field(description="options of kafka-python, TLS and SASL too; '$NAME' is read from the worker's environment"),
    ] = {}
    cluster: Annotated[
        str | None, Field(description="names the cluster in rows' positions; None: the id that the brokers report")
    ] = None
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    start: Annotated[
        Literal["earliest", "latest"],
        Field(
            description="where a topic never read begins; partitions that it gets later are read from their first message"
        ),
    ] = "earliest"
    on_gap: Annotated[
        Literal["fail", "skip"],
        Field(description="when retention has removed messages that were not read yet; skip counts them as lost"),
    ] = "fail"
    group: Annotated[str | None, Field(description="consumer group that shows the lag; never a read position")] = None
    round_rows: Annotated[int, Field(ge=1, description="rows that one round takes at most, to the next message")] = (
        2_000_000
    )
    every: Annotated[
        Duration | None,
        Field(description="s between rounds under --follow; None: as windows close, and at least every `refresh`"),
    ] = None
    max_wait_rows: Annotated[int, Field(ge=1, description="rows that wait start the next round at once")] = 500_000
    out_of_orderness: _Behind = 0
    allowed_lateness: _Lateness = 0
    max_ahead: Annotated[Duration, Field(description="seconds that an event may be dated past its record time")] = (
        3600.0
    )
    max_leap: _Leap = None
    idle_timeout: Annotated[
        Duration,
        Field(
            description="s after which a partition without new messages holds back no window; without --follow: s of event "
            "time that one read to its end may be behind the others"
        ),
    ] = 30.0
    timeout: Annotated[Duration, Field(description="s to wait for brokers before a read fails")] = 60.0

    @property
    def where(self) -> str:
        """The place it reads from, for messages."""
        return f"topic {self.topic} at {self.brokers}"

    def with_roles(self, roles: Roles) -> "KafkaSource":
        """Return the source with the roles of columns known to the format, where it is one of text."""
        options = dict(self.options)
        for name in _TOLD.get(self.format, ()):
            columns: tuple[str, ...] = getattr(roles, name)
            known = options.get(name, [])
            if columns and isinstance(known, list | tuple):  # else for the format to refuse
                options[name] = list(dict.fromkeys([*known, *columns]))
        return self.model_copy(update={"options": options})


Source = FileSource | PipeSource | KafkaSource
