"""What a registry promises on every store; a test module gives the `place` fixture and imports these by star."""

import hashlib
import json
import logging
import multiprocessing
import signal
import threading
import time
from typing import Any

import pytest
from obstore.exceptions import GenericError

from beam_ml.errors import (
    CorruptArtefact,
    HeadMoved,
    InvalidValue,
    PublishFailed,
    RegistryError,
    UnsupportedVersion,
    VersionNotFound,
)
from beam_ml.registry import (
    Registry,
    keep,
    new_round_id,
    put_round,
    read_round,
    round_files,
    sweep,
)
from tests.registry.faulty_store import PAYLOADS, Place, publish_and_die, publish_next, race, race_in_process

# forkserver: children are forked from a process that has imported beam_ml and never touched a store
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["beam_ml.registry"])


class Killed(BaseException):
    """Stands for SIGKILL where the store lives in this process."""


def payload(registry: Registry, number: int, what: str = "learner") -> str:
    return registry.manifest("fraud", number).files[what].path


def damage(registry: Registry, path: str) -> None:
    data = registry.objects.get(path)
    assert data is not None
    middle = len(data) // 2
    registry.objects.put(path, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


# --- versions --------------------------------------------------------------------------------------------------------


def test_an_empty_registry_has_nothing(place: Place) -> None:
    registry = place.open()
    assert registry.names() == []
    assert registry.versions("fraud") == []
    assert registry.head_number("fraud") == 0
    assert registry.head("fraud") is None
    assert registry.latest("fraud") is None
    assert registry.served("fraud") is None
    assert registry.serving("fraud", "learner") is None
    with pytest.raises(VersionNotFound, match="no version 1"):
        registry.manifest("fraud", 1)
    with pytest.raises(VersionNotFound, match="no version 0"):
        registry.read("fraud")


def test_a_version_is_what_was_published(place: Place) -> None:
    registry = place.open()
    facts = {
        "spec": {"algorithm": "pca", "n_features": 3},
        "fingerprint": "ab",
        "progress": {"rows": 10},
        "refreshes": [{"refresh": 1, "auc": 0.5}, {"refresh": 2, "auc": None}],
        "champion": "small",
        "next": {"topic": {"0": 12}},
        "rejects": ["reject-0.jsonl"],
        "job": "fraud.toml",
    }
    made = registry.publish(
        "fraud",
        PAYLOADS,
        parent=None,
        round_id="1-a",
        run_id="run",
        epoch=3,
        facts=facts,
        reasons=("auc >= 0.8 holds",),
    )
    other = place.open()
    read = other.head("fraud")
    assert read == made
    assert (read.number, read.parent, read.epoch, read.round_id) == (1, None, 3, "1-a")
    assert read.spec == facts["spec"]
    assert read.refreshes == tuple(facts["refreshes"])
    assert read.rejects == ("reject-0.jsonl",)
    assert read.extra == {"job": "fraud.toml"}
    assert read.verdict.reasons == ("auc >= 0.8 holds",)
    assert read.created.endswith("Z")
    for what, data in PAYLOADS.items():
        assert other.read("fraud", 1, what) == data
        file = read.files[what]
        digest = hashlib.sha256(data).hexdigest()
        assert (file.path, file.sha256, file.bytes) == (f"fraud/v1/{what}-{digest}.safetensors", digest, len(data))
    assert other.names() == ["fraud"]
    with pytest.raises(VersionNotFound, match=r"holds \['learner', 'models/small'\]; got 'models/large'"):
        other.read("fraud", 1, "models/large")


def test_numbers_rise_by_one_and_heads_are_found(place: Place) -> None:
    registry = place.open()
    for number in range(1, 20):
        fresh = place.open()
        assert fresh.head_number("fraud") == number - 1
        assert registry.head_number("fraud") == number - 1
        assert publish_next(fresh, "run") == number
    assert place.open().versions("fraud") == list(range(1, 20))
    assert [registry.manifest("fraud", n).parent for n in range(1, 20)] == [None, *range(1, 19)]


def test_the_head_is_found_where_first_versions_were_removed_by_hand(place: Place) -> None:
    registry = place.open()
    for _ in range(5):
        publish_next(registry, "run")
    registry.objects.delete(stat.path for number in (1, 2) for stat in registry.objects.walk(f"fraud/v{number}"))
    fresh = place.open()
    assert fresh.head_number("fraud") == 5
    assert fresh.versions("fraud") == [3, 4, 5]
    assert publish_next(fresh, "run") == 6


def test_names_do_not_mix(place: Place) -> None:
    registry = place.open()
    for name in ("fraud", "fraud2", "fraud-eu"):
        registry.publish(name, {"learner": name.encode()}, parent=None, round_id="1-a")
    registry.publish("fraud", PAYLOADS, parent=1, round_id="2-a")
    put_round(registry, "unpublished", "1-x", "a.bin", b"a")
    assert registry.names() == ["fraud", "fraud-eu", "fraud2"]
    assert registry.versions("fraud2") == [1]
    assert registry.read("fraud-eu") == b"fraud-eu"


def test_publishing_names_the_head_it_expects(place: Place) -> None:
    first, second = place.open(), place.open()
    publish_next(first, "first")
    first.publish("fraud", PAYLOADS, parent=1, round_id="2-first")
    with pytest.raises(HeadMoved, match="version 2 was published first by round 2-first"):
        second.publish("fraud", PAYLOADS, parent=1, round_id="2-second")
    with pytest.raises(HeadMoved):
        second.publish("fraud", PAYLOADS, parent=None, round_id="1-second")
    with pytest.raises(VersionNotFound, match="no version 7 to publish on"):
        second.publish("fraud", PAYLOADS, parent=7, round_id="8-second")
    with pytest.raises(InvalidValue, match=r"publish\.head must be >= the parent 2; got 1"):
        second.publish("fraud", PAYLOADS, parent=2, head=1, round_id="2-x")
    assert first.head_number("fraud") == second.head_number("fraud") == 2


def test_publishing_again_with_one_round_id_is_the_same_version(place: Place) -> None:
    registry = place.open()
    made = registry.publish("fraud", PAYLOADS, parent=None, round_id="1-a")
    assert place.open().publish("fraud", PAYLOADS, parent=None, round_id="1-a") == made
    registry.publish("fraud", PAYLOADS, parent=1, round_id="2-a")
    assert registry.publish("fraud", PAYLOADS, parent=None, round_id="1-a") == made
    assert registry.versions("fraud") == [1, 2]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": "../x"}, "name must be made of letters"),
        ({"name": ""}, "name must be made of letters"),
        ({"name": "a/b"}, "name must be made of letters"),
        ({"round_id": "a b"}, "round_id must be made of letters"),
        ({"payloads": {"models/../x": b""}}, "payload name must be made of letters"),
        ({"facts": {"auc": float("nan")}}, "must be JSON with finite numbers"),
        ({"facts": {"spec": {1, 2}}}, "must be JSON with finite numbers"),
        ({"facts": {"champion": 3}}, "Manifest.champion must be text"),
        ({"epoch": -1}, "Manifest.epoch must be >= 0; got -1"),
    ],
)
def test_what_cannot_be_published_is_refused_and_nothing_written(place: Place, change: Any, match: str) -> None:
    registry = place.open()
    given = {"name": "fraud", "payloads": PAYLOADS, "parent": None, "round_id": "1-a", **change}
    with pytest.raises(InvalidValue, match=match):
        registry.publish(given.pop("name"), given.pop("payloads"), **given)
    assert registry.objects.walk("fraud") == []


# --- what is served --------------------------------------------------------------------------------------------------


def test_the_newest_accepted_version_is_served(place: Place) -> None:
    registry = place.open()
    served = []
    for number, good in enumerate([False, True, True, False, False, True, False], start=1):
        assert publish_next(registry, "run", {"learner": f"{number}".encode()}, serve=good) == number
        now = registry.served("fraud")
        served.append(now.number if now else None)
    assert served == [None, 2, 3, 3, 3, 6, 6]
    found = place.open().serving("fraud", "learner")
    assert found is not None
    assert (found.data, found.head) == (b"6", 7)
    latest = registry.latest("fraud")
    assert latest is not None
    assert latest.data == b"7"


def test_a_person_pins_and_unpins_the_served_version(place: Place) -> None:
    registry = place.open()
    for good in (True, False, True, True):
        publish_next(registry, "run", serve=good)
    for number in (1, 2, 4):
        pinned = registry.serve("fraud", number)
        assert pinned is not None
        assert pinned.number == number
        assert place.open().served("fraud") == pinned
    registry.serve("fraud", 1)
    publish_next(registry, "run")
    assert registry.served("fraud").number == 1
    assert registry.serve("fraud", None).number == 5
    with pytest.raises(VersionNotFound, match="no version 9"):
        registry.serve("fraud", 9)
    assert registry.served("fraud").number == 5


def test_a_damaged_pin_counts_as_none(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    registry = place.open()
    publish_next(registry, "run")
    publish_next(registry, "run")
    for text in (b"", b"{", b'{"pinned": "1"}', b'{"pinned": -1}', b"[]"):
        registry.serve("fraud", 1)
        registry.objects.put("fraud/serving.json", text)
        with caplog.at_level(logging.WARNING):
            assert registry.served("fraud").number == 2
        assert "damaged" in caplog.text
        caplog.clear()


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_payload_is_stepped_over(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    registry = place.open()
    for number in (1, 2, 3):
        publish_next(registry, "run", {"learner": f"learner {number}".encode()})
    damage(registry, payload(registry, 3))
    with pytest.raises(CorruptArtefact, match="version 3 has a damaged learner"):
        registry.read("fraud", 3)
    with caplog.at_level(logging.WARNING):
        found = registry.latest("fraud")
    assert "version 3 has a damaged learner" in caplog.text
    assert found is not None
    assert (found.manifest.number, found.data, found.head) == (2, b"learner 2", 3)
    serving = registry.serving("fraud", "learner")
    assert serving is not None
    assert serving.manifest.number == 2
    # training resumes from version 2, under the next free number
    assert publish_next(registry, "run") == 4
    assert registry.manifest("fraud", 4).parent == 2
    registry.objects.delete([payload(registry, 4)])
    assert registry.latest("fraud").manifest.number == 2


def test_a_damaged_manifest_is_stepped_over(place: Place) -> None:
    registry = place.open()
    for _ in range(4):
        publish_next(registry, "run")
    for number, text in ((3, b""), (4, registry.objects.get("fraud/v4/manifest.json")[:-20])):
        registry.objects.put(f"fraud/v{number}/manifest.json", text)
    with pytest.raises(CorruptArtefact, match="damaged"):
        registry.head("fraud")
    assert next(registry.manifests("fraud")).number == 2
    assert registry.served("fraud").number == 2
    with pytest.raises(HeadMoved, match="exists already and is damaged"):
        registry.publish("fraud", PAYLOADS, parent=3, round_id="4-x")
    assert publish_next(registry, "run", serve=False) == 5
    assert registry.manifest("fraud", 5).last_accepted == 2


def test_every_bit_of_a_manifest_is_guarded(place: Place) -> None:
    registry = place.open()
    publish_next(registry, "run")
    path = "fraud/v1/manifest.json"
    good = registry.objects.get(path)
    assert good is not None
    manifest = registry.manifest("fraud", 1)
    for at in range(0, len(good), 7):
        registry.objects.put(path, good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        try:
            assert registry.manifest("fraud", 1) == manifest  # white space
        except CorruptArtefact:
            continue
    registry.objects.put(path, good)
    assert registry.manifest("fraud", 1) == manifest


def test_nothing_readable_is_an_error_not_a_new_start(place: Place) -> None:
    registry = place.open()
    publish_next(registry, "run")
    damage(registry, payload(registry, 1))
    with pytest.raises(CorruptArtefact, match="no readable learner"):
        registry.latest("fraud")
    registry.objects.put("fraud/v1/manifest.json", b"{}")
    with pytest.raises(CorruptArtefact, match="no readable manifest"):
        registry.latest("fraud")


def test_a_damaged_pinned_version_falls_back_to_the_accepted_one_before_it(place: Place) -> None:
    registry = place.open()
    for number in range(1, 6):
        publish_next(registry, "run", {"learner": f"{number}".encode()}, serve=number != 2)
    registry.serve("fraud", 3)
    damage(registry, payload(registry, 3))
    serving = registry.serving("fraud", "learner")
    assert serving is not None
    assert serving.data == b"1"
    damage(registry, payload(registry, 1))
    serving = registry.serving("fraud", "learner")
    assert serving is not None
    assert serving.data == b"5"  # newer versions are whole: that is better than to serve nothing
    for number in (4, 5):
        damage(registry, payload(registry, number))
    with pytest.raises(CorruptArtefact):
        registry.serving("fraud", "learner")


def rewrite_manifest(registry: Registry, number: int, change: Any) -> None:
    """Change a stored manifest and sign it again, as another library version would write it."""
    path = f"fraud/v{number}/manifest.json"
    stored = json.loads(registry.objects.get(path) or b"")
    del stored["digest"]
    change(stored)
    text = json.dumps(stored, sort_keys=True, separators=(",", ":"))
    stored["digest"] = hashlib.sha256(text.encode()).hexdigest()
    registry.objects.put(path, json.dumps(stored).encode())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda stored: stored.update(format=2), "must have format 1; got 2"),
        (lambda stored: stored["manifest"].update(shards=3), "holds other fields than this library knows"),
    ],
)
def test_a_newer_manifest_is_refused_not_stepped_over(place: Place, change: Any, match: str) -> None:
    registry = place.open()
    publish_next(registry, "run")
    publish_next(registry, "run")
    rewrite_manifest(registry, 2, change)
    with pytest.raises(UnsupportedVersion, match=match):
        registry.latest("fraud")
    with pytest.raises(UnsupportedVersion):
        registry.publish("fraud", PAYLOADS, parent=1, round_id="2-x")


# --- rounds, retention -----------------------------------------------------------------------------------------------


def test_files_of_a_round(place: Place) -> None:
    registry = place.open()
    round_id = new_round_id(0)
    assert round_files(registry, "fraud", round_id) == []
    path = put_round(registry, "fraud", round_id, "windows/10.safetensors", b"first")
    assert path == f"fraud/rounds/{round_id}/windows/10.safetensors"
    put_round(registry, "fraud", round_id, "windows/10.safetensors", b"second")
    put_round(registry, "fraud", round_id, "rejects-0.jsonl", b"")
    assert read_round(registry, "fraud", round_id, "windows/10.safetensors") == b"second"
    assert round_files(registry, "fraud", round_id) == ["rejects-0.jsonl", "windows/10.safetensors"]
    assert round_files(registry, "fraud", new_round_id(0)) == []
    with pytest.raises(VersionNotFound):
        read_round(registry, "fraud", round_id, "absent")
    with pytest.raises(InvalidValue):
        put_round(registry, "fraud", round_id, "../../v1/manifest.json", b"")


def test_keep_removes_payloads_and_never_manifests(place: Place) -> None:
    now = [time.time()]
    registry = place.open(clock=lambda: now[0])
    for _ in range(9):
        publish_next(registry, "run")
    assert keep(registry, "fraud", 3, grace_s=3600) == []
    now[0] += 7200
    registry.serve("fraud", 4)
    publish_next(registry, "run", serve=False)
    removed = keep(registry, "fraud", 2, grace_s=3600)
    # spared: 10, 9 (newest two), 4 (served), 3 (its parent), 8 (the parent of 9, the newest accepted)
    assert {path.split("/")[1] for path in removed} == {"v1", "v2", "v5", "v6", "v7"}
    assert len(removed) == 10
    assert place.open().versions("fraud") == list(range(1, 11))
    for number in (3, 4, 8, 9, 10):
        for what in PAYLOADS:
            assert registry.read("fraud", number, what) == PAYLOADS[what]
    for number in (1, 2, 5, 6, 7):
        assert registry.manifest("fraud", number).number == number
        with pytest.raises(VersionNotFound, match="removed, by retention"):
            registry.read("fraud", number)
        with pytest.raises(VersionNotFound, match="cannot be served"):
            registry.serve("fraud", number)
    assert keep(registry, "fraud", 2, grace_s=3600) == []
    assert publish_next(registry, "run") == 11


def test_keep_spares_the_newest_whole_learner(place: Place) -> None:
    now = [time.time()]
    registry = place.open(clock=lambda: now[0])
    for _ in range(6):
        publish_next(registry, "run", serve=False)
    for number in (4, 5, 6):
        registry.objects.delete([payload(registry, number)])
    now[0] += 10
    removed = keep(registry, "fraud", 1, grace_s=0)
    assert registry.latest("fraud").manifest.number == 3
    assert {path.split("/")[1] for path in removed} == {"v1", "v2", "v4", "v5"}
    for bad in ((0, 1.0), (1, -1.0)):
        with pytest.raises(InvalidValue, match="n >= 1 and grace_s >= 0"):
            keep(registry, "fraud", *bad)


def test_sweep_removes_what_dead_publishers_left(place: Place) -> None:
    now = [time.time()]
    registry = place.open(clock=lambda: now[0])
    publish_next(registry, "run")
    dead, done = new_round_id(1), new_round_id(1)
    for round_id in (dead, done, "odd"):
        for file in ("10.safetensors", "rejects.jsonl"):
            put_round(registry, "fraud", round_id, file, b"x")
    registry.publish("fraud", PAYLOADS, parent=1, round_id=done, facts={"rejects": ["rejects.jsonl"]})
    registry.publish("fraud", PAYLOADS, parent=2, round_id="odd", facts={"rejects": ["rejects.jsonl"]})
    orphan, live = "fraud/v2/learner-0.safetensors", "fraud/v4/learner-0.safetensors"
    for path in (orphan, live):
        registry.objects.put(path, b"x")
    assert sweep(registry, "fraud", grace_s=3600) == []
    now[0] += 7200
    removed = sweep(registry, "fraud", grace_s=3600)
    assert removed == sorted(
        [
            orphan,
            f"fraud/rounds/{dead}/10.safetensors",
            f"fraud/rounds/{dead}/rejects.jsonl",
            f"fraud/rounds/{done}/10.safetensors",
            "fraud/rounds/odd/10.safetensors",
        ]
    )
    assert registry.objects.get(live) == b"x"
    assert read_round(registry, "fraud", done, "rejects.jsonl") == b"x"
    assert registry.read("fraud", 2) == PAYLOADS["learner"]
    assert sweep(registry, "fraud", grace_s=3600) == []
    with pytest.raises(InvalidValue, match="grace_s must be >= 0"):
        sweep(registry, "fraud", grace_s=-1)


# --- failures --------------------------------------------------------------------------------------------------------

ERRORS = (
    GenericError("Generic Local error: No space left on device (os error 28)"),
    PermissionError("Permission denied (os error 13)"),
    OSError(28, "No space left on device"),
)


def operations_of_a_publish(place: Place) -> list[tuple[str, str]]:
    """Return the steps in which a trainer publishes version 2."""
    publish_next(place.open(), "run", name="probe")
    registry, store = place.faulty()
    publish_next(registry, "probe", name="probe")
    assert [name for name, _ in store.operations].count("put") == len(PAYLOADS) + 1
    assert store.operations[-1] == ("put", "probe/v2/manifest.json")
    return store.operations


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_store_that_fails_at_any_step_leaves_what_was_served(place: Place, when: str) -> None:
    operations = operations_of_a_publish(place)
    whole = place.open()
    for step, (operation, _) in enumerate(operations):
        name, error = f"fraud-{step}", ERRORS[step % len(ERRORS)]
        publish_next(whole, "run", name=name)

        def fail(at: int, operation: str, path: str, step: int = step, error: Exception = error) -> None:
            if at == step:
                raise error

        registry, _ = place.faulty(**{when: fail})
        if (when, step) == ("after", len(operations) - 1):  # only the answer was lost: the version is there
            assert publish_next(registry, "run", name=name, round_id="2-a") == 2
            assert whole.head(name).round_id == "2-a"
            continue
        with pytest.raises(RegistryError) as caught:
            publish_next(registry, "run", name=name, round_id="2-a")
        assert caught.value.__cause__ is error
        assert isinstance(caught.value, PublishFailed) or operation != "put"
        assert whole.head_number(name) == 1
        assert whole.served(name).number == 1
        assert publish_next(whole, "run", name=name, round_id="2-a") == 2
        assert whole.read(name, 2) == PAYLOADS["learner"]


def test_a_store_that_fails_inside_publish_is_publish_failed(place: Place) -> None:
    whole = place.open()
    publish_next(whole, "run")
    probe, store = place.faulty()
    probe.publish("fraud", PAYLOADS, parent=1, round_id="2-a", serve=False)
    for step in range(len(store.operations)):

        def fail(at: int, operation: str, path: str, step: int = step) -> None:
            if at == step:
                raise ERRORS[0]

        head = whole.head_number("fraud")
        registry, _ = place.faulty(before=fail)
        with pytest.raises(PublishFailed, match="No space left on device") as caught:
            registry.publish("fraud", PAYLOADS, parent=head, round_id=f"{head + 1}-a", serve=False)
        assert caught.value.__cause__ is ERRORS[0]
        assert whole.head_number("fraud") == head
        publish_next(whole, "run", serve=False)


def test_a_store_that_goes_on_failing_is_publish_failed(place: Place) -> None:
    def fail(at: int, operation: str, path: str) -> None:
        if operation == "put" or at > 3:
            raise ERRORS[0]

    publish_next(place.open(), "run")
    registry, _ = place.faulty(before=fail)
    with pytest.raises(PublishFailed, match="No space left on device"):
        registry.publish("fraud", PAYLOADS, parent=1, round_id="2-a")
    for action in (lambda: registry.serve("fraud", 1), lambda: put_round(registry, "fraud", "1-a", "f", b"")):
        with pytest.raises(RegistryError):
            action()
    assert place.open().served("fraud").number == 1


def test_a_store_that_cannot_be_read_is_no_damage(place: Place) -> None:
    publish_next(place.open(), "run")
    publish_next(place.open(), "run")

    def fail(at: int, operation: str, path: str) -> None:
        raise ERRORS[1]

    registry, _ = place.faulty(before=fail)
    for action in (
        lambda: registry.latest("fraud"),
        lambda: registry.served("fraud"),
        lambda: registry.names(),
        lambda: registry.versions("fraud"),
        lambda: keep(registry, "fraud", 1, 0),
        lambda: sweep(registry, "fraud", 0),
    ):
        with pytest.raises(RegistryError, match="Permission denied"):
            action()


def test_a_store_that_refuses_to_delete_says_so(place: Place) -> None:
    whole = place.open()
    for _ in range(4):
        publish_next(whole, "run")

    def fail(at: int, operation: str, path: str) -> None:
        if operation == "delete":
            raise ERRORS[1]

    registry, _ = place.faulty(before=fail)
    later = Registry(registry.objects.store, clock=lambda: time.time() + 60)
    with pytest.raises(RegistryError, match="could not be cleaned: Permission denied"):
        keep(later, "fraud", 1, grace_s=1)
    assert all(whole.read("fraud", number) == PAYLOADS["learner"] for number in (1, 2, 3, 4))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_publisher_that_dies_at_any_step_leaves_the_old_version_or_the_new(place: Place, when: str) -> None:
    operations = operations_of_a_publish(place)
    whole = place.open()
    for step in range(len(operations)):
        name = f"fraud-{step}"
        publish_next(whole, "run", name=name)
        if place.processes:
            child = PROCESSES.Process(target=publish_and_die, args=(place, name, step, when))
            child.start()
            child.join()
            assert child.exitcode == -signal.SIGKILL
        else:

            def die(at: int, operation: str, path: str, step: int = step) -> None:
                if at == step:
                    raise Killed

            registry, _ = place.faulty(**{when: die})
            with pytest.raises(Killed):
                publish_next(registry, "dead", name=name)
        newest = 2 if (when, step) == ("after", len(operations) - 1) else 1
        fresh = place.open()
        assert fresh.head_number(name) == newest
        assert fresh.served(name).number == newest
        assert fresh.latest(name).manifest.number == newest
        assert publish_next(fresh, "run", name=name) == newest + 1
        assert fresh.read(name) == PAYLOADS["learner"]


# --- races -----------------------------------------------------------------------------------------------------------

PUBLISHERS, EACH = 8, 12


def test_eight_publishers_give_one_child_per_parent(place: Place) -> None:
    results: dict[str, list[int]] = {}
    if place.processes:
        start, queue = PROCESSES.Event(), PROCESSES.Queue()
        children = [
            PROCESSES.Process(target=race_in_process, args=(place, f"p{i}", EACH, start, queue))
            for i in range(PUBLISHERS)
        ]
        for child in children:
            child.start()
        start.set()
        results = dict(queue.get(timeout=200) for _ in children)
        for child in children:
            child.join()
            assert child.exitcode == 0
    else:
        threads = [
            threading.Thread(target=lambda who=f"p{i}": results.__setitem__(who, race(place.open(), who, EACH)))
            for i in range(PUBLISHERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    registry = place.open()
    total = PUBLISHERS * EACH
    assert registry.versions("fraud") == list(range(1, total + 1))
    manifests = [registry.manifest("fraud", number) for number in range(1, total + 1)]
    assert [manifest.parent for manifest in manifests] == [None, *range(1, total)]
    assert len({manifest.round_id for manifest in manifests}) == total
    assert sorted(number for mine in results.values() for number in mine) == list(range(1, total + 1))
    assert {who: [m.number for m in manifests if m.run_id == who] for who in results} == results
    lines = json.loads(registry.read("fraud"))
    assert len(lines) == len(set(lines)) == total
    for number, manifest in enumerate(manifests, start=1):
        assert json.loads(registry.read("fraud", number)) == lines[:number]
        assert lines[number - 1].startswith(manifest.run_id)
