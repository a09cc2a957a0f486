"""How CSV text is parsed, as settings."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from beam_ml.core.spec import Settings
from beam_ml.formats import arrow_types

__all__ = ["DEFAULT", "Options"]


class Options(Settings):
    """How the text is parsed.

    Types of columns not named in `types` are inferred from the first MiB of the file, so that every range of it finds
    the same; where a later value does not fit, that column alone changes: whole numbers and empty columns become float64,
    dates timestamps.

    Columns of categories are text from the first row on, whatever their values look like, without white space around it;
    declared in `types` as "string", one is read as it stands. NA and null are texts like others, and an empty one is a
    category, too: that of a null in other formats. Hashed, a text that spells a whole number is that number: 7, 007 and
    7.0 are one category wherever they stand, 1e5 is another than 100000.
    """

    called: ClassVar[str] = "csv.Options"

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    column_names: Annotated[tuple[str, ...] | None, Field(description="None: the first line holds them")] = None
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


DEFAULT = Options()
