"""Job files: as named, or among the examples that come with this package."""

from pathlib import Path

__all__ = ["SHIPPED", "find_job"]

SHIPPED = Path(__file__).parents[2] / "pipelines"
"""The folder of the examples: beside this package, in a checkout and where a wheel is installed. It is found by its path,
since a project's own folder of that name hides the examples from `import`."""


def find_job(path: str) -> Path:
    """Return the job file: as named, or among the examples (`jobs/fraud_replay.toml`)."""
    named = Path(path)
    shipped = SHIPPED / path
    return shipped if not named.exists() and shipped.exists() else named
