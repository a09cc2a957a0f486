"""The bounded pipeline of one round: ranges → files of the round.

They are one accumulation per window end, or the window's rows where the trainer learns from windows in order; and the
rejects. Where the trainer is the engine itself, all but the rejects are handed over in memory.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from apache_beam import ParDo, Pipeline
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_accumulation, encode_accumulation
from beam_ml.beam.engine import new_pipeline, run, runs_here
from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.gather import Gather, HandOver, WriteRows
from beam_ml.beam.rounds.handover import hand_over
from beam_ml.beam.rounds.source import RoundPlan
from beam_ml.beam.steps import Step, renew
from beam_ml.beam.transforms.accumulate import Accumulate
from beam_ml.beam.transforms.batches import SliceByWindow, ToBatches
from beam_ml.beam.transforms.merge import Merge
from beam_ml.beam.transforms.rejects import WriteRejects
from beam_ml.beam.versions.lineage import Standing
from beam_ml.beam.wire.references import AnchorRef, spec_of
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.learner import Learner, scanned
from beam_ml.core.limits import Seen
from beam_ml.core.sample import Sample
from beam_ml.registry import Registry, put_round, read_round, round_files

__all__ = ["accumulated", "round_values", "run_plan", "run_round_pipeline"]


@with_input_types(tuple[int, Accumulation])
@with_output_types(type(None))  # left out, Beam would look for it through all that writing calls
class _WriteAccumulation(Step):
    """Writes a window's accumulation whole or not at all; a retried bundle writes the same file again."""

    renewed = ("round_id",)

    def __init__(self, registry: str, name: str, round_id: str) -> None:
        self._where, self._name, self._round_id = registry, name, round_id

    def setup(self) -> None:
        self._registry = Registry(self._where)

    def process(self, element: tuple[int, Accumulation]) -> None:
        end, accumulation = element
        algorithm, spec = spec_of(accumulation.spec.to_json())
        data = encode_accumulation(algorithm, spec, accumulation)
        put_round(self._registry, self._name, self._round_id, f"{end}.safetensors", data)


@with_input_types(tuple[int, Accumulation])
@with_output_types(type(None))
class _HandOverAccumulation(Step):
    """Hands a window's accumulation to the process that runs the pipeline."""

    renewed = ("round_id",)
    _round_id = ""

    def process(self, element: tuple[int, Accumulation]) -> None:
        hand_over(self._round_id, *element)


def round_values(job: Job, where: str, round_id: str, learner: Learner, standing: Standing) -> dict[str, Any]:
    """Return what the steps of a round's pipeline are given besides its plan (`steps.renew`).

    Args:
        job: the deployment.
        where: place of the registry.
        round_id: of this attempt.
        learner: the parent's: late rows are judged against its last folded window.
        standing: the trainer's: workers start from the anchor of its version.
    """
    return {
        "folded_through": learner.folded_through,
        "newest": scanned(learner).time_max,
        "anchor_ref": _anchor(job, where, learner, standing),
        "before": _before(job, learner),
        "round_id": round_id,
        "prefix": f"{job.name}/rounds/{round_id}/rejects-",
    }


def run_round_pipeline(
    job: Job,
    registry: Registry,
    round_id: str,
    plan: RoundPlan,
    learner: Learner,
    standing: Standing,
    options: Sequence[str],
    in_order: bool = False,
    built: dict[Hashable, Pipeline] | None = None,
) -> None:
    """Read the round's slice and write the round's files; returns when the pipeline has finished.

    Args:
        job: the deployment.
        registry: where the round's files go; its place is shipped to the workers.
        round_id: of this attempt.
        plan: what to read.
        learner: the parent's: late rows are judged against its last folded window.
        standing: the trainer's: workers start from the anchor of its version.
        options: Beam options; without a runner, the in-process one is taken.
        in_order: the trainer learns from the rows; the workers only gather them.
        built: the pipeline of this trainer's last round, by the shape of its plan; None: none is kept.

    Raises:
        BeamMLError: a worker's error, as the worker raised it.
    """
    where = registry.objects.where
    run_plan(job, where, plan, round_values(job, where, round_id, learner, standing), options, in_order, built)


def run_plan(
    job: Job,
    where: str,
    plan: RoundPlan,
    values: Mapping[str, Any],
    options: Sequence[str],
    in_order: bool = False,
    built: dict[Hashable, Pipeline] | None = None,
) -> None:
    """Read what a plan says of a round; returns when the pipeline has finished.

    Args:
        job: the deployment.
        where: the place of the registry.
        plan: of the round, or of a part of it.
        values: see `round_values`.
        options: Beam options.
        in_order: rows are only gathered.
        built: see `run_round_pipeline`.

    Raises:
        BeamMLError: a worker's error, as the worker raised it.
    """
    built, shape = {} if built is None else built, plan.shape()
    if shape not in built:
        built.clear()
        built[shape] = _built(job, where, plan, options, in_order)
    renew(built[shape], {**plan.renewed(), **values})
    run(built[shape])


def _built(job: Job, where: str, plan: RoundPlan, options: Sequence[str], in_order: bool) -> Pipeline:
    """Build the pipeline of a plan's shape, still without what `renew` sets."""
    spec = job.algorithm_spec()
    columns = job.features.columns()
    pipeline = new_pipeline(options)
    slices = (
        pipeline
        | "Read" >> plan.read(columns)
        | "Batches" >> ToBatches(job.features, max_ahead=job.max_ahead_of_record())
        | "Slices" >> SliceByWindow(job.windows())
    )
    written, here = (where, job.name, ""), runs_here(options)
    if in_order:
        gathered = slices | "Gather" >> Gather(spec, job.limits, job.features.names)
        _ = gathered.rows | "Rows" >> (HandOver() if here else WriteRows(*written))
        accumulations, rejected = gathered.counted, gathered.rejected
    else:
        accumulations, rejected = slices | "Accumulate" >> Accumulate(spec, limits=job.limits, names=job.features.names)
    done = _HandOverAccumulation() if here else _WriteAccumulation(*written)
    _ = accumulations | "Merge" >> Merge(spec) | "Write" >> ParDo(done)
    _ = rejected | "Rejects" >> WriteRejects(where, "")
    return pipeline


def _before(job: Job, learner: Learner) -> str:
    """Return what the learner has seen, as the steps hold it."""
    if job.limits.deviations == "any":
        return ""
    samples = [learner.sample, *(one.sample for one in learner.pending.values())]
    sampled = Sample.merge_all(samples, learner.spec).estimate(learner.spec)
    seen = Seen.of(sampled, len(job.features.names))
    return "" if seen is None else seen.to_json()


def _anchor(job: Job, where: str, learner: Learner, standing: Standing) -> AnchorRef | None:
    stored = standing.learner_in(where, job.name)
    if stored is None or job.algorithm().anchor(job.algorithm_spec(), learner.state) is None:
        return None
    return stored


def accumulated(job: Job, registry: Registry, round_id: str) -> dict[int, Accumulation]:
    """Return what a round's pipeline has accumulated, of its files, by window end.

    Args:
        job: the deployment.
        registry: where the files are.
        round_id: of the attempt.
    """
    found, find = dict[int, Accumulation](), finder([job.algorithm()])
    for file in round_files(registry, job.name, round_id):
        stem, _, ending = file.partition(".")
        if ending == "safetensors":
            _, found[int(stem)] = decode_accumulation(read_round(registry, job.name, round_id, file), find)
    return found
