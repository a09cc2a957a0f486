"""Specs: one sentence for every bad value; equal content, equal fingerprint."""

import json
from typing import Annotated, Literal

import pydantic
import pytest
from pydantic import Field

from beam_ml.core.spec import Duration, ModelSpec, Settings, Spec, canonical_json, parse_duration_s
from beam_ml.errors import BeamMLError, InvalidValue


class Toy(Spec):
    called = "toy.Spec"

    algorithm: Literal["toy"] = "toy"
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    rounds: Annotated[int, Field(ge=1, lt=10)] = 3
    loss: Literal["squared", "absolute"] = "squared"
    balanced: bool = False

    @pydantic.field_validator("loss")
    @classmethod
    def _not_both(cls, value, info):
        if value == "absolute" and info.data.get("rounds") == 9:
            message = "must be 'squared' when rounds is 9."
            raise ValueError(message)
        return value


class Plain(ModelSpec):
    kind: Literal["plain"] = "plain"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"rate": 0}, "toy.Spec.rate must be > 0.0; got 0."),
        ({"rate": 1.5}, "toy.Spec.rate must be <= 1.0; got 1.5."),
        ({"rounds": 0}, "toy.Spec.rounds must be >= 1; got 0."),
        ({"rounds": 10}, "toy.Spec.rounds must be < 10; got 10."),
        ({"rate": float("inf")}, "toy.Spec.rate must be a finite number; got inf."),
        ({"rate": float("nan")}, "toy.Spec.rate must be a finite number; got nan."),
        ({"loss": "log"}, "toy.Spec.loss must be one of 'squared' or 'absolute'; got 'log'."),
        ({"depth": 3}, "toy.Spec.depth must not be given: there is no such field; got 3."),
        ({"rounds": True}, "toy.Spec.rounds must be a number or text, not a truth value; got True."),
        ({"n_features": False}, "toy.Spec.n_features must be a number or text, not a truth value; got False."),
        ({"loss": "absolute", "rounds": 9}, "toy.Spec.loss must be 'squared' when rounds is 9; got 'absolute'."),
        ({"half_life": 0}, "toy.Spec.half_life must be > 0; got 0."),
        ({"half_life": "-3d"}, None),
        ({"n_features": "many"}, None),
        ({"seed": -1}, "toy.Spec.seed must be >= 0; got -1."),
        ({"seed": 2**32}, "toy.Spec.seed must be < 4294967296; got 4294967296."),
        ({"rounds": 2.5}, None),
    ],
)
def test_a_bad_value_is_one_sentence_with_field_rule_and_value(given, sentence):
    with pytest.raises(InvalidValue) as caught:
        Toy(**{"n_features": 2, **given})
    text = str(caught.value)
    field = next(reversed(given)) if sentence is None else sentence.split()[0].removeprefix("toy.Spec.")
    assert text.startswith(f"toy.Spec.{field} must ")
    assert text.endswith(".")
    assert "\n" not in text
    assert repr(given[field]) in text
    if sentence is not None:
        assert text == sentence


def test_a_missing_field_says_so():
    with pytest.raises(InvalidValue, match=r"^toy\.Spec\.n_features must be given\.$"):
        Toy()


def test_two_mistakes_give_two_sentences():
    with pytest.raises(InvalidValue, match=r"rate must be > 0\.0; got 0\. toy\.Spec\.rounds must be >= 1; got 0\."):
        Toy(n_features=1, rate=0, rounds=0)


def test_without_a_given_name_the_class_names_itself():
    with pytest.raises(InvalidValue, match=r"^Plain\.kind must be 'plain'; got 'other'\.$"):
        Plain(kind="other")


def test_the_error_is_both_a_value_error_and_ours():
    with pytest.raises(BeamMLError):
        Toy(n_features=0)
    with pytest.raises(ValueError, match="n_features must be >= 1; got 0"):
        Toy(n_features=0)


def test_numbers_given_as_text_parse():
    spec = Toy.parse({"n_features": "4", "rate": "0.25", "rounds": "7", "half_life": "2w", "balanced": "true"})
    assert spec == Toy(n_features=4, rate=0.25, rounds=7, half_life=1_209_600, balanced=True)


@pytest.mark.parametrize("value", [None, [1], "{}", 3])
def test_only_a_mapping_parses(value):
    with pytest.raises(InvalidValue, match=r"^toy\.Spec must be a mapping of settings; got "):
        Toy.parse(value)


def test_specs_are_frozen_and_hashable():
    spec = Toy(n_features=2)
    with pytest.raises(pydantic.ValidationError):
        spec.rate = 0.1
    assert {spec: 1}[Toy(n_features=2)] == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("1.5h", 5400.0), ("2m", 120.0), ("14d", 1_209_600.0), (" 1 w ", 604_800.0)],
)
def test_durations_are_seconds(text, seconds):
    assert parse_duration_s(text) == seconds
    assert Toy(n_features=1, half_life=text).half_life == seconds


@pytest.mark.parametrize("value", [3.0, "12", "fortnight", None])
def test_other_values_pass_through_the_duration_parser(value):
    assert parse_duration_s(value) == value


def test_a_duration_can_stand_in_any_settings():
    class Job(Settings):
        every: Duration

    assert Job(every="1d").every == 86_400.0
    with pytest.raises(InvalidValue, match=r"^Job\.every must be > 0; got 0\.$"):
        Job(every=0)


def test_json_alone_gives_the_spec_back():
    spec = Toy(n_features=2, half_life="1d", rate=0.1)
    assert Toy.parse(json.loads(spec.to_json())) == spec
    assert json.loads(spec.to_json())["algorithm"] == "toy"


def test_canonical_json_does_not_depend_on_order():
    assert canonical_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"a": float("nan")})


def test_equal_settings_have_equal_fingerprints_and_others_not():
    one = Toy(n_features=2, half_life="1d")
    assert one.fingerprint == Toy(half_life=86_400, n_features="2", rate=0.5).fingerprint
    others = [Toy(n_features=3), Toy(n_features=2, seed=1), Toy(n_features=2), Toy(n_features=2, balanced=True)]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_class_facts_have_defaults():
    spec = Toy(n_features=2)
    assert (spec.label_target, spec.n_label_classes, spec.anchor_staleness) == ("none", 1, None)
