"""The gate: which refreshed model may replace the served one.

Rules are sentences over the champion's progressive metrics, those of the newest window alone, and the rows learned from:

    auc >= 0.8
    auc of the window >= 0.75
    log_loss not worse than 5 % over the last 10 refreshes
    log_loss of the window not worse than 20 % over the last 10 refreshes
    rows >= 10_000

A rule is broken when the metric lies beyond the bound by more than its standard error: a figure from a sample is not refused
for its noise. ``rows`` has none. Whatever the rules, a model that is worse than the prior on the newest window is not served
(`beam_ml.core.prior`), unless one of the rules is

    may be worse than the prior
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from beam_ml.core.figures import WINDOW
from beam_ml.errors import InvalidValue

__all__ = ["ANYWAY", "HISTORY", "OPEN", "RISING", "Gate", "Verdict"]

HISTORY = 64
"""Refreshes whose metrics a learner remembers: no rule can look further back."""

ANYWAY = "may be worse than the prior"
"""The rule that lets a model be served that predicts worse than the share of each class, or the mean label."""

_NAME = r"(?P<metric>[a-z_][a-z0-9_]*(?:\s+of\s+the\s+window)?)"
_NUMBER = r"[-+]?[0-9][0-9_]*(?:\.[0-9]*)?(?:e[-+]?[0-9]+)?"
_BOUND = re.compile(rf"^{_NAME}\s*(?P<op>>=|<=|>|<)\s*(?P<value>{_NUMBER})$")
_DRIFT = re.compile(
    rf"^{_NAME}\s+not\s+worse\s+than\s+(?P<percent>{_NUMBER})\s*%\s+over\s+the\s+last\s+(?P<span>[0-9]+)\s+refreshes$"
)
RISING = frozenset(
    {
        "auc",
        "average_precision",
        "accuracy",
        "precision",
        "recall",
        "precision_at_k",
        "recall_at_k",
        "top_k_accuracy",
        "balanced_accuracy",
        "macro_precision",
        "macro_recall",
        "macro_f",
    }
)
"""Metrics that are better when larger; all others are losses."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a refresh may be served, and why not."""

    accepted: bool
    reasons: tuple[str, ...] = ()


def _number(text: str) -> float:
    return float(text.replace("_", ""))


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """Rules that all must hold; none: everything is served that is not worse than the prior.

    Raises InvalidValue for a sentence that is no rule.

    >>> gate = Gate(("auc >= 0.8", "rows >= 10_000"))
    >>> gate.judge({"auc": 0.75, "rows": 20_000}, [])
    Verdict(accepted=False, reasons=('auc is 0.75, must be >= 0.8',))
    """

    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for rule in self.rules:
            text = " ".join(rule.split()) if isinstance(rule, str) else ""
            if not (_BOUND.match(text) or _DRIFT.match(text) or text == ANYWAY):
                message = (
                    "gate must be rules like 'auc >= 0.8', 'auc of the window >= 0.75', 'log_loss not worse than 5 % over "
                    f"the last 10 refreshes' or {ANYWAY!r}; got {rule!r}."
                )
                raise InvalidValue(message)
            drift = _DRIFT.match(text)
            if drift is not None and not 1 <= int(drift["span"]) <= HISTORY:
                message = f"gate must look back over 1 to {HISTORY} refreshes; got {rule!r}."
                raise InvalidValue(message)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the rules are about, in their order, those of the window under their plain names.

        >>> Gate(("auc of the window >= 0.7", "rows >= 5")).metrics
        ('auc', 'rows')
        """
        found = (_BOUND.match(rule) or _DRIFT.match(rule) for rule in self._texts())
        return tuple(rule["metric"].removesuffix(WINDOW) for rule in found if rule is not None)

    def about(self) -> tuple[str, ...]:
        """Return the rules about metrics, each beside its metric in `metrics`."""
        return tuple(rule for rule, text in zip(self.rules, self._texts(), strict=True) if text != ANYWAY)

    @property
    def minds_prior(self) -> bool:
        """Whether a model that is worse than the prior on the newest window is refused."""
        return ANYWAY not in self._texts()

    def _texts(self) -> Iterator[str]:
        return (" ".join(rule.split()) for rule in self.rules)

    def judge(self, now: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> Verdict:
        """Judge metrics by name against the rules; a metric that is not known yet refuses.

        Args:
            now: the metrics; `auc_se` is the standard error of `auc`, `auc of the window` that of the newest window.
            history: the same of the refreshes before, oldest first.
        """
        found = (self._broken(rule, now, history) for rule in self._texts() if rule != ANYWAY)
        reasons = tuple(reason for reason in found if reason is not None)
        return Verdict(not reasons, reasons)

    def _broken(self, rule: str, now: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> str | None:
        bound = _BOUND.match(rule)
        if bound is not None:
            return _bound_broken(bound, now)
        drift = _DRIFT.match(rule)
        assert drift is not None  # noqa: S101 checked when built
        metric, percent, span = drift["metric"], _number(drift["percent"]), int(drift["span"])
        past = [entry[metric] for entry in history[-span:] if metric in entry]
        if not past:
            return None
        value = now.get(metric)
        if value is None:
            return f"{metric} is not known yet, must be {rule.removeprefix(metric).strip()}"
        mean, error = sum(past) / len(past), _error_of(metric, now)
        slack = abs(mean) * percent / 100.0 + error
        worse = value < mean - slack if metric.removesuffix(WINDOW) in RISING else value > mean + slack
        said = f"{metric} is {_said(value, error)}, was {mean:.6g} on average over {len(past)} refreshes"
        return said if worse else None


OPEN = Gate()
"""The gate without rules."""


def _error_of(metric: str, now: Mapping[str, float]) -> float:
    plain = metric.removesuffix(WINDOW)
    return now.get(f"{plain}_se{metric.removeprefix(plain)}", 0.0)


def _said(value: float, error: float) -> str:
    return f"{value:.6g} ± {error:.2g}" if error else f"{value:.6g}"


def _bound_broken(bound: re.Match[str], now: Mapping[str, float]) -> str | None:
    metric, op, wanted = bound["metric"], bound["op"], _number(bound["value"])
    value = now.get(metric)
    if value is None:
        return f"{metric} is not known yet, must be {op} {wanted:g}"
    error = _error_of(metric, now)
    high, low = value + error, value - error
    holds = {">=": high >= wanted, "<=": low <= wanted, ">": high > wanted, "<": low < wanted}[op]
    return None if holds else f"{metric} is {_said(value, error)}, must be {op} {wanted:g}"
