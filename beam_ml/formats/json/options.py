"""How JSON is parsed, as settings."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from beam_ml.core.spec import Settings
from beam_ml.formats import arrow_types
from beam_ml.formats.matrix import FEATURES

__all__ = ["COLUMNS", "DEFAULT", "Options"]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "dense": (FEATURES, "label"),
    "sparse": (FEATURES, "label"),
    "series": ("start", "target", "cat", "dynamic_feat"),
}
"""The columns of forms that have no others."""


class Options(Settings):
    """How JSON is parsed, of files and of messages.

    A column may be named by the path to it within objects: `customer.age`. Columns not named in `types` hold what is there:
    numbers, texts or truth values; where a block has several kinds of them, texts that spell the others, so that a value is
    read as the same number, time or category whatever stands beside it. Objects and arrays in such a column, and what is not
    of a declared type, cost their row: a refusal.
    """

    called: ClassVar[str] = "json.Options"

    types: Annotated[
        Mapping[str, str],
        Field(description="column → Arrow type; times may be ISO 8601 texts, or whole numbers in the type's unit"),
    ] = {}
    categories: Annotated[
        tuple[str, ...],
        Field(
            description="columns of categories, never read as floating numbers, whether they hold numbers, texts or both; "
            "a job adds those of features.hashed"
        ),
    ] = ()
    envelope: Annotated[
        Literal["none", "connect", "debezium"],
        Field(
            description="connect: messages are of Kafka Connect's schema and payload; debezium: change events, in that "
            "envelope or bare"
        ),
    ] = "none"
    form: Annotated[
        Literal["columns", "dense", "sparse", "series"],
        Field(
            description="columns: a row is an object whose values are its columns; dense, sparse: an instance as "
            "SageMaker's algorithms take it, which becomes the columns `features` (a list, or a map of features to numbers) "
            "and `label`; series: a time series, its columns `start`, `target`, `cat` and `dynamic_feat`"
        ),
    ] = "columns"
    width: Annotated[
        int | None,
        Field(
            ge=1,
            description="features of an instance: others are refused, and sparse ones, which need it, are written with it",
        ),
    ] = None
    layout: Annotated[
        Literal["lines", "document"] | None,
        Field(
            description='of files: lines: a row per line; document: an array of rows, {"instances": [...]}, or rows that '
            "follow one another; none: by the name, and of one that ends in .json by how it begins"
        ),
    ] = None

    @field_validator("types")
    @classmethod
    def _known(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        of = pa.types
        tests: tuple[Callable[[pa.DataType], bool], ...] = (
            of.is_boolean, of.is_integer, of.is_floating, of.is_string, of.is_large_string, of.is_timestamp, of.is_date,
        )  # fmt: skip
        for name in value.values():
            kind = arrow_types.named(name)
            if not any(test(kind) for test in tests):
                message = f"must name types of numbers, truth values, texts, timestamps or dates, not {name!r}"
                raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _check_form(self) -> "Options":
        if self.form == "columns":
            if self.width is not None:
                message = f"width must be absent unless form is 'dense' or 'sparse'; got {self.width}"
                raise ValueError(message)
            return self
        if self.width is not None and self.form == "series":
            message = f"width must be absent where form is 'series'; got {self.width}"
            raise ValueError(message)
        for name, given in (("types", self.types), ("envelope", self.envelope != "none")):
            if given:
                message = f"{name} must be absent where form is {self.form!r}, whose columns have types of their own"
                raise ValueError(message)
        return self

    @property
    def record_columns(self) -> tuple[str, ...]:
        """The columns of rows in a form that has no others; none: rows have any."""
        return COLUMNS.get(self.form, ())


DEFAULT = Options()
