"""How much longer the steps of features are of which little is known. Letters as in `machine`.

AdaGrad's steps, ``a·g/√G``, suit a feature that has had thousands of rows, and are too short for one that has had tens,
as most identifiers have: its rows are over before it is where they draw it. So the rate of a feature's linear weight and
factors is ``1 + λ/(1 + G_w/τ)`` times the one set, G_w the Σ gradient² of its linear weight. Of classes Σ gradient² is what
rows have told, whatever the classes' ratio, and τ is `_TOLD`: of an identifier that only the common class has had, ten
thousand rows tell little. As rows are forgotten G_w fades and steps lengthen again, never beyond 1 + λ times the rate.

λ is `LONGER` in the first pass and falls as 1/passes²: steps that stay long keep a machine from settling, and learn the
noise of rows by heart. It is 0 where the penalty is given as a number: rates then mean what they say, too, and none but
penalties that adapt tell such noise apart. In a cold window it is 0: its runs start from the same draws and know nothing of
each other, and longer steps take them further apart. It is 0 where labels are numbers: one run gains there, too, but many
shards do not gain as much. These numbers were chosen on made sets of ratings.
"""

import numpy as np

from beam_ml.algorithms.fm.spec import Spec

__all__ = ["LONGER", "lengthened"]

LONGER = 0.7
"""How much longer steps are, of the rate, where nothing is known."""
_TOLD = 150.0


def lengthened(spec: Spec, spread: float, passes: float) -> np.ndarray:
    """Return λ of linear weights and of factors, and 1/τ, (3,).

    Args:
        spec: the spec.
        spread: ρ.
        passes: so far.

    >>> *longer, told = lengthened(Spec(n_features=3, factors_wd=0.1), 1.0, 2.0).tolist()
    >>> [round(one, 3) for one in longer], round(1.0 / told, 6)
    ([0.175, 0.0], 150.0)
    """
    longer = LONGER / max(passes, 1.0) ** 2 if spec.task == "binary" else 0.0
    adapts = (spec.linear_wd is None, spec.factors_wd is None)
    return np.array([*(longer * one for one in adapts), spread * spread / _TOLD])
