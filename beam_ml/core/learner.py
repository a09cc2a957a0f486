"""`Learner`: everything one training run keeps: the saved artefact, what `fit`, `load` and `merge` return."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from beam_ml.core import decay, metrics, rejects
from beam_ml.core.accumulation import COLD, Accumulation, same_names
from beam_ml.core.accumulation import merge as merge_accumulations
from beam_ml.core.algorithm import Algorithm, LawKind
from beam_ml.core.cursors import Cursors
from beam_ml.core.decay import AsOf
from beam_ml.core.labels import BINARY, Pair, rule
from beam_ml.core.metrics import Metrics
from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec
from beam_ml.errors import MergeRefused

__all__ = ["Learner", "merge", "new"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Learner:
    """State, and what is known about its origin.

    Attributes:
        spec: shapes the state.
        dated: the state and the event time its weights are relative to.
        progress: the rows folded, and those rejected on the way.
        sample: decayed sample of the folded rows, for thresholds, calibration and model selection.
        metrics: candidate name → progressive (test-then-train) metrics, decayed.
        metrics_time: event time the metrics are relative to, µs.
        candidates: candidate name → canonical JSON of the model spec that its metrics are of.
        champion: candidate with the best progressive loss; None until there is one.
        refresh: number of folds so far.
        coalesced: how many of those were published in the same version as the fold before.
        last_cold_version: the last version whose state had no anchor, where anchors may grow too old; 0: all had one.
        folded_through: end of the last window folded, µs; None before the first.
        discarded: folds discarded in a row because they turned the state non-finite.
        history: the champion's metrics of the last refreshes, oldest first.
        cursors: what was read of the sources, and so where reading resumes.
        pending: window end, µs → accumulation of a window still open.
        labels: the two numbers that stood for the classes 0 and 1 where `fit` was given others; None: 0 and 1.
        names: of the features, in their order, where the batches were made of frames; None: unknown.
        features: the settings by which `fit` made batches of raw rows; None: it was given batches, or a job has them.

    >>> from beam_ml import Batch, fit, pca
    >>> learner = fit(pca.Spec(n_features=2), [Batch.dense([[1.0, 2.0], [3.0, 4.0]])])
    >>> learner
    Learner(pca, refresh 1, 2 rows)
    >>> learner.state.mean.tolist(), learner.progress.rows
    ([1.0, 1.0], 2)
    """

    spec: Spec
    dated: AsOf
    progress: Progress
    sample: Sample
    metrics: Mapping[str, Metrics] = dataclasses.field(default_factory=dict)
    metrics_time: int | None = None
    candidates: Mapping[str, str] = dataclasses.field(default_factory=dict)
    champion: str | None = None
    refresh: int = 0
    coalesced: int = 0
    last_cold_version: int = 0
    folded_through: int | None = None
    discarded: int = 0
    history: tuple[Mapping[str, float], ...] = ()
    cursors: Cursors = dataclasses.field(default_factory=Cursors)
    pending: Mapping[int, Accumulation] = dataclasses.field(default_factory=dict)
    labels: Pair | None = None
    names: tuple[str, ...] | None = None
    features: Mapping[str, Any] | None = None

    @property
    def state(self) -> Any:
        """The algorithm's state."""
        return self.dated.summary

    @property
    def version(self) -> int:
        """How many versions of the state there have been: published ones that folded something; unpublished, each fold."""
        return self.refresh - self.coalesced

    def replace(self, **changes: Any) -> "Learner":
        """Return a copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def __repr__(self) -> str:
        open_windows = f", {len(self.pending)} open windows" if self.pending else ""
        rejected = rejects.said(self.progress)
        rows = f"{self.progress.rows:,} rows" + (f", {rejected}" if rejected else "")
        coded = f", {rule(self.labels)}" if self.labels else ""
        return f"Learner({self.spec.algorithm}, refresh {self.refresh}, {rows}{open_windows}{coded})"


def new(algorithm: Algorithm, spec: Spec) -> Learner:
    """Return a learner that has seen nothing."""
    return Learner(spec, AsOf(algorithm.init(spec)), Progress(), Sample.empty(spec))


def add_pending(algorithm: Algorithm, learner: Learner, end: int, accumulation: Accumulation) -> Learner:
    """Merge an accumulation into the open window that ends at `end`."""
    pending = dict(learner.pending)
    mine = pending.get(end)
    if mine is not None:
        accumulation = merge_accumulations(algorithm, learner.spec, mine, accumulation)
    pending[end] = accumulation
    return learner.replace(pending=dict(sorted(pending.items())))


def scanned(learner: Learner) -> Progress:
    """Return the merged progress of folded and open windows."""
    total = learner.progress
    for accumulation in learner.pending.values():
        total = total.merge(accumulation.progress)
    return total


def merge(algorithm: Algorithm, a: Learner, b: Learner, *, allow_overlap: bool = False) -> Learner:
    """Merge two learners of one spec: two regions, two days.

    Raises:
        MergeRefused: other specs, the law forbids it, both have scanned the same rows of a source, or an open window
            holds partials of an anchor that the other learner does not have.
    """
    if a.spec.fingerprint != b.spec.fingerprint:
        mine, other = a.spec.to_dict(), b.spec.to_dict()
        differ = sorted(key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key))
        text = ", ".join(f"{key} {mine.get(key)!r} and {other.get(key)!r}" for key in differ)
        message = f"Learners of one spec merge; these differ in {text}."
        raise MergeRefused(message)
    law = algorithm.law(a.spec)
    if law.kind is LawKind.GATHERED:
        message = (
            f"{algorithm.name} trains on gathered rows: its parameters do not add, so learners cannot merge; let one "
            "learner learn from the rows of both, as fit(spec, rows, learner=a) does, or a job with both sources."
        )
        raise MergeRefused(message)
    anchored = sorted({at for one in (a, b) for value in one.pending.values() for at in value.parts} - {COLD})
    if anchored and not law.across_anchors:
        message = (
            f"Learners of {algorithm.name} merge when no open window holds rows learned from an anchor, since an anchor's "
            f"number means another one in each learner; got rows of anchor {anchored[0]} (fold the open windows first)."
        )
        raise MergeRefused(message)
    shared = scanned(a).overlap(scanned(b))
    if shared and not allow_overlap:
        origin, ranges = next(iter(sorted(shared.items())))
        where = f"{origin.source} {origin.partition}".strip()
        message = (
            f"Learners must not share rows; both have scanned {where} from {int(ranges[0, 0])} to {int(ranges[0, 1])} "
            "(allow_overlap=True counts them twice)."
        )
        raise MergeRefused(message)
    return _merged(algorithm, a, b)


def _merged(algorithm: Algorithm, a: Learner, b: Learner) -> Learner:
    spec = a.spec
    time = decay.later(a.dated.time, b.dated.time)
    left, right = (decay.advance(algorithm, spec, one.dated, time) for one in (a, b))
    samples = (one.sample.scale_mass_to(spec, time).estimate(spec) for one in (a, b))
    if algorithm.merge_states is None:
        state = algorithm.merge(spec, left.summary, right.summary)
    else:
        state = algorithm.merge_states(spec, left.summary, right.summary, *samples)
    measured_at = decay.later(a.metrics_time, b.metrics_time)
    # A name that stands for two model specs has metrics of neither.
    torn = {name for name, text in a.candidates.items() if b.candidates.get(name, text) != text}
    candidates = {name: text for name, text in {**a.candidates, **b.candidates}.items() if name not in torn}
    measured = {name: value for name, value in metrics_at(a, measured_at).items() if name not in torn}
    for name, value in metrics_at(b, measured_at).items():
        if name not in torn:
            measured[name] = metrics.merge(measured[name], value) if name in measured else value
    refresh, version = max(a.refresh, b.refresh), max(a.version, b.version)
    champion = a.champion if a.progress.rows >= b.progress.rows else b.champion
    merged = Learner(
        spec=spec,
        dated=AsOf(state, time),
        progress=a.progress.merge(b.progress),
        sample=a.sample.merge(b.sample, spec),
        metrics=dict(sorted(measured.items())),
        metrics_time=measured_at,
        candidates=dict(sorted(candidates.items())),
        champion=None if champion in torn else champion,
        refresh=refresh,
        coalesced=refresh - version,
        last_cold_version=max(a.last_cold_version, b.last_cold_version),
        folded_through=decay.later(a.folded_through, b.folded_through),
        cursors=a.cursors.merge(b.cursors),
        pending=dict(a.pending),
        labels=_labels(a, b),
        names=same_names(a.names, b.names),
        features=_features(a, b),
    )
    for end, accumulation in b.pending.items():
        merged = add_pending(algorithm, merged, end, accumulation)
    return merged


def _features(a: Learner, b: Learner) -> Mapping[str, Any] | None:
    """Return the settings by which both made batches of raw rows; one that was given batches agrees with any."""
    if a.features is not None and b.features is not None and a.features != b.features:
        mine, other = a.features, b.features
        differ = sorted(key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key))
        message = f"Learners merge if their batches were made alike; their features differ in {', '.join(differ)}."
        raise MergeRefused(message)
    return b.features if a.features is None else a.features


def _labels(a: Learner, b: Learner) -> Pair | None:
    """Return the numbers that stand for the classes in both; a learner without rows agrees with any."""
    known = {one.labels or BINARY for one in (a, b) if one.progress.rows}
    if len(known) > 1:
        text = " and ".join(f"({negative:g}, {positive:g})" for negative, positive in sorted(known))
        message = f"Learners merge if their classes were written alike; got {text}."
        raise MergeRefused(message)
    if known:
        (pair,) = known
        return None if pair == BINARY else pair
    return a.labels or b.labels


def metrics_at(learner: Learner, time: int | None) -> Mapping[str, Metrics]:
    """Return the progressive metrics with their weights brought forward to `time`."""
    if time is None or learner.metrics_time is None or learner.spec.half_life is None or time <= learner.metrics_time:
        return learner.metrics
    factor = decay.factor(learner.spec.half_life, time - learner.metrics_time)
    return {name: metrics.scale(value, factor) for name, value in learner.metrics.items()}
