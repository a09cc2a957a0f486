"""Threshold rules: from which score on a row is predicted positive. Letters: ``n`` rows, ``u`` distinct scores.

The rules are Amazon SageMaker linear learner's ``binary_classifier_model_selection_criteria``.
"""

import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from beam_ml.core.spec import Settings

__all__ = ["NEUTRAL", "Cut", "Threshold", "choose"]

_RULE_TEXT = re.compile(r"^\s*([a-z_]+)\s*(?:\(\s*([0-9.eE+-]+)\s*\))?\s*$")


class Threshold(Settings):
    """A rule that chooses the score from which a row is predicted positive, on the learner's sample.

    >>> Threshold(by="f_beta", beta=2).target
    0.8
    """

    called = "linear.Threshold"

    by: Annotated[
        Literal["accuracy", "f_beta", "precision_at_target_recall", "recall_at_target_precision", "loss"],
        Field(description="what to maximise; loss: 0.5, which the loss itself calibrates"),
    ]
    beta: Annotated[float, Field(gt=0, description="f_beta: weight of recall against precision")] = 1.0
    target: Annotated[float, Field(ge=0, le=1, description="recall or precision that must be reached")] = 0.8


def _read(value: object) -> object:
    """Read ``"0.5"``, ``"accuracy"``, ``"f_beta(2)"`` and ``"precision_at_target_recall(0.9)"``; refuse anything else."""
    value = _parsed(value)
    if isinstance(value, Threshold):
        return value
    if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        message = "must be a number in [0, 1] or a threshold rule"
        raise ValueError(message)
    return value


def _parsed(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
        match = _RULE_TEXT.match(value)
        if match is None:
            message = "must be a number in [0, 1] or a rule such as 'f_beta(2)'"
            raise ValueError(message)
        argument: dict[str, Any] = {}
        if match[2] is not None:
            argument = {"beta" if match[1] == "f_beta" else "target": match[2]}
        return Threshold(**{"by": match[1], **argument})
    if isinstance(value, dict):
        return Threshold.parse(value)
    return value


Cut = Annotated[
    float | Threshold,
    BeforeValidator(_read),
    Field(description="score from which a row is predicted positive, or a rule"),
]
"""What a model spec says of its threshold."""
NEUTRAL = 0.5


def choose(rule: Threshold, score: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
    """Choose the threshold that is best by a rule: ``predicted = score ≥ threshold``.

    Every way to cut the distinct scores is judged; the threshold lies halfway between the scores on both sides of the
    cut, and of equally good cuts the one with the fewest rows predicted positive wins. A recall or precision target
    that cannot be reached is approached as closely as possible. Without rows of either class, it is 0.5.

    Args:
        rule: what to maximise.
        score: (n,) in [0, 1].
        label: (n,) in {0, 1}.
        weight: (n,) ≥ 0.

    >>> choose(Threshold(by="accuracy"), np.array([0.1, 0.25, 0.75]), np.array([0, 0, 1.0]), np.ones(3))
    0.5
    """
    positive = weight * (label >= 0.5)
    ones, total = float(positive.sum()), float(weight.sum())
    if rule.by == "loss" or ones <= 0.0 or total - ones <= 0.0:
        return NEUTRAL
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.concatenate([[0.0], np.cumsum(positive[order])[last]])  # cut k predicts the k highest distinct scores
    taken = np.concatenate([[0.0], np.cumsum(weight[order])[last]])
    recall = hits / ones
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    cut = _best(rule, recall, precision, correct=(total - ones - (taken - hits)) + hits)
    return _between(ranked[last], cut)


def _best(rule: Threshold, recall: np.ndarray, precision: np.ndarray, correct: np.ndarray) -> int:
    """Return the number of distinct scores to predict positive; the first of equally good ones (1e-12)."""
    if rule.by == "accuracy":
        value = correct / correct.max()
    elif rule.by == "f_beta":
        square = rule.beta * rule.beta
        below = square * precision + recall
        value = np.divide((1.0 + square) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    else:
        wanted, other = (recall, precision) if rule.by == "precision_at_target_recall" else (precision, recall)
        reached = wanted >= rule.target - 1e-12
        reached[0] = False  # predicting nothing has no precision
        value = np.where(reached, 1.0 + other, 0.0) if reached.any() else wanted
    return int(np.argmax(value >= value.max() - 1e-12))


def _between(distinct: np.ndarray, cut: int) -> float:
    """Return a threshold that the `cut` highest of the falling distinct scores reach, and no other."""
    if cut == distinct.size:
        return 0.0
    below = float(distinct[cut])
    above = float(distinct[cut - 1]) if cut > 0 else max(1.0, float(np.nextafter(below, 2.0)))
    middle = 0.5 * (below + above)
    return middle if below < middle <= above else above
