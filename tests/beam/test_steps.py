"""Steps: what Beam still finds in them, and pipelines that run again with new values."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import pytest
from apache_beam import DoFn, Impulse, ParDo, Pipeline
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, get_dofn_specs, on_timer

from beam_ml.beam.engine import new_pipeline, run
from beam_ml.beam.steps import Step, applied, renew

BAG, DUE = BagStateSpec("bag", BytesCoder()), TimerSpec("due", TimeDomain.WATERMARK)


BAGS, DUES = DoFn.StateParam(BAG), DoFn.TimerParam(DUE)


class Base(Step):
    def process(self, element: Any, bag: Any = BAGS) -> None:
        bag.add(element)


class Stateful(Base):
    @on_timer(DUE)
    def due(self, timer: Any = DUES) -> None:
        timer.clear()


def test_state_and_timers_are_found_also_in_a_base_class():
    assert get_dofn_specs(Stateful()) == ({BAG}, {DUE})


def test_beam_inspects_no_method_of_its_own_class():
    shown = set(dir(Stateful()))
    assert {"process", "due"} <= shown
    assert not {"default_type_hints", "with_input_types", "display_data"} & shown
    assert "_word" in dir(Say("hello"))


class Say(Step):
    renewed = ("word",)
    heard: ClassVar[list[str]] = []

    def __init__(self, word: str) -> None:
        self._word = word

    def process(self, element: bytes) -> Iterator[bytes]:
        self.heard.append(self._word)
        yield element


class Twice(Step):
    renewed = ("word", "times")

    def __init__(self) -> None:
        self._word, self._times = "", 0

    def process(self, element: bytes) -> Iterable[bytes]:
        Say.heard.append(self._word * self._times)
        return []


def built() -> Pipeline:
    pipeline = new_pipeline()
    said = pipeline | Impulse() | "Say" >> ParDo(Say("first")).with_outputs("other", main="said")
    _ = said.said | "Twice" >> ParDo(Twice())
    return pipeline


def test_a_pipeline_runs_again_with_new_values_in_every_step():
    Say.heard.clear()
    pipeline = built()
    for word, times in (("a", 2), ("b", 3)):
        renew(pipeline, {"word": word, "times": times, "unknown": None})
        run(pipeline)
    assert Say.heard == ["a", "aa", "b", "bbb"]


def test_a_value_that_a_step_needs_must_be_there():
    with pytest.raises(KeyError, match="times"):
        renew(built(), {"word": "a"})


def test_applied_names_each_transform_once():
    labels = [one.full_label for one in applied(built())]
    assert len(labels) == len(set(labels))
    assert "Say" in "".join(labels)


class Louder(Say):
    """A step built on another."""


def test_steps_built_on_others_get_new_values_too() -> None:
    Say.heard.clear()
    pipeline = new_pipeline()
    _ = pipeline | Impulse() | ParDo(Louder("first"))
    renew(pipeline, {"word": "b"})
    run(pipeline)
    assert Say.heard == ["b"]
