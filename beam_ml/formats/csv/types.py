"""Types of CSV columns: the strictest by the beginning of a file, and what each becomes where a later value does not fit.

One column is relaxed at a time: a fraction in one does not make floating numbers of another's identifiers.
"""

import dataclasses
import re
from collections.abc import Container, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

__all__ = ["Ladder", "Types", "blamed", "ladders", "spelled"]

Types = dict[str, pa.DataType]

_COLUMN = re.compile(r"In CSV column #(\d+): ")
_NOTHING = pa.array(pa.csv.ConvertOptions().null_values)
"""What is no number where a column holds numbers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ladder:
    """The types of one column.

    Attributes:
        steps: the strictest first.
        numbers: whether the column was taken for numbers, so that a text of it is read as a number would be: white space
            around it and zeros behind the point do not count, and what spells no number is missing.
    """

    steps: tuple[pa.DataType, ...]
    numbers: bool = False


def ladders(found: pa.Schema, given: Types, categories: Container[str]) -> dict[str, Ladder]:
    """Return the types that inferred columns may have.

    Args:
        found: the columns and what they were taken for.
        given: types that are declared.
        categories: columns whose values are names: no floating number may stand for one.
    """
    by_name = {field.name: _ladder(field.type, field.name in categories) for field in found}
    return by_name | {name: Ladder((kind,)) for name, kind in given.items()}


def _ladder(kind: pa.DataType, category: bool) -> Ladder:
    types = pa.types
    if category:
        if types.is_integer(kind) or types.is_null(kind):
            return Ladder((kind, pa.string()), numbers=True)
        return Ladder((kind if types.is_boolean(kind) else pa.string(),), numbers=types.is_floating(kind))
    if types.is_null(kind):
        return Ladder((kind, pa.float64(), pa.string()))
    if types.is_integer(kind) or types.is_boolean(kind):
        return Ladder((kind, pa.float64()))
    if types.is_date(kind):
        return Ladder((kind, pa.timestamp("ns")))
    return Ladder((pa.timestamp("ns", tz=kind.tz) if types.is_timestamp(kind) else kind,))


def blamed(error: Exception, names: list[str]) -> str | None:
    """Return the column that pyarrow blames, of those of the file; None: none of them."""
    hit = _COLUMN.match(str(error))
    return names[int(hit[1])] if hit and int(hit[1]) < len(names) else None


def spelled(rows: pa.Table, by_name: Mapping[str, Ladder]) -> pa.Table:
    """Return rows in which texts of columns of numbers are spelled as numbers are."""
    for i, name in enumerate(rows.column_names):
        if name in by_name and by_name[name].numbers and pa.types.is_string(rows.column(i).type):
            texts = pc.utf8_trim_whitespace(rows.column(i))
            texts = pc.replace_substring_regex(texts, r"^([+-]?[0-9]+)\.0+$", r"\1")
            texts = pc.if_else(pc.is_in(texts, _NOTHING), pa.scalar(None, pa.string()), texts)
            rows = rows.set_column(i, name, texts)
    return rows
