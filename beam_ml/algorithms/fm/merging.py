"""Merging two learners' states. Letters as in `machine`; ``n`` sampled rows.

Factors have no axes of their own: the mean of two machines that were learned apart is often worse than either. So the
merged machine is chosen by its loss on the rows that both have sampled: one of the two with what the other knows of
features of its own, weighted means of both, and the best of these after a pass over the sampled rows. That pass is judged
by rows it did not learn from. Where no machine fits both, as when the same inputs mean something else to each, scores are
drawn towards the constant rate as far as the rows ask for.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from beam_ml.algorithms.fm.calibrate import damp
from beam_ml.algorithms.fm.fold import spread_out
from beam_ml.algorithms.fm.frames import added, frames, held_by, reframed, spread_of
from beam_ml.algorithms.fm.growing import Run
from beam_ml.algorithms.fm.machine import State, anchor, empty, weight
from beam_ml.algorithms.fm.rows import Rows, joined_labels, label_scale, present
from beam_ml.algorithms.fm.sampled import Sampled, row_losses
from beam_ml.algorithms.fm.search import GROUPS
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.core.batch import Batch

__all__ = ["in_units", "merge_states"]

_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
_LEAST = 1e-4
"""Smallest factor on scores: two regions may contradict each other wholly."""
_FEWEST = 64
"""Sampled rows below which no pass is made over them."""


def merge_states(spec: Spec, a: State, b: State, sample_a: Batch | None = None, sample_b: Batch | None = None) -> State:
    """Merge two learners' states: the machine with the least loss on the rows that both have sampled; sums add.

    Both are first told in frames of features and per label of the joined moments.

    Args:
        spec: of both.
        a: a learner's state.
        b: the other's.
        sample_a: rows of the first, weighted to stand for all of its own; None: there is nothing to choose by, and the mean
            weighted by Σ gradient² is taken.
        sample_b: rows of the other.
    """
    if weight(a) <= 0.0 or weight(b) <= 0.0:
        return b if weight(a) <= 0.0 else a
    label = joined_labels(a.label, b.label)
    sums, before = added(a.sums, b.sums), added(a.before, b.before)
    known = added(sums, before)
    nothing, widest = np.zeros(known.shape[0] - 1), np.maximum(a.widest, b.widest)
    centre, scale = (
        np.append(one, 0.0) for one in frames(spec, known[:-1], float(known[-1, 0]), nothing, nothing, widest[:-1])
    )
    spread = spread_of(spec, held_by(known[:-1], float(known[-1, 0]), scale[:-1]))
    first, second = (in_units(spec, one, (centre, scale, spread), label) for one in (a, b))
    squares = first[1] + second[1]
    share = np.divide(first[1], squares, out=np.full_like(squares, 0.5), where=squares > 0)
    merged = State(
        theta=share * first[0] + (1.0 - share) * second[0], squares=squares, centre=centre, scale=scale, widest=widest,
        spread=np.asarray(spread), sums=sums, before=before, label=label, mass=a.mass + b.mass,
        fresh=np.asarray(a.fresh + b.fresh),
        noise=np.array([a.noise[0] + b.noise[0], a.noise[0] * a.noise[1] + b.noise[0] * b.noise[1]])
        / np.array([1.0, max(a.noise[0] + b.noise[0], 1e-300)]), prior=0.5 * (a.prior + b.prior), faded=np.ones(2),
        length=np.zeros(GROUPS), folds=np.maximum(a.folds, b.folds),
    )  # fmt: skip
    rows = [present(one) for one in (sample_a, sample_b) if one is not None and len(one)]
    data = _joined(rows)
    if data is None:
        return merged
    return _best(spec, merged, first, second, data)


def _joined(parts: list[Rows]) -> Rows | None:
    """Return the rows of all parts; every second one is a fair half of each."""
    if not parts or not sum(one.weight.size for one in parts):
        return None
    counts = [np.diff(one.indptr) for one in parts]
    return Rows(
        np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64),
        *(np.concatenate([getattr(one, name) for one in parts]) for name in ("indices", "values", "label", "weight")),
    )


def _best(
    spec: Spec, merged: State, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], data: Rows
) -> State:
    """Return the merged state with the parameters that have the least loss on sampled rows."""
    common = np.zeros(merged.theta.shape[0], dtype=bool)
    frame = merged.centre, merged.scale, float(merged.spread)
    tested = Sampled.of(spec, data, frame, merged.label, common)
    assert tested is not None  # noqa: S101 rows were counted
    parts = [np.arange(data.weight.size) % 2 == at for at in (0, 1)]
    whole = np.ones(data.weight.size, dtype=bool)

    def judged(theta: np.ndarray, on: np.ndarray) -> float:
        each = row_losses(spec, tested.scores(theta[tested.rows])[on], tested.label[on])
        found = float(tested.weight[on] @ each)
        return found if np.isfinite(found) else np.inf

    theta = min(_candidates(merged, first, second), key=lambda one: judged(one, whole))
    if data.weight.size >= _FEWEST:
        state = dataclasses.replace(merged, theta=theta)
        learned = _passed(spec, state, data, parts[0])
        if judged(learned, parts[1]) < judged(theta, parts[1]) and judged(learned, whole) <= judged(theta, whole):
            theta = learned
    corrected = tested.corrected(theta, _LEAST) if spec.use_bias else None
    if corrected is not None:
        theta = damp(theta, *corrected)
    return dataclasses.replace(merged, theta=theta)


def _candidates(
    merged: State, first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield parameters (p, m) to choose from; what only one has met is that one's in all."""
    yield merged.theta
    mine, other = first[1].any(axis=1), second[1].any(axis=1)
    only = mine.astype(np.float64) - other
    for share in _SHARES:
        of = np.where(only != 0, only > 0, share)[:, None]
        yield of * first[0] + (1.0 - of) * second[0]


def _passed(spec: Spec, state: State, data: Rows, on: np.ndarray) -> np.ndarray:
    """Return the parameters after a pass over some rows, from a state."""
    batch = Batch.csr(
        data.indptr, data.indices, data.values, spec.n_features, label=data.label, weight=data.weight / data.weight.mean()
    )  # fmt: skip
    run = Run(spec, empty(spec), anchor(spec, state))
    run.add(batch.take(on))
    found = run.partial()
    theta = state.theta.copy()
    theta[found.open_rows] += found.open_moved
    return theta


def in_units(
    spec: Spec, state: State, frame: tuple[np.ndarray, np.ndarray, float], label: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters and Σ gradient² (p, m) in other frames and per other labels: scores of rows stay as they are."""
    (level, unit), (new_level, new_unit) = label_scale(state.label), label_scale(label)
    share = unit / new_unit
    # The scale of labels is shared out between the two factors of a product.
    columns = np.full(spec.columns, np.sqrt(share))
    columns[0] = share
    theta, squares = state.theta * columns, state.squares.copy()
    theta[-1, 0] += (level - new_level) / new_unit
    every, (centre, scale, spread) = np.arange(spec.n_features), frame
    reframed(theta, squares, every, (state.centre[:-1], state.scale[:-1]), (centre[:-1], scale[:-1]))
    spread_out(theta, squares, spread / float(state.spread))
    return theta, squares
