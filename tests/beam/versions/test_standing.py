"""Where a trainer stands: worked out once, from the versions that are there."""

import json
from pathlib import Path

import pytest

from beam_ml.beam.versions.lineage import NONE_CLOSED, Standing, begin, publish, publish_next
from beam_ml.beam.wire.references import AnchorRef
from beam_ml.core.gate import Verdict
from beam_ml.errors import HeadMoved
from beam_ml.registry import Registry

REFUSED = Verdict(False, ("auc 0.4 must be >= 0.8",))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "registry"))


def push(registry: Registry, mine: Standing, text: str = "x", verdict: Verdict = REFUSED) -> Standing:
    return publish(registry, "n", mine, {"learner": text.encode()}, verdict, {})[1]


def test_from_nothing(registry: Registry) -> None:
    mine = begin(registry, "n", None, 0)
    assert (mine.epoch, mine.version, mine.head, mine.digest, mine.verdict) == (1, None, 0, "", NONE_CLOSED)
    assert mine.learner_in("/there", "n") is None


def test_a_publish_moves_it_on(registry: Registry) -> None:
    first = push(registry, begin(registry, "n", None, 0, "run"))
    manifest = registry.manifest("n", 1)
    assert first == Standing("run", 1, 1, 1, manifest.files["learner"].sha256, REFUSED)
    assert first.learner_in("/there", "n") == AnchorRef("/there", "n", 1, first.digest)
    second = push(registry, first, "y", Verdict(True))
    assert (second.version, second.head, second.verdict) == (2, 2, Verdict(True))
    assert registry.manifest("n", 2).parent == 1
    assert Standing.from_dict(json.loads(json.dumps(first.to_dict()))) == first


def test_of_two_that_stand_at_one_version_one_publishes(registry: Registry) -> None:
    one = push(registry, begin(registry, "n", None, 0))
    push(registry, one)
    with pytest.raises(HeadMoved):
        push(registry, one, "other")


def test_its_epoch_is_above_that_of_a_version_stepped_over(registry: Registry) -> None:
    push(registry, begin(registry, "n", None, 0))
    first = registry.manifest("n", 1)
    push(registry, begin(registry, "n", first, 1))
    mine = begin(registry, "n", first, 2, "later")
    assert (mine.epoch, mine.version, mine.head) == (3, 1, 2)
    registry.objects.put("n/v2/manifest.json", b"{")
    assert begin(registry, "n", first, 2).epoch == 2, "nobody knows the epoch of a manifest that cannot be read"


def test_a_stream_ends_when_a_newer_pipeline_has_published(registry: Registry) -> None:
    """Whoever begins later has a later epoch, a user's own pipeline too: none is passed over as an older one."""
    stream = begin(registry, "n", None, 0)
    _, stream = publish_next(registry, "n", stream, {"learner": b"1"}, REFUSED, {})
    push(registry, begin(registry, "n", registry.manifest("n", 1), 1), "2")
    with pytest.raises(HeadMoved, match="by another trainer, of epoch 2, since this one, of epoch 1"):
        publish_next(registry, "n", stream, {"learner": b"3"}, REFUSED, {})
