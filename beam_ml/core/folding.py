"""`fold_parts`: a window's parts into the state; which parts are too old for it; what is folded into one version."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from beam_ml.core import decay, gathered
from beam_ml.core.accumulation import COLD, Accumulation, Part
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import array_fields
from beam_ml.core.batch import Batch
from beam_ml.core.decay import AsOf
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec

__all__ = ["STALE", "THINNED", "Together", "fold_parts", "fresh_parts", "thinning"]

STALE = "stale anchor"
"""Why rows are rejected whose anchor lies more than `Spec.max_staleness` versions behind the fold."""

THINNED = "thinned, others stand for it"
"""What is counted as adjusted of gathered rows that did not fit: rows kept stand for them."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Together:
    """What goes into one version: the state before, and by anchor the parts of the windows folded since.

    Attributes:
        version: the one before, of which `base` is the state.
        base: what the parts are folded onto.
        parts: version of their anchor → sum of the parts.
        sample: of the parts' rows.
    """

    version: int
    base: AsOf
    parts: Mapping[int, AsOf]
    sample: Sample

    def add(self, algorithm: Algorithm, spec: Spec, parts: Mapping[int, Part], sample: Sample) -> "Together":
        """Add a window's parts and sample."""
        joined = dict(self.parts)
        for number, part in parts.items():
            mine = joined.get(number)
            joined[number] = part.dated if mine is None else decay.merge(algorithm, spec, mine, part.dated)
        return Together(self.version, self.base, joined, self.sample.merge(sample, spec))


def fresh_parts(
    algorithm: Algorithm, learner: Learner, accumulation: Accumulation, version: int
) -> tuple[dict[int, Part], Progress, dict[int, int]]:
    """Split the parts into those to fold, and the progress of those whose anchor is too old.

    An anchor is as old as the versions that were published since: 0 for that of the version that the learner is, however
    many windows go into the next one. Cold parts count as grown from the last version without an anchor: while there
    is none, they are never too old.
    """
    limit = learner.spec.anchor_staleness
    if algorithm.anchor_type is None or limit is None:
        return dict(accumulation.parts), Progress(), {}
    cold = min(learner.last_cold_version, version)
    kept: dict[int, Part] = {}
    dropped = Progress()
    behind: dict[int, int] = {}
    for number, part in accumulation.parts.items():
        age = max(0, version - (cold if number == COLD else number))
        behind[age] = behind.get(age, 0) + part.progress.rows
        if age > limit:
            dropped = dropped.merge(part.progress.as_rejected(STALE))
        else:
            kept[number] = part
    if dropped.scanned:
        message = (
            "%d rows are rejected: more than %d versions were published between the anchor that they were learned from and "
            "the fold of their window (spec.max_staleness)."
        )
        _log.warning(message, dropped.scanned, limit)
    return kept, dropped, behind


def thinning(algorithm: Algorithm, parts: Iterable[Part]) -> Progress:
    """Return the count of gathered rows that other rows stand for at the fold."""
    if not decay.gathers(algorithm):
        return Progress()
    left_out = sum(gathered.thinned(part.dated.summary) for part in parts)
    return Progress(adjusted={THINNED: left_out}) if left_out else Progress()


def fold_parts(
    algorithm: Algorithm, spec: Spec, joined: Together, samples: Sequence[Batch | None]
) -> tuple[AsOf, str | None]:
    """Fold the parts, by ascending anchor; say why not when the state would not be finite."""
    dated = joined.base
    for _, part in sorted(joined.parts.items()):
        time = decay.later(dated.time, part.time)
        old = decay.advance(algorithm, spec, dated, time)
        fresh = decay.due(algorithm, spec, part, time)
        try:
            with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
                state = algorithm.fold(spec, old.summary, fresh.summary, *samples)
        except (np.linalg.LinAlgError, FloatingPointError) as error:
            return joined.base, str(error)
        for field in array_fields(state):
            value = getattr(state, field.name)
            if value.dtype.kind == "f" and not _finite(value):
                return joined.base, f"{field.name} of the state is not finite"
        dated = AsOf(state, time)
    return dated, None


def _finite(value: np.ndarray) -> bool:
    """Return whether all entries are finite; the sum of squares decides the common case in one pass."""
    flat = value.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(flat, flat)) or np.isfinite(value).all())
