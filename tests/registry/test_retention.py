"""Retention at its edges: which version is the last to stay, and a round that is old in part."""

import os
import time
from pathlib import Path

import pytest

from beam_ml.errors import VersionNotFound
from beam_ml.registry import Registry, keep, new_round_id, put_round, round_files, sweep, sweep_rounds, tidy
from beam_ml.registry.ledger import Index, Kept, index_of
from beam_ml.registry.store import open_objects
from tests.registry.faulty_store import PAYLOADS, FaultyStore, publish_next


@pytest.mark.parametrize("n", [2, 4, 7])
def test_the_oldest_of_the_newest_versions_stays_though_nobody_serves_it(tmp_path: Path, n: int) -> None:
    """Versions 4 to 11 are refused by the gate, so that nothing but their number spares them."""
    now = [time.time()]
    registry = Registry(tmp_path, clock=lambda: now[0])
    for number in range(1, 12):
        publish_next(registry, "run", serve=number <= 3)
    now[0] += 600
    removed = keep(registry, "fraud", n, grace_s=60)
    # 3 is served, 2 is its parent.
    stay = {2, 3, *range(12 - n, 12)}
    assert {int(path.split("/")[1][1:]) for path in removed} == set(range(1, 12)) - stay
    assert len(removed) == len(PAYLOADS) * (11 - len(stay))
    for number in stay:
        assert {what: registry.read("fraud", number, what) for what in PAYLOADS} == PAYLOADS


def test_the_newest_version_that_is_whole_with_what_is_kept_beside_its_learner_stays(tmp_path: Path) -> None:
    """Training steps back to it. It needs no model, and the ledger's files are not among a version's own."""
    now = [time.time()]
    registry = Registry(tmp_path, clock=lambda: now[0])
    entry, files, _ = index_of("fraud", Index(fingerprint="f", size=1, through=0))
    ledger = Kept(entry, files)
    for parent in (None, 1, 2, 3, 4):
        registry.publish("fraud", {**PAYLOADS, "prepared": b"rows that wait"}, parent=parent,
                         round_id=new_round_id(1), serve=False, ledger=ledger)  # fmt: skip
    for number, what in ((5, "prepared"), (4, "learner"), (3, next(one for one in PAYLOADS if one != "learner"))):
        registry.objects.put(registry.manifest("fraud", number).files[what].path, b"cut")
    now[0] += 600
    removed = keep(registry, "fraud", 1, grace_s=60)
    assert {path.split("/")[1] for path in removed} == {"v1", "v2", "v4"}
    found = registry.latest("fraud", beside=["prepared"])
    assert found is not None
    assert (found.manifest.number, found.head) == (3, 5)


@pytest.mark.parametrize("fresh", ["0.safetensors", "86400000000.safetensors", "rejects-3.jsonl"])
def test_a_round_with_one_file_just_written_is_left_whole(tmp_path: Path, fresh: str) -> None:
    """Its first files may be older than the longest round is long: a worker is still writing."""
    registry = Registry(tmp_path)
    publish_next(registry, "run")
    round_id, long_ago = new_round_id(1), time.time() - 10_000
    files = ["0.safetensors", "86400000000.safetensors", "rejects-3.jsonl"]
    for file in files:
        path = put_round(registry, "fraud", round_id, file, b"rows")
        if file != fresh:
            os.utime(tmp_path / path, (long_ago, long_ago))
    assert sweep(registry, "fraud", grace_s=5_000) == []
    assert round_files(registry, "fraud", round_id) == files
    os.utime(tmp_path / "fraud" / "rounds" / round_id / fresh, (long_ago, long_ago))
    assert len(sweep(registry, "fraud", grace_s=5_000)) == 3
    assert round_files(registry, "fraud", round_id) == []


@pytest.mark.parametrize("what", sorted(PAYLOADS))
@pytest.mark.parametrize("data", [b"", b"cut", b"longer than it was" * 50])
def test_a_version_whose_file_is_not_as_long_as_it_was_is_not_pinned(tmp_path: Path, what: str, data: bytes) -> None:
    registry = Registry(tmp_path)
    for _ in range(3):
        publish_next(registry, "run")
    registry.serve("fraud", 2)
    assert len(PAYLOADS[what]) != len(data)
    registry.objects.put(registry.manifest("fraud", 1).files[what].path, data)
    with pytest.raises(VersionNotFound, match=f"version 1 cannot be served: its {what} is missing or incomplete"):
        registry.serve("fraud", 1)
    assert registry.served("fraud").number == 2


def _tidied(registry: Registry, store: FaultyStore, versions: int) -> list[int]:
    """Publish; tidy every ten versions; return how many listings and reads each tidying took."""
    took = []
    for number in range(1, versions + 1):
        publish_next(registry, "run")
        put_round(registry, "fraud", new_round_id(number), "0.safetensors", b"rows of an attempt that failed")
        if number % 10 == 0:
            begun = len(store.operations)
            tidy(registry, "fraud", 3, grace_s=0)
            took.append(sum(one in ("list", "list_with_delimiter", "get") for one, _ in store.operations[begun:]))
    return took


def test_tidying_looks_at_no_more_the_more_versions_there_are(tmp_path: Path) -> None:
    now = [time.time()]
    store = FaultyStore(open_objects(tmp_path).store)
    registry = Registry(store, clock=lambda: now[0] + 60)
    took = _tidied(registry, store, 120)
    assert max(took[6:]) <= max(took[1:6])
    held = {int(path.parts[-2][1:]) for path in tmp_path.glob("fraud/v*/learner-*")}
    assert held == {118, 119, 120}
    assert not list(tmp_path.glob("fraud/rounds/*/*")), "what attempts left is gone, too"


def test_a_start_reads_no_more_manifests_the_more_rounds_have_rejects(tmp_path: Path) -> None:
    store = FaultyStore(open_objects(tmp_path).store)
    registry = Registry(store, clock=lambda: time.time() + 60)
    took, dead = [], []
    for number in range(1, 261):
        publish_next(registry, "run")
        if number == 1 or number % 130 == 0:
            dead.append(
                put_round(registry, "fraud", new_round_id(number), "0.safetensors", b"of an attempt that failed")
            )
        made = registry.manifest("fraud", number).round_id
        put_round(registry, "fraud", made, "rejects-0.jsonl", b"rows that the version names")
        if number % 130 == 0:
            begun = len(store.operations)
            removed = sweep_rounds(registry, "fraud", grace_s=0)
            assert dead[-1] in removed
            took.append(sum(one == "get" for one, _ in store.operations[begun:]))
    assert took[1] <= took[0]
    assert dead[0] in tidy(registry, "fraud", 3, grace_s=0), "an older one goes when all is looked at"


def test_what_was_pinned_loses_its_payloads_when_it_is_no_longer(tmp_path: Path) -> None:
    now = [time.time()]
    registry = Registry(tmp_path, clock=lambda: now[0] + 60)
    for number in range(1, 41):
        publish_next(registry, "run")
        if number == 5:
            registry.serve("fraud", 5)
        if number % 10 == 0:
            tidy(registry, "fraud", 2, grace_s=0)
    assert registry.read("fraud", 5) == PAYLOADS["learner"]
    assert registry.read("fraud", 4) == PAYLOADS["learner"], "the anchor of the one that is served"
    registry.serve("fraud", None)
    removed = tidy(registry, "fraud", 2, grace_s=0)
    assert {path.split("/")[1] for path in removed} == {"v4", "v5"}


def test_young_versions_and_orphans_are_looked_at_until_they_are_old(tmp_path: Path) -> None:
    now = [time.time()]
    registry = Registry(tmp_path, clock=lambda: now[0])
    for _ in range(20):
        publish_next(registry, "run")
    assert tidy(registry, "fraud", 2, grace_s=3600) == []
    orphan = "fraud/v3/learner-0.safetensors"
    registry.objects.put(orphan, b"of a publisher that lost the race")
    now[0] += 7200
    removed = tidy(registry, "fraud", 2, grace_s=3600)
    assert orphan in removed
    assert {path.split("/")[1] for path in removed} == {f"v{number}" for number in range(1, 19)}
    assert tidy(registry, "fraud", 2, grace_s=3600) == []
