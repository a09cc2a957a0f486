"""`Manifest`: what one version is. A version exists when its manifest does; it is written once and never deleted."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from beam_ml.core.spec import Settings, canonical_json
from beam_ml.errors import CorruptArtefact, InvalidValue, UnsupportedVersion, VersionNotFound
from beam_ml.registry.naming import is_name

__all__ = [
    "FORMAT",
    "File",
    "Manifest",
    "Sha256",
    "Verdict",
    "describe",
    "file_of",
    "ledger_path",
    "manifest_path",
    "manifest_schema",
    "parse_manifest",
    "part_facts",
    "write_manifest",
]

FORMAT = 1
"""The manifest format that this library writes."""

Number = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class File(Settings):
    """One payload: its path under the registry's root, its SHA-256 and its size."""

    path: str
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Verdict(Settings):
    """What the gate said: a refused version is stored, and not served."""

    accepted: bool = True
    reasons: tuple[str, ...] = ()


class Manifest(Settings):
    """One version: a learner, its models and their origin.

    Attributes:
        name: the learner's name in the registry.
        number: 1, 2, 3 …; rises by one.
        parent: version whose learner this one was grown from; None: from nothing.
        created: when it was written, by the publisher's clock, ISO in UTC.
        files: "learner", "models/<model>" → payload.
        spec: the learner's spec.
        fingerprint: of the spec.
        progress: what the learner has seen.
        refreshes: one row for each refresh that this version covers.
        verdict: the gate's.
        last_accepted: newest accepted version up to this one, itself included: what is served where none is pinned.
        champion: name of the best candidate.
        next: source → its read positions.
        ledger: the index of the ledger as of this version; None: it has none.
        rejects: files under ``rounds/<round id>/`` that hold rejected rows; kept with the version.
        run_id: of the training run that published it.
        epoch: of the run's restart.
        round_id: of the attempt; distinguishes one's own retried publish from another trainer's.
        library: version of beam_ml that wrote it.
        extra: other facts of the publisher.
    """

    name: str
    number: Number
    parent: Number | None
    created: str
    files: dict[str, File]
    spec: dict[str, Any] = Field(default_factory=dict)
    fingerprint: str = ""
    progress: dict[str, Any] = Field(default_factory=dict)
    refreshes: tuple[dict[str, Any], ...] = ()
    verdict: Verdict = Verdict()
    last_accepted: Number | None = None
    champion: str | None = None
    next: dict[str, Any] = Field(default_factory=dict)
    ledger: File | None = None
    rejects: tuple[str, ...] = ()
    run_id: str = ""
    epoch: Annotated[int, Field(ge=0)] = 0
    round_id: str
    library: str
    extra: dict[str, Any] = Field(default_factory=dict)


_FACTS = frozenset({"spec", "fingerprint", "progress", "refreshes", "champion", "next", "rejects"})
"""Fields of a manifest that a publisher passes as facts; other facts go to `extra`."""


def manifest_path(name: str, number: int) -> str:
    """Return where a version's manifest lies."""
    return f"{name}/v{number}/manifest.json"


def ledger_path(name: str, file: str) -> str:
    """Return where a file of a name's ledger lies: beside the versions, as it outlives them."""
    return f"{name}/ledger/{file}"


def describe(name: str, number: int, what: str, data: bytes) -> File:
    """Return where a payload goes, and its hash and size."""
    digest = hashlib.sha256(data).hexdigest()
    return File(path=_payload_path(name, number, what, digest), sha256=digest, bytes=len(data))


def _payload_path(name: str, number: int, what: str, digest: str) -> str:
    return f"{name}/v{number}/{what}-{digest}.safetensors"


def file_of(manifest: Manifest, what: str) -> File:
    """Return a version's payload; raises VersionNotFound where it never had it."""
    if what not in manifest.files:
        message = f"{manifest.name} version {manifest.number} holds {sorted(manifest.files)}; got {what!r}."
        raise VersionNotFound(message)
    return manifest.files[what]


def part_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Part facts into the manifest's fields and `extra`."""
    try:
        canonical_json(dict(facts))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"The facts of a version must be JSON with finite numbers; {error}."
        raise InvalidValue(message) from error
    known = {key: value for key, value in facts.items() if key in _FACTS}
    return {**known, "extra": {key: value for key, value in facts.items() if key not in _FACTS}}


class _ManifestFile(Settings):
    """A manifest as it lies in the store: with its format, and a digest that shows damage."""

    digest: Annotated[Sha256, Field(description="SHA-256 of the canonical JSON of the other two fields")]
    format: Literal[1] = 1
    manifest: Manifest


def _digest(fields: object) -> str:
    return hashlib.sha256(canonical_json(fields).encode()).hexdigest()


def write_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``."""
    stored: dict[str, Any] = {"format": FORMAT, "manifest": manifest.to_dict()}
    stored["digest"] = _digest(stored)
    return (json.dumps(stored, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Read the bytes of a ``manifest.json`` that lies at `where`.

    Raises:
        CorruptArtefact: damaged.
        UnsupportedVersion: written in a format this library does not know.
    """
    try:
        stored = json.loads(data)
        digest = stored.pop("digest")
        whole = digest == _digest(stored)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        message = f"The manifest {where} is damaged: its content does not match its digest."
        raise CorruptArtefact(message)
    if stored.get("format") != FORMAT:
        message = f"The manifest {where} must have format {FORMAT}; got {stored.get('format')!r}."
        raise UnsupportedVersion(message)
    try:
        manifest = Manifest.parse(stored.get("manifest"))
    except InvalidValue as error:
        message = f"The manifest {where} holds other fields than this library knows: {error}"
        raise UnsupportedVersion(message) from error
    contradiction = _contradiction(manifest)
    if contradiction is not None:
        message = f"The manifest {where} contradicts itself: {contradiction}."
        raise CorruptArtefact(message)
    return manifest


def _contradiction(manifest: Manifest) -> str | None:
    """Return what no publisher writes: readers follow these numbers, names and paths."""
    number, last = manifest.number, manifest.last_accepted
    if not is_name(manifest.name) or not is_name(manifest.round_id):
        return f"name {manifest.name!r} and round_id {manifest.round_id!r} must be plain names"
    if manifest.parent is not None and manifest.parent >= number:
        return f"its parent must be below its number {number}; got {manifest.parent}"
    if manifest.verdict.accepted and last != number:
        return f"last_accepted of an accepted version must be its number {number}; got {last}"
    if not manifest.verdict.accepted and last is not None and last >= number:
        return f"last_accepted of a refused version must be below its number {number}; got {last}"
    for what, file in manifest.files.items():
        if not all(map(is_name, what.split("/"))) or file.path != _payload_path(
            manifest.name, number, what, file.sha256
        ):
            return f"{what!r} must lie where its name and digest say; got {file.path!r}"
    ledger = manifest.ledger
    if ledger is not None and ledger.path != ledger_path(manifest.name, f"index-{ledger.sha256}.json"):
        return f"its ledger must lie where its name and digest say; got {ledger.path!r}"
    for path in manifest.rejects:
        if not all(map(is_name, path.split("/"))):
            return f"rejects must be plain paths; got {path!r}"
    return None


def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema of ``manifest.json``."""
    return pydantic.TypeAdapter(_ManifestFile).json_schema(mode="serialization")
