"""Whether a model predicts worse than the prior: the share of each class, or the mean label, on the same rows.

Classifiers are compared by log loss with the entropy of the window's own classes (`prior_log_loss`), regressions by mse with
the spread of its labels (`prior_mse`), each by more than a standard error. Where scores are not meant as probabilities or
means (`Spec.aims_at_mean`: hinge losses, quantiles, reweighted classes), only a ranking can be judged: an AUC below
one half. A window of one class, or of one label, has no prior that a model could be held to.
"""

from collections.abc import Mapping
from typing import NamedTuple

from beam_ml.core.spec import Spec

__all__ = ["BEHIND", "Gap", "gap", "reason"]

BEHIND = "worse than the prior"
"""Marks, in a learner's history, a refresh whose models before were worse than the prior on its window."""


class Gap(NamedTuple):
    """A metric beside what it has to reach.

    Attributes:
        text: both, in words.
        by: how far it is worse, in units of the metric; negative: better.
        error: standard error of the metric.
    """

    text: str
    by: float
    error: float

    @property
    def behind(self) -> bool:
        """Whether it is worse by more than the error."""
        return self.by > self.error

    @property
    def ahead(self) -> bool:
        """Whether it is better by more than the error."""
        return self.by < -self.error


def gap(spec: Spec, found: Mapping[str, float]) -> Gap | None:
    """Compare metrics of some rows with the prior of the same rows; None where there is no comparison.

    >>> from beam_ml import linear
    >>> found = {"log_loss": 0.9, "log_loss_se": 0.05, "prior_log_loss": 0.6}
    >>> gap(linear.Newton(n_features=1), found).text
    "log_loss 0.9 ± 0.05, the prior's 0.6"
    """
    if not spec.aims_at_mean:
        value = found.get("auc")
        if value is None:
            return None
        error = found.get("auc_se", 0.0)
        return Gap(f"auc {value:.6g} ± {error:.2g}, the prior's 0.5", 0.5 - value, error)
    for name, prior in (("log_loss", "prior_log_loss"), ("mse", "prior_mse")):
        if name in found and found.get(prior, 0.0) > 0.0:
            value, least, error = found[name], found[prior], found.get(f"{name}_se", 0.0)
            return Gap(f"{name} {value:.6g} ± {error:.2g}, the prior's {least:.6g}", value - least, error)
    return None


def reason(before: Gap | None, after: Gap | None, behind_before: bool) -> str | None:
    """Say why a model is not good enough to be served, or None.

    Args:
        before: the models of the refresh before on the newest window, which they had not seen.
        after: the model to be served on the same rows, which it has learned from.
        behind_before: whether the refresh before found its `before` behind, too.

    A world that changes at once makes `before` worse than the prior; the model that has learned from the window is
    the cure then, so it is refused only if it is not clearly better than the prior itself, or if the same befell the
    window before: what it learns of one window does not hold in the next.
    """
    if after is not None and after.behind:
        return f"the model is worse than the prior on the newest window, from which it has learned: {after.text}"
    if before is None or not before.behind:
        return None
    if after is None or not after.ahead:
        learned = "" if after is None else f"; after learning from it, {after.text}"
        return f"the model before was worse than the prior on the newest window: {before.text}{learned}"
    if behind_before:
        return f"the model was worse than the prior on the next window twice in a row: {before.text}"
    return None
