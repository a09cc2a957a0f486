"""A registry whose JSON somebody else wrote, with right digests: every reader ends, with a version or a typed error."""

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beam_ml.core.spec import canonical_json
from beam_ml.errors import BeamMLError, CorruptArtefact, RegistryError, UnsupportedVersion, VersionNotFound
from beam_ml.registry import Registry, keep, sweep
from tests.attacks.effort import EFFORT


def registry_of(tmp_path: Path, versions: int = 4, refused: tuple[int, ...] = (3,)) -> Registry:
    registry = Registry(tmp_path / "registry")
    for number in range(1, versions + 1):
        registry.publish(
            "job", {"learner": f"{number}".encode()}, parent=number - 1 or None, round_id=f"{number}-a",
            serve=number not in refused,
        )  # fmt: skip
    return registry


def forge(registry: Registry, version: int, /, *, under: tuple[str, int] | None = None, **fields: Any) -> None:
    """Write a version's manifest with other fields, signed."""
    stored = json.loads(registry.objects.get(f"job/v{version}/manifest.json") or b"")
    del stored["digest"]
    stored["manifest"] |= fields
    stored["digest"] = hashlib.sha256(canonical_json(stored).encode()).hexdigest()
    name, number = under or ("job", version)
    registry.objects.put(f"{name}/v{number}/manifest.json", json.dumps(stored).encode())


def served(registry: Registry, name: str = "job") -> bytes | None:
    found = Registry(registry.objects.where).serving(name, "learner")
    return None if found is None else found.data


@pytest.mark.parametrize("pinned", [10**9, 10**17, 2**63, 10**40, 5, True, False, 0, -1, 1.0, "2", None, [2], {}])
def test_a_pin_of_any_value_ends(tmp_path: Path, pinned: Any) -> None:
    registry = registry_of(tmp_path)
    registry.objects.put("job/serving.json", json.dumps({"pinned": pinned}).encode())
    assert served(registry) == b"4"
    assert registry.served("job").number == 4
    assert keep(registry, "job", 1, grace_s=0.0)


def test_a_pin_whose_payload_is_gone_steps_to_a_whole_version(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    registry.serve("job", 1)
    registry.objects.delete([registry.manifest("job", 1).files["learner"].path])
    assert served(registry) == b"4"


@pytest.mark.parametrize("last", [4, 5, 10**9, 10**40])
def test_a_refused_version_that_points_at_itself_or_above_is_stepped_over(tmp_path: Path, last: int) -> None:
    registry = registry_of(tmp_path, refused=(3, 4))
    forge(registry, 4, last_accepted=last)
    assert served(registry) == b"2"
    with pytest.raises(CorruptArtefact, match="contradicts itself: last_accepted of a refused version"):
        registry.manifest("job", 4)


def test_an_accepted_version_that_points_elsewhere_is_stepped_over(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    forge(registry, 4, last_accepted=1)
    assert served(registry) == b"2"


def test_a_manifest_copied_under_another_name_or_number_is_damage(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    forge(registry, 2, under=("other", 1))
    forge(registry, 1, under=("third", 1))
    for name in ("other", "third"):
        with pytest.raises(CorruptArtefact):
            registry.read(name, 1)
        with pytest.raises(CorruptArtefact):
            registry.latest(name)
        assert served(registry, name) is None
    forge(registry, 2, under=("job", 4))
    assert registry.latest("job").manifest.number == 3
    assert served(registry) == b"2"


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "job/../other/v1/x", "/etc/passwd", "", "job/v1/", "a\0b", "job/v4/learner", "http://x"],
)
def test_a_payload_lies_where_its_version_does(tmp_path: Path, path: str) -> None:
    registry = registry_of(tmp_path)
    file = registry.manifest("job", 4).files["learner"]
    forge(registry, 4, files={"learner": {"path": path, "sha256": file.sha256, "bytes": file.bytes}})
    with pytest.raises(CorruptArtefact, match="must lie where its name and digest say"):
        registry.read("job", 4)
    assert registry.latest("job").manifest.number == 3
    assert served(registry) == b"2"


@pytest.mark.parametrize("rejects", [["../../x"], ["/x"], [""], ["a/../b"]])
def test_reject_files_lie_in_their_round(tmp_path: Path, rejects: list[str]) -> None:
    registry = registry_of(tmp_path)
    forge(registry, 4, rejects=rejects)
    with pytest.raises(CorruptArtefact, match="rejects must be plain paths"):
        registry.manifest("job", 4)


def test_a_version_of_a_huge_number_costs_no_more_than_any_other(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry_of(tmp_path)
    forge(registry, 4, under=("job", 10**15))
    registry.objects.delete(["job/v1/manifest.json"])
    far = Registry(registry.objects.where)
    assert far.head_number("job") == 10**15
    assert far.latest("job").manifest.number == 4
    assert served(registry) == b"4"
    assert sum(1 for _ in far.manifests("job")) == 3
    assert keep(far, "job", 1, grace_s=0.0)
    assert sweep(far, "job", grace_s=0.0) == []


READS: tuple[Callable[[Registry], Any], ...] = (
    lambda registry: registry.serving("job", "learner"),
    lambda registry: registry.latest("job"),
    lambda registry: registry.served("job"),
    lambda registry: list(registry.manifests("job")),
    lambda registry: registry.publish("job", {"learner": b"x"}, parent=5, round_id="6-z", serve=False),
    lambda registry: keep(registry, "job", 2, grace_s=0.0),
    lambda registry: sweep(registry, "job", grace_s=1e9),
)
VALUES = [
    None,
    True,
    0,
    -1,
    1,
    2,
    3,
    10**9,
    10**40,
    1.5,
    "",
    "..",
    "a/b",
    "x" * 300,
    [],
    {},
    [[1]],
    {"a": {}},
    ["../x"],
]


@pytest.mark.parametrize("seed", range(2))
def test_forged_registries_end(tmp_path: Path, seed: int) -> None:
    """Any field of any manifest, and the pin, exchanged for something odd: readers end with bytes or a typed error."""
    rng = random.Random(seed)
    registry = registry_of(tmp_path, versions=5, refused=(2, 4))
    whole = {number: registry.objects.get(f"job/v{number}/manifest.json") for number in range(1, 6)}
    files = [one for number in whole for one in registry.manifest("job", number).files.values()]
    payloads = [(one.path, registry.objects.get(one.path)) for one in files]
    fields = sorted(registry.manifest("job", 1).to_dict())
    for _ in range(60 * EFFORT):
        for number in rng.sample(range(1, 6), rng.randint(1, 3)):
            forge(registry, number, **{rng.choice(fields): rng.choice(VALUES) for _ in range(rng.randint(1, 2))})
        if rng.random() < 0.5:
            registry.objects.put("job/serving.json", json.dumps({"pinned": rng.choice(VALUES)}).encode())
        registry.objects.delete(path for path, _ in rng.sample(payloads, rng.randint(0, 3)))
        fresh = Registry(registry.objects.where)
        for read in READS:
            try:
                read(fresh)
            except BeamMLError as error:
                typed = isinstance(error, RegistryError | CorruptArtefact | UnsupportedVersion)
                assert typed, error  # noqa: PT017
        fresh.objects.delete(["job/v6/manifest.json", "job/serving.json"])
        for number, data in whole.items():
            fresh.objects.put(f"job/v{number}/manifest.json", data or b"")
        for path, data in payloads:
            fresh.objects.put(path, data or b"")


def test_a_name_that_was_never_there_is_named(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    with pytest.raises(VersionNotFound, match="holds \\['learner'\\]; got 'models/x'"):
        registry.serving("job", "models/x")
