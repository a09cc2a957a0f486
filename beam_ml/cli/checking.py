"""`beam-ml train --check`: all of a job but running it: what it would read, use and keep."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml import formats
from beam_ml.artefact.records import encode_learner
from beam_ml.beam.job import FileSource, Job, KafkaSource, PipeSource
from beam_ml.beam.job.looking import Looked
from beam_ml.beam.kafka.first import first_messages
from beam_ml.beam.rounds.prepare.looking import looked_at
from beam_ml.beam.transforms.rejects import reject_records
from beam_ml.cli.sizes import MOST_ROWS, first_rows, learned, models_bytes
from beam_ml.core import learner as learners
from beam_ml.core.batch import Batch
from beam_ml.core.spec import to_us
from beam_ml.formats import Block, messages

__all__ = ["checked", "lines"]

_SECONDS = 10.0
"""How long brokers are waited for."""
_REJECTS = 5
"""Rejected rows that are shown."""


def checked(looked: Looked) -> dict[str, Any]:
    """Return what a job would do, from its settings and the first rows of its files or topic.

    Args:
        looked: the job, with the places of its columns of categories.

    Raises:
        NoInput, UnreadableInput, MissingColumn: its files or topic, or the columns it names, are not there.
        SourceError: brokers do not answer.
    """
    job = looked.job
    spec, algorithm = job.algorithm_spec(), job.algorithm()
    found: dict[str, Any] = {
        "name": job.name,
        "registry": job.registry,
        "source": job.source.where,
        "algorithm": spec.algorithm,
        "features": spec.n_features,
        "columns": job.raw_columns,
        "models": list(job.models),
        "gate": list(job.gate),
        "window": job.refresh,
        "empty_state_bytes": len(encode_learner(algorithm, learners.new(algorithm, spec))),
    }
    if job.features.fields:
        found["places"] = {field.name: field.term.places for field in job.features.fields}
    if looked.seen:
        found["values_seen"] = looked.seen
    if isinstance(job.source, KafkaSource):
        return found | _of_rows(job, list(_messages(job, job.source)))
    if isinstance(job.source, PipeSource):
        return found  # what is read of a pipe cannot be read again
    files = formats.list_files(job.source.path, job.source.format)
    found |= {"files": len(files), "bytes": sum(file.size for file in files)}
    block = first_rows(job.source, job.raw_columns)
    return found | ({"rows_looked_at": 0} if block is None else _of_rows(job, [block]))


def _messages(job: Job, source: KafkaSource) -> Iterator[Block]:
    decode, columns = messages.decoder(source.format, source.options), job.raw_columns
    # Without a message first: a format whose schema is given says whether it has the columns before a broker is asked.
    decode(pa.array([], pa.binary()), [name for name in columns if name not in messages.MESSAGE_COLUMNS])
    for raw in first_messages(source, MOST_ROWS, _SECONDS):
        yield from messages.to_blocks(raw, decode, columns)


def _of_rows(job: Job, blocks: list[Block]) -> dict[str, Any]:
    """Return what the job makes of some rows."""
    if job.prepares:
        return _of_raw(job, blocks)
    ahead = job.max_ahead_of_record()
    made = [job.features.to_batch(block, max_ahead_us=None if ahead is None else to_us(ahead)) for block in blocks]
    batches = [batch for batch, _ in made]
    learner = learned(job, batches)
    rejected = Counter(learner.progress.rejected)
    rejects = [
        reject.of(block.origin)
        for block, (_, refused) in zip(blocks, made, strict=True)
        for reject in (*block.rejected, *refused)
    ]
    for reject in rejects:
        rejected[reject.reason] += len(reject)
    found = {
        "rows_looked_at": sum(map(len, blocks)),
        "rows_learned": learner.progress.rows,
        "rejected": dict(rejected),
        "columns": _types(blocks),
        "windows": _windows(job, batches),
        "batch": "sparse" if job.features.is_sparse else "dense",
        "state_bytes": len(encode_learner(job.algorithm(), learner)),
        "models_bytes": models_bytes(job, learner),
    }
    first = itertools.chain.from_iterable(map(reject_records, rejects))
    shown = [_shown(record) for record in itertools.islice(first, _REJECTS)]
    return found | ({"first_rejects": shown} if shown else {})


def _of_raw(job: Job, blocks: list[Block]) -> dict[str, Any]:
    """Return what becomes of raw rows: until their labels come, they are scored and wait."""
    featured, refused, kept_bytes = looked_at(job, blocks)
    made = [job.features.to_batch(block, with_label=False) for block in featured]
    rejects = [
        *refused,
        *(one.of(block.origin) for block, (_, some) in zip(featured, made, strict=True) for one in some),
    ]
    rejected: Counter[str] = Counter()
    for reject in rejects:
        rejected[reject.reason] += len(reject)
    found: dict[str, Any] = {
        "rows_looked_at": sum(map(len, blocks)),
        "rows_to_score": sum(len(batch) for batch, _ in made),
        "rejected": dict(rejected),
        "columns": _types(blocks),
        "rolling": [] if job.rolling is None else list(job.rolling.names),
        "kept_bytes": kept_bytes,
    }
    if job.labels is not None:
        found |= {"reports": job.labels.source.where, "report_columns": job.labels.columns}
        if isinstance(job.labels.source, FileSource):
            block = first_rows(job.labels.source, job.labels.columns)
            found |= {} if block is None else {"report_columns": _types([block])}
    first = itertools.chain.from_iterable(map(reject_records, rejects))
    shown = [_shown(record) for record in itertools.islice(first, _REJECTS)]
    return found | ({"first_rejects": shown} if shown else {})


def _types(blocks: list[Block]) -> dict[str, str]:
    """Return the types of the columns, all that were met."""
    met: dict[str, dict[str, None]] = {}
    for field in (field for block in blocks for field in block.batch.schema):
        met.setdefault(field.name, {})[str(field.type)] = None
    return {name: " or ".join([kind for kind in kinds if kind != "null"] or ["null"]) for name, kinds in met.items()}


def _shown(record: Mapping[str, Any]) -> str:
    """Return a rejected row as one line: where, why, and what."""
    place = f"offset {record['offset']}" if "offset" in record else f"position {record['position']}"
    text = f"{record['partition']} {place}: {record['reason']}"
    return f"{text}: {record['detail']}" if "detail" in record else text


def _windows(job: Job, batches: list[Batch]) -> int:
    """Return how many windows the rows looked at fall into."""
    if job.refresh == "round":
        return 1
    size = to_us(job.refresh)
    return len({end for batch in batches if batch.time is not None for end in np.unique(batch.time // size).tolist()})


def lines(found: dict[str, Any]) -> list[list[str]]:
    """Return what was found as rows of a table: setting, value."""
    return [[name.replace("_", " "), _text(name, value)] for name, value in found.items()]


def _text(name: str, value: Any) -> str:
    if name.endswith("bytes"):
        return f"{value / 1e6:,.3f} MB"
    if isinstance(value, dict):
        return ", ".join(f"{key} {one:,}" if isinstance(one, int) else f"{key} ({one})" for key, one in value.items())
    if isinstance(value, list):
        return ("\n" if name == "first_rejects" else ", ").join(map(str, value))
    if name == "window":
        return value if value == "round" else f"{value:,g} s of event time"
    return f"{value:,}" if isinstance(value, int) else str(value)
