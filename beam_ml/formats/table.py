"""The table of formats. What a format does is defined in the package of its name, or in one's own module."""

import dataclasses
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from beam_ml.core.importing import attribute_of
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue

__all__ = ["FORMATS", "MESSAGE_FORMATS", "NO_ROLES", "TABLE", "Format", "Roles", "of_files"]


class Roles(NamedTuple):
    """What columns are for, where that decides how a format of text reads them.

    Attributes:
        categories: values are names: no floating number may stand for one.
        labels: values are compared with those that a setting lists: each is kept as it is written.
    """

    categories: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


NO_ROLES = Roles()


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A format, and what its package offers.

    Attributes:
        name: of the format, and of its package in `beam_ml.formats`; of one's own, `module:attribute` of this record.
        endings: of its files' names, the usual one first; none: there are no files of it. With any, the package offers
            ``ranges``, ``read``, ``write``, ``encode`` and ``decode``, and if it has settings, their model ``Options``.
        counts: what a range of a file counts, and a row's place is: rows, or bytes of the text.
        matrices: whether a column can hold lists or maps of numbers, as `features.matrix` names one.
        messages: whether messages come in it. If so, the package offers ``message_decoder`` and ``message_encoder``.
        package: the module that offers these; empty: the package of the name.
        columns: of its rows, where there can be no others: all features are in one (`formats.matrix`); empty: any.
        maps: whether a column can hold maps of numbers, where it can hold lists.
        ragged: whether rows may lack columns: where all are read, a block has those that its rows have.
        folders: whether files lie in folders by label, so that a folder stands for those in it, too.
        spells: whether times are written as text.
    """

    name: str
    endings: tuple[str, ...] = ()
    counts: Literal["rows", "bytes"] = "rows"
    messages: bool = False
    matrices: bool = True
    package: str = ""
    columns: tuple[str, ...] = ()
    maps: bool = True
    ragged: bool = False
    folders: bool = False
    spells: bool = False

    @property
    def module(self) -> Any:
        """What offers the format's functions; imported when it is first asked for."""
        return importlib.import_module(self.package or f"beam_ml.formats.{self.name}")

    def under(self, settings: Settings | None) -> "Format":
        """Return the format as its settings make it: `record_columns` are those of lines that are whole records.

        >>> csv = TABLE["csv"]
        >>> csv.under(None).matrices, csv.under(csv.options({"header": False, "width": 3})).columns
        (False, ('label', 'features'))
        """
        columns = getattr(settings, "record_columns", ())
        return dataclasses.replace(self, columns=columns, matrices=True) if columns else self

    def matrix_width(self, settings: Settings | None) -> int | None:
        """Return how many features its settings say that a row has; None: they do not say.

        >>> TABLE["recordio"].matrix_width(TABLE["recordio"].options({"width": 30})), TABLE["image"].matrix_width(None)
        (30, 3072)
        """
        known = getattr(self.module, "DEFAULT", None) if settings is None else settings
        width: int | None = getattr(known, "matrix_width", None)
        return width

    def options(self, given: Mapping[str, Any] | None, roles: Roles = NO_ROLES) -> Settings | None:
        """Return a format's settings as its own model; None: there are none.

        Args:
            given: as read from TOML or JSON; None or empty: the defaults.
            roles: of columns, added to the options of these names where the format has them.

        Raises:
            InvalidValue: the model refuses them, or the format has no settings.

        >>> TABLE["csv"].options({"delimiter": ";"}).delimiter
        ';'
        """
        model: type[Settings] | None = getattr(self.module, "Options", None)
        known = (
            {} if model is None else {name: of for name, of in roles._asdict().items() if name in model.model_fields}
        )
        adds = {name: of for name, of in known.items() if of}
        if not given and not adds:
            return None
        if model is None:
            message = f"options must be left out with {self.name} files, which have none; got {given!r}."
            raise InvalidValue(message)
        found = model.parse(dict(given or {}))
        before = found.to_dict()
        merged = {name: tuple(dict.fromkeys([*before[name], *of])) for name, of in adds.items()}
        return found.model_copy(update=merged) if merged else found


_COMPRESSED = ("", ".gz", ".zst", ".bz2")


def _compressed(*endings: str) -> tuple[str, ...]:
    return tuple(ending + packed for ending in endings for packed in _COMPRESSED)


TABLE: Mapping[str, Format] = MappingProxyType(
    {
        one.name: one
        for one in (
            Format("parquet", (".parquet", ".pq")),
            Format(
                "json",
                _compressed(".jsonl", ".ndjson", ".jsonlines", ".json"),
                counts="bytes",
                messages=True,
                matrices=False,
                ragged=True,
                spells=True,
            ),
            Format("avro", (".avro",), messages=True, maps=False),
            Format("csv", _compressed(".csv"), counts="bytes", messages=True, matrices=False, spells=True),
            Format(
                "recordio",
                _compressed(".rec", ".recordio"),
                counts="bytes",
                messages=True,
                columns=("features", "label", "uid", "metadata"),
            ),
            Format(
                "libsvm", _compressed(".libsvm"), counts="bytes", messages=True, columns=("features", "label", "qid")
            ),
            Format(
                "image",
                (".png", ".jpg", ".jpeg"),
                messages=True,
                columns=("features", "label"),
                maps=False,
                folders=True,
            ),
        )
    }
)
"""Every format by its name: a new one is a line here and a package."""

FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {one.name: one.endings for one in TABLE.values() if one.endings}
)
"""Format of files → the endings of their names."""

MESSAGE_FORMATS = tuple(one.name for one in TABLE.values() if one.messages)
"""Formats of messages."""


def of_files(name: str) -> Format:
    """Return the record of a format of files.

    Args:
        name: a key of FORMATS, or 'module:attribute' of one's own record.

    Raises:
        InvalidValue: there is no such format, or no files of it.

    >>> of_files("parquet").endings
    ('.parquet', '.pq')
    """
    if name in FORMATS:
        return TABLE[name]
    if ":" not in name:
        message = f"format must be one of {sorted(FORMATS)}, or 'module:attribute' of one's own; got {name!r}."
        raise InvalidValue(message)
    found = attribute_of("format", name)
    if not isinstance(found, Format) or found.name != name or not found.endings:
        message = f"format must name a Format of files whose name is {name!r}; got {found!r}."
        raise InvalidValue(message)
    return found
