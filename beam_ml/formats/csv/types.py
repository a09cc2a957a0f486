"""Types of CSV columns: the strictest by the beginning of a file, and what each becomes where a later value does not fit.

One column is relaxed at a time: a fraction in one does not make floating numbers of another's identifiers. Columns of
categories are texts from the first row on: what a value is must not depend on what stands before it in the file.
"""

import dataclasses
import re
from collections.abc import Container, Mapping

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Ladder", "Types", "blamed", "ladders", "spelled"]

Types = dict[str, pa.DataType]

_COLUMN = re.compile(r"In CSV column #(\d+): ")


@dataclasses.dataclass(frozen=True, slots=True)
class Ladder:
    """The types of one column.

    Attributes:
        steps: the strictest first.
        category: whether its texts are names: white space around them and zeros behind the point of a whole number do not
            count.
    """

    steps: tuple[pa.DataType, ...]
    category: bool = False


def ladders(found: pa.Schema, given: Types, categories: Container[str]) -> dict[str, Ladder]:
    """Return the types that inferred columns may have.

    Args:
        found: the columns and what they were taken for.
        given: types that are declared.
        categories: columns whose values are names, whatever they were taken for.
    """
    by_name = {
        field.name: Ladder((pa.string(),), category=True) if field.name in categories else _ladder(field.type)
        for field in found
    }
    return by_name | {name: Ladder((kind,)) for name, kind in given.items()}


def _ladder(kind: pa.DataType) -> Ladder:
    types = pa.types
    if types.is_null(kind):
        return Ladder((kind, pa.float64(), pa.string()))
    if types.is_integer(kind):
        return Ladder((kind, pa.float64()))
    if types.is_date(kind):
        return Ladder((kind, pa.timestamp("ns")))
    return Ladder((pa.timestamp("ns", tz=kind.tz) if types.is_timestamp(kind) else kind,))


def blamed(error: Exception, names: list[str]) -> str | None:
    """Return the column that pyarrow blames, of those of the file; None: none of them."""
    hit = _COLUMN.match(str(error))
    return names[int(hit[1])] if hit and int(hit[1]) < len(names) else None


def spelled(rows: pa.Table, by_name: Mapping[str, Ladder]) -> pa.Table:
    """Return rows in which a category is spelled in one way."""
    for i, name in enumerate(rows.column_names):
        if name in by_name and by_name[name].category:
            texts = pc.utf8_trim_whitespace(rows.column(i))
            texts = pc.replace_substring_regex(texts, r"^([+-]?[0-9]+)\.0+$", r"\1")
            rows = rows.set_column(i, name, texts)
    return rows
