"""Jobs with anything in any place: a job, or one sentence."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from beam_ml.beam.job import Job
from beam_ml.errors import BeamMLError, InvalidValue
from tests.attacks.effort import EFFORT

BASE: dict[str, Any] = {
    "name": "j",
    "registry": "memory://",
    "source": {"kind": "files", "path": "/tmp/x", "format": "csv"},
    "features": {"numeric": ["a", "b"], "label": "y", "time": "t"},
    "spec": {"algorithm": "linear.newton"},
    "models": {"m": {"kind": "classifier"}},
    "refresh": "round",
}
VALUES = [
    None, True, 0, -1, 1.5, 1e308, float("inf"), float("nan"), 10**40, -(10**40), "", "x", "1d", "9" * 400 + "d", "1e400h",
    [], {}, [[1]], {"a": {}}, [None], {"kind": 5}, "a" * 1000, b"x", ("a",), {1: 2}, ["a"] * 3, "\ud800", "\0", [[]],
]  # fmt: skip
PLACES = [
    *((name,) for name in Job.model_fields),
    *(("spec", name) for name in ("algorithm", "n_features", "half_life", "seed", "loss", "classes")),
    *(("source", name) for name in ("kind", "options", "format", "allowed_lateness", "max_ahead", "remember", "path")),
    *(("features", name) for name in ("numeric", "time", "weight", "hashed", "label")),
    *(("models", "m", name) for name in ("l1", "l2", "threshold", "kind")),
]


def put(job: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for name in place[:-1]:
        inner = job.get(name)
        if not isinstance(inner, dict):
            return
        job = inner
    job[place[-1]] = value


def sampled(rng: random.Random, n: int) -> Iterator[dict[str, Any]]:
    for _ in range(n):
        job = copy.deepcopy(BASE)
        for place in rng.sample(PLACES, rng.choice([1, 1, 2])):
            put(job, place, copy.deepcopy(rng.choice(VALUES)))
        yield job


@pytest.mark.parametrize("seed", range(2))
def test_any_job_is_one_or_is_refused(seed: int) -> None:
    for given in sampled(random.Random(seed), 400 * EFFORT):
        try:
            job = Job.parse(given)
            job.algorithm_spec(), job.plan(), job.windows()
        except BeamMLError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (
            ("models", "m", "kind"),
            [],
            r"model.kind must be one of \['classifier', 'classifier_with_errors', 'regressor', ",
        ),
        (
            ("models", "m", "kind"),
            {"a": 1},
            r"model.kind must be one of \['classifier', 'classifier_with_errors', 'regressor', ",
        ),
        (("spec",), {1: 2}, "must"),
    ],
)
def test_what_no_text_file_says_is_refused_with_a_sentence(place: tuple[str, ...], value: Any, sentence: str) -> None:
    given = copy.deepcopy(BASE)
    put(given, place, value)
    with pytest.raises(InvalidValue, match=sentence):
        Job.parse(given).plan()
    with pytest.raises(InvalidValue, match="must name its settings by text; got 1"):
        Job.parse({**BASE, 1: 2})
