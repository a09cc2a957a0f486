"""A sample without a part of it: what `Progress.remove` is for counts and `Algorithm.remove` for sums."""

import dataclasses

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec
from beam_ml.errors import RemoveRefused

__all__ = ["sample_without", "sample_without_rows"]

_SLACK = 1e-9  # of a class's mass, by which rounding may leave too little


def sample_without(spec: Spec, whole: Sample, part: Sample) -> Sample:
    """Return the sample of the rows that are not a part's: what a sample of them has below the whole's thresholds.

    A row is known by the hash of its place. The rest is drawn from the other rows alone, only smaller than a sample of them
    may be; drawing it again from its parts' samples makes it full.

    Args:
        spec: of both.
        whole: into which the part was merged.
        part: the sample as it was merged. One that was thinned below the whole's thresholds no longer says which of the
            whole's rows are its own.

    Raises:
        RemoveRefused: the part was not merged into it, or has been thinned since.

    >>> from beam_ml.core.batch import Batch, Origin
    >>> spec = Spec(algorithm="any", n_features=1)
    >>> a, b = (Sample.of(spec, Batch.dense([[1.0], [2.0]], origin=Origin("files", name), position=[0, 1])) for name in "ab")
    >>> rest = sample_without(spec, a.merge(b, spec), b)
    >>> sorted(rest.identity.tolist()) == sorted(a.identity.tolist()), rest.mass.tolist()
    (True, [2.0])
    """
    part = part.scale_mass_to(spec, whole.time)
    mass = whole.mass - part.mass
    if (mass < -_SLACK * whole.mass.sum()).any() or not np.isin(_below(part, whole), whole.identity).all():
        message = "What is removed must have been learned: its sampled rows, or their weight, are not in the whole's."
        raise RemoveRefused(message)
    if (part.tau < whole.tau).any():
        message = (
            "A sample that was thinned further than the whole it is in cannot be taken out of it: the rest's must be drawn "
            "again from the samples of the other parts."
        )
        raise RemoveRefused(message)
    rest = _left(whole, part)
    rest = dataclasses.replace(rest, mass=np.maximum(mass, 0.0), too_wide=max(whole.too_wide - part.too_wide, 0))
    if whole.top is None:
        return rest
    return dataclasses.replace(rest, top=sample_without(spec, dataclasses.replace(whole.top, top=None), part.as_top()))


def _below(part: Sample, whole: Sample) -> np.ndarray:
    """Return the identities of a part's rows that the whole's thresholds let through."""
    return part.identity[part.order < whole.tau[part.kind]]


def _left(whole: Sample, part: Sample) -> Sample:
    return _kept(whole, ~np.isin(whole.identity, part.identity))


def _kept(whole: Sample, kept: np.ndarray) -> Sample:
    if kept.all():
        return whole
    rows = None if whole.rows is None or not kept.any() else whole.rows.take(kept)
    importance = None if whole.importance is None else whole.importance[kept]
    return dataclasses.replace(
        whole, rows=rows, order=whole.order[kept], identity=whole.identity[kept], kind=whole.kind[kept],
        importance=importance,
    )  # fmt: skip


def sample_without_rows(spec: Spec, whole: Sample, rows: Batch) -> Sample:
    """Return a sample that holds none of some rows, which are known by their features and label, not by their places.

    A row that looks like one of them goes too: it is one of few, and the others of its class stand for it.

    Args:
        spec: of the sample.
        whole: into which the rows were drawn.
        rows: to forget.

    Raises:
        RemoveRefused: the rows weigh more than all that the sample stands for.

    >>> from beam_ml.core.batch import Origin
    >>> spec = Spec(algorithm="any", n_features=1)
    >>> whole = Sample.of(spec, Batch.dense([[1.0], [2.0], [3.0]], origin=Origin("files", "a"), position=[0, 1, 2]))
    >>> rest = sample_without_rows(spec, whole, Batch.dense([[2.0]]))
    >>> sorted(rest.rows.dense_x.ravel().tolist()), rest.mass.tolist()
    ([1.0, 3.0], [2.0])
    """
    less = Sample.of(spec, rows).scale_mass_to(spec, whole.time).mass
    mass = whole.mass - less
    if (mass < -_SLACK * whole.mass.sum()).any():
        message = "What is removed must have been learned: its rows weigh more, by class, than those of their window."
        raise RemoveRefused(message)
    known = {_content(rows, i) for i in range(len(rows))}
    rest = dataclasses.replace(_lacking(whole, known), mass=np.maximum(mass, 0.0))
    if whole.top is None:
        return rest
    top = dataclasses.replace(_lacking(whole.top, known), mass=rest.mass)
    return dataclasses.replace(rest, top=top)


def _content(rows: Batch, i: int) -> bytes:
    one = rows.take(slice(i, i + 1))
    if one.X is not None:
        features = [np.asarray(one.X, np.float64)]
    else:
        features = [np.asarray(one.indices, np.int64), np.asarray(one.values, np.float64)]
    label = [] if one.label is None else [np.asarray(one.label, np.float64)]
    return b"".join(array.tobytes() for array in (*features, *label))


def _lacking(sample: Sample, known: set[bytes]) -> Sample:
    if sample.rows is None:
        return sample
    kept = np.array([_content(sample.rows, i) not in known for i in range(len(sample.rows))], dtype=bool)
    return _kept(sample, kept)
