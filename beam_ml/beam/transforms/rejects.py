"""Rejected rows as plain records, and as JSON lines in the registry."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from apache_beam import ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.steps import Step
from beam_ml.core.rejects import Reject
from beam_ml.formats.reject_records import reject_records
from beam_ml.registry import Registry
from beam_ml.registry.publishing import publishing

__all__ = ["WriteRejects", "reject_records"]

_MAX_REJECTS = 65_536
"""The most records that a file holds: a bundle of nothing but rejects must not fill a worker's memory."""


@with_input_types(Reject)
@with_output_types(bytes)
class _WriteRejects(Step):
    """Writes one file per bundle, named by its content: a bundle that is tried again writes the same file again."""

    renewed = ("prefix",)

    def __init__(self, registry: str, prefix: str) -> None:
        self._where, self._prefix = registry, prefix

    def setup(self) -> None:
        self._registry = Registry(self._where)

    def start_bundle(self) -> None:
        self._lines: list[str] = []

    def process(self, element: Reject) -> None:
        for record in reject_records(element):
            self._lines.append(json.dumps(record, sort_keys=True))
            if len(self._lines) >= _MAX_REJECTS:
                self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        if self._lines:
            self._flush()
        return iter(())

    def _flush(self) -> None:
        data = ("\n".join(self._lines) + "\n").encode()
        path = f"{self._prefix}{hashlib.sha256(data).hexdigest()[:32]}.jsonl"
        with publishing(f"Writing {path}", self._registry.objects):
            self._registry.objects.put(path, data)
        self._lines = []


class WriteRejects(PTransform):
    """Rejects → JSON lines in the registry.

    Args:
        registry: path or URL.
        prefix: of the files' paths in it: `<name>/rounds/<round id>/rejects-` goes with the round's version,
            `<name>/rejects/<run id>/` is never swept.

    >>> import tempfile, apache_beam as beam, numpy as np
    >>> from pathlib import Path
    >>> from beam_ml.beam import new_pipeline, run
    >>> from beam_ml.core.batch import Origin
    >>> pipeline, where = new_pipeline(), tempfile.mkdtemp()
    >>> reject = Reject("late", np.array([3]), origin=Origin("files", "a.csv"))
    >>> _ = pipeline | beam.Create([reject]) | WriteRejects(where, "fraud/rejects/monday/")
    >>> _ = run(pipeline)
    >>> [file] = Path(where, "fraud", "rejects", "monday").iterdir()
    >>> json.loads(file.read_text())
    {'partition': 'a.csv', 'position': 3, 'reason': 'late', 'source': 'files'}
    """

    def __init__(self, registry: str, prefix: str) -> None:
        super().__init__()
        self._fn = _WriteRejects(registry, prefix)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Write a file per bundle."""
        return pcoll | "Write" >> ParDo(self._fn)
