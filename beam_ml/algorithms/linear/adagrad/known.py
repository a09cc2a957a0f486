"""Which parameter rows a state of `linear.adagrad` holds: of dense rows all of them, of sparse rows those seen so far.

A table of a quarter of a million hashed features × 16 variants is 32 MB, of which rows may have touched a twentieth; what is
copied at every fold, published with every version and read by every worker should be that twentieth. Letters: ``p`` rows
held, rising, the bias last; ``d`` features; within a fold, features are numbered by their place among the rows held.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from beam_ml.algorithms.linear.adagrad.arrays import Partial, State
from beam_ml.algorithms.linear.adagrad.rows import Rows
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad
from beam_ml.algorithms.shared import moves
from beam_ml.algorithms.shared.places import features_of

__all__ = ["Known", "features_held", "first_rows", "places_of", "widened"]

_TABLES = ("theta", "slack", "average", "squares", "moments")


def first_rows(spec: AdaGrad) -> np.ndarray:
    """Return the parameter rows held before any row was seen."""
    return np.zeros(0, dtype=np.int64) if spec.sparse else np.arange(spec.n_features + 1)


def features_held(spec: AdaGrad, state: State) -> np.ndarray:
    """Return the features that a state holds; see `core.algorithm.FeaturesHeld`."""
    return features_of(spec.n_features, state.rows)


def places_of(spec: AdaGrad, rows: np.ndarray) -> np.ndarray:
    """Return where each of the d + 1 parameter rows is among those held (d + 1,) int32; −1: it is not."""
    place = np.full(spec.n_features + 1, -1, dtype=np.int32)
    place[rows] = np.arange(rows.size, dtype=np.int32)
    return place


def widened(spec: AdaGrad, state: State, rows: np.ndarray) -> State:
    """Return a state that holds some more rows, on which nothing is known; the state itself where it holds them already."""
    if rows.size == state.rows.size:
        return state
    place = np.searchsorted(rows, state.rows)
    tables = {}
    absent = {"slack": not any(spec.l1), "average": not spec.averaging}
    for name in _TABLES:
        table = getattr(state, name)
        if not absent.get(name):
            wide = np.zeros((rows.size, *table.shape[1:]))
            wide[place] = table
            tables[name] = wide
    return dataclasses.replace(state, rows=rows, **tables)


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """The rows that a fold or a merge works on.

    Attributes:
        rows: (p,) rising, the bias last.
        place: (d + 1,) where each parameter row is among them; −1: not.
    """

    rows: np.ndarray
    place: np.ndarray

    @staticmethod
    def of(spec: AdaGrad, tables: Iterable[np.ndarray], samples: Iterable[Rows] = ()) -> "Known":
        """Hold the parameter rows of some tables, each rising, and those that some rows touch."""
        rows = np.array([spec.n_features])
        for more in tables:
            rows = moves.union(rows, more)
        place = places_of(spec, rows)
        for data in samples:
            if data.indices is not None:
                fresh = data.indices[place[data.indices] < 0]
                if fresh.size:
                    rows = np.union1d(rows, fresh)
                    place = places_of(spec, rows)
        return Known(rows, place)

    def partial(self, partial: Partial) -> Partial:
        """Return a partial whose rows are numbered by their places."""
        names = ("closed_rows", "lifted_rows", "open_rows", "moment_rows")
        return dataclasses.replace(
            partial, **{name: self.place[getattr(partial, name)].astype(np.int64) for name in names}
        )

    def numbered(self, data: Rows) -> Rows:
        """Return rows whose features are numbered by their places; dense ones have all features."""
        if data.indices is None:
            return data
        return dataclasses.replace(data, indices=self.place[data.indices], d=self.rows.size - 1)
