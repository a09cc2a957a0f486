"""`Limits`: how large a value may be before its row is refused; and `Seen`, what earlier windows held, to judge by.

One finite but absurd value, a typing error or a unit mixed up, squares to infinity and stops a job for good, or outweighs
weeks of good rows. Two rules keep it out. Each magnitude has a bound. And a value is refused that lies `deviations` times as
far from the centre of its column as any value seen before and as 99 % of its batch: what more rows share is a move of the
data, and learned. Instead of its row being refused, such a value may be winsorised: moved to where the farthest one lies
that was not judged so (Dixon 1960, "Simplified estimation from censored normal samples"). Letters: ``n`` rows, ``d``
features.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from beam_ml.core.batch import Batch
from beam_ml.core.spec import Settings

__all__ = ["ABSOLUTE", "CLIPPED", "FAR_BEYOND", "Limits", "Seen", "clipped", "far_beyond", "feature_name"]

FAR_BEYOND = "far beyond what was seen"
"""How reasons end of rows that are rejected for a value unlike any other."""

CLIPPED = "clipped to what was seen"
"""What was changed in rows with such a value, behind the column's name, where they are learned from."""

_SHARE = 0.01
_ABREAST = 64
"""Rows compared side by side: numpy's extremes of columns are slow where rows are short."""
_LOOKED_AT = 1024
_QUARTER = 0.25
"""Of the bound: how far out a value must be, by what `_LOOKED_AT` rows are like, for all rows to be looked at."""
_NAMED = 1000
"""Columns of a higher number are not told apart: reasons are counted one by one for good."""


class Limits(Settings):
    """How large a row's values may be.

    >>> from beam_ml import Batch, Limits, fit, pca
    >>> rows = Batch.dense([[float(i % 7)] for i in range(200)] + [[1e10]])
    >>> fit(pca.Spec(n_features=1), [rows], limits=Limits(deviations=100)).progress.rejected
    {'feature 0 far beyond what was seen': 1}
    """

    called: ClassVar[str] = "limits"

    feature: Annotated[float, Field(gt=0, le=1e60, description="largest magnitude of a feature")] = 1e30
    label: Annotated[float, Field(gt=0, le=1e60, description="largest magnitude of a label that is a number")] = 1e30
    weight: Annotated[float, Field(gt=0, le=1e15, description="largest weight of a row")] = 1e9
    deviations: Annotated[
        Annotated[float, Field(ge=50)] | Literal["any"],
        Field(
            description="how many times as far from the centre as any value seen a value may lie that at most 1 % of a "
            "batch's rows share; 'any': however far"
        ),
    ] = 1000.0
    far_values: Annotated[
        Literal["reject", "clip"],
        Field(
            description="what becomes of a row with a value beyond `deviations`: it is rejected, or learned from with the "
            "value winsorised, which is set to the farthest one on its side that is not beyond"
        ),
    ] = "reject"


ABSOLUTE = Limits(deviations="any")
"""The limits of magnitudes alone."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What earlier windows held.

    Attributes:
        centre: (d,) medians of the features.
        reach: (d,) largest distance of any value from its centre.
        label: centre and reach of the labels; None where there are none.
    """

    centre: np.ndarray
    reach: np.ndarray
    label: tuple[float, float] | None = None

    @classmethod
    def of(cls, rows: Batch | None, numbers: int = 0) -> Self | None:
        """Return what a sample says.

        Args:
            rows: sampled from all rows so far; None: there are none.
            numbers: of sparse rows, how many columns at the front are numbers.

        >>> Seen.of(Batch.dense([[0.0], [1.0], [5.0]])).reach.tolist()
        [4.0]
        """
        if rows is None or len(rows) < 2:
            return None
        X = _matrix(rows, numbers).astype(np.float64, copy=False)
        centre = np.median(X, axis=0) if X.shape[1] else np.empty(0)
        reach = np.abs(X - centre).max(axis=0) if X.shape[1] else np.empty(0)
        label = None
        if rows.label is not None:
            middle = float(np.median(rows.label))
            label = middle, float(np.abs(rows.label - middle).max())
        return cls(centre, reach, label)

    def to_json(self) -> str:
        """Return the text that is shipped to workers."""
        return json.dumps([self.centre.tolist(), self.reach.tolist(), self.label])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build from what `to_json` returned."""
        centre, reach, label = json.loads(text)
        return cls(np.array(centre), np.array(reach), None if label is None else (label[0], label[1]))


def _matrix(batch: Batch, numbers: int) -> np.ndarray:
    """Return the features, (n, d); of sparse rows the columns at the front that are numbers."""
    if batch.X is not None:
        return batch.X
    assert batch.indptr is not None  # noqa: S101
    assert batch.indices is not None  # noqa: S101
    assert batch.values is not None  # noqa: S101
    numbers, n = min(numbers, batch.n_features), len(batch)
    width = batch.indices.size // max(n, 1)
    if width >= numbers and bool((np.diff(batch.indptr) == width).all()):
        # As `Features` has them: the same numbers in front of every row.
        fronts = batch.indices.reshape(n, width)[:, :numbers]
        if bool((fronts == np.arange(numbers)).all()):
            return batch.values.reshape(n, width)[:, :numbers].astype(np.float64, copy=False)
    X, mine = np.zeros((len(batch), numbers)), np.flatnonzero(batch.indices < numbers)
    X[np.searchsorted(batch.indptr, mine, side="right") - 1, batch.indices[mine]] = batch.values[mine]
    return X


def _extremes(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest value of each column, (d,)."""
    n, d = X.shape
    abreast = n - n % _ABREAST
    wide = np.ascontiguousarray(X[:abreast]).reshape(-1, _ABREAST * d)
    low, high = X[abreast:], X[abreast:]
    if abreast:
        low = np.vstack([low, wide.min(axis=0).reshape(_ABREAST, d)])
        high = np.vstack([high, wide.max(axis=0).reshape(_ABREAST, d)])
    return low.min(axis=0), high.max(axis=0)


def _usual(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and reach of all but 1 % of the values of each column, by some rows that are evenly spread."""
    some = X[:: -(-len(X) // _LOOKED_AT)]
    centre = np.median(some, axis=0)
    few = math.ceil(_SHARE * len(some))
    distance = np.abs(some - centre)
    return centre, np.partition(distance, -few - 1, axis=0)[-few - 1] if len(some) > few else 0.0 * centre


def feature_name(column: int, names: Sequence[str]) -> str:
    """Return what reasons call a feature.

    >>> feature_name(0, ["amount"]), feature_name(7, ["amount"]), feature_name(123_456, [])
    ('feature amount', 'feature 7', 'feature')
    """
    if column < len(names):
        return f"feature {names[column]}"
    return f"feature {column}" if column < _NAMED else "feature"


def far_beyond(
    batch: Batch, deviations: float, seen: Seen | None, names: Sequence[str] = ()
) -> list[tuple[str, np.ndarray]]:
    """Return, by reason, the masks of rows with a value far beyond what was seen.

    Args:
        batch: n rows, finite.
        deviations: how many times as far out as any other value.
        seen: what earlier windows held; None: the batch's own rows are all there is to judge by.
        names: of the first features.
    """
    return [(f"{one.name} {FAR_BEYOND}", one.rows) for one in _beyond(batch, deviations, seen, names)]


def clipped(
    batch: Batch, deviations: float, seen: Seen | None, names: Sequence[str] = ()
) -> tuple[Batch, dict[str, int]]:
    """Return a batch with the values far beyond what was seen set to the farthest that are not; and how many, by column.

    Args:
        batch: n rows, finite.
        deviations: how many times as far out as any other value.
        seen: what earlier windows held; None: the batch's own rows are all there is to judge by.
        names: of the first features.

    >>> rows = Batch.dense([[float(i % 7)] for i in range(200)] + [[-1e10]])
    >>> after, counts = clipped(rows, 100, None)
    >>> after.X[-1].tolist(), counts
    ([0.0], {'feature 0 clipped to what was seen': 1})
    """
    counts: dict[str, int] = {}
    changed: dict[str, np.ndarray] = {}
    for one in _beyond(batch, deviations, seen, names):
        field = "label" if one.column is None else "X" if batch.is_dense else "values"
        if field not in changed:
            changed[field] = np.array(getattr(batch, field))
        at: Any = one.rows
        if field == "X":
            at = one.rows, one.column
        elif field == "values":  # a zero that is not stored stays one
            at = np.repeat(one.rows, np.diff(_known(batch.indptr))) & (_known(batch.indices) == one.column)
        changed[field][at] = np.clip(changed[field][at], *one.within)
        what = f"{one.name} {CLIPPED}"
        counts[what] = counts.get(what, 0) + int(one.rows.sum())
    return batch.replace(**changed) if changed else batch, counts


def _known(array: np.ndarray | None) -> np.ndarray:
    assert array is not None  # noqa: S101 rows are dense, or have all three
    return array


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Beyond:
    """The values of a column that are far beyond what was seen.

    Attributes:
        name: of the column, as reasons call it.
        column: its number; None: the labels.
        rows: (n,) mask.
        within: lowest and highest value that is not beyond, of the batch and of those seen; these reach as far on both.
    """

    name: str
    column: int | None
    rows: np.ndarray
    within: tuple[float, float]


def _beyond(batch: Batch, deviations: float, seen: Seen | None, names: Sequence[str]) -> list[_Beyond]:
    X, found = _matrix(batch, len(names)), []
    if seen is not None and seen.centre.size != X.shape[1]:
        seen = None
    if len(batch) and X.shape[1]:
        low, high = _extremes(X)
        centre, reach = _usual(X) if seen is None else (seen.centre, seen.reach)
        within = deviations * reach * (_QUARTER if seen is None else 1.0)
        suspects = np.maximum(high - centre, centre - low) > within
        for column in np.flatnonzero(suspects):
            known = None if seen is None else (float(centre[column]), float(reach[column]))
            far = _far(X[:, column], deviations, known)
            if far is not None:
                found.append(_Beyond(feature_name(int(column), names), int(column), *far))
    if batch.label is not None and len(batch):
        far = _far(batch.label, deviations, None if seen is None else seen.label)
        if far is not None:
            found.append(_Beyond("label", None, *far))
    return found


def _far(
    values: np.ndarray, deviations: float, known: tuple[float, float] | None
) -> tuple[np.ndarray, tuple[float, float]] | None:
    """Return which values are far beyond, and the span that the others have; None if there are none."""
    centre, reach = (float(np.median(values)), 0.0) if known is None else known
    distance = np.abs(values - centre)
    if distance.max() <= deviations * reach:
        return None
    few = math.ceil(_SHARE * values.size)
    others = float(np.partition(distance, -few - 1)[-few - 1]) if values.size > few else 0.0
    most = deviations * max(others, reach)
    far: np.ndarray = distance > most
    if not (most > 0 and far.any()):
        return None
    near = values[~far]
    return far, (float(near.min(initial=centre - reach)), float(near.max(initial=centre + reach)))
