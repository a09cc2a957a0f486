"""`beam-ml`: train, stream, replay, score, evaluate; look at versions, choose the served one, derive and merge models."""

import logging

from beam_ml.cli.group import main

__all__ = ["main"]


def _worth_telling(record: logging.LogRecord) -> bool:
    """Drop what Beam says on import about Google Cloud clients: no command needs them."""
    return "apitools not found" not in record.getMessage()


logging.getLogger().addFilter(_worth_telling)
