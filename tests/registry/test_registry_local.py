"""What is particular to local disks: opening them, real kills, real full disks, real missing rights."""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_ml.errors import PublishFailed, RegistryError
from beam_ml.registry import Registry, sweep
from tests.registry.faulty_store import (
    PAYLOADS,
    Place,
    files_under,
    publish_for_ever,
    publish_next,
    publish_with_limit,
    publish_without_permission,
)
from tests.registry.registry_conformance import PROCESSES


def test_paths_and_urls_name_the_same_registry(tmp_path: Path) -> None:
    root = tmp_path / "a folder" / "registry"
    publish_next(Registry(root), "run")
    for where in (str(root), root.as_uri()):
        registry = Registry(where)
        assert registry.read("fraud") == PAYLOADS["learner"]
        assert repr(registry) == f"Registry({str(root)!r})"


def test_the_layout_on_disk(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    publish_next(registry, "run")
    registry.serve("fraud", 1)
    files = {what: file.path for what, file in registry.manifest("fraud", 1).files.items()}
    assert files["models/small"].startswith("fraud/v1/models/small-")
    assert files_under(tmp_path) == sorted([*files.values(), "fraud/v1/manifest.json", "fraud/serving.json"])


def test_two_memory_registries_are_two() -> None:
    publish_next(Registry("memory://"), "run")
    assert Registry("memory://").names() == []


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(RegistryError, match=r"cannot be opened: .*Not a directory"):
        Registry(file / "registry")
    with pytest.raises(RegistryError, match="cannot be opened"):
        Registry(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()
    with pytest.raises(RegistryError, match="cannot be opened"):
        Registry("ftp://host/registry")
    with pytest.raises(RegistryError, match=r"takes no store options; got \['region'\]"):
        Registry(tmp_path, region="x")


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    publish_next(registry, "run")
    (tmp_path / "fraud" / "v2").write_text("x")
    with pytest.raises(RegistryError, match="Not a directory"):
        publish_next(registry, "run")
    assert Registry(tmp_path).read("fraud", 1) == PAYLOADS["learner"]


def test_killed_at_random_instants_while_writing(tmp_path: Path) -> None:
    """Payloads of 2 MB keep most kills inside a write; what is there afterwards is whole."""
    place = Place(str(tmp_path / "registry"))
    publish_next(place.open(), "run")
    chance, at_least = random.Random(3), 1
    for _ in range(8):
        started = PROCESSES.Event()
        child = PROCESSES.Process(target=publish_for_ever, args=(place, 2_000_000, started))
        child.start()
        assert started.wait(60)
        time.sleep(chance.uniform(0.005, 0.08))
        child.kill()
        child.join()
        registry = place.open()
        head = registry.head_number("fraud")
        assert head >= at_least
        for number in range(at_least, head + 1):
            for what in PAYLOADS:
                assert registry.read("fraud", number, what)
        assert registry.served("fraud").number == head
        at_least = publish_next(registry, "run")
        assert at_least == head + 1
    registry = place.open()
    assert registry.versions("fraud") == list(range(1, at_least + 1))
    future = place.open(clock=lambda: time.time() + 60)
    sweep(future, "fraud", grace_s=1)
    named = {file.path for n in registry.versions("fraud") for file in registry.manifest("fraud", n).files.values()}
    manifests = {f"fraud/v{number}/manifest.json" for number in registry.versions("fraud")}
    assert set(files_under(tmp_path / "registry")) == named | manifests


def test_staged_leftovers_are_swept_after_the_grace_period(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    publish_next(registry, "run")
    staged = tmp_path / "fraud" / "v1" / "manifest.json#1"
    staged.write_text("half")
    sweep(registry, "fraud", grace_s=3600)
    assert staged.exists()
    sweep(Registry(tmp_path, clock=lambda: time.time() + 7200), "fraud", grace_s=3600)
    assert not staged.exists()
    assert registry.read("fraud", 1) == PAYLOADS["learner"]


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "registry"))
    publish_next(place.open(), "run")
    results = PROCESSES.Queue()
    child = PROCESSES.Process(target=publish_with_limit, args=(place, 65536, results))
    child.start()
    message, cause = results.get(timeout=60)
    child.join()
    assert message.startswith("Publishing fraud version 2 into the registry at ")
    assert "File too large" in message
    assert cause == "GenericError"
    registry = place.open()
    assert registry.served("fraud").number == 1
    assert registry.read("fraud") == PAYLOADS["learner"]
    assert publish_next(registry, "run") == 2


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that another user may enter: those of tmp_path are private."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    yield root
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o755)
    shutil.rmtree(root)


def test_a_registry_that_may_only_be_read(readable: Path) -> None:
    place = Place(str(readable / "registry"))
    publish_next(place.open(), "run")
    for folder, _, _ in os.walk(readable):
        Path(folder).chmod(0o555)
    results = PROCESSES.Queue()
    child = PROCESSES.Process(target=publish_without_permission, args=(place, results))
    child.start()
    messages = [results.get(timeout=60) for _ in range(3)]
    assert all("Permission denied" in message for message in messages), messages
    assert messages[0].startswith("Publishing fraud version 2 into the registry at ")
    assert messages[1].startswith("Pinning fraud into the registry at ")
    assert messages[2].startswith("Writing fraud/rounds/2-a/file into the registry at ")
    assert results.get(timeout=60) == (1, PAYLOADS["learner"])
    child.join()
    assert child.exitcode == 0


def test_publish_failed_names_what_and_why(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    (tmp_path / "fraud").write_text("a file where the name's folder belongs")
    with pytest.raises(PublishFailed, match=r"^Publishing fraud version 1 .*Not a directory \(os error 20\)\.$"):
        registry.publish("fraud", PAYLOADS, parent=None, round_id="1-a")
