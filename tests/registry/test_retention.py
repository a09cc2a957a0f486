"""Retention at its edges: which version is the last to stay, and a round that is old in part."""

import os
import time
from pathlib import Path

import pytest

from beam_ml.errors import VersionNotFound
from beam_ml.registry import Registry, keep, new_round_id, put_round, round_files, sweep
from tests.registry.faulty_store import PAYLOADS, publish_next


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
