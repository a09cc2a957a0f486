"""Two logs of the same rows, compared by id: features as they were served, and as they are computed again."""

from beam_ml.consistency.logs import Log, compare
from beam_ml.consistency.tally import Report
from beam_ml.consistency.values import Tolerance

__all__ = ["Log", "Report", "Tolerance", "compare"]
