"""How many places a job's columns of categories have, as a version of it says."""

from typing import Any

from beam_ml.beam.job.job import Job
from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.registry import Manifest

__all__ = ["as_trained", "features_of"]


def as_trained(job: Job, manifest: Manifest) -> Job:
    """Return the job with the buckets of a version where it gives none."""
    known = features_of(manifest.extra.get("features"))
    places = {} if known is None else {field.name: field.term.places for field in known.by_hash}
    return job.with_features(job.features.sized(places))


def features_of(value: Any) -> Features | None:
    """Return the features that a manifest states, with all their buckets; None: it states none that there can be."""
    try:
        # Settings that a later release added are missing there: parsed, they have their defaults.
        return None if value is None else Features.parse(value).sized()
    except InvalidValue:
        return None
