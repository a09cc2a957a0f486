"""How CSV text is parsed, as settings."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from beam_ml.core.spec import Settings
from beam_ml.formats import arrow_types
from beam_ml.formats.matrix import FEATURES

__all__ = ["DEFAULT", "LABEL", "Options"]

LABEL = "label"
"""What the first field is called where lines have no names."""


class Options(Settings):
    """How the text is parsed.

    Types of columns not named in `types` are inferred from the first MiB of the file, so that every range of it finds
    the same; where a later value does not fit, that column alone changes: whole numbers and empty columns become float64,
    dates timestamps.

    Columns of categories are text from the first row on, whatever their values look like, without white space around it;
    declared in `types` as "string", one is read as it stands. NA and null are texts like others, and an empty one is a
    category, too: that of a null in other formats. Hashed, a text that spells a whole number is that number: 7, 007 and
    7.0 are one category wherever they stand, 1e5 is another than 100000.

    With `header` = false and no `column_names`, columns are called by their places: "0", "1", …; the first line says how
    many there are. With a `width`, too, lines are numbers by position from the first one on: the columns are `label` and
    `features`, a list of `width` numbers per row.
    """

    called: ClassVar[str] = "csv.Options"

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    header: Annotated[
        bool,
        Field(
            description="the first line names the columns; false: it is a row, and columns are `column_names` or, without "
            'them, called by their places, "0", "1", …; with `width`, `label` and `features`'
        ),
    ] = True
    column_names: Annotated[
        tuple[str, ...] | None, Field(description="names of the columns, where the first line does not hold them")
    ] = None
    label_size: Annotated[
        Literal[0, 1], Field(description="labels before the features of a line, where header = false")
    ] = 1
    width: Annotated[
        int | None,
        Field(
            ge=1, le=100_000, description="features of a line, where header = false: they become one column of lists"
        ),
    ] = None
    types: Annotated[Mapping[str, str], Field(description="column → Arrow type, such as 'timestamp[us]'")] = {}
    categories: Annotated[
        tuple[str, ...],
        Field(description="columns of categories, read as text; a job adds those of features.hashed"),
    ] = ()
    labels: Annotated[
        tuple[str, ...],
        Field(
            description="columns of listed values, read as texts unless `types` says otherwise, so that each value is "
            "what is written; a job adds features.label where it is a table"
        ),
    ] = ()

    @field_validator("types")
    @classmethod
    def _known(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name in value.values():
            arrow_types.named(name)
        return value

    @model_validator(mode="after")
    def _check_position(self) -> "Options":
        if not self.by_position:
            for name, is_set in (("width", self.width is not None), ("label_size", self.label_size != 1)):
                if is_set:
                    message = f"{name} must be absent unless header = false, width is given and column_names is absent"
                    raise ValueError(message)
            return self
        for name in self.types:
            if name != LABEL or not self.label_size:
                message = f"types must name no column but the label's where header = false; got {name!r}"
                raise ValueError(message)
        return self

    @property
    def by_position(self) -> bool:
        """Whether lines are a label and features that nothing names."""
        return not self.header and self.column_names is None and self.width is not None

    @property
    def by_number(self) -> bool:
        """Whether columns are called by their places, from "0" on."""
        return not self.header and self.column_names is None and self.width is None

    @property
    def matrix_width(self) -> int | None:
        """What `features.matrix.width` must be."""
        return self.width

    @property
    def record_columns(self) -> tuple[str, ...]:
        """The columns of lines by position; none: lines have others."""
        if not self.by_position:
            return ()
        return (LABEL, FEATURES) if self.label_size else (FEATURES,)


DEFAULT = Options()
