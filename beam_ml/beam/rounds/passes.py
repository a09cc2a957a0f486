"""The passes of a job over its files: what a round adds to them, and why they end before the number asked for."""

import dataclasses
from collections.abc import Mapping, Sequence

from beam_ml.core.cursors import Passes
from beam_ml.core.passes import EarlyStopping, measured_by, stalled
from beam_ml.core.refresh import LOSSES, Refresh

__all__ = ["after_round"]


def after_round(
    passes: Passes, number: int, last: bool, refreshes: Sequence[Refresh], of: int, stopping: EarlyStopping | None
) -> Passes:
    """Return the passes after a round of one.

    Args:
        passes: before it.
        number: of the pass; below the last one's where a new batch of files has begun.
        last: the pass has ended with this round.
        refreshes: the round's.
        of: as many as the job asks for.
        stopping: when they end early; None: never.

    Raises:
        InvalidValue: there is no such metric as `stopping` names.
    """
    before = Passes() if number < passes.number else passes
    if before.stopped:
        before = dataclasses.replace(before, stopped="", heard=len(before.values))
    mine = dataclasses.replace(before, number=number, of=of)
    for one in refreshes:
        mine = _with(mine, one, None if stopping is None else stopping.metric)
    # The pass that patience begins to count after is what the next ones are compared with.
    judged = mine.values[max(0, mine.heard - 1) :]
    if stopping is None or not last or number >= of or not stalled(judged, stopping, mine.metric):
        return mine
    what = f"no better by {stopping.tolerance:g} of it in {stopping.patience} pass(es)"
    why = f"stopped after pass {number} of {of}: {mine.metric} is {mine.values[-1]:.6g}, {what}"
    return dataclasses.replace(mine, stopped=why)


def _with(passes: Passes, one: Refresh, wanted: str | None) -> Passes:
    name = one.champion if one.champion in one.measured else next(iter(one.measured), None)
    found = measured_by(_finite(one.measured.get(name, {}) if name is not None else {}), wanted, LOSSES)
    if found is None or not one.progress.rows:
        return passes
    metric, value = found
    values, rows = list(passes.values), list(passes.rows)
    if passes.judged < passes.number or not values:  # a merged learner's are those of one, the numbers of either
        values.append(value)
        rows.append(0)
    total = rows[-1] + one.progress.rows
    values[-1] += (value - values[-1]) * one.progress.rows / total
    rows[-1] = total
    return dataclasses.replace(passes, metric=metric, values=tuple(values), rows=tuple(rows), judged=passes.number)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if abs(value) < float("inf")}
