"""What a round must add up to before it may be published: exactly its plan, and nothing that was read before."""

from typing import Any

from beam_ml.beam.rounds.source import RoundPlan
from beam_ml.core import learner as learners
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.errors import RoundAbandoned

__all__ = ["check_covered", "refuse_repeat"]


def check_covered(plan: RoundPlan, total: Progress) -> None:
    """Abandon the round unless its Progress adds up to exactly the plan: a row lost or read twice stops here.

    Raises:
        RoundAbandoned: it does not.
    """
    wanted = plan.covered()
    if {origin: ranges.tolist() for origin, ranges in total.covered.items()} != wanted:
        message = f"The round must cover exactly its plan, {_some(wanted)}; it covered {_some(total.covered)}."
        raise RoundAbandoned(message)
    if total.repeated:
        message = f"The round must read nothing twice; it read {total.repeated:,} places more than once."
        raise RoundAbandoned(message)
    rows = plan.rows()
    if rows is not None and total.scanned != rows:
        message = f"The round must scan exactly the {rows:,} rows of its plan; it scanned {total.scanned:,}."
        raise RoundAbandoned(message)


def refuse_repeat(learner: Learner, total: Progress) -> None:
    """Abandon a round that has read what the learner has seen already: a merged learner may know more than its plan.

    Raises:
        RoundAbandoned: it has.
    """
    shared = learners.scanned(learner).overlap(total)
    if shared:
        message = f"The round must read nothing twice; the learner has already scanned {_some(shared)}."
        raise RoundAbandoned(message)


def _some(covered: Any) -> str:
    shown = [f"{origin.partition} {[list(map(int, r)) for r in ranges]}" for origin, ranges in sorted(covered.items())]
    return "; ".join(shown[:3]) + ("; …" if len(shown) > 3 else "") or "nothing"
