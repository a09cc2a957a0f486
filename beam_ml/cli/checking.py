"""`beam-ml train --check`: all of a job but running it: what it would read, use and keep."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml import formats
from beam_ml.artefact.records import encode_learner
from beam_ml.beam.job import FileSource, Job
from beam_ml.beam.job.looking import Looked
from beam_ml.cli.sizes import first_rows, learned, models_bytes
from beam_ml.core import learner as learners
from beam_ml.core.batch import Batch
from beam_ml.core.spec import to_us
from beam_ml.formats.messages import MESSAGE_COLUMNS, decoder

__all__ = ["checked", "lines"]


def checked(looked: Looked) -> dict[str, Any]:
    """Return what a job would do, from its settings and the first rows of its files.

    Args:
        looked: the job, with the places of its columns of categories.

    Raises:
        NoInput, UnreadableInput, MissingColumn: its files, or the columns it names, are not there.
    """
    job = looked.job
    spec, algorithm = job.algorithm_spec(), job.algorithm()
    found: dict[str, Any] = {
        "name": job.name,
        "registry": job.registry,
        "source": job.source.where,
        "algorithm": spec.algorithm,
        "features": spec.n_features,
        "columns": job.features.columns(),
        "models": list(job.models),
        "gate": list(job.gate),
        "window": job.refresh,
        "empty_state_bytes": len(encode_learner(algorithm, learners.new(algorithm, spec))),
    }
    if job.features.hashed:
        found["places"] = {term.column: term.places for term in job.features.hashed}
    if looked.seen:
        found["values_seen"] = looked.seen
    if isinstance(job.source, FileSource):
        return found | _rows(job, job.source)
    # No message is read: a format whose schema is given says whether it has the columns.
    wanted = [name for name in job.features.columns() if name not in MESSAGE_COLUMNS]
    decoder(job.source.format, job.source.options)(pa.array([], pa.binary()), wanted)
    return found


def _rows(job: Job, source: FileSource) -> dict[str, Any]:
    files = formats.list_files(source.path, source.format)
    block = first_rows(job)
    found: dict[str, Any] = {"files": len(files), "bytes": sum(file.size for file in files)}
    if block is None:
        return found | {"rows_looked_at": 0}
    batch, rejects = job.features.to_batch(block)
    learner = learned(job, batch)
    rejected = Counter(learner.progress.rejected)
    for reject in (*block.rejected, *rejects):
        rejected[reject.reason] += len(reject)
    types = {field.name: str(field.type) for field in block.batch.schema}
    return found | {
        "rows_looked_at": len(block),
        "rows_learned": learner.progress.rows,
        "rejected": dict(rejected),
        "columns": types,
        "windows": _windows(job, batch),
        "batch": "sparse" if job.features.is_sparse else "dense",
        "state_bytes": len(encode_learner(job.algorithm(), learner)),
        "models_bytes": models_bytes(job, learner),
    }


def _windows(job: Job, batch: Batch) -> int:
    """Return how many windows the rows looked at fall into."""
    if job.refresh == "round" or batch.time is None:
        return 1
    return int(np.unique(batch.time // to_us(job.refresh)).size)


def lines(found: dict[str, Any]) -> list[list[str]]:
    """Return what was found as rows of a table: setting, value."""
    return [[name.replace("_", " "), _text(name, value)] for name, value in found.items()]


def _text(name: str, value: Any) -> str:
    if name.endswith("bytes"):
        return f"{value / 1e6:,.3f} MB"
    if isinstance(value, dict):
        return ", ".join(f"{key} {one:,}" if isinstance(one, int) else f"{key} ({one})" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name == "window":
        return value if value == "round" else f"{value:,g} s of event time"
    return f"{value:,}" if isinstance(value, int) else str(value)
