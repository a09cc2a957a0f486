"""Runnable jobs: options in, `beam_ml.beam` out."""

import logging


def _worth_telling(record: logging.LogRecord) -> bool:
    """Drop what Beam says on import about Google Cloud clients: no job here needs them."""
    return "apitools not found" not in record.getMessage()


logging.getLogger().addFilter(_worth_telling)
