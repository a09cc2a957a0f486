"""Whether the concept has changed, or the inputs alone: two states' coefficients compared by what their rows say of them.

With coefficients β and information I (d, d) of both, and Δ = β_a − β_b (Wald)::

    χ² = Δᵀ (I_a⁻¹ + I_b⁻¹)⁻¹ Δ = Δᵀ I_a (I_a + I_b)⁻¹ I_b Δ

with as many degrees of freedom as directions that both know of. Inputs that move change I and leave β alone; a measure of
inputs, such as a population stability index, cannot tell the two apart. The intercept is left out: what share of rows is
positive is another question.
"""

import dataclasses

import numpy as np
from scipy.stats import chi2

from beam_ml.core.learner import Learner
from beam_ml.errors import InvalidValue
from beam_ml.ledger.ledger import Ledger, shown

__all__ = ["Drift", "changed", "drifts"]

_RANK = 1e-10  # of the largest eigenvalue, columns scaled to 1: what is below says nothing


@dataclasses.dataclass(frozen=True, slots=True)
class Drift:
    """How far the concepts of two sets of rows are apart.

    Attributes:
        statistic: χ².
        directions: degrees of freedom.
        p_value: the chance of as much where nothing has changed.
        start: of the window compared, µs; None where learners were.
        end: of the window compared, µs.
        rows: of the window.
    """

    statistic: float
    directions: int
    p_value: float
    start: int | None = None
    end: int | None = None
    rows: int = 0


def changed(ledger: Ledger, a: Learner, b: Learner) -> Drift:
    """Compare the coefficients of two learners that share no rows.

    Raises:
        InvalidValue: the algorithm's coefficients have no known errors.
        DeriveRefused: one of the learners has too few rows.
    """
    information = ledger.algorithm.information
    if information is None:
        message = f"Concepts are compared by the errors of coefficients, which {ledger.algorithm.name} has none of."
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
    along = turned.T @ (vectors[:, known].T @ delta * np.sqrt(values[known]))
    statistic = float(both @ along**2)
    directions = int(np.count_nonzero(both > _RANK))
    p_value = float(chi2.sf(statistic, directions)) if directions else 1.0
    return Drift(statistic, directions, p_value)


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

    >>> sentence(Drift(30.2, 3, 1.2e-06, 0, 86_400_000_000, 5000))
    '1970-01-01T00:00:00: p = 1.2e-06 (30.2 over 3 directions, 5,000 rows)'
    """
    when = "" if one.start is None else f"{shown(one.start)}: "
    return f"{when}p = {one.p_value:.2g} ({one.statistic:.3g} over {one.directions} directions, {one.rows:,} rows)"
