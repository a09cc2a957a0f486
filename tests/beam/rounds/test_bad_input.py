"""Bad input in rounds: each kind is a counted reject or a sentence, with its source and place, and what is good is learned.

Beside these: streams that break off (`test_pipes.py`), rows too long to be held and compression bombs (`tests/formats`,
`tests/attacks`), cells of every column (`test_bad_cells.py`), files that change while they are read (`test_file_plan.py`).
"""

import gzip
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.errors import SourceError
from beam_ml.registry import Registry

SKIP = {"on_bad_file": "skip"}
MATRIX = {"matrix": {"width": 4}, "label": "label"}
DATED = {"numeric": ["x"], "label": "y", "time": "t"}
SHOPS = {"numeric": ["x"], "one_hot": [{"column": "shop", "vocabulary": ["a", "b"]}], "label": "y", "sparse": False}


def encoded(format: str, **columns: Any) -> bytes:
    found: bytes = formats.of_files(format).module.encode(pa.record_batch(columns))
    return found


def dated(*days: int) -> bytes:
    return b"x,y,t\n" + b"".join(b"%d,%d,2024-01-%02dT00:00:00Z\n" % (i, i % 2, day) for i, day in enumerate(days))


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, pixels = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), zlib.compress(b"\0\1\2\0\3\4")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


GOOD = b"x,y\n1,0\n2,1\n3,0\n"
LISTS = pa.array([[1.0, 2.0, 3.0, 4.0]] * 3, pa.list_(pa.float64()))
RECORDS = encoded("recordio", features=LISTS, label=[0.0, 1.0, 0.0])
SIZE = len(RECORDS)
CLAIM = struct.pack("<II", 0xCED7230A, (1 << 29) - 8)


class Counted(NamedTuple):
    """Files whose bad rows are counted; what is learned, and each reject as (reason, file, place)."""

    files: Mapping[str, bytes]
    rows: int
    rejects: list[tuple[str, str, int]]
    features: Mapping[str, Any] = {"numeric": ["x"], "label": "y"}
    source: Mapping[str, Any] = {}
    refresh: str = "round"


COUNTED: dict[str, Counted] = {
    "ragged rows, and a quote that is never closed": Counted(
        {"a.csv": GOOD + b'1,2,3\n4\n5,"1\n6,1\n'},
        4,
        [("malformed line", "a.csv", 16), ("malformed line", "a.csv", 22), ("malformed line", "a.csv", 24)],
    ),
    "a byte order mark, CRLF, and line ends in quotes": Counted(
        {"a.csv": b'\xef\xbb\xbfx,y,t\r\n1,0,"a\r\nb"\r\n2,1,"c ""q""\nd"\r\n'}, 2, []
    ),
    "text that is no UTF-8": Counted(
        {"a.csv": b"x,y,shop\n1,0,a\n2,1,\xff\xfe\n3,1,b\n"}, 2, [("unparseable value", "a.csv", 15)], SHOPS
    ),
    "another column, and one in another place": Counted({"a.csv": GOOD, "b.csv": b"new,y,x\nq,1,7\n"}, 4, []),
    "a column of another type, as text": Counted(
        {"a.csv": GOOD, "b.csv": b"x,y\ntwo,0\n3,1\n"}, 4, [("feature column x is not a number", "b.csv", 4)]
    ),
    "a column of another type, in a schema": Counted(
        {"a.parquet": encoded("parquet", x=[1.0], y=[0]), "b.parquet": encoded("parquet", x=["2", "two"], y=[0, 1])},
        2,
        [("feature column x is not a number", "b.parquet", 1)],
    ),
    "a row without the column": Counted(
        {"a.jsonl": b'{"x": 1, "y": 0}\n{"z": 1, "y": 0}\n'}, 1, [("non-finite feature x", "a.jsonl", 17)]
    ),
    "a field twice in one object": Counted(
        {"a.jsonl": b'{"x": 1, "y": 0}\n{"x": 1, "x": 2, "y": 0}\n'}, 1, [("field twice in one object", "a.jsonl", 17)]
    ),
    "an image that claims too many pixels": Counted(
        {"0/a.png": png(2, 2), "1/b.png": png(60_000, 60_000), "1/c.png": png(2, 2)},
        2,
        [("an image of too many pixels", "1/b.png", 0)],
        MATRIX,
        {"format": "image", "options": {"height": 2, "width": 2, "color": "grey"}},
    ),
    "files of one name in two folders": Counted(
        {"p/a.csv": GOOD, "q/a.csv": GOOD + b"1\n"}, 6, [("malformed line", "q/a.csv", 16)], source={"path": "**/*.csv"}
    ),
    "a clock that goes backwards": Counted(
        {"a.csv": dated(1, 2, 3), "b.csv": dated(4, 1, 5)},
        5,
        [("late", "b.csv", 31)],
        DATED,
        {"round_files": 1},
        "1d",
    ),
    "times that cannot be": Counted(
        {"a.csv": dated(1, 2) + b"9,1,2199-01-01T00:00:00Z\n8,1,never\n"},
        2,
        [("event time too far ahead", "a.csv", 56), ("event time cannot be read", "a.csv", 81)],
        DATED,
        refresh="1d",
    ),
    "labels outside the mapping": Counted(
        {"a.csv": b"x,y\n1,fraud\n2,ok\n3,maybe\n4,\n"},
        2,
        [("label is neither positive nor negative", "a.csv", 17), ("missing label", "a.csv", 25)],
        {"numeric": ["x"], "label": {"column": "y", "positive": ["fraud"], "negative": ["ok"]}},
    ),
    "labels that are no classes": Counted(
        {"a.csv": b"x,y\n1,0\n2,1\n3,2\n4,0.5\n"},
        2,
        [("label outside {0, 1}", "a.csv", 12), ("label outside {0, 1}", "a.csv", 16)],
    ),
    "categories that nobody listed": Counted({"a.csv": b"x,y,shop\n1,0,a\n2,1,b\n3,1,elsewhere\n4,0,\n"}, 4, [], SHOPS),
}


class Said(NamedTuple):
    """A file that cannot be read: why, and how many rows are learned where it is skipped and another one is good."""

    name: str
    data: bytes
    said: str
    features: Mapping[str, Any] = {"numeric": ["x"], "label": "y"}


SAID: dict[str, Said] = {
    "another delimiter": Said("b.csv", GOOD.replace(b",", b";"), r"b.csv must have a column 'x'; got \['x;y'\]\."),
    "a column less": Said("b.csv", GOOD.replace(b"x", b"z"), r"b.csv must have a column 'x'; got \['z', 'y'\]\."),
    "a column less, in a schema": Said(
        "b.parquet", encoded("parquet", z=[1.0], y=[0]), r"b.parquet must have one column 'x'; got \['z', 'y'\]\."
    ),
    "lines that end with CR alone": Said("b.csv", GOOD.replace(b"\n", b"\r"), r"b.csv .* its lines must end with"),
    "gzip that is cut short": Said(
        "b.csv.gz",
        gzip.compress(GOOD, mtime=0)[:-9],
        r"b.csv.gz cannot be read as text: .*, behind byte 0 of what it decompresses to",
    ),
    "Avro without a schema": Said(
        "b.avro", b"Obj\1" + bytes(40), r"b.avro cannot be read as Avro: its header has no 'avro.schema'\."
    ),
    "no Avro": Said(
        "b.avro", b"x,y\n1,0\n" * 9, r"b.avro cannot be read as Avro: it does not begin with b'Obj\\x01'\."
    ),
    "RecordIO without its magic": Said(
        "b.rec", RECORDS + bytes(16), rf"b.rec cannot be read as RecordIO: no record begins at byte {SIZE}\.", MATRIX
    ),
    "a record that claims 512 MB": Said(
        "b.rec", RECORDS + CLAIM + RECORDS, rf"b.rec .*: the record at byte {SIZE} is cut off\.", MATRIX
    ),
}


def job_over(folder: Path, files: Mapping[str, bytes], features: Any, source: Any, **more: Any) -> Job:
    for name, data in files.items():
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(data)
    given = {**source, "path": str(folder / "in" / source.get("path", ""))}
    return Job.parse(
        {
            "name": "one", "registry": str(folder / "registry"), "source": given, "features": features,
            "spec": {"algorithm": "linear.newton"}, "models": {"m": {"kind": "classifier"}}, **more,
        }
    )  # fmt: skip


def run(job: Job, close: bool = False) -> tuple[int, dict[str, int], Any]:
    """Return the rows learned, the rejects by reason, and what the newest version says of late labels."""
    rounds = list(train(job, Registry(job.registry), Mode("once", close)))
    rejected: dict[str, int] = {}
    for one in rounds:
        for reason, n in one.progress.rejected.items():
            rejected[reason] = rejected.get(reason, 0) + n
    last = rounds[-1].manifest.extra.get("prepared", {}).get("labels")
    return sum(one.progress.rows for one in rounds), rejected, last


def told(folder: Path) -> list[tuple[str, str, int]]:
    """Return every reject that the rounds have written down: reason, file and place."""
    lines = [line for file in (folder / "registry").rglob("rejects-*.jsonl") for line in file.read_text().splitlines()]
    records = map(json.loads, lines)
    return sorted(
        (one["reason"], str(Path(one["partition"]).relative_to(folder / "in")), one["position"]) for one in records
    )


@pytest.mark.parametrize("what", COUNTED)
def test_a_bad_row_is_counted_where_it_is(tmp_path: Path, what: str) -> None:
    case = COUNTED[what]
    rows, rejected, _ = run(job_over(tmp_path, case.files, case.features, case.source, refresh=case.refresh))
    assert told(tmp_path) == sorted(case.rejects)
    assert rows == case.rows
    assert rejected == {why: sum(one == why for one, _, _ in case.rejects) for why, _, _ in case.rejects}


@pytest.mark.parametrize("what", SAID)
def test_a_bad_file_is_said_and_set_aside_where_the_job_wants_that(tmp_path: Path, what: str) -> None:
    case = SAID[what]
    for name in ("alone", "beside"):
        (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match=case.said):
        run(job_over(tmp_path / "alone", {case.name: case.data}, case.features, {}))
    good = {"a.rec": RECORDS} if case.features is MATRIX else {"a.csv": GOOD}
    job = job_over(tmp_path / "beside", {**good, case.name: case.data}, case.features, SKIP)
    assert run(job) == (3, {"file set aside": 1}, None)
    assert list(train(job, Registry(job.registry))) == []


def test_a_column_that_no_file_has_is_the_jobs_mistake_though_files_may_be_skipped(tmp_path: Path) -> None:
    job = job_over(tmp_path, {"a.csv": GOOD, "b.csv": GOOD}, {"numeric": ["amuont"], "label": "y"}, SKIP)
    with pytest.raises(SourceError, match="must have a column 'amuont'"):
        run(job)
    assert Registry(job.registry).versions("one") == []


def test_reports_of_nothing_and_reports_that_disagree(tmp_path: Path) -> None:
    rows = b"tx,at,x\n" + b"".join(b"%d,2024-01-%02dT00:00:00Z,%d\n" % (i, i + 1, i) for i in range(9))
    reports = (
        b"tx,reported,y\n1,2024-01-03T00:00:00Z,1\n99,2024-01-03T01:00:00Z,1\n"
        b"2,2024-01-04T00:00:00Z,1\n2,2024-01-04T01:00:00Z,0\n"
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "reports.csv").write_bytes(reports)
    labels = {
        "id": "tx", "time": "at", "label": "y", "reported": "reported", "maturity": "2d",
        "source": {"path": str(tmp_path / "in" / "reports.csv")},
    }  # fmt: skip
    features = {"numeric": ["x"], "label": "y", "time": "known_at"}
    job = job_over(tmp_path, {"rows/a.csv": rows}, features, {"path": "rows"}, labels=labels, refresh="1d")
    learned, rejected, counts = run(job, close=True)
    assert rejected == {"report without a row": 1}
    assert told(tmp_path) == [("report without a row", "reports.csv", reports.index(b"99,"))]
    assert counts["report disagrees with another"] == 1
    assert counts["labelled"] == 2
    assert learned > 0
