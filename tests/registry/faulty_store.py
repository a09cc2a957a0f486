"""A store that calls a hook before and after every operation: to fail or to die there. And what runs in child processes."""

import dataclasses
import json
import os
import resource
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from beam_ml.errors import HeadMoved, PublishFailed
from beam_ml.registry import Registry, new_round_id, put_round
from beam_ml.registry.store import Store, open_objects

Hook = Callable[[int, str, str], None]


def nothing(number: int, operation: str, path: str) -> None:
    """Let the operation pass."""


class FaultyStore:
    """Delegates to a real store; the hooks get the running number of the operation, its name and its path."""

    def __init__(self, store: Store, before: Hook = nothing, after: Hook = nothing) -> None:
        self.store, self.before, self.after = store, before, after
        self.operations: list[tuple[str, str]] = []

    def _do(self, operation: str, path: Any, **options: Any) -> Any:
        number = len(self.operations)
        self.operations.append((operation, str(path)))
        self.before(number, operation, str(path))
        try:
            return getattr(self.store, operation)(path, **options)
        finally:
            self.after(number, operation, str(path))

    def put(self, path: str, file: bytes, *, mode: Any = None) -> Any:
        return self._do("put", path, file=file, mode=mode)

    def get(self, path: str) -> Any:
        return self._do("get", path)

    def head(self, path: str) -> Any:
        return self._do("head", path)

    def list(self, prefix: str | None = None) -> Any:
        return self._do("list", prefix)

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        return self._do("list_with_delimiter", prefix)

    def delete(self, paths: Any) -> None:
        self._do("delete", paths)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a registry is kept, and how another process opens it (not at all: `memory`)."""

    where: Any
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    processes: bool = True

    def open(self, **options: Any) -> Registry:
        return Registry(self.where, **self.options, **options)

    def store(self) -> Store:
        return open_objects(self.where, **self.options).store

    def faulty(self, before: Hook = nothing, after: Hook = nothing) -> tuple[Registry, FaultyStore]:
        store = FaultyStore(self.store(), before, after)
        return Registry(store), store


PAYLOADS = {"learner": b"learner " * 100, "models/small": b"small " * 50}


def publish_next(
    registry: Registry, who: str, payloads: Mapping[str, bytes] = PAYLOADS, name: str = "fraud", **options: Any
) -> int:
    """Publish on top of what is there, as a trainer does; give the number."""
    found = registry.latest(name)
    parent, head = (None, 0) if found is None else (found.manifest.number, found.head)
    round_id = options.pop("round_id", None) or new_round_id(head)
    return registry.publish(name, payloads, parent=parent, head=head, round_id=round_id, run_id=who, **options).number


def race(registry: Registry, who: str, wanted: int) -> list[int]:
    """Publish until `wanted` versions are one's own; each learner is its parent's lines and one more."""
    mine: list[int] = []
    while len(mine) < wanted:
        found = registry.latest("fraud")
        parent, head, lines = (
            (None, 0, []) if found is None else (found.manifest.number, found.head, json.loads(found.data))
        )
        lines.append(f"{who}.{len(mine)}")
        payloads = {"learner": json.dumps(lines).encode(), "models/small": who.encode()}
        try:
            version = registry.publish(
                "fraud", payloads, parent=parent, head=head, round_id=new_round_id(head), run_id=who
            )
        except HeadMoved:
            continue
        mine.append(version.number)
    return mine


def race_in_process(place: Place, who: str, wanted: int, start: Any, results: Any) -> None:
    registry = place.open()
    start.wait()
    results.put((who, race(registry, who, wanted)))


def publish_and_die(place: Place, name: str, number: int, when: str) -> None:
    """Publish, and be killed before or after the numbered operation."""

    def die(at: int, operation: str, path: str) -> None:
        if at == number:
            os.kill(os.getpid(), signal.SIGKILL)

    registry, _ = place.faulty(**{when: die})
    publish_next(registry, "dead", name=name)


def publish_for_ever(place: Place, n_bytes: int, started: Any) -> None:
    """Publish until killed from outside."""
    registry = place.open()
    started.set()
    while True:
        publish_next(registry, "dead", {"learner": os.urandom(n_bytes), "models/small": b"s"})


def publish_with_limit(place: Place, max_bytes: int, results: Any) -> None:
    """Publish where no file may grow beyond a size: the store's writes fail as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    registry = place.open()
    try:
        publish_next(registry, "full", {"learner": b"x" * (4 * max_bytes), "models/small": b"s"})
    except PublishFailed as error:
        results.put((str(error), type(error.__cause__).__name__))
    else:
        results.put(("published", ""))


def publish_without_permission(place: Place, results: Any) -> None:
    """Publish, pin and read as a user who may only read."""
    publish_next(Registry("memory://"), "warm")  # imports everything while the rights are there
    if os.geteuid() == 0:
        os.setuid(65534)
    registry = place.open()
    served = registry.served("fraud")
    actions = (
        lambda: publish_next(registry, "reader"),
        lambda: registry.serve("fraud", 1),
        lambda: put_round(registry, "fraud", "2-a", "file", b"x"),
    )
    for action in actions:
        try:
            action()
        except PublishFailed as error:
            results.put(str(error))
        else:
            results.put("written")
    results.put((served.number if served else None, registry.read("fraud")))


def files_under(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
