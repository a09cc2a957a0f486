"""The gate: which refreshed model may replace the served one.

Rules are sentences over the champion's progressive metrics and the rows learned from:

    auc >= 0.8
    log_loss not worse than 5 % over the last 10 refreshes
    rows >= 10_000
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from beam_ml.errors import InvalidValue

__all__ = ["HISTORY", "OPEN", "RISING", "Gate", "Verdict"]

HISTORY = 64
"""Refreshes whose metrics a learner remembers: no rule can look further back."""

_NAME = r"(?P<metric>[a-z_][a-z0-9_]*)"
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
    """Rules that all must hold; none: everything is served.

    Raises InvalidValue for a sentence that is no rule.

    >>> gate = Gate(("auc >= 0.8", "rows >= 10_000"))
    >>> gate.judge({"auc": 0.75, "rows": 20_000}, [])
    Verdict(accepted=False, reasons=('auc is 0.75, must be >= 0.8',))
    """

    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for rule in self.rules:
            if not (isinstance(rule, str) and (_BOUND.match(rule.strip()) or _DRIFT.match(rule.strip()))):
                message = (
                    "gate must be rules like 'auc >= 0.8' or 'log_loss not worse than 5 % over the last 10 refreshes'; "
                    f"got {rule!r}."
                )
                raise InvalidValue(message)
            drift = _DRIFT.match(rule.strip())
            if drift is not None and not 1 <= int(drift["span"]) <= HISTORY:
                message = f"gate must look back over 1 to {HISTORY} refreshes; got {rule!r}."
                raise InvalidValue(message)

    def judge(self, now: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> Verdict:
        """Judge metrics by name against the rules; a metric that is not known yet refuses."""
        found = (self._broken(rule.strip(), now, history) for rule in self.rules)
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
        mean = sum(past) / len(past)
        slack = abs(mean) * percent / 100.0
        worse = value < mean - slack if metric in RISING else value > mean + slack
        return f"{metric} is {value:.6g}, was {mean:.6g} on average over {len(past)} refreshes" if worse else None


OPEN = Gate()
"""The gate that lets everything pass."""


def _bound_broken(bound: re.Match[str], now: Mapping[str, float]) -> str | None:
    metric, op, wanted = bound["metric"], bound["op"], _number(bound["value"])
    value = now.get(metric)
    if value is None:
        return f"{metric} is not known yet, must be {op} {wanted:g}"
    holds = {">=": value >= wanted, "<=": value <= wanted, ">": value > wanted, "<": value < wanted}[op]
    return None if holds else f"{metric} is {value:.6g}, must be {op} {wanted:g}"
