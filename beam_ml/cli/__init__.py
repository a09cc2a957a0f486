"""`beam-ml`: train, stream, replay, score, evaluate; look at versions, choose the served one, derive and merge models."""

import logging

from beam_ml.cli.group import main
from beam_ml.errors import BeamMLError

__all__ = ["main"]


def _worth_telling(record: logging.LogRecord) -> bool:
    """Drop what Beam says on import about Google Cloud clients: no command needs them."""
    return "apitools not found" not in record.getMessage()


def _no_mistake(record: logging.LogRecord) -> bool:
    """Drop the traceback that Beam logs where a step raised on purpose: the command ends with its sentence."""
    return not (record.exc_info and isinstance(record.exc_info[1], BeamMLError))


logging.getLogger().addFilter(_worth_telling)
logging.getLogger("apache_beam.runners.common").addFilter(_no_mistake)
