"""The mutable twin of `Sample` for the hot loop: many batches in, one sample out."""

import uuid
from typing import Any

import numpy as np

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.passes import first_pass
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec

__all__ = ["Drawing", "Naming"]

_TOGETHER = 8
"""Batches whose draws are merged at once."""


class Naming:
    """Names rows without positions by a lineage of their own, so that no two workers' rows are mistaken for the same.

    Rows that are read again in a later pass are the same.
    """

    def __init__(self) -> None:
        self._unnumbered: Origin | None = None
        self._n_unnumbered = 0

    def named(self, batch: Batch) -> Batch:
        """Return the rows with origin and position."""
        if batch.origin is not None and batch.position is not None:
            origin = first_pass(batch.origin)
            return batch if origin is batch.origin else batch.replace(origin=origin)
        if self._unnumbered is None:
            self._unnumbered = Origin("", uuid.uuid4().hex)
        first = self._n_unnumbered
        self._n_unnumbered += len(batch)
        return batch.replace(origin=self._unnumbered, position=np.arange(first, self._n_unnumbered, dtype=np.int64))


class Drawing:
    """Draws from batches one after the other; the thresholds of those before let most rows be skipped.

    Args:
        spec: says how many rows are kept.
        scorer: of the rows, for the part that is drawn by score; None: there is none.
        start: the sample so far.
    """

    def __init__(self, spec: Spec, scorer: Any, start: Sample) -> None:
        self._spec, self._scorer, self._sample = spec, scorer, start
        self._fresh: list[Sample] = []
        self._naming = Naming()

    def add(self, batch: Batch) -> None:
        """Draw from a batch's rows."""
        self._fresh.append(Sample.of(self._spec, self._naming.named(batch), self._sample, self._scorer))
        if len(self._fresh) >= _TOGETHER or self._sample.rows is None:
            self.sample()

    def sample(self) -> Sample:
        """Return the sample of everything added so far; more may be added afterwards."""
        if self._fresh:
            self._sample = Sample.merge_all([self._sample, *self._fresh], self._spec)
        self._fresh = []
        return self._sample

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays held."""
        return self._sample.nbytes + sum(one.nbytes for one in self._fresh)
