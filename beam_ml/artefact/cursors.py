"""Cursors as JSON: whole, in a learner's header, and in short, in a manifest."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from beam_ml.core.cursors import Cursors, FileCursor, FileId, Passes, PipeCursor, TopicCursor
from beam_ml.core.spec import canonical_json
from beam_ml.errors import CorruptArtefact

__all__ = ["cursors_from_json", "cursors_to_json", "summary_of"]


def cursors_to_json(cursors: Cursors) -> dict[str, Any]:
    """Return the plain JSON form.

    >>> cursors_to_json(Cursors())
    {'files': None, 'topics': {}, 'passes': None}
    """
    found = {
        "files": None if cursors.files is None else _files_out(cursors.files),
        "topics": {name: _topic_out(one) for name, one in sorted(cursors.topics.items())},
        "passes": None if cursors.passes is None else _passes_out(cursors.passes),
    }
    return found | _pipes_out(cursors.pipes)


def summary_of(cursors: Cursors) -> dict[str, Any]:
    """Return what a manifest says: as the learner, but of files how many are done, and a digest of the whole.

    A learner's payload is removed one day, a manifest never: its size does not grow with the files done. Equal digests
    (SHA-256 of the JSON form) mean equal content.

    >>> summary_of(Cursors(FileCursor({"a": FileId("a", 10, 0)})))["files"]["done"]
    1
    """
    found: dict[str, Any] = {}
    if cursors.files is not None:
        files, whole = cursors.files, _files_out(cursors.files)
        found["files"] = {
            "done": len(files.done),
            "part": {path: at for path, (_, at) in sorted(files.part.items())},
            "horizon_ns": files.horizon_ns,
            "pass": files.number,
            "batch": None if files.batch is None else len(files.batch),
            "again": len(files.again),
            "digest": hashlib.sha256(canonical_json(whole).encode()).hexdigest(),
        }
    if cursors.topics:
        found["topics"] = {name: _topic_out(one) for name, one in sorted(cursors.topics.items())}
    if cursors.passes is not None:
        found["passes"] = _passes_out(cursors.passes)
    return found | _pipes_out(cursors.pipes)


def cursors_from_json(value: Any) -> Cursors:
    """Return the cursors of the JSON form.

    Raises:
        CorruptArtefact: a field is absent, unknown, or not what it must be.
    """
    # Learners of no pipe are written as they were before there were pipes.
    optional = ("pipes",) if isinstance(value, dict) and "pipes" in value else ()
    given = _fields(value, "cursors", "files", "topics", "passes", *optional)
    files, passes = given["files"], given["passes"]
    return Cursors(
        None if files is None else _files_in(files),
        {
            name: _topic_in(one, f"cursors.topics[{name!r}]")
            for name, one in _mapping(given["topics"], "cursors.topics")
        },
        None if passes is None else _passes_in(passes),
        {
            name: _pipe_in(one, f"cursors.pipes[{name!r}]")
            for name, one in _mapping(given.get("pipes", {}), "cursors.pipes")
        },
    )


# --- files -----------------------------------------------------------------------------------------------------------


def _files_out(files: FileCursor) -> dict[str, Any]:
    return {
        "done": _ids_out(files.done),
        "part": {path: [one.size, one.mtime_ns, at] for path, (one, at) in sorted(files.part.items())},
        "horizon_ns": files.horizon_ns,
        "pass": files.number,
        "batch": None if files.batch is None else _ids_out(files.batch),
        "again": sorted(files.again),
    }


def _files_in(value: Any) -> FileCursor:
    where = "cursors.files"
    given = _fields(value, where, "done", "part", "horizon_ns", "pass", "batch", "again")
    part: dict[str, tuple[FileId, int]] = {}
    for path, numbers in _mapping(given["part"], f"{where}.part"):
        size, mtime_ns, at = _numbers(numbers, 3, f"{where}.part[{path!r}]")
        part[path] = (FileId(path, size, mtime_ns), at)
    batch = None if given["batch"] is None else _ids_in(given["batch"], f"{where}.batch")
    number = _whole(given["pass"], f"{where}.pass", least=1)
    if number > 1 and batch is None:
        _refuse(f"{where}.batch must name the files of pass {number}; got none.")
    again = given["again"]
    if not isinstance(again, list) or any(not isinstance(path, str) or path not in (batch or {}) for path in again):
        _refuse(f"{where}.again must be a list of paths of {where}.batch; got {_short(again)}.")
    return FileCursor(
        _ids_in(given["done"], f"{where}.done"), part, _whole(given["horizon_ns"], f"{where}.horizon_ns"), number, batch,
        frozenset(again),
    )  # fmt: skip


def _ids_out(ids: Mapping[str, FileId]) -> dict[str, list[int]]:
    return {path: [one.size, one.mtime_ns] for path, one in sorted(ids.items())}


def _ids_in(value: Any, where: str) -> dict[str, FileId]:
    return {path: FileId(path, *_numbers(one, 2, f"{where}[{path!r}]")) for path, one in _mapping(value, where)}


# --- pipes -----------------------------------------------------------------------------------------------------------


def _pipes_out(pipes: Mapping[str, PipeCursor]) -> dict[str, Any]:
    found = {name: dataclasses.asdict(one) for name, one in sorted(pipes.items())}
    return {"pipes": found} if found else {}


def _pipe_in(value: Any, where: str) -> PipeCursor:
    given = _fields(value, where, "stream", "epoch", "place", "ended", "crc")
    if not isinstance(given["ended"], bool):
        _refuse(f"{where}.ended must be true or false; got {_short(given['ended'])}.")
    stream, epoch, place, crc = (_whole(given[name], f"{where}.{name}") for name in ("stream", "epoch", "place", "crc"))
    if crc >> 32:
        _refuse(f"{where}.crc must be below 2 ** 32; got {crc}.")
    return PipeCursor(stream, epoch, place, given["ended"], crc)


# --- topics and passes -----------------------------------------------------------------------------------------------


def _topic_out(topic: TopicCursor) -> dict[str, Any]:
    named = {"offsets": topic.offsets, "begun": topic.begun}
    return {
        **{name: {str(partition): at for partition, at in sorted(each.items())} for name, each in named.items()},
        "id": topic.id,
    }


def _topic_in(value: Any, where: str) -> TopicCursor:
    given = _fields(value, where, "offsets", "begun", "id")
    offsets, begun = (_partitions(given[name], f"{where}.{name}") for name in ("offsets", "begun"))
    return TopicCursor(offsets, begun, _text(given["id"], f"{where}.id"))


def _partitions(value: Any, where: str) -> dict[int, int]:
    found = {}
    for partition, at in _mapping(value, where):
        if not (partition.isascii() and partition.isdigit() and str(int(partition)) == partition):
            _refuse(f"{where} must be by partition, a number; got {partition!r}.")
        found[int(partition)] = _whole(at, f"{where}[{partition}]")
    return found


def _passes_out(passes: Passes) -> dict[str, Any]:
    return {
        "number": passes.number,
        "of": passes.of,
        "metric": passes.metric,
        "values": list(passes.values),
        "rows": list(passes.rows),
        "judged": passes.judged,
        "heard": passes.heard,
        "stopped": passes.stopped,
    }


def _passes_in(value: Any) -> Passes:
    where = "cursors.passes"
    given = _fields(value, where, "number", "of", "metric", "values", "rows", "judged", "heard", "stopped")
    values, rows = given["values"], given["rows"]
    if not (isinstance(values, list) and isinstance(rows, list) and len(values) == len(rows)):
        _refuse(f"{where} must have values and rows of one length; got {_short(values)} and {_short(rows)}.")
    return Passes(
        _whole(given["number"], f"{where}.number", least=1),
        _whole(given["of"], f"{where}.of", least=1),
        _text(given["metric"], f"{where}.metric"),
        tuple(_finite(one, f"{where}.values") for one in values),
        tuple(_whole(one, f"{where}.rows") for one in rows),
        _whole(given["judged"], f"{where}.judged"),
        _whole(given["heard"], f"{where}.heard"),
        _text(given["stopped"], f"{where}.stopped"),
    )


# --- what a field must be --------------------------------------------------------------------------------------------


def _refuse(message: str) -> NoReturn:
    raise CorruptArtefact(message)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _fields(value: Any, where: str, *names: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        got = sorted(value) if isinstance(value, dict) else value
        _refuse(f"{where} must have exactly the fields {', '.join(names)}; got {_short(got)}.")
    return value


def _mapping(value: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        _refuse(f"{where} must be an object; got {_short(value)}.")
    return list(value.items())


def _whole(value: Any, where: str, least: int | None = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        _refuse(f"{where} must be a whole number{'' if least is None else f' >= {least}'}; got {_short(value)}.")
    return value


def _numbers(value: Any, count: int, where: str) -> list[int]:
    """Read size, modification time, which may be before 1970, and place."""
    if not isinstance(value, list) or len(value) != count:
        _refuse(f"{where} must be {count} numbers; got {_short(value)}.")
    return [_whole(one, where, None if i == 1 else 0) for i, one in enumerate(value)]


def _finite(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        _refuse(f"{where} must be finite numbers; got {_short(value)}.")
    return float(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        _refuse(f"{where} must be a text; got {_short(value)}.")
    return value
