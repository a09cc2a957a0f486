"""Whether the concept has changed, or the inputs alone: two states' coefficients compared by what their rows say of them.

With coefficients β and information I (d, d) of both, Δ = β_a − β_b and M = (I_a⁻¹ + I_b⁻¹)⁻¹ = I_a (I_a + I_b)⁻¹ I_b::

    χ² = Δᵀ M Δ (Wald), as many degrees of freedom as directions that both know of
    z²_j = (M Δ)²_j / M_jj, one degree of freedom: coefficient j has moved and no other has

Of all changes alike the first is the most powerful test that these sums allow, of one coefficient alone the second; what
happens is either. Their p-values are combined by Cauchy's distribution (Liu and Xie 2020), half of the weight on the first,
half shared by the others: in its tail that is nearly a p-value whatever the dependence between them::

    T = Σ w tan((½ − p)π)      p = ½ − arctan(T) / π

Inputs that move change I and leave β alone; a measure of inputs, such as a population stability index, cannot tell the two
apart. The intercept is left out: what share of rows is positive is another question.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy.special import chdtrc

from beam_ml.core.accumulation import COLD, Accumulation
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.learner import Learner
from beam_ml.errors import DeriveRefused, InvalidValue
from beam_ml.ledger.ledger import Ledger, learner_of, shown

__all__ = ["Drift", "changed", "concept", "drifts", "refreshed", "sentence"]

_RANK = 1e-10  # of the largest eigenvalue, columns scaled to 1: what is below says nothing
_LARGEST = (
    0.99  # p-value that is combined: beyond it, one test's certainty of no change would outweigh another's of one
)
_LEAST = 1e-300


@dataclasses.dataclass(frozen=True, slots=True)
class Drift:
    """How far the concepts of two sets of rows are apart.

    Attributes:
        statistic: χ².
        directions: degrees of freedom.
        p_value: the chance of as much where nothing has changed, of χ² and single coefficients combined.
        feature: number of the coefficient that has moved most for its error; None: no direction is known.
        start: of the window compared, µs; None where learners were.
        end: of the window compared, µs.
        rows: of the window.
    """

    statistic: float
    directions: int
    p_value: float
    feature: int | None = None
    start: int | None = None
    end: int | None = None
    rows: int = 0


def changed(ledger: Ledger, a: Learner, b: Learner) -> Drift:
    """Compare the coefficients of two learners that share no rows.

    Raises:
        InvalidValue: the algorithm's coefficients have no known errors.
        DeriveRefused: one of the learners has too few rows.
    """
    return concept(ledger.algorithm, a, b)


def concept(algorithm: Algorithm[Any, Any, Any, Any], a: Learner, b: Learner) -> Drift:
    """Compare the coefficients of two learners of one algorithm that share no rows; raises as `changed` does."""
    information = algorithm.information
    if information is None:
        message = f"Concepts are compared by the errors of coefficients, which {algorithm.name} has none of."
        raise InvalidValue(message)
    (beta_a, i_a), (beta_b, i_b) = (
        information(one.spec, one.state, one.sample.estimate(one.spec)) for one in (a, b)
    )  # fmt: skip
    size = np.sqrt(np.diagonal(i_a) + np.diagonal(i_b))
    used = (np.diagonal(i_a) > 0.0) & (np.diagonal(i_b) > 0.0)
    scale = size[used]
    delta = (beta_a - beta_b)[used] * scale
    first, second = (one[np.ix_(used, used)] / np.outer(scale, scale) for one in (i_a, i_b))
    values, vectors = np.linalg.eigh(first + second)
    known = values > _RANK * max(float(values.max(initial=0.0)), 0.0)
    root = vectors[:, known] / np.sqrt(values[known])
    # In the basis where both sum to 1, what is known of the difference is s(1 − s) of each direction.
    shares, turned = np.linalg.eigh(root.T @ first @ root)
    shares = np.clip(shares, 0.0, 1.0)
    both = shares * (1.0 - shares)
    axes = (vectors[:, known] * np.sqrt(values[known])) @ turned  # M = axes · diag(both) · axesᵀ
    along = axes.T @ delta
    statistic = float(both @ along**2)
    directions = int(np.count_nonzero(both > _RANK))
    if directions == 0:
        return Drift(statistic, 0, 1.0)
    curvature = (axes**2) @ both
    single = np.divide((axes @ (both * along)) ** 2, curvature, out=np.zeros_like(curvature), where=curvature > _RANK)
    p_value = _combined(float(chdtrc(directions, statistic)), chdtrc(1, single))
    return Drift(statistic, directions, p_value, int(np.flatnonzero(used)[np.argmax(single)]))


def _combined(whole: float, single: np.ndarray) -> float:
    """Return one p-value of that of all coefficients and those (d,) of one each."""
    odds = 1.0 / np.tan(np.pi * np.clip([whole, *single], _LEAST, _LARGEST))
    total = 0.5 * float(odds[0]) + 0.5 * float(odds[1:].mean())
    return float(np.arctan2(1.0, total) / np.pi)


def refreshed(algorithm: Algorithm[Any, Any, Any, Any], before: Learner, window: Accumulation) -> Drift | None:
    """Compare a closed window with the learner that it was grown from; None: their coefficients have no known errors yet.

    Args:
        algorithm: the record.
        before: as of the version that the window was grown from.
        window: what it was learned from.
    """
    spec, progress = before.spec, window.progress
    cold = algorithm.law(spec).across_anchors and set(window.parts) == {COLD}
    if algorithm.information is None or before.progress.rows == 0 or progress.rows == 0 or cold:
        return None
    try:
        found = concept(algorithm, before, learner_of(algorithm, spec, [window]))
    except DeriveRefused:  # too few sampled rows, or classes that count for more than they weigh
        return None
    return dataclasses.replace(found, rows=progress.rows)


def drifts(ledger: Ledger, past: int = 7) -> list[Drift]:
    """Compare each window of a ledger with those before it, from stored sums alone.

    Args:
        ledger: whose.
        past: how many windows before each are its reference.

    Raises:
        InvalidValue: fewer than two windows are kept by themselves, or the algorithm's coefficients have no known errors.
    """
    single = [one for one in ledger.index.windows if one.windows == 1]
    if past < 1 or len(single) < 2:
        message = (
            f"Windows are compared with at least one before them, each kept by itself; got past {past}, and "
            f"{len(single)} windows in the ledger of {ledger.name}."
        )
        raise InvalidValue(message)
    held = [ledger.accumulation(one) for one in single]
    found = []
    for i in range(1, len(single)):
        reference = ledger.composed(held[max(0, i - past) : i])
        one = changed(ledger, ledger.composed([held[i]]), reference)
        found.append(dataclasses.replace(one, start=single[i].start, end=single[i].end, rows=single[i].rows))
    return found


def sentence(one: Drift) -> str:
    """Return what a comparison says.

    >>> sentence(Drift(30.2, 3, 1.2e-06, 1, 0, 86_400_000_000, 5000))
    '1970-01-01T00:00:00: p = 1.2e-06 (30.2 over 3 directions, feature 1 most, 5,000 rows)'
    """
    when = "" if one.start is None else f"{shown(one.start)}: "
    most = "" if one.feature is None else f", feature {one.feature} most"
    return (
        f"{when}p = {one.p_value:.2g} ({one.statistic:.3g} over {one.directions} directions{most}, {one.rows:,} rows)"
    )
