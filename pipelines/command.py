"""What the commands share: finding a job file, refusing mistyped options."""

from collections.abc import Sequence
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from beam_ml.errors import InvalidValue

__all__ = ["find_job", "refuse_unknown"]


def find_job(path: str) -> Path:
    """Return the job file: as named, or among the jobs shipped with this package."""
    named = Path(path)
    shipped = Path(__file__).parent / path
    return shipped if not named.exists() and shipped.exists() else named


def refuse_unknown(options: Sequence[str]) -> None:
    """Refuse what Beam does not know: a mistyped option would be dropped without a word.

    Where a job server is named, it may have options of its own, which only it knows.

    Raises:
        InvalidValue: see above.
    """
    given = PipelineOptions(list(options))
    known = given.get_all_options()
    unknown = [name for name in given.get_all_options(retain_unknown_options=True) if name not in known]
    served = given.view_as(PortableOptions).job_endpoint is not None
    if (unknown and not served) or any(not one.startswith("-") for one in options[:1]):
        what = f"--{unknown[0]}" if unknown else options[0]
        message = f"options must be this command's (see --help) or Beam's; got {what}."
        raise InvalidValue(message)
