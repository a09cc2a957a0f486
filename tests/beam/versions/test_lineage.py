"""Who may publish, whatever was restored or started again: each branch, and what the registry holds afterwards."""

import hashlib
import json
import shutil

import pytest

from beam_ml.beam.versions import lineage
from beam_ml.beam.versions.lineage import Standing, may_publish, publish_next
from beam_ml.core.gate import Verdict
from beam_ml.core.spec import canonical_json
from beam_ml.errors import HeadMoved, UnsupportedVersion
from beam_ml.registry import Registry, new_round_id

YES = Verdict(True)


@pytest.fixture
def registry(tmp_path):
    lineage.own.cache_clear()
    return Registry(tmp_path)


def push(registry, mine, text="x"):
    return publish_next(registry, "n", mine, {"learner": text.encode()}, YES, {})


def died(registry, mine):
    """The process that published is gone; an engine continues elsewhere with what it had kept."""
    lineage.own.cache_clear()
    return mine


def test_one_trainer_counts_up(registry):
    mine = Standing("a", 1)
    for number in (1, 2, 3):
        made, mine = push(registry, mine)
        assert (made.number, made.parent, made.epoch) == (number, number - 1 or None, 1)


def test_restored_within_one_submission_it_goes_on_under_the_next_free_number(registry):
    _, kept = push(registry, Standing("a", 1))
    _, mine = push(registry, kept)
    push(registry, mine)
    made, mine = push(registry, died(registry, kept))
    assert (made.number, made.parent, made.epoch, made.run_id) == (4, 1, 1, "a")
    assert push(registry, mine)[0].parent == 4


def test_dying_again_and_again_before_the_next_checkpoint_never_locks_it_out(registry):
    _, kept = push(registry, Standing("a", 1))
    for attempt in range(5):
        made, _ = push(registry, died(registry, kept), f"again {attempt}")
        assert (made.number, made.parent) == (attempt + 2, 1)


def test_a_bundle_tried_again_in_the_same_process_makes_no_second_version(registry):
    kept = Standing("a", 1)
    first, mine = push(registry, kept)
    again, standing = push(registry, kept)
    assert (again, standing) == (first, mine)
    assert registry.head_number("n") == 1
    other, _ = push(registry, kept, "with other content")
    assert (other.number, other.parent) == (2, None)


def test_a_state_given_back_in_the_same_process_is_taken_for_a_restore(registry):
    _, kept = push(registry, Standing("a", 1))
    _, mine = push(registry, kept, "2")
    push(registry, mine, "3")
    made, _ = push(registry, kept, "2 again")
    assert (made.number, made.parent) == (4, 1)


def test_a_worker_that_the_engine_has_given_up_ends(registry):
    """Its engine restored the job elsewhere while it went on."""
    _, alone = push(registry, Standing("a", 1))
    remembered = dict(vars_of(lineage.own(registry.objects.where, "n", "a")))
    push(registry, died(registry, alone), "elsewhere")
    memory = lineage.own(registry.objects.where, "n", "a")
    memory.number, memory.digest = remembered["number"], remembered["digest"]
    with pytest.raises(HeadMoved, match="by another worker of this run since this one published v1"):
        push(registry, alone, "mine")
    assert registry.head_number("n") == 2
    made, _ = push(registry, alone, "brought back here")  # what it had refused is not held against its engine
    assert (made.number, made.parent) == (3, 1)


def test_a_registry_that_has_lost_versions_is_refused(registry):
    _, mine = push(registry, Standing("a", 1))
    _, mine = push(registry, mine, "2")
    shutil.rmtree(registry.objects.root / "n" / "v2")
    with pytest.raises(HeadMoved, match="n must still have version 2, from which this run resumes; its newest is 1"):
        push(Registry(registry.objects.root), died(registry, mine), "3")


def vars_of(memory):
    return {"number": memory.number, "digest": memory.digest}


def test_a_new_submission_takes_over_and_the_old_one_ends(registry):
    _, old = push(registry, Standing("a", 1))
    new = Standing("b", 2, 1, 1)
    _, old = push(registry, old, "the old one has not noticed")
    made, new = push(registry, new, "the new one")
    assert (made.number, made.parent, made.run_id, made.epoch) == (3, 1, "b", 2)
    with pytest.raises(HeadMoved, match=r"by another trainer, of epoch 2, since this one, of epoch 1"):
        push(registry, old)
    assert push(registry, new)[0].number == 4


def test_of_two_submissions_begun_together_one_goes_on(registry):
    push(registry, Standing("a", 1))
    one, other = Standing("b", 2, 1, 1), Standing("c", 2, 1, 1)
    _, one = push(registry, one)
    with pytest.raises(HeadMoved, match="continues and this one ends"):
        push(registry, other)
    push(registry, one)


def test_an_old_checkpoint_under_a_new_submission_takes_over(registry):
    """Submitted again with a savepoint: the state is old, the run id and the epoch are those of the submission."""
    mine = Standing("a", 1)
    for _ in range(3):
        _, mine = push(registry, mine)
    made, _ = push(registry, Standing("b", 2, version=1, head=1))
    assert (made.number, made.parent, made.epoch) == (4, 1, 2)


def test_a_rounds_trainer_on_top_is_newer(registry):
    _, mine = push(registry, Standing("a", 1))
    registry.publish("n", {"learner": b"r"}, parent=1, round_id=new_round_id(1), run_id="rounds", epoch=2)
    with pytest.raises(HeadMoved, match="epoch 2"):
        push(registry, mine)


def test_somebody_who_publishes_at_the_same_time(registry, monkeypatch):
    _, mine = push(registry, Standing("b", 3, None, 0))
    publish, races = Registry.publish, []

    def raced(self, *given, **more):
        if not races:
            races.append(1)
            publish(self, "n", {"learner": b"old"}, parent=1, round_id=new_round_id(1), run_id="a", epoch=races[0])
        return publish(self, *given, **more)

    monkeypatch.setattr(Registry, "publish", raced)
    made, _ = push(registry, mine)
    assert (made.number, made.parent, made.run_id) == (3, 1, "b")


def test_a_damaged_head_is_stepped_over(registry):
    _, kept = push(registry, Standing("a", 1))
    _, mine = push(registry, kept)
    registry.objects.put("n/v2/manifest.json", b"{")
    assert push(registry, mine)[0].number == 3
    made, _ = push(registry, died(registry, kept), "restored")
    assert (made.number, made.parent) == (4, 1)


def test_a_newer_librarys_head_is_refused_and_not_published_over(registry):
    _, kept = push(registry, Standing("a", 1))
    push(registry, kept)
    stored = json.loads(registry.objects.get("n/v2/manifest.json"))
    del stored["digest"]
    stored["format"] = 2
    stored["digest"] = hashlib.sha256(canonical_json(stored).encode()).hexdigest()
    registry.objects.put("n/v2/manifest.json", json.dumps(stored).encode())
    with pytest.raises(UnsupportedVersion, match="must have format 1; got 2"):
        push(registry, died(registry, kept))
    with pytest.raises(UnsupportedVersion, match="must have format 1; got 2"):
        lineage.begin(registry, "n", registry.manifest("n", 1), 2)
    assert registry.head_number("n") == 2


def test_without_fencing_two_trainers_would_go_on(registry, monkeypatch):
    monkeypatch.setattr(lineage, "may_publish", lambda *given: None)
    _, old = push(registry, Standing("a", 1))
    push(registry, Standing("b", 2, 1, 1), "new")
    made, _ = push(registry, old, "old")
    assert made.number == 3


@pytest.mark.parametrize(
    ("head", "run_id", "epoch", "remembered", "continues"),
    [
        (5, "other", 9, 0, True),  # nothing new
        (6, "mine", 3, 0, True),  # restored
        (6, "mine", 3, 6, True),  # a state given back
        (6, "mine", 3, 5, False),  # given up by the engine
        (6, "other", 2, 5, True),  # an older trainer
        (6, "other", 3, 0, False),  # begun together
        (6, "other", 4, 0, False),  # newer
    ],
)
def test_each_branch(registry, head, run_id, epoch, remembered, continues):
    made = registry.publish("n", {"learner": b"x"}, parent=None, round_id=new_round_id(0), run_id=run_id, epoch=epoch)
    mine = Standing("mine", 3, 5, 5)
    if continues:
        may_publish(mine, "n", head, made, remembered)
    else:
        with pytest.raises(HeadMoved):
            may_publish(mine, "n", head, made, remembered)
