"""Which parameter rows a state holds: those of features that rows have had, and the bias.

Tables over all of a hashed space would be copied at every fold, published with every version and read by every worker,
though rows may have touched a twentieth. A feature that is not held is what `start` draws. Letters: ``p`` rows held, rising,
the bias last; ``d`` features; ``z`` numbers of features. Within a fold or merge, features are numbered by their place
among the rows held.
"""

import dataclasses

import numpy as np

from beam_ml.algorithms.fm.machine import State
from beam_ml.algorithms.fm.rows import Rows
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.shared.moves import union
from beam_ml.algorithms.shared.places import features_of, places

__all__ = ["features_held", "holding", "numbered"]


def features_held(spec: Spec, state: State) -> np.ndarray:
    """Return the features that a state holds; see `core.algorithm.FeaturesHeld`."""
    return features_of(spec.n_features, state.rows)


def numbered(rows: np.ndarray, data: Rows) -> Rows:
    """Return rows whose features, all held, are numbered by their places among parameter rows (p,)."""
    return dataclasses.replace(data, indices=places(rows[:-1], data.indices, int(rows[-1])))


def holding(spec: Spec, tables: list[np.ndarray], samples: list[Rows]) -> np.ndarray:
    """Return the rising parameter rows of some tables, each rising, of the features of some rows, and the bias."""
    rows = np.array([spec.n_features])
    for more in tables:
        rows = union(rows, more)
    for data in samples:
        fresh = data.indices[places(rows[:-1], data.indices, spec.n_features) < 0]
        if fresh.size:
            rows = np.union1d(rows, fresh)
    return rows
