"""How large a job's versions are, said before it runs: as its newest one is, or as its first rows make them."""

from collections.abc import Sequence

from beam_ml import api, formats
from beam_ml.artefact.records import encode_learner
from beam_ml.beam.job import FileSource, Job
from beam_ml.beam.job.looking import Looked, blocks_of
from beam_ml.beam.versions.contents import models_of, payloads_of
from beam_ml.core import learner as learners
from beam_ml.core.batch import Batch
from beam_ml.core.labels import BINARY
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import derive_all
from beam_ml.errors import BeamMLError
from beam_ml.formats import Block
from beam_ml.registry import Manifest, Registry

__all__ = ["MOST_ROWS", "first_rows", "learned", "models_bytes", "sizes_said"]

MOST_ROWS = 10_000
"""Rows that are looked at, and learned from to see how large the state gets."""


def first_rows(source: FileSource, columns: Sequence[str]) -> Block | None:
    """Return the first rows of files; None: there are none.

    Args:
        source: where they are.
        columns: to read.

    Raises:
        NoInput, UnreadableInput, MissingColumn: the files, or the columns it names, are not there.
    """
    files = formats.list_files(source.path, source.format)
    return next(blocks_of(source, files[0], columns, MOST_ROWS), None)


def learned(job: Job, batches: Sequence[Batch]) -> Learner:
    """Return what a job learns from some rows."""
    # A job takes labels as they are, where `fit` would read −1 and 1 as 0 and 1.
    empty = learners.new(job.algorithm(), job.algorithm_spec()).replace(labels=BINARY)
    return api.fit(empty.spec, batches, learner=empty, limits=job.limits)


def models_bytes(job: Job, learner: Learner) -> int:
    """Return the bytes of the job's models of a learner."""
    specs = job.plan().models
    derived = derive_all(job.algorithm(), learner, specs)
    stored = payloads_of(learner, models_of(learner, specs, derived, job.features.to_dict()))
    return sum(len(data) for name, data in stored.items() if name != "learner")


def sizes_said(looked: Looked, registry: Registry) -> list[str]:
    """Return the sentences that a run begins with: how large its state and models are, and which columns are crowded.

    None where its files cannot be read: the run says what is wrong with them, or waits for others.

    Args:
        looked: the job, with the places of its columns of categories.
        registry: whose newest version tells the size, where there is one.
    """
    job = looked.job
    found = registry.latest(job.name)
    try:
        state, models, by = _cold(job) if found is None else _of(found.manifest)
    except BeamMLError:
        return []
    each = f"{_mb(state + models)} per version (state {_mb(state)}, models {_mb(models)}), {by}"
    kept = f"{job.retention.keep} are kept: {_mb((state + models) * job.retention.keep)}"
    return [f"{job.name}: {job.features.n_features:,} features, {each}; {kept}.", *looked.crowded()]


def _of(manifest: Manifest) -> tuple[int, int, str]:
    state = manifest.files["learner"].bytes
    return state, sum(file.bytes for file in manifest.files.values()) - state, f"as v{manifest.number} has"


def _cold(job: Job) -> tuple[int, int, str]:
    """Return the bytes of state and models, and by what they are known.

    Raises:
        BeamMLError: its files cannot be read.
    """
    algorithm, spec = job.algorithm(), job.algorithm_spec()
    block = None
    if isinstance(job.source, FileSource) and not job.prepares:
        block = first_rows(job.source, job.raw_columns)
    if block is not None:
        learner = learned(job, [job.features.to_batch(block)[0]])
        by = f"as the first {len(block):,} rows make it{', and more as categories come' * bool(job.features.by_hash)}"
        return len(encode_learner(algorithm, learner)), models_bytes(job, learner), by
    return len(encode_learner(algorithm, learners.new(algorithm, spec))), 0, "before any row: what is seen adds to it"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"
