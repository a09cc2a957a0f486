"""Rules that rows may break, and the rows without those that do."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Batch
from beam_ml.core.rejects import Reject
from beam_ml.features.columns import Numbers

__all__ = ["Rule", "inexact", "unread", "without"]

_SHOWN = 200
"""Characters of a text that is shown of a rejected row."""


class Rule(NamedTuple):
    """A reason to reject rows.

    Attributes:
        reason: of the rejects.
        broken: (n,) bool: where it holds.
        texts: (n,) texts that are then shown; None: none are.
    """

    reason: str
    broken: np.ndarray
    texts: pa.Array | None = None


def unread(what: str, one: Numbers) -> Rule:
    """Return the rule that a column's texts spell numbers."""
    assert one.unread is not None  # noqa: S101 callers look
    return Rule(f"{what} is not a number", one.unread, one.texts)


def inexact(column: str, refused: np.ndarray) -> Rule:
    """Return the rule that numbers which name categories are whole."""
    return Rule(f"category {column} is not an exact whole number", refused)


def without(rows: Batch, rules: Sequence[Rule]) -> tuple[Batch, tuple[Reject, ...]]:
    """Split off the rows that break a rule; each counts under the first it breaks."""
    if not rules:
        return rows, ()
    place = np.arange(len(rows), dtype=np.int64) if rows.position is None else rows.position
    good = np.ones(len(rows), dtype=bool)
    rejected = []
    for reason, broken, texts in rules:
        fresh = broken & good
        if fresh.any():
            end = None if rows.position_end is None else rows.position_end[fresh]
            shown = () if texts is None else tuple(text[:_SHOWN] for text in texts.filter(pa.array(fresh)).to_pylist())
            rejected.append(Reject(reason, place[fresh], end, shown))
            good &= ~broken
    return rows.take(good), tuple(rejected)
