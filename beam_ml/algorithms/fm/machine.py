"""State and partial of factorization machines; law ANCHORED.

Letters: ``d`` features, ``p`` parameter rows held (see `known`; last the bias, numbered d), ``m`` columns (linear weight,
then factors), ``k`` label classes; of a partial ``c`` rows touched by closed runs, ``r`` by the open one.

A worker runs over its rows one by one from the anchor, with AdaGrad (Duchi, Hazan and Singer 2011) in every entry; the
update stands in `beam_ml.kernels.fm.run`. What runs leave behind adds as `beam_ml.algorithms.shared.moves` says,
rows that no run touched apart: they are neither computed nor sent. Features are measured in frames (`frames`), labels by
running moments, so no pass over the data comes first.
Parameters stay while the labels' moments move, so what was learned is stretched as much
where labels jump by many standard deviations, until later windows learn it back.

With one shard, learning in windows is the sequential run but for rounding, where penalties are given as numbers; those
that adapt do so at folds, and so do lengths of steps (`steps`). With 8 and 32 shards, four windows a pass and
five passes, the held-out loss is within 0.5 % of the sequential run's on ratings of users and items (median of five seeds;
after the first pass 1 to 4 %) and below it on card transactions of numbers and identifiers, if the first windows grow, as
the rounds of a cold start do. There later passes' rows count as new; of numbers that are said to be read again one run gains
more from longer steps (`steps`) than many shards do, which end 0.7 and 0.9 % above it after five passes.
In the hardest case, one pass of six windows that double over rows that touch every feature, 16 shards exceed it by less
than the law's bound, 2 %. Cold, without an anchor, runs start from where the spec's seed puts them, the same for all.
Where all rows are in that one cold window there is no bound: on 16,000 ratings 8, 32 and 64 shards end 4.2, 5.9 and 6.0 %
above one shard's error (6, 8.1 and 8.5 % without the passes of `again` over the window's sample), and 1.6, 2.7 and 3.0 %
above its log loss on whether a user likes an item, where those passes gain nothing (medians of five seeds). Lengths above 1
gain nothing there.

Parts of a stale anchor (several windows of one round start from one) do not add to those of another: each is folded in
turn, scaled by the curvature of then and searched for a length, 0 included; parts more than ``max_staleness`` versions
behind are rejected.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64, Int64

from beam_ml.algorithms.fm.adapt import START
from beam_ml.algorithms.fm.frames import added
from beam_ml.algorithms.fm.rows import FEWEST_ROWS, joined_labels
from beam_ml.algorithms.fm.search import GROUPS
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.fm.start import starts
from beam_ml.algorithms.shared.moves import Moves, summed, united
from beam_ml.core.algorithm import Law, LawKind
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.held import check_rising

__all__ = [
    "Anchor",
    "Partial",
    "State",
    "anchor",
    "empty",
    "fading",
    "init",
    "law",
    "merge",
    "moves_of",
    "now",
    "scale",
    "weight",
    "widened",
]
_WIDENED = ("squares", "centre", "widest", "sums", "before")
"""Tables in which a row that nothing has touched is 0."""

BOUND = 0.02


@array_dataclass
class State:
    """Parameters, and what their next steps go by."""

    rows: Int64[
        np.ndarray, "p"
    ]  # numbers of the parameter rows held, rising; last: the bias, numbered n_features; none at first
    theta: Float64[np.ndarray, "p m"]  # linear weight, then factors, in frames; last row: bias, then zeros
    squares: Float64[np.ndarray, "p m"]  # Σ gradient², decayed up to the last fold
    centre: Float64[np.ndarray, "p"]  # c of each feature's frame; 0 of indicators and rare features
    scale: Float64[np.ndarray, "p"]  # s of each feature's frame; 0: no row had it yet, or it is a constant
    widest: Float64[np.ndarray, "p"]  # largest scale so far
    spread: Float64[np.ndarray, ""]  # ρ, by which all scales are multiplied; 0: no row yet
    sums: Float64[np.ndarray, "p 3"]  # newer rows: weight, mean, Σ weight·(x − mean)² of values other than 0; last: all
    before: Float64[np.ndarray, "p 3"]  # the same of older rows, up to twice as many; those before are forgotten
    label: Float64[np.ndarray, "3"]  # weight, mean and Σ(y − mean)² of real labels, decayed
    mass: Float64[np.ndarray, "k"]  # row weight by class (regression: in all), decayed
    fresh: Float64[np.ndarray, ""]  # row weight of first passes, decayed
    noise: Float64[np.ndarray, "2 2"]  # weight of newer rows, and their mean squared slope: of first passes, of all
    prior: Float64[np.ndarray, "2"]  # variance of linear weights, and of factors, over features
    faded: Float64[np.ndarray, "2"]  # what squares, and weights, count by since the last fold, which wrote the tables
    length: Float64[np.ndarray, "5"]  # last step of each group of `search`; negative: along the runs' mean
    folds: Int64[np.ndarray, ""]  # folds so far

    def __post_init__(self) -> None:
        check_rising("State.rows", self.rows)


@array_dataclass
class Partial:
    """Sums over runs from one anchor; the open run is the one that takes the next batch."""

    closed_rows: Int64[np.ndarray, "c"]  # parameter rows touched by closed runs, rising
    closed_scaled: Float64[np.ndarray, "c m"]  # ΣD, moves scaled by curvature
    closed_moved: Float64[np.ndarray, "c m"]  # Σ(u − u_a)
    closed_squares: Float64[np.ndarray, "c m"]  # Σ gradient²
    closed_sums: Float64[np.ndarray, "c 3"]  # weight, mean, Σ weight·(x − mean)² of values other than 0; last: all rows
    open_rows: Int64[np.ndarray, "r"]  # parameter rows touched by the open run, rising
    open_scaled: Float64[np.ndarray, "r m"]  # D of the open run
    open_moved: Float64[np.ndarray, "r m"]  # u − u_a of the open run
    open_squares: Float64[np.ndarray, "r m"]  # its Σ gradient²
    open_sums: Float64[np.ndarray, "r 3"]  # the same of its rows
    runs: Int64[np.ndarray, ""]  # P, the open one included
    folds: Int64[np.ndarray, ""]  # folds that the anchor had seen; 0: cold
    label: Float64[np.ndarray, "3"]  # weight, mean and Σ(y − mean)² of real labels, all runs
    mass: Float64[np.ndarray, "k"]  # row weight by class (regression: in all)
    fresh: Float64[np.ndarray, ""]  # row weight of first passes
    noise: Float64[np.ndarray, "2"]  # Σ weight·(slope of the loss before the row was learned)²: first passes, all


@array_dataclass
class Anchor:
    """Where runs start."""

    rows: Int64[np.ndarray, "p"]  # as in the state
    theta: Float64[np.ndarray, "p m"]  # as in the state
    squares: Float64[np.ndarray, "p m"]  # as in the state
    centre: Float64[np.ndarray, "p"]  # as in the state
    scale: Float64[np.ndarray, "p"]  # as in the state
    spread: Float64[np.ndarray, ""]  # as in the state
    label: Float64[np.ndarray, "3"]  # as in the state
    often: Float64[np.ndarray, "p"]  # rows' weight that a feature is in, in one pass
    passes: Float64[np.ndarray, ""]  # so far
    noise: Float64[np.ndarray, "2"]  # mean squared slope before rows were learned: of first passes, of newer rows
    prior: Float64[np.ndarray, "2"]  # as in the state
    folds: Int64[np.ndarray, ""]  # as in the state


def law(spec: Spec) -> Law:
    """Say what the partial promises: ANCHORED; k shards keep the sequential run's loss within the bound."""
    del spec
    return Law(LawKind.ANCHORED, rtol=1e-9, bound=BOUND)


def init(spec: Spec) -> State:
    """Return the state before any row."""
    none, nothing, sums = np.zeros((0, spec.columns)), np.zeros(0), np.zeros((0, 3))
    return State(
        rows=np.zeros(0, dtype=np.int64), theta=none, squares=none, centre=nothing, scale=nothing, widest=nothing,
        spread=np.zeros(()), sums=sums, before=sums, label=np.zeros(3), mass=np.zeros(spec.n_label_classes),
        fresh=np.zeros(()), noise=np.zeros((2, 2)), prior=np.array(START), faded=np.ones(2), length=np.zeros(GROUPS),
        folds=np.zeros((), dtype=np.int64),
    )  # fmt: skip


def empty(spec: Spec) -> Partial:
    """Return the identity of `merge`."""
    rows, none, sums = np.zeros(0, dtype=np.int64), np.zeros((0, spec.columns)), np.zeros((0, 3))
    return Partial(
        closed_rows=rows, closed_scaled=none, closed_moved=none, closed_squares=none, closed_sums=sums,
        open_rows=rows, open_scaled=none, open_moved=none, open_squares=none, open_sums=sums,
        runs=np.zeros((), dtype=np.int64), folds=np.zeros((), dtype=np.int64), label=np.zeros(3),
        mass=np.zeros(spec.n_label_classes), fresh=np.zeros(()), noise=np.zeros(2),
    )  # fmt: skip


def anchor(spec: Spec, state: State) -> Anchor | None:
    """Return what runs start from, as the last fold left it; None before the first row.

    A window of no weight is no fold though time goes by in it: runs of before and after it start from the same sums.
    """
    if weight(state) <= 0.0:
        return None
    weights = 1.0 / fading(state)[1]
    fresh, total = float(state.fresh), weight(state)
    seen = state.sums[-1, 0] + state.before[-1, 0]
    # As many rows count at least as stand behind a step.
    once = fresh * weights if spec.half_life is None else max(fresh * weights, FEWEST_ROWS)
    # Only a forged state has a weight and no row.
    often = (state.sums[:, 0] + state.before[:, 0]) * (once / seen if seen > 0 else 0.0)
    return Anchor(
        rows=state.rows, theta=state.theta, squares=state.squares, centre=state.centre, scale=state.scale,
        spread=state.spread, label=scaled_moments(state.label, weights),
        often=often, passes=np.asarray(total / fresh if fresh > 0 else 1.0), noise=state.noise[:, 1],
        prior=state.prior, folds=state.folds,
    )  # fmt: skip


def fading(state: State) -> np.ndarray:
    """Return what squares, and weights, count by since the last fold (2,); 1 where that is as good as 0."""
    return np.where(state.faded >= np.finfo(np.float64).tiny, state.faded, 1.0)


def weight(summary: State | Partial) -> float:
    """Return the rows' total (decayed) weight."""
    return float(summary.mass.sum())


def scale(spec: Spec, summary: State | Partial, factor: float) -> State | Partial:
    """Weigh all rows by a factor: forgetting. Parameters and moves stay; Σ gradient² of a state fades, so steps recover.

    A state's tables stay as the last fold wrote them, and `State.faded` tells by what they count: time goes by at no cost.
    """
    if factor == 1.0:
        return summary
    label = scaled_moments(summary.label, factor)
    if isinstance(summary, Partial):
        if weight(summary) * factor == 0.0:
            return empty(spec)
        return dataclasses.replace(
            summary, closed_sums=scaled_moments(summary.closed_sums, factor),
            open_sums=scaled_moments(summary.open_sums, factor), label=label, mass=summary.mass * factor,
            fresh=np.asarray(summary.fresh * factor), noise=summary.noise * factor,
        )  # fmt: skip
    # Steps recover, but not beyond those behind which a few rows stand.
    kept = max(factor, min(1.0, FEWEST_ROWS / weight(summary))) if weight(summary) > 0.0 else 1.0
    return dataclasses.replace(
        summary, label=label, mass=summary.mass * factor, fresh=np.asarray(summary.fresh * factor),
        noise=summary.noise * np.array([factor, 1.0]), faded=summary.faded * np.array([kept, factor]),
    )  # fmt: skip


def scaled_moments(moments: np.ndarray, factor: float) -> np.ndarray:
    """Weigh moments (…, 3) by a factor: weight, mean and Σ weight·(x − mean)²."""
    out = moments.copy()
    if factor != 1.0:
        out[..., 0] *= factor
        out[..., 2] *= factor
    return out


def now(state: State) -> State:
    """Return a state whose tables count in full: as its last fold would have written them at this time."""
    squares, weights = state.faded
    if squares == 1.0 and weights == 1.0:
        return state
    return dataclasses.replace(
        state, squares=state.squares * squares, sums=scaled_moments(state.sums, weights),
        before=scaled_moments(state.before, weights), faded=np.ones(2),
    )  # fmt: skip


def moves_of(partial: Partial) -> tuple[Moves, np.ndarray]:
    """Return the sums over all runs, and the moments of features' values (r, 3) at the same rows."""
    closed = Moves(partial.closed_rows, partial.closed_scaled, partial.closed_moved, partial.closed_squares)
    mine = Moves(partial.open_rows, partial.open_scaled, partial.open_moved, partial.open_squares)
    return _together((closed, partial.closed_sums), (mine, partial.open_sums))


def _together(a: tuple[Moves, np.ndarray], b: tuple[Moves, np.ndarray]) -> tuple[Moves, np.ndarray]:
    """Add two sets of runs' sums, and their features' moments; the touched rows of both are gone through once."""
    if a[0].rows.size == 0 or b[0].rows.size == 0:
        return b if a[0].rows.size == 0 else a
    (first, first_sums), (second, second_sums) = a, b
    rows, at_a, at_b = united(first.rows, second.rows)
    tables = (summed(getattr(first, n), getattr(second, n), at_a, at_b) for n in ("scaled", "moved", "squares"))
    nothing = np.zeros((1, 3))
    sums = added(*(np.concatenate([one, nothing])[at] for one, at in ((first_sums, at_a), (second_sums, at_b))))
    return Moves(rows, *tables), sums


def merge(spec: Spec, a: Partial, b: Partial) -> Partial:
    """Add two partials of one anchor; both open runs end."""
    if int(a.runs) == 0 or int(b.runs) == 0:
        return b if int(a.runs) == 0 else a
    with np.errstate(over="ignore", invalid="ignore"):
        moves, sums = _together(moves_of(a), moves_of(b))
        return dataclasses.replace(
            empty(spec), closed_rows=moves.rows, closed_scaled=moves.scaled, closed_moved=moves.moved,
            closed_squares=moves.squares,
            closed_sums=sums,
            runs=np.asarray(a.runs + b.runs), folds=np.maximum(a.folds, b.folds),
            label=joined_labels(a.label, b.label), mass=a.mass + b.mass, fresh=np.asarray(a.fresh + b.fresh),
            noise=a.noise + b.noise,
        )  # fmt: skip


def widened(spec: Spec, state: State, rows: np.ndarray) -> State:
    """Return a state that holds some more rows, as they start; the state itself where it holds them already."""
    if rows.size == state.rows.size:
        return state
    place, held = np.searchsorted(rows, state.rows), np.zeros(rows.size, dtype=bool)
    held[place] = True
    tables = {}
    for name in _WIDENED:
        table = getattr(state, name)
        tables[name] = np.zeros((rows.size, *table.shape[1:]))
        tables[name][place] = table
    theta, scale = np.empty((rows.size, spec.columns)), np.full(rows.size, 0.0 if spec.normalize else 1.0)
    theta[place], scale[place] = state.theta, state.scale
    theta[~held] = starts(spec, rows[~held])
    return dataclasses.replace(state, rows=rows, theta=theta, scale=scale, **tables)
