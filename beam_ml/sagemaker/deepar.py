"""DeepAR's hyperparameters: `deepar.Spec` and `deepar.Forecast`.

What is not given is this library's: its network, steps and rate belong together, and SageMaker's to another network. How
long series may be has no name there: it is the spec's default. A spec says before the first series which categories and
features there are, so ``auto`` is none of them; series that have some are then refused, not read without.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from beam_ml.algorithms import deepar
from beam_ml.core.frequency import Frequency
from beam_ml.errors import InvalidValue
from beam_ml.sagemaker.names import Given, Name, Values, one_of, real, whole

__all__ = ["TABLE", "build"]

_FREQUENCY = re.compile(r"[0-9]*(M|W|D|H|min)")
_ALL_PASSES = "a fold makes all the passes that epochs asks for, and serves a mean in which later steps count more"


def _frequency() -> Values:
    """A unit of time, after a number if any."""

    def parse(text: str) -> str | None:
        try:
            return text if _FREQUENCY.fullmatch(text) and Frequency.of(text) else None
        except InvalidValue:
            return None

    return Values("M, W, D, H or min, after a whole number in [1, 1200] if any", parse)


def _list(what: str, most: int, good: Callable[[Any], bool]) -> Values:
    """A JSON list of 1 to so many numbers."""

    def parse(text: str) -> tuple[Any, ...] | None:
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return tuple(found) if isinstance(found, list) and 1 <= len(found) <= most and all(map(good, found)) else None

    return Values(f"a JSON list of 1 to {most} {what}", parse)


def _or_none(values: Values, none: Any) -> Values:
    """Values, or one of the words for none."""
    return Values(
        f"{values.text}, or auto or ignore or nothing",
        lambda text: none if text in ("auto", "ignore", "") else values.parse(text),
    )


_SIZES = _list("whole numbers in [1, 1000000]", 100, lambda one: type(one) is int and 1 <= one <= 1_000_000)
_LEVELS = _list("numbers in (0, 1)", 100, lambda one: isinstance(one, float) and 0 < one < 1)

TABLE: tuple[Name, ...] = (
    Name("time_freq", _frequency(), None, to="Spec.time_freq"),
    Name("context_length", whole(1, 2_000), None, to="Spec.context_length"),
    Name("prediction_length", whole(1, 2_000), None, to="Spec.prediction_length"),
    Name("epochs", whole(1, 10_000), None, to="Spec.passes_per_refresh"),
    Name(
        "likelihood",
        one_of("student-T", "gaussian", "negative-binomial", "beta", "deterministic-L1"),
        "student-T",
        to="Spec.likelihood",
    ),
    Name("num_cells", whole(1, 1_000), "40", to="Spec.num_cells"),
    Name("num_layers", whole(1, 8), "2", to="Spec.num_layers"),
    Name("dropout_rate", real(0, 1, open_high=True), "0.1", to="Spec.dropout_rate; not given: its default"),
    Name("learning_rate", real(0, 1, open_low=True), "0.001", to="Spec.learning_rate; not given: its default"),
    Name("mini_batch_size", whole(1, 10_000), "128", to="Spec.mini_batch_size; not given: 32"),
    Name("embedding_dimension", whole(1, 200), "10", to="Spec.embedding_dimension"),
    Name("cardinality", _or_none(_SIZES, ()), "auto", to="Spec.cardinality; auto, ignore, nothing: no categories"),
    Name(
        "num_dynamic_feat",
        _or_none(whole(1, 100), 0),
        "auto",
        to="Spec.num_dynamic_feat; auto, ignore, nothing: no features",
    ),
    Name("num_eval_samples", whole(1, 10_000), "100", to="Forecast.num_samples"),
    Name("test_quantiles", _LEVELS, "[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9]", to="Forecast.quantiles"),
    Name("early_stopping_patience", whole(1, None), "", note=_ALL_PASSES),
)


def build(given: Given) -> tuple[deepar.Spec, deepar.Forecast]:
    """Build the spec and the model spec from what was read."""
    own = {name: given[name] for name in ("dropout_rate", "learning_rate", "mini_batch_size") if name in given.named}
    same = (
        "time_freq", "context_length", "prediction_length", "likelihood", "num_cells", "num_layers",
        "embedding_dimension", "cardinality", "num_dynamic_feat",
    )  # fmt: skip
    spec = deepar.Spec(passes_per_refresh=given["epochs"], **{name: given[name] for name in same}, **own)
    return spec, deepar.Forecast(num_samples=given["num_eval_samples"], quantiles=given["test_quantiles"])
