"""Announces each published version in a topic, as a job's `announce` asks: at least once, and never blocking training."""

import logging

from beam_ml.beam.job.job import Announce
from beam_ml.errors import BeamMLError
from beam_ml.registry import Manifest

__all__ = ["announce_version"]

_WAIT_S = 10.0

_log = logging.getLogger(__name__)


def announce_version(where: Announce | None, manifest: Manifest) -> None:
    """Announce a version on a topic; a failure is only logged, since the version is published already.

    Args:
        where: the topic; None: nothing is announced.
        manifest: of the version.
    """
    if where is None:
        return
    from beam_ml.beam.kafka.client import Connection  # loads the client library
    from beam_ml.beam.kafka.write import announce

    try:
        announce(Connection(where.brokers, dict(where.client), timeout_s=_WAIT_S), where.topic, manifest)
    except BeamMLError as error:
        _log.warning("%s v%d could not be announced: %s", manifest.name, manifest.number, error)
