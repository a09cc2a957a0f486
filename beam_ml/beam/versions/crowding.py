"""How full the places of columns of categories are, once a version is made: a column may outgrow what was chosen for it.

Of m places of which u are used, as values fall on places by hash, ``u / m`` is about the share of values that share their
place with another (linear counting: Whang, Vander-Zanden and Taylor 1990).
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml.algorithms import algorithm_of
from beam_ml.core.learner import Learner
from beam_ml.features import Features
from beam_ml.features.hashing import CROWDED

__all__ = ["places_facts", "places_used"]

_log = logging.getLogger(__name__)
_warned: set[tuple[str, str]] = set()
"""Names of jobs and columns that were logged."""


def places_used(features: Features, learner: Learner) -> dict[str, int]:
    """Return column of categories → how many of its places any row has had; nothing where the state holds all features.

    Args:
        features: that make the learner's batches, with all their buckets.
        learner: of a version.

    >>> from beam_ml import Batch, fit, fm
    >>> rows = Batch.csr([0, 2, 4], [0, 2, 1, 3], [1.0, 1.0, 1.0, 1.0], 4, label=[1.0, 0.0])
    >>> learner = fit(fm.Spec(n_features=4, n_factors=2), rows)
    >>> places_used(Features(numeric=["x"], hashed=[{"column": "shop", "buckets": 3}]), learner)
    {'shop': 3}
    """
    held = algorithm_of(learner.spec).features_held
    if held is None:
        return {}
    fields, used = features.by_hash, held(learner.spec, learner.state)
    bounds = np.searchsorted(used, [(field.start, field.end) for field in fields]) if fields else ()
    return {field.name: int(end - start) for field, (start, end) in zip(fields, bounds, strict=True)}


def places_facts(name: str, features: Mapping[str, Any], learner: Learner) -> dict[str, Any]:
    """Return what a version's manifest says of its places: ``places_used``, column → number; nothing without categories.

    A column of which more than a tenth of the values share their places is logged, once in this process.

    Args:
        name: of the job.
        features: that make the learner's batches, as JSON.
        learner: of the version.
    """
    known = Features.parse(dict(features))
    used = places_used(known, learner)
    for field in known.by_hash:
        places = field.term.places
        share = used.get(field.name, 0) / places
        if share > CROWDED and (name, field.name) not in _warned:
            _warned.add((name, field.name))
            _log.warning(
                "%s: %s of the %s places of column %s are used, so that about %.0f %% of its values share one "
                "(buckets = … under another job name gives it more).",
                name, f"{used[field.name]:,}", f"{places:,}", field.name, 100 * share,
            )  # fmt: skip
    return {"places_used": used} if used else {}
