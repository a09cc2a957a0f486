"""Rejected rows of a stream as JSON lines in the registry: ``<name>/rejects/<run id>/<hash>.jsonl``, never swept."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from apache_beam import DoFn, ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.elements import Rejected
from beam_ml.registry import Registry
from beam_ml.registry.naming import check_name
from beam_ml.registry.publishing import publishing

__all__ = ["WriteRejects"]

_MAX_REJECTS = 65_536
"""Records a file holds at most: a bundle of nothing but rejects must not fill a worker's memory."""


@with_input_types(Rejected)
@with_output_types(bytes)
class _WriteRejects(DoFn):
    """A file a bundle, named by its content: a bundle that is tried again writes the same file again."""

    def __init__(self, registry: str, folder: str) -> None:
        self._where, self._folder = registry, folder

    def setup(self) -> None:
        self._registry = Registry(self._where)

    def start_bundle(self) -> None:
        self._lines: list[str] = []

    def process(self, element: Rejected) -> None:
        for record in element.records():
            self._lines.append(json.dumps(record, sort_keys=True))
            if len(self._lines) >= _MAX_REJECTS:
                self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        if self._lines:
            self._flush()
        return iter(())

    def _flush(self) -> None:
        data = ("\n".join(self._lines) + "\n").encode()
        path = f"{self._folder}/{hashlib.sha256(data).hexdigest()[:32]}.jsonl"
        with publishing(f"Writing {path}", self._registry.objects):
            self._registry.objects.put(path, data)
        self._lines = []


class WriteRejects(PTransform):
    """Rejected → JSON lines in the registry, in files that no sweep removes.

    Args:
        registry: path or URL.
        name: the learner's.
        run_id: of the submission.
    """

    def __init__(self, registry: str, name: str, run_id: str) -> None:
        super().__init__()
        folder = f"{check_name('name', name)}/rejects/{check_name('run id', run_id)}"
        self._fn = _WriteRejects(registry, folder)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Build the step."""
        return pcoll | "Write" >> ParDo(self._fn)
