"""What is counted of two logs, feature by feature, and its report."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.consistency.values import Compared
from beam_ml.formats.plain import plain

__all__ = ["Feature", "Report"]

_SHOWN = 200


@dataclasses.dataclass(slots=True)
class Feature:
    """One feature over the rows that both logs have.

    Attributes:
        rows: compared.
        mismatch, missing, extra: rows whose values differ, and that only the first log, or only the second, has a value in.
        largest: of the differences of numbers (of times, seconds).
        worst: the worst mismatches: rank, id, both values.
    """

    rows: int = 0
    mismatch: int = 0
    missing: int = 0
    extra: int = 0
    largest: float = 0.0
    worst: list[tuple[float, str, Any, Any]] = dataclasses.field(default_factory=list)

    def add(self, ids: pa.Array, a: pa.Array, b: pa.Array, found: Compared, most: int) -> None:
        """Add rows, and keep the worst of them all."""
        self.rows += len(ids)
        for name in ("mismatch", "missing", "extra"):
            setattr(self, name, getattr(self, name) + int(getattr(found, name).sum()))
        finite = found.difference[np.isfinite(found.difference)]
        self.largest = max(self.largest, float(finite.max()) if finite.size else 0.0)
        at = np.flatnonzero(found.mismatch)
        at = at[np.argsort(-found.rank[at], kind="stable")][:most]
        shown = zip(at.tolist(), plain(ids.take(at)), plain(a.take(at)), plain(b.take(at)), strict=True)
        new = [(float(found.rank[i]), id, _shown(one), _shown(other)) for i, id, one, other in shown]
        self.worst = sorted([*self.worst, *new], key=lambda one: (-one[0], one[1]))[:most]

    @property
    def rate(self) -> float:
        """The largest of its rates."""
        return max(self.mismatch, self.missing, self.extra) / self.rows if self.rows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        counts = {name: getattr(self, name) for name in ("mismatch", "missing", "extra")}
        rates = {f"{name}_rate": n / self.rows if self.rows else 0.0 for name, n in counts.items()}
        worst = [
            {"id": one[1], "a": one[2], "b": one[3], "relative": one[0] if math.isfinite(one[0]) else None}
            for one in self.worst
        ]
        return {"rows": self.rows, **counts, **rates, "largest_difference": self.largest, "worst": worst}


@dataclasses.dataclass(slots=True)
class Report:
    """How two logs compare.

    Attributes:
        rows: distinct ids of the first log, and of the second.
        both: ids that both have.
        duplicates: further rows of an id, in the first and in the second; the first row of each is compared.
        rejected: reason → rows that could not be read, in the first and in the second.
        features: by name.
        missing, extra: some of the ids that only the first, and only the second, has.
    """

    rows: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    both: int = 0
    duplicates: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    rejected: tuple[Counter[str], Counter[str]] = dataclasses.field(default_factory=lambda: (Counter(), Counter()))
    features: dict[str, Feature] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)
    extra: list[str] = dataclasses.field(default_factory=list)

    @property
    def rates(self) -> Mapping[str, float]:
        """The share of the first log's ids that the second lacks, and of the second's that the first lacks."""
        pairs = zip(("missing", "extra"), self.rows, strict=True)
        return {name: 1.0 - self.both / rows if rows else 0.0 for name, rows in pairs}

    @property
    def worst(self) -> float:
        """The largest of all rates; 1 where the logs have no row in common."""
        rates = [*self.rates.values(), *(one.rate for one in self.features.values())]
        return max(rates) if self.both else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return {
            "rows": {"a": self.rows[0], "b": self.rows[1], "both": self.both},
            "missing_rate": self.rates["missing"],
            "extra_rate": self.rates["extra"],
            "missing": self.missing,
            "extra": self.extra,
            "duplicates": {"a": self.duplicates[0], "b": self.duplicates[1]},
            "rejected": {"a": dict(self.rejected[0]), "b": dict(self.rejected[1])},
            "features": {name: one.to_dict() for name, one in self.features.items()},
            "worst_rate": self.worst,
        }


def _shown(value: Any) -> Any:
    """Return a value as JSON has it; a long one is cut."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
