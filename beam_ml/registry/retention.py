"""Retention: what may be removed from a registry, and when. Manifests never are.

They are more and more: who looks at all of them after every few versions takes longer each time. `tidy` looks at all of a
name once per process, and from then on only at versions that may still lose something.
"""

import re
from collections.abc import Iterable

from beam_ml.errors import CorruptArtefact, InvalidValue, UnsupportedVersion, VersionNotFound
from beam_ml.registry.ledger import entries_in, named_files
from beam_ml.registry.manifest import Manifest
from beam_ml.registry.pin import read_pin
from beam_ml.registry.registry import Held, Registry
from beam_ml.registry.store import Stat

__all__ = ["keep", "sweep", "sweep_rounds", "tidy"]

_PAYLOAD = re.compile(r"v([1-9]\d*)/(.+)")
_ROUND = re.compile(r"rounds/([^/]+)/(.+)")
_ROUND_ID = re.compile(r"([1-9]\d*)-[0-9a-f]{32}")
_MANIFEST = "manifest.json"
_ROUNDS_AT_START = 100
"""Numbers up to the newest whose rounds are looked at when a trainer starts."""
_LEDGER_FILES, _LEDGER_VERSIONS = 256, 64
"""A ledger is swept once in so many versions as it has times so many files, at least once in 64: a sweep lists them all,
which after each of them would cost a long ledger more than learning."""


def keep(registry: Registry, name: str, n: int, grace_s: float = 86_400.0) -> list[str]:
    """Remove the payloads of all but the newest `n` versions; their manifests stay.

    Spared whatever `n` is: the newest learner that is there whole, with all that is kept beside it, the served version and
    its parent (the anchor that its refresh started from), the newest accepted version, and versions younger than `grace_s`
    by the store's clock.
    Lists every object of the name: call it every so often, not after each publish of a fast stream.

    Args:
        registry: where.
        name: the learner's.
        n: number of newest versions to keep, at least 1.
        grace_s: youngest age, in seconds, at which a version may lose its payloads.

    Returns:
        The paths removed.
    """
    return _keep(registry, name, n, grace_s, None)[0]


def tidy(registry: Registry, name: str, n: int, grace_s: float = 86_400.0) -> list[str]:
    """Remove what `keep` and `sweep` remove of the versions that this registry object has not seen tidied before.

    Args:
        registry: where; it remembers the lowest version that may still lose something.
        name: the learner's.
        n: number of newest versions to keep, at least 1.
        grace_s: youngest age, in seconds, at which a version may lose its payloads.

    Returns:
        The paths removed.
    """
    held = registry.held.get(name)
    removed, registry.held[name] = _keep(registry, name, n, grace_s, held)
    removed += _sweep(registry, name, grace_s, held)
    return removed + (_sweep_ledger(registry, name, grace_s) if held is None or _ledger_due(registry, name) else [])


def _keep(registry: Registry, name: str, n: int, grace_s: float, held: Held | None) -> tuple[list[str], Held]:
    """Do what `keep` does, of the versions held (None: all); return the paths removed, and what is held from now on."""
    if n < 1 or grace_s < 0:
        message = f"keep must have n >= 1 and grace_s >= 0; got n {n} and grace_s {grace_s}."
        raise InvalidValue(message)
    head = registry.head_number(name)
    versions, manifests = _payloads(_walked(registry, name, held), name)
    spared = _spared(registry, name, head, {stat.path: stat.n_bytes for stats in versions.values() for stat in stats})
    before = registry.clock() - grace_s
    gone = [
        number
        for number in sorted(versions)
        if number <= head - n and number not in spared and number in manifests and manifests[number] < before
    ]
    removed = [stat.path for number in gone for stat in versions[number]]
    registry.objects.delete(removed)
    left = versions.keys() - set(gone)
    young = {number for number, written_s in manifests.items() if written_s >= before}
    since = min([max(1, head - n + 1), *young, *(left - spared)])
    return removed, Held(since, tuple(sorted(number for number in left if number < since)))


def _folders(registry: Registry, name: str, held: Held | None) -> list[str]:
    """Return the folders of the versions held; None: that of all."""
    if held is None:
        return [name]
    return [f"{name}/v{number}" for number in (*held.older, *range(held.since, registry.head_number(name) + 1))]


def _walked(registry: Registry, name: str, held: Held | None) -> list[Stat]:
    return [stat for folder in _folders(registry, name, held) for stat in registry.objects.walk(folder)]


def _payloads(stats: Iterable[Stat], name: str) -> tuple[dict[int, list[Stat]], dict[int, float]]:
    """Return each version's payloads, and when its manifest was written."""
    payloads: dict[int, list[Stat]] = {}
    manifests: dict[int, float] = {}
    for stat in stats:
        match = _PAYLOAD.fullmatch(stat.path[len(name) + 1 :])
        if match and match[2] == _MANIFEST:
            manifests[int(match[1])] = stat.written_s
        elif match:
            payloads.setdefault(int(match[1]), []).append(stat)
    return payloads, manifests


def _spared(registry: Registry, name: str, head: int, sizes: dict[str, int]) -> set[int]:
    """Return the versions that training, serving or rolling back may need."""
    spared = {head}
    pinned = read_pin(registry.objects, name)
    if pinned is not None:
        spared.add(pinned)
    for manifest in registry.manifests(name):
        needed = [file for what, file in manifest.files.items() if not what.startswith("models/")]
        if "learner" in manifest.files and all(sizes.get(file.path) == file.bytes for file in needed):
            spared.add(manifest.number)
            break
    served = registry.served(name)
    newest = _manifest(registry, name, head) if head else None
    accepted = newest.last_accepted if newest else None
    for one in (served, _manifest(registry, name, accepted) if accepted else None):
        if one is not None:
            spared.add(one.number)
            if one.parent is not None:
                spared.add(one.parent)
    return spared


def _manifest(registry: Registry, name: str, number: int) -> Manifest | None:
    try:
        return registry.manifest(name, number)
    except (CorruptArtefact, UnsupportedVersion, VersionNotFound):
        return None


def sweep(registry: Registry, name: str, grace_s: float = 86_400.0) -> list[str]:
    """Remove what dead publishers left: payloads that no manifest names, and files of rounds.

    A round's files go once all are older than `grace_s`, except the reject files that its version's manifest names.
    Payloads are swept only where a manifest has decided the number, so that no publish under way can lose one.

    Args:
        registry: where.
        name: the learner's.
        grace_s: age in seconds; above the longest round.

    Returns:
        The paths removed.
    """
    return _sweep(registry, name, grace_s, None) + _sweep_ledger(registry, name, grace_s)


def _ledger_due(registry: Registry, name: str) -> bool:
    """Return whether a ledger is swept after the newest version: the longer it is, the more seldom."""
    head = registry.head_number(name)
    newest = _manifest(registry, name, head) if head else None
    try:
        entries = 0 if newest is None or newest.ledger is None else entries_in(registry.objects, newest)
    except (CorruptArtefact, UnsupportedVersion, VersionNotFound):
        return True  # the sweep says which
    return head % min(1 + entries // _LEDGER_FILES, _LEDGER_VERSIONS) == 0


def _sweep_ledger(registry: Registry, name: str, grace_s: float) -> list[str]:
    """Remove the files of the ledger that no version whose learner is still there names."""
    head = registry.head_number(name)
    stats = registry.objects.walk(f"{name}/ledger")
    if not stats or head == 0:
        return []
    held = registry.held.get(name, Held(1))
    numbers = {*held.older, *range(held.since, head + 1), head}
    manifests = [one for number in sorted(numbers) if (one := _manifest(registry, name, number)) is not None]
    named = named_files(registry.objects, manifests)
    before = registry.clock() - grace_s
    removed = [] if named is None else [one.path for one in stats if one.path not in named and one.written_s < before]
    registry.objects.delete(removed)
    return removed


def _sweep(registry: Registry, name: str, grace_s: float, held: Held | None) -> list[str]:
    """Do what `sweep` does, of the versions held and of rounds for the newer of them (None: all)."""
    if grace_s < 0:
        message = f"sweep.grace_s must be >= 0; got {grace_s}."
        raise InvalidValue(message)
    before = registry.clock() - grace_s
    stats = _walked(registry, name, held)
    payloads, decided = _payloads(stats, name)
    removed: list[str] = []
    for number, orphans in payloads.items():
        manifest = _manifest(registry, name, number) if number in decided else None
        if manifest is not None:
            named = {file.path for file in manifest.files.values()}
            removed += [one.path for one in orphans if one.path not in named and one.written_s < before]
    folders = _folders(registry, name, held)
    if held is not None:
        rounds = _later_rounds(registry, name, held.since)
        stats = [stat for folder in rounds for stat in registry.objects.walk(folder)]
        folders += rounds
    removed += _of_dead_rounds(registry, name, stats, before)
    registry.objects.delete(removed)
    for folder in folders:
        registry.objects.delete_staged(folder, before)
    return sorted(removed)


def _later_rounds(registry: Registry, name: str, since: int) -> list[str]:
    """Return the folders of rounds for this version or a later one, and those of odd names."""
    rounds = registry.objects.folders(f"{name}/rounds")
    return [f"{name}/rounds/{one}" for one in rounds if not _before(one, since)]


def _before(round_id: str, since: int) -> bool:
    """Return whether a round was for a version before this one; one of an odd name is not known to be."""
    match = _ROUND_ID.fullmatch(round_id)
    return match is not None and int(match[1]) < since


def sweep_rounds(registry: Registry, name: str, grace_s: float = 86_400.0) -> list[str]:
    """Remove the files of the newest rounds as `sweep` does, and look at nothing else: one listing, few manifests.

    A trainer does so when it starts. Older rounds are there for the rejects that their versions name, more of them all the
    time; what a dead one among them has left goes with the first `tidy`.

    Args:
        registry: where.
        name: the learner's.
        grace_s: age in seconds; above the longest round.

    Returns:
        The paths removed.
    """
    stats = registry.objects.walk(f"{name}/rounds")
    since = registry.head_number(name) - _ROUNDS_AT_START if stats else 0
    newest = [stat for stat in stats if not _before(stat.path[len(name) + 1 :].split("/")[1], since)]
    removed = _of_dead_rounds(registry, name, newest, registry.clock() - grace_s)
    registry.objects.delete(removed)
    return sorted(removed)


def _of_dead_rounds(registry: Registry, name: str, stats: Iterable[Stat], before: float) -> list[str]:
    removed: list[str] = []
    for round_id, files in _rounds(stats, name).items():
        if max(one.written_s for one in files) < before:
            spared = _named_by_version(registry, name, round_id)
            removed += [one.path for one in files if one.path not in spared]
    return removed


def _rounds(stats: Iterable[Stat], name: str) -> dict[str, list[Stat]]:
    rounds: dict[str, list[Stat]] = {}
    for stat in stats:
        match = _ROUND.fullmatch(stat.path[len(name) + 1 :])
        if match:
            rounds.setdefault(match[1], []).append(stat)
    return rounds


def _named_by_version(registry: Registry, name: str, round_id: str) -> set[str]:
    """Return the round's files that its version, if it became one, names as rejects."""
    match = _ROUND_ID.fullmatch(round_id)
    numbers = [int(match[1])] if match else registry.versions(name)
    for number in numbers:
        manifest = _manifest(registry, name, number)
        if manifest is not None and manifest.round_id == round_id:
            return {f"{name}/rounds/{round_id}/{file}" for file in manifest.rejects}
    return set()
