"""How workers of `fm` score rows by their anchor, so that those that rank high are drawn more often."""

from collections.abc import Callable

import numpy as np
from scipy.special import expit

from beam_ml.algorithms.fm.derive import asked_of
from beam_ml.algorithms.fm.machine import Anchor
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.shared.places import places
from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.core.algorithm import check_batch
from beam_ml.core.batch import Batch

__all__ = ["scorer"]


def scorer(spec: Spec, anchor: Anchor) -> Callable[[Batch], np.ndarray] | None:
    """Return the function that scores rows by the anchor's machine; None where labels are no classes.

    It reads the anchor's tables where rows have features, so a worker makes no tables of its own for it.
    """
    if spec.task == "regression":
        return None
    everywhere = np.flatnonzero(anchor.centre[:-1] != 0)
    held = anchor.rows[:-1]
    asked, spread = asked_of(spec), float(anchor.spread)

    def score(batch: Batch) -> np.ndarray:
        from beam_ml.kernels.fm import rows

        check_batch(spec, batch)
        out = np.empty(len(batch))
        indptr, indices, values = canonical(batch)
        place = places(held, indices, spec.n_features)
        rows.anchored(
            indptr,
            place,
            values,
            anchor.theta,
            anchor.squares,
            anchor.centre,
            anchor.scale,
            spread,
            asked,
            everywhere,
            out,
        )
        return np.asarray(expit(out))

    return score
