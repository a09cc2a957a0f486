"""`learn_in_order`: the windows of a round, each learned from the state that the window before it left.

Where parts of different anchors add, a round's windows can all be grown at once from the state that the round began with,
and nothing is lost. Gradient learners are better off with a fresh anchor for each window, as in a stream: a long round then
costs no accuracy, and its price is that windows wait for each other. A window of more rows than were learned from before it
is learned in pieces, as `fit` does it: each piece is folded before the next one begins.

A piece of some thousand rows is accumulated in two runs from the same state. The fold then has directions to choose between,
and their mean is steadier than one run: over 121 days of card transactions with 16 variants the average precision is 0.74
instead of 0.66; four runs come to 0.72. The number was chosen on those data.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from beam_ml.core import decay, gathered
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation, Accumulator, Part, merge_all, same_names, scorer_of
from beam_ml.core.algorithm import Algorithm, LawKind
from beam_ml.core.batch import Batch
from beam_ml.core.drawing import Drawing
from beam_ml.core.folding import Together, fold_parts, thinning
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Plan, Refresh, fold_open, fold_window
from beam_ml.core.sample import Sample
from beam_ml.core.threads import side_by_side

__all__ = ["FIRST_PIECE_ROWS", "PIECE_ROWS", "RUNS", "learn_in_order"]

FIRST_PIECE_ROWS, PIECE_ROWS = 1_000, 65_536
"""Sizes of a cold learner's first piece and of any."""
RUNS = 2
"""Runs from one state, each of as many rows as a first piece or more."""

Rows = Sequence[tuple[Batch, int]]
"""Batches of admitted rows, and how many rows of each are late."""


def learn_in_order(
    algorithm: Algorithm,
    learner: Learner,
    windows: Mapping[int, Rows],
    plan: Plan,
    through: float = float("inf"),
    previous: Mapping[str, Any] | None = None,
    since: int | None = None,
) -> Iterator[tuple[Learner, Refresh | None]]:
    """Accumulate and fold a round's windows one after the other; all go into one version.

    Windows that an earlier round has begun hold parts of the anchor that the round before left, and so get the rest of
    their rows from that one too; every later window starts from the state after the fold before it.

    Args:
        algorithm: the record.
        learner: with the windows still open from earlier rounds in `pending`.
        windows: window end, µs → its rows.
        plan: what to derive and the gate.
        through: fold the windows that end at or before this time (the watermark); the others stay open.
        previous: the models of the previous refresh, if available.
        since: `Learner.version` before the first window of the version; None: the learner's.

    Yields:
        The learner and the Refresh after each fold; at last the learner with its open windows, and None.

    Raises:
        TrainingFailed: see `refresh`.
    """
    version = learner.version if since is None else since
    held = max((end for end in learner.pending if end <= through), default=float("-inf"))
    begun = learner
    for end in sorted(windows):
        if end <= held:
            learner = learners.add_pending(algorithm, learner, end, _accumulated(algorithm, begun, windows[end]))
    for after, one in fold_open(algorithm, learner, plan, held, previous, published=True):
        learner, previous = after, one.models
        yield after, one
    for end in sorted(windows):
        if held < end <= through:
            pieces = _pieces(algorithm, learner, windows[end])
            whole, before = _learned(algorithm, learner, pieces)
            after, one, _ = fold_window(algorithm, learner, end, whole, plan, previous, base=before.dated)
            # The version of the round has begun with its first fold.
            learner = after.replace(coalesced=after.coalesced + (learner.version > version))
            previous = one.models
            yield learner, one
    begun = learner
    for end in sorted(windows):
        if end > through:
            learner = learners.add_pending(algorithm, learner, end, _accumulated(algorithm, begun, windows[end]))
    yield learner, None


def _accumulated(algorithm: Algorithm, learner: Learner, rows: Rows) -> Accumulation:
    spec, total = learner.spec, sum(len(batch) for batch, _ in rows)
    anchor = algorithm.anchor(spec, learner.state)

    runs = [rows] if total < RUNS * FIRST_PIECE_ROWS else _cut(rows, [-(-total // RUNS)] * RUNS)

    def grown(run: Rows) -> Accumulation:
        accumulator = Accumulator(algorithm, spec, learner.version, anchor, sampling=False)
        for batch, late in run:
            accumulator.add_admitted(batch, late)
        return accumulator.result()

    def drawn() -> Sample:
        drawing = Drawing(spec, scorer_of(algorithm, spec, anchor), Sample.empty(spec))
        for batch, _ in rows:
            drawing.add(batch)
        return drawing.sample()

    calls: list[Callable[[], Any]] = [*(partial(grown, run) for run in runs), drawn]
    *parts, sample = side_by_side(calls)
    return dataclasses.replace(merge_all(algorithm, spec, parts), sample=sample)


def _learned(algorithm: Algorithm, learner: Learner, pieces: Sequence[Rows]) -> tuple[Accumulation, Learner]:
    """Learn from pieces in turn.

    Returns:
        The accumulation of all pieces, its parts those of the last one, and the learner that these are folded into: the
        state behind the pieces before. Where one of those would leave a state that is not finite, all are one piece.

    Raises:
        MergeRefused: the features of two pieces have other names, or another order of names.
    """
    spec, now, done = learner.spec, learner, []
    for rows in pieces[:-1]:
        one = _accumulated(algorithm, now, rows)
        joined = Together(now.version, now.dated, {}, Sample.empty(spec)).add(algorithm, spec, one.parts, one.sample)
        samples = [one.sample.estimate(spec), *([now.sample.estimate(spec)] if algorithm.looks_back else [])]
        state, failure = fold_parts(algorithm, spec, joined, samples)
        if failure is not None:
            return _accumulated(algorithm, learner, [pair for some in pieces for pair in some]), learner
        now = now.replace(dated=state, sample=now.sample.merge(one.sample, spec))
        done.append(one)
    last = _accumulated(algorithm, now, pieces[-1])
    if not done:
        return last, now
    counted = [(one.progress, thinning(algorithm, one.parts.values())) for one in done]
    progress = reduce(Progress.merge, (one for pair in counted for one in pair), last.progress)
    sample = Sample.merge_all([*(one.sample for one in done), last.sample], spec)
    parts = {at: Part(part.dated, progress) for at, part in last.parts.items()}
    names = reduce(same_names, (one.names for one in done), last.names)
    return dataclasses.replace(last, parts=parts, sample=sample, names=names), now


def _pieces(algorithm: Algorithm, learner: Learner, rows: Rows) -> list[Rows]:
    """Cut a window's rows: no piece is longer than what was learned from before, within bounds, or than can be gathered."""
    law = algorithm.law(learner.spec)
    if decay.gathers(algorithm):
        return _cut(rows, gathered.shares(learner.spec, [batch for batch, _ in rows]))
    if law.kind is not LawKind.ANCHORED or law.across_anchors:
        return [rows]
    known, left, sizes = learner.progress.rows, sum(len(batch) for batch, _ in rows), []
    while left:
        room = min(max(known, FIRST_PIECE_ROWS), PIECE_ROWS)
        size = left if left < 1.5 * room else room  # no small rest
        sizes.append(size)
        known, left = known + size, left - size
    return _cut(rows, sizes)


def _cut(rows: Rows, sizes: Sequence[int]) -> list[Rows]:
    """Cut rows into runs of some sizes, the last one perhaps shorter."""
    bounds = np.cumsum([0, *sizes])
    out: list[list[tuple[Batch, int]]] = [[] for _ in sizes]
    begin = 0
    for batch, late in rows:
        stop = begin + len(batch)
        for i in range(len(sizes)):
            low, high = max(begin, int(bounds[i])), min(stop, int(bounds[i + 1]))
            if low < high:
                out[i].append((batch.take(slice(low - begin, high - begin)), min(late, high - low)))
        begin = stop
    return [one for one in out if one]
