"""What is said of rejected rows where they are too many to be chance, or all of one class."""

from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample, classes
from beam_ml.core.spec import Spec

__all__ = ["MANY", "said", "warning"]

MANY = 0.01
"""Share of the rows that may be rejected without a word."""


def said(progress: Progress) -> str:
    """Return the count of rejected rows and why, most frequent first; empty without any.

    >>> said(Progress(rows=9, rejected={"late": 1, "missing label": 2}))
    '3 rejected (missing label 2, late 1)'
    """
    total = sum(progress.rejected.values())
    if total == 0:
        return ""
    ordered = sorted(progress.rejected.items(), key=lambda one: (-one[1], one[0]))
    return f"{total:,} rejected ({', '.join(f'{reason} {rows:,}' for reason, rows in ordered if rows)})"


def warning(spec: Spec, progress: Progress, sample: Sample) -> str | None:
    """Say what is wrong with a window's rows: more than 1 % are rejected, or some are and a class has none left.

    Args:
        spec: of the learner.
        progress: of the window.
        sample: of its admitted rows.
    """
    rejected = sum(progress.rejected.values())
    if rejected == 0:
        return None
    gone = [k for k, mass in enumerate(sample.mass) if mass <= 0.0] if classes(spec) > 1 else []
    by_label = any("label" in reason for reason in progress.rejected)
    if rejected <= MANY * progress.scanned and not (gone and by_label):
        return None
    lost = f"; none is left of class {', '.join(map(str, gone[:8]))}" if gone and by_label else ""
    return f"{spec.algorithm}: of {progress.scanned:,} rows of a window {said(progress)}{lost}."
