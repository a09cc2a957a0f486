"""Rounds: one bounded pipeline over the next slice of the source, then one publish, forever.

Only the publish has side effects: after a kill at any instant there is the old version or the new one, and the next start
resumes at its exact positions.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, Literal

from beam_ml.beam.engine import runs_here
from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.adding_up import check_covered, refuse_repeat
from beam_ml.beam.rounds.announcing import announce_version
from beam_ml.beam.rounds.file_plan import FilePlan
from beam_ml.beam.rounds.files import FileRounds
from beam_ml.beam.rounds.gather import drop_rows, rows_of
from beam_ml.beam.rounds.handover import Handed, handing_over
from beam_ml.beam.rounds.opening import opened
from beam_ml.beam.rounds.passes import after_round
from beam_ml.beam.rounds.pipe_plan import PipePlan
from beam_ml.beam.rounds.pipeline import accumulated, round_values, run_round_pipeline
from beam_ml.beam.rounds.pipes import PipeRounds
from beam_ml.beam.rounds.pool.early import Early
from beam_ml.beam.rounds.pool.processes import pool
from beam_ml.beam.rounds.pool.sharing import Shared, Task, parts_of, read_parts
from beam_ml.beam.rounds.prepare.preparer import Preparer, Turn, refuse_prepared
from beam_ml.beam.rounds.prepare.reading import lent
from beam_ml.beam.rounds.sizing import sized
from beam_ml.beam.rounds.source import RoundPlan, RoundSource
from beam_ml.beam.versions.contents import facts_of, models_of, payloads_of, verdict_of
from beam_ml.beam.versions.crowding import places_facts
from beam_ml.beam.versions.keeping import Keeper
from beam_ml.beam.versions.life import folded, take_in, tidy, undone
from beam_ml.beam.versions.lineage import Standing, publish
from beam_ml.beam.versions.resume import resume
from beam_ml.core import learner as learners
from beam_ml.core.algorithm import Algorithm, LawKind
from beam_ml.core.cursors import Passes
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh, derive_all, fold_open
from beam_ml.core.threads import VARIABLE, cores, one_thread, using, whole
from beam_ml.errors import InvalidValue, SourceError
from beam_ml.registry import Manifest, Registry, new_round_id, round_files, sweep_rounds

__all__ = ["Mode", "Round", "train"]

_log = logging.getLogger(__name__)
_RETRY_S = 5.0
"""Between two attempts at a round, where brokers do not answer."""
_FIRST_ROWS, _FIRST_ADDING_ROWS = 2_048, 65_536
"""Sizes of a cold start's first round."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mode:
    """How long to run: `once` takes what is there now, `follow` waits for more; `close` folds open windows at the end.

    >>> Mode("follow"), Mode(close=True).kind
    (Mode(kind='follow', close=False), 'once')
    """

    kind: Literal["once", "follow"] = "once"
    close: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """The result of one round.

    Attributes:
        manifest: of the version it published.
        refreshes: the folds in it, with the seconds each took (accumulating too, where windows are learned in order); none
            when no window closed.
        progress: the rows it scanned.
        open_windows: windows still open after it.
        passes: how the passes over the files go; None: the job asks for one.
        seconds: the whole round; `pipeline_s` of them in the pipeline.
    """

    manifest: Manifest
    refreshes: tuple[tuple[Refresh, float], ...]
    progress: Progress
    open_windows: int
    seconds: float
    pipeline_s: float
    passes: Passes | None = None


@dataclasses.dataclass(slots=True)
class _Run:
    """One trainer between two publishes."""

    job: Job
    source: RoundSource
    registry: Registry
    algorithm: Algorithm
    options: Sequence[str]
    standing: Standing
    learner: Learner
    models: dict[str, Any]
    in_order: bool = False
    shared: Shared = dataclasses.field(default_factory=Shared)
    preparer: Preparer | None = None
    keeper: Keeper | None = None


def train(
    job: Job,
    registry: Registry,
    mode: Mode = Mode(),
    options: Sequence[str] = (),
    stopping: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> Iterator[Round]:
    """Train in rounds; yields after each publish.

    Args:
        job: the deployment.
        registry: where versions go; training resumes from the newest one there.
        mode: once or follow; whether to fold open windows at the end.
        options: Beam options of each round's pipeline; without a runner the in-process one is taken.
        stopping: asked between rounds, and while brokers do not answer: True ends cleanly.
        threads: cores that are used where this process is the engine, by its threads and, in large rounds, by processes
            beside it; None: those that it may use. What is learned follows from their number; 1: no process is started.

    Raises:
        HeadMoved: another trainer publishes under this name.
        SourceError, PublishFailed, TrainingFailed, RoundAbandoned: nothing of the round has had an effect. Brokers that
            go away while one follows them are waited for.
        InvalidValue: the job's spec is not the one that the registry's learner was trained with; or threads are given where
            another engine learns.

    >>> import tempfile, pyarrow as pa
    >>> from beam_ml import formats
    >>> folder, where = tempfile.mkdtemp(), tempfile.mkdtemp()
    >>> _ = formats.write(f"{folder}/a.csv", [pa.record_batch({"x": [1.0, 3.0, 5.0]})], "csv")
    >>> settings = {"source": {"path": folder}, "features": {"numeric": ["x"]}, "spec": {"algorithm": "pca"}}
    >>> models = {"first": {"kind": "components", "n_components": 1}}
    >>> job = Job.parse({"name": "shape", "registry": where, "models": models, **settings})
    >>> [(one.manifest.number, one.progress.rows) for one in train(job, Registry(where))]
    [(1, 3)]
    >>> list(train(job, Registry(where)))  # nothing new has come
    []
    """
    if registry.objects.where.startswith("memory:"):
        message = f"registry must be a place that workers reach, a folder or a bucket; got {registry.objects.where!r}."
        raise InvalidValue(message)
    if mode.kind == "follow" and mode.close:
        message = "close folds the windows still open at the end, and follow has none: pass one of them."
        raise InvalidValue(message)
    if mode.kind == "follow" and job.passes > 1:
        message = f"job.passes must be 1 with follow, which has no end to begin again after; got {job.passes}."
        raise InvalidValue(message)
    job = sized(job, registry).job
    if job.prepares and not runs_here(options):
        message = (
            "rolling, labels and predictions must be left out where another engine runs the rounds: raw rows are prepared "
            f"in the trainer's own process; got the options {[*options]}."
        )
        raise InvalidValue(message)
    if job.predictions is not None and job.predictions.path is None:
        message = (
            "predictions.path must be given in rounds, a folder for a file per round; got predictions.topic alone, which a "
            "stream writes to (beam-ml stream)."
        )
        raise InvalidValue(message)
    with contextlib.ExitStack() as stack:
        wanted = [job.source] if job.labels is None else [job.source, job.labels.source]
        sources = [opened(one, job, mode.kind == "follow", stopping) for one in wanted]
        for one in sources:
            stack.callback(one.close)
        run = _start(job, registry, sources[0], options)
        if job.prepares:
            run.preparer = Preparer(job, registry, run.standing.version, dict(enumerate(sources)).get(1), options)
        else:
            refuse_prepared(job, registry, run.standing.version)
        yield from _rounds(run, mode, stopping, _threads(threads, options))


def _threads(wanted: int | None, options: Sequence[str]) -> int | None:
    """Return how many threads this process uses; None: it is not the engine."""
    if runs_here(options):
        return cores() if wanted is None else whole("threads", wanted)
    if wanted is not None:
        message = f"threads must be left out where another engine learns: its workers go by {VARIABLE}; got {wanted}."
        raise InvalidValue(message)
    return None


def _rounds(run: _Run, mode: Mode, stopping: Callable[[], bool], threads: int | None) -> Iterator[Round]:
    follow, source = mode.kind == "follow", run.source
    while not stopping():
        try:
            wanted = _rows_wanted(run)
            with using(threads):
                one = _next(run, wanted)
            if one is not None:
                yield one
            elif not follow:
                break
            # A small round that was full is followed at once: more of what has come is there.
            small = one is not None and wanted < run.job.source.round_rows and one.progress.scanned >= wanted // 2
            if follow and not small:
                source.wait(run.learner, stopping)
        except SourceError as error:
            # What was planned or half read has had no effect.
            if not (source.is_transient(error) or (run.preparer is not None and run.preparer.is_transient(error))):
                raise
            # Without --follow nobody is waited for: what cannot be read is passed by in the next plan.
            pause_s = _RETRY_S if follow else 0.0
            _log.warning("%s Retrying in %g s.", error, pause_s)
            _pause(pause_s, stopping)
    if mode.close and run.learner.pending and not stopping():
        yield _close(run)


def _next(run: _Run, wanted_rows: int) -> Round | None:
    """Run the next round; return None if there is nothing to read."""
    plan = run.source.plan(run.learner, wanted_rows)
    return None if plan is None else _round(run, plan)


def _pause(seconds: float, stopping: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stopping() and time.monotonic() < until:
        time.sleep(0.1)


def _start(job: Job, registry: Registry, source: RoundSource, options: Sequence[str]) -> _Run:
    (standing, learner), algorithm = resume(job, registry), job.algorithm()
    sweep_rounds(registry, job.name, job.retention.grace)  # what a crash loop leaves is bounded by the grace
    with one_thread():
        models = derive_all(algorithm, learner, job.plan().models)
    return _Run(
        job, source, registry, algorithm, options, standing, learner, models, job.in_order(runs_here(options)),
        keeper=_keeper(job, registry, algorithm),
    )  # fmt: skip


def _keeper(job: Job, registry: Registry, algorithm: Algorithm) -> Keeper | None:
    """Return what keeps closed windows; None: the job wants none kept."""
    size = job.windows().size_us
    return None if job.ledger is None or size is None else Keeper(registry, job.name, algorithm, job.ledger, size)


def _rows_wanted(run: _Run) -> int:
    """Rounds of a cold start grow geometrically, so that gradient learners get fresh anchors while it matters.

    Where parts of different anchors add, an anchor of n rows is off by about 1/√n, and what that costs by 1/n: a round may
    be 16 times as large as the one before it. Where they do not, no round is larger than half of what came before it: all
    its windows are grown from one anchor, and from none at first; learned in order, each has its own, however long the
    round. Later passes over the first files are no cold start any more, but have four rounds or more each. Sizes are powers
    of two: where a file may be cut is looked up again for each size, which in CSV means reading all of it.
    """
    wanted, law = run.job.source.round_rows, run.algorithm.law(run.learner.spec)
    if law.kind is not LawKind.ANCHORED or run.in_order:
        return wanted
    if law.across_anchors:
        return min(wanted, _FIRST_ADDING_ROWS << min(4 * (run.standing.version or 0), 40))
    parts = 2 if run.job.passes == 1 else 4 * (run.learner.cursors.passes or Passes()).number
    rows = max(_FIRST_ROWS, learners.scanned(run.learner).scanned // parts)
    if isinstance(run.source, FileRounds | PipeRounds):
        rows = run.source.sized(run.learner, rows)
    return min(wanted, 1 << (rows.bit_length() - 1))


def _round(run: _Run, plan: RoundPlan) -> Round:
    begun = time.monotonic()
    round_id = new_round_id(run.standing.head)
    with undone(run.registry, run.job.name, round_id):
        turn = None if run.preparer is None else run.preparer.turn(plan, run.learner, round_id)
        plan = plan if turn is None else turn.plan
        early = Early(run.algorithm, run.learner, run.job.plan(), run.models)
        with handing_over(round_id) as handed, lent(round_id, () if turn is None else turn.blocks):
            found = _read(run, round_id, plan, handed, early)
        piped = time.monotonic()
        rows = rows_of(run.registry, run.job.name, round_id, handed.rows) if run.in_order else {}
        gathered = (Progress.of(one.rows, one.late) for slices in rows.values() for one in slices)
        total = reduce(Progress.merge, gathered, Progress())
        total = reduce(Progress.merge, (value.progress for value in found.values()), total)
        check_covered(plan, total)
        refuse_repeat(run.learner, total)
        learner = run.learner.replace(progress=run.learner.progress.merge(plan.lost))
        learner = take_in(run.algorithm, learner, sorted(found.items()), run.job.refresh != "round")
        learner = learner.replace(cursors=plan.advance(learner.cursors))
        if run.in_order:
            through = _through(run, turn, learner.replace(progress=learner.progress.merge(total)))
            after, refreshes = early.finish(learner, rows, through)
            run.shared.guessing = early.held_good
        else:
            through = float("inf") if run.job.refresh == "round" else _through(run, turn, learner)
            steps = fold_open(run.algorithm, learner, run.job.plan(), through, run.models, published=True)
            after, refreshes = folded(learner, steps)
        after = _with_passes(run, plan, run.source.trim(after), [one for one, _ in refreshes])
        models = _newest(run, refreshes)
    manifest = _publish(run, round_id, learner, after, refreshes, models, turn)
    if run.in_order and not handed.rows:
        drop_rows(run.registry, run.job.name, round_id)
    return _done(run, manifest, after, refreshes, models, total.merge(plan.lost), begun, piped - begun)


def _read(run: _Run, round_id: str, plan: RoundPlan, handed: Handed, early: Early) -> dict[int, Any]:
    """Read what a plan says; return what was accumulated by window end."""
    here = runs_here(run.options)
    parts = parts_of(run.job, plan, run.in_order) if here else []
    if parts:
        where = run.registry.objects.where
        values = round_values(run.job, where, round_id, run.learner, run.standing)
        task = Task(run.job, where, values, run.options, run.in_order)
        return read_parts(task, parts, pool, run.shared, handed.rows, early)
    run_round_pipeline(
        run.job, run.registry, round_id, plan, run.learner, run.standing, run.options, run.in_order,
        run.shared.pipelines(1)[0] if here else None,
    )  # fmt: skip
    return handed.accumulations if here else accumulated(run.job, run.registry, round_id)


def _through(run: _Run, turn: Turn | None, learner: Learner) -> float:
    """Return the time before which no row is expected any more, µs: where rows are prepared, all before it have been."""
    return run.source.watermark(learner) if turn is None else float(turn.kept.until)


def _with_passes(run: _Run, plan: RoundPlan, learner: Learner, refreshes: Sequence[Refresh]) -> Learner:
    """Note what the round did to its pass, where there are several."""
    job = run.job
    before = learner.cursors.passes
    if not isinstance(plan, FilePlan | PipePlan) or (job.passes == 1 and before is None):
        return learner
    after = after_round(before or Passes(), plan.after.number, plan.last, refreshes, job.passes, job.early_stopping)
    return learner.replace(cursors=dataclasses.replace(learner.cursors, passes=after))


def _close(run: _Run) -> Round:
    begun = time.monotonic()
    steps = fold_open(run.algorithm, run.learner, run.job.plan(), previous=run.models, published=True)
    after, refreshes = folded(run.learner, steps)
    models = _newest(run, refreshes)
    manifest = _publish(run, new_round_id(run.standing.head), run.learner, after, refreshes, models)
    return _done(run, manifest, after, refreshes, models, Progress(), begun, 0.0)


def _newest(run: _Run, refreshes: Sequence[tuple[Refresh, float]]) -> dict[str, Any]:
    return dict(refreshes[-1][0].models) if refreshes else run.models


def _done(
    run: _Run,
    manifest: Manifest,
    learner: Learner,
    refreshes: list[tuple[Refresh, float]],
    models: dict[str, Any],
    progress: Progress,
    begun: float,
    pipeline_s: float,
) -> Round:
    run.standing, run.learner, run.models = run.standing.at(manifest), learner, models
    job = run.job
    run.source.published(learner)
    announce_version(job.announce, manifest)
    tidy(run.registry, job.name, manifest.number, job.retention.keep, job.retention.grace)
    seconds = time.monotonic() - begun
    passes = learner.cursors.passes
    return Round(manifest, tuple(refreshes), progress, len(learner.pending), seconds, pipeline_s, passes)


def _publish(
    run: _Run,
    round_id: str,
    before: Learner,
    learner: Learner,
    refreshes: list[tuple[Refresh, float]],
    models: dict[str, Any],
    turn: Turn | None = None,
) -> Manifest:
    job, features = run.job, run.job.features.to_dict()
    verdict = verdict_of([one for one, _ in refreshes], models, run.standing.verdict)
    rejects = [f for f in round_files(run.registry, job.name, round_id) if f.endswith(".jsonl")]
    facts = facts_of(learner, (one.to_dict() | {"seconds": seconds} for one, seconds in refreshes))
    facts |= {"features": features, "rejects": rejects} | places_facts(job.name, features, learner)
    payloads = payloads_of(learner, models_of(learner, job.plan().models, models, features))
    if run.preparer is not None:
        payloads |= run.preparer.payloads(turn)
        facts |= run.preparer.facts(turn)
    kept = None if run.keeper is None else run.keeper.kept(run.standing.version, before, learner, refreshes)
    facts |= {} if kept is None else dict(kept.facts)
    manifest = publish(run.registry, job.name, run.standing, payloads, verdict, facts, round_id, kept)[0]
    if run.keeper is not None:
        run.keeper.published(manifest)
    if run.preparer is not None:
        run.preparer.published(turn, manifest)
    return manifest
