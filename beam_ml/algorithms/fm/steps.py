"""How much longer the steps of features are of which little is known. Letters as in `machine`.

AdaGrad's steps, ``a·g/√G``, suit a feature that has had thousands of rows, and are too short for one that has had tens,
as most identifiers have: its rows are over before it is where they draw it. So the rate of a feature's linear weight and
factors is ``1 + λ/(1 + G_w/τ)`` times the one set, G_w the Σ gradient² of its linear weight. Of classes Σ gradient² is what
rows have told, whatever the classes' ratio, and τ is `_TOLD`: of an identifier that only the common class has had, ten
thousand rows tell little. Of numbers it is in units of the slopes, and τ is that of `_TOLD` rows, by the mean squared slope
of rows before they were learned for the first time. As rows are forgotten G_w fades and steps lengthen again, never beyond
1 + λ times the rate.

λ is `LONGER` in the first pass and falls as 1/passes²: steps that stay long keep a machine from settling, and learn the
noise of rows by heart. It is 0 where the penalty is given as a number: rates then mean what they say, too, and none but
penalties that adapt tell such noise apart. In a cold window it is 0: its runs start from the same draws and know nothing of
each other, and longer steps take them further apart. Many shards gain less than one run does. These numbers were chosen on
made sets of ratings.
"""

import numpy as np

from beam_ml.algorithms.fm.spec import Spec

__all__ = ["LONGER", "lengthened"]

LONGER = {"binary": 0.7, "regression": 1.0}
"""How much longer steps are, of the rate, where nothing is known, by task."""
_TOLD = 150.0
_LEAST = 1e-200
"""Mean squared slope at least: labels may be learned without a rest, and 1/τ is finite."""


def lengthened(spec: Spec, spread: float, passes: float, slope: float) -> np.ndarray:
    """Return λ of linear weights and of factors, and 1/τ, (3,).

    Args:
        spec: the spec.
        spread: ρ.
        passes: so far.
        slope: mean squared slope of the loss at rows of first passes, before each was learned.

    >>> *longer, told = lengthened(Spec(n_features=3, factors_wd=0.1), 1.0, 2.0, 0.2).tolist()
    >>> [round(one, 3) for one in longer], round(1.0 / told, 6)
    ([0.175, 0.0], 150.0)
    >>> *longer, told = lengthened(Spec(n_features=3, task="regression"), 1.0, 2.0, 0.2).tolist()
    >>> [round(one, 4) for one in longer], round(1.0 / told, 6)
    ([0.25, 0.25], 30.0)
    """
    longer = LONGER[spec.task] / max(passes, 1.0) ** 2
    adapts = (spec.linear_wd is None, spec.factors_wd is None)
    told = _TOLD * (max(slope, _LEAST) if spec.task == "regression" else 1.0)
    return np.array([*(longer * one for one in adapts), spread * spread / told])
