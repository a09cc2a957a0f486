"""Jobs over FIFOs and stdin, written by real processes: what is learned is that of a file, once, whatever dies."""

import bz2
import dataclasses
import gzip
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job, PipeSource
from beam_ml.beam.rounds import Mode, pipe_bytes, train
from beam_ml.beam.rounds.pipe_bytes import Pipe, open_pipe
from beam_ml.beam.rounds.pipes import PipeRounds
from beam_ml.core.batch import Origin
from beam_ml.core.learner import Learner
from beam_ml.errors import InputChanged, InvalidValue, NoInput, SourceUnavailable, UnreadableInput
from beam_ml.registry import Registry

N, MANY = 2_000, 30_000
WRITE = 'for path in "$@"; do if [ -p "$path" ]; then out="$path"; else cat "$path" > "$out"; fi; done 2>/dev/null'


def rows(n: int = N, seed: int = 0) -> pa.RecordBatch:
    x = np.random.default_rng(seed).normal(size=(n, 2))
    return pa.record_batch({"x": x[:, 0], "z": x[:, 1], "y": (x.sum(axis=1) > 0).astype(int)})


def text(n: int = N, seed: int = 0) -> bytes:
    return formats.of_files("csv").module.encode(rows(n, seed))


class Place:
    """A folder with FIFOs, and a process that writes each of them, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.writers = folder, list[subprocess.Popen[bytes]]()

    def write(self, *streams: bytes, name: str = "train") -> None:
        words = []
        for i, stream in enumerate(streams):
            fifo, data = self.folder / f"{name}_{i}", self.folder / f"data_{len(self.writers)}_{i}"
            data.write_bytes(stream)
            if not fifo.exists():
                os.mkfifo(fifo)
            words += [str(fifo), str(data)]
        self.writers.append(subprocess.Popen(["sh", "-c", WRITE, "sh", *words]))

    def settings(self, **more: Any) -> dict[str, Any]:
        pipe = {"pipe": str(self.folder / "train"), "format": "csv", "spool": str(self.folder / "spool"), "timeout": 20}
        return pipe | more

    def job(self, registry: str = "registry", passes: int = 1, spec: Any = None, **source: Any) -> Job:
        given = {"path": source["path"]} if "path" in source else self.settings(**source)
        return Job.parse(
            {
                "name": "one", "registry": str(self.folder / registry), "source": given, "passes": passes,
                "features": {"numeric": ["x", "z"], "label": "y"}, "spec": spec or {"algorithm": "linear.newton"},
                "models": {"m": {"kind": "classifier"}},
            }
        )  # fmt: skip

    def rounds(self, **source: Any) -> PipeRounds:
        job = self.job(**source)
        assert isinstance(job.source, PipeSource)
        return PipeRounds(job.source, f"{job.name} {job.registry}", False, 1, lambda: False)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    for writer in found.writers:
        writer.kill()
        writer.wait()


def run(job: Job) -> list[tuple[int, dict[str, int]]]:
    return [(one.progress.rows, dict(one.progress.rejected)) for one in train(job, Registry(job.registry))]


def learner(job: Job) -> Learner:
    return decode_learner(Registry(job.registry).read("one"), finder([job.algorithm()]))


def states(*jobs: Job) -> list[list[bytes]]:
    return [[np.asarray(one).tobytes() for one in dataclasses.astuple(learner(job).state)] for job in jobs]


def matrix(format: str) -> bytes:
    some = rows()
    features = pa.array(np.stack([some["x"], some["z"]], axis=1).tolist(), pa.list_(pa.float64()))
    whole: bytes = formats.of_files(format).module.encode(
        pa.record_batch({"features": features, "label": some["y"].cast(pa.float64())})
    )
    return whole


# --- the same rows as a file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress])
def test_a_pipe_is_learned_as_the_file_of_its_bytes(place: Place, packed: Any) -> None:
    data = b'\xef\xbb\xbfx,"z",y,"two\nlines"\r\n' + text().split(b"\n", 1)[1].replace(b"\n", b',"a\nb"\r\n')
    (place.folder / "a.csv").write_bytes(data)
    place.write(packed(data))
    file, pipe = place.job("files", path=str(place.folder / "a.csv")), place.job("pipes")
    assert run(file) == run(pipe) == [(N, {})]
    assert states(file) == states(pipe)
    assert list(learner(pipe).progress.covered) == [Origin("pipe", str(place.folder / "train"))]


def test_an_epoch_is_a_pass_and_has_a_fifo_of_its_own(place: Place) -> None:
    (place.folder / "a.csv").write_bytes(text())
    place.write(text(), text())
    spec = {"algorithm": "linear.adagrad", "loss": "logistic"}
    file = place.job("files", 2, spec, path=str(place.folder / "a.csv"))
    pipe = place.job("pipes", 2, spec)
    assert sum(n for n, _ in run(file)) == sum(n for n, _ in run(pipe)) == 2 * N
    found = learner(pipe)
    assert found.cursors.passes == dataclasses.replace(
        learner(file).cursors.passes, values=found.cursors.passes.values, rows=found.cursors.passes.rows
    )
    assert found.cursors.pipes[str(place.folder / "train")].epoch == 1
    assert run(pipe) == []  # nobody is waited for: all epochs have been read


# --- stopped and started again -------------------------------------------------------------------------------------------


def test_a_stream_that_comes_again_is_learned_on_from_where_it_was(place: Place) -> None:
    place.write(text(MANY))
    job = place.job(round_rows=4_000)
    dying = train(job, Registry(job.registry))
    first = next(dying).progress.rows
    dying.close()
    assert 0 < first < MANY
    (place.folder / "train_0").unlink()
    place.write(text(MANY))
    assert first + sum(n for n, _ in run(place.job())) == MANY == learner(job).progress.rows
    assert len(learner(job).progress.covered) == 1  # in one interval


def test_what_was_read_is_learned_though_nobody_writes_it_again(place: Place) -> None:
    place.write(text(MANY))
    job = place.job(round_rows=4_000, timeout=0.2)
    dying = train(job, Registry(job.registry))
    next(dying)
    known = learner(job)
    dying.close()
    (place.folder / "train_0").unlink()
    place.write(text(MANY))
    dead = place.rounds(round_rows=4_000)  # a trainer that reads a round and dies before it has published
    planned = dead.plan(known, 4_000)
    dead.close()
    (place.folder / "train_0").unlink()
    again = place.rounds(round_rows=4_000, timeout=0.2)
    found = again.plan(known, 4_000)
    assert planned is not None
    assert found is not None
    assert found.covered() == planned.covered()
    assert found.after == planned.after
    again.close()
    with pytest.raises(NoInput, match=r"train_0 must be a FIFO that somebody writes: it was not there within 0.2 s"):
        run(job)
    assert learner(job).progress.rows > known.progress.rows
    assert learner(job).cursors.pipes[str(place.folder / "train")].place >= planned.after.place
    place.write(text(MANY))
    run(job)
    assert learner(job).progress.rows == MANY


@pytest.mark.parametrize("other", [text(MANY, 1), text(40)])
def test_another_stream_in_its_place_is_refused(place: Place, other: bytes) -> None:
    place.write(text(MANY))
    job = place.job(round_rows=4_000)
    dying = train(job, Registry(job.registry))
    next(dying)
    dying.close()
    (place.folder / "train_0").unlink()
    place.write(other)
    before = learner(job).cursors.pipes[str(place.folder / "train")].place
    with pytest.raises(InputChanged, match=r"train_0 must begin with the [\d,]+ bytes that were read of it before"):
        run(place.job())
    assert learner(job).cursors.pipes[str(place.folder / "train")].place >= before


def test_one_run_at_a_time_reads_a_pipe(place: Place) -> None:
    first = place.rounds()
    with pytest.raises(SourceUnavailable, match="one run of the job at a time"):
        place.rounds()
    first.close()
    place.rounds().close()


# --- stdin ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stdin() -> Iterator[Any]:
    kept = os.dup(0)

    def become(data: bytes) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            with subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as cat:
                assert cat.stdout is not None
                os.dup2(cat.stdout.fileno(), 0)
                cat.stdout.close()
                yielded.append(cat.pid)
                cat.returncode = 0  # it ends when it has been read

    yielded: list[int] = []
    yield become
    os.dup2(kept, 0)
    os.close(kept)
    for pid in yielded:
        os.waitpid(pid, 0)


def test_stdin_is_learned_once_and_what_differs_is_another_stream(place: Place, stdin: Any) -> None:
    job = place.job(pipe="-")
    assert job.source.where == "stdin"
    stdin(text())
    assert run(job) == [(N, {})]
    stdin(text())
    assert run(job) == []
    stdin(text() + text(7, 1).split(b"\n", 1)[1])  # and more
    assert run(job) == [(7, {})]
    stdin(text(20, 3))
    assert run(job) == [(20, {})]
    assert [origin.partition for origin in sorted(learner(job).progress.covered)] == ["stdin", "stdin, stream 2"]
    stdin(b"")
    assert run(job) == []


def test_a_path_of_one_hyphen_is_stdin(place: Place) -> None:
    given = place.job().to_dict() | {"source": {"path": "-", "format": "csv", "settle": 0, "max_leap": "2d"}}
    found = Job.parse(given).source
    assert isinstance(found, PipeSource)
    assert (found.pipe, found.max_leap) == ("-", 172_800.0)


# --- what cannot be read -------------------------------------------------------------------------------------------------


def test_a_round_ends_before_what_cannot_be_read_which_is_then_said(place: Place) -> None:
    whole = gzip.compress(text(MANY))
    place.write(whole[: len(whole) // 2])
    job = place.job(round_rows=4_000)
    with pytest.raises(UnreadableInput, match=r"train_0 cannot be read as gzip: .*after [\d,]+ decompressed bytes\."):
        run(job)
    known = learner(job)
    assert 0 < known.progress.rows < MANY
    (place.folder / "train_0").unlink()
    place.write(whole)
    assert sum(n for n, _ in run(job)) == MANY - known.progress.rows


@pytest.mark.parametrize("broken", [b"", b"no frame"])
def test_records_before_a_broken_one_count_and_the_rest_is_given_up_where_the_job_says_so(
    place: Place, broken: bytes
) -> None:
    data = matrix("recordio")
    data = data + broken if broken else data[:-5]
    kept = N if broken else N - 1
    where = len(matrix("recordio")) if broken else len(matrix("recordio")) // N * kept
    said = rf"train_0 cannot be read as (RecordIO|recordio): .* byte {where}"
    features = {"matrix": {"width": 2}, "label": "label"}
    place.write(data)
    job = Job.parse(place.job(format="recordio").to_dict() | {"features": features})
    with pytest.raises(UnreadableInput, match=said):
        run(job)
    assert learner(job).progress.rows == kept
    place.write(data)
    job = Job.parse(place.job("skipping", format="recordio", on_bad_file="skip").to_dict() | {"features": features})
    assert run(job) == [(kept, {}), (0, {"file set aside": 1})]
    assert learner(job).cursors.pipes[str(place.folder / "train")].ended


def test_rejects_name_the_pipe_and_the_byte(place: Place) -> None:
    place.write(b"x,z,y\n1,2,0\n1,2\n3,4,1\n")
    job = place.job()
    assert run(job) == [(2, {"malformed line": 1})]
    (kept,) = place.folder.glob("registry/**/rejects-*.jsonl")
    assert f'"partition":"{place.folder / "train"}"' in kept.read_text().replace(": ", ":")
    assert '"start":12' in kept.read_text().replace(": ", ":") or '"position":12' in kept.read_text().replace(": ", ":")


def test_a_fifo_that_nobody_writes_is_waited_for_no_longer_than_said(place: Place) -> None:
    os.mkfifo(place.folder / "train_0")
    with pytest.raises(NoInput, match=r"train_0 must be a FIFO that somebody writes: nobody did within 0.2 s"):
        run(place.job(timeout=0.2))


def test_a_file_in_its_place_is_refused(place: Place) -> None:
    (place.folder / "train_0").write_bytes(text())
    with pytest.raises(InvalidValue, match=r"source.pipe must be the prefix of FIFOs; .*train_0 is none"):
        run(place.job())


def test_a_pipe_without_a_row_makes_no_version(place: Place) -> None:
    place.write(b"x,z,y\n")
    job = place.job()
    assert run(job) == []
    assert Registry(job.registry).versions("one") == []


@pytest.mark.parametrize(
    ("source", "passes", "said"),
    [
        ({"format": "avro"}, 1, "source.format must be one that can be read from its beginning to its end"),
        ({"format": "json", "options": {"layout": "document"}}, 1, "options.layout must be 'lines' in a pipe"),
        ({"pipe": "-"}, 2, "passes must be 1 with stdin"),
        ({"kind": "pipes"}, 1, "source.kind must be 'files', 'pipe' or 'kafka'; got 'pipes'. Did you mean 'pipe'?"),
    ],
)
def test_settings_that_a_pipe_cannot_have(place: Place, source: dict[str, Any], passes: int, said: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        place.job(passes=passes, spec={"algorithm": "linear.adagrad"}, **source)
    assert said in str(caught.value)


def test_a_pipe_is_not_followed(place: Place) -> None:
    job = place.job()
    with pytest.raises(InvalidValue, match="--follow must be left out with a pipe"):
        next(train(job, Registry(job.registry), Mode("follow")))


# --- bytes ---------------------------------------------------------------------------------------------------------------


def bytes_of(place: Place, data: bytes) -> list[bytes]:
    place.write(data)
    source = place.job().source
    assert isinstance(source, PipeSource)
    pipe, found = open_pipe(source, 0, lambda: False), list[bytes]()
    while (some := pipe.read(1.0)) != b"":
        found += [] if some is None else [some]
    pipe.close()
    return found


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress])
def test_members_and_zeros_behind_them_and_no_more_at_once_than_said(place: Place, packed: Any) -> None:
    bomb = bytes(3_000_000)
    found = bytes_of(place, packed(b"a,b\n" * 9) + packed(b"") + packed(bomb) + (b"" if packed is bytes else bytes(99)))
    assert b"".join(found) == b"a,b\n" * 9 + bomb
    assert max(map(len, found)) <= pipe_bytes.CHUNK


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(b"a" * 99, mtime=0)[:-3], "it ends within its compressed bytes, after 99 decompressed bytes"),
        (gzip.compress(b"a" * 99, mtime=0) + b"more", "cannot be read as gzip"),
        (bz2.compress(b"a" * 99)[:-3], "cannot be read as bzip2: it ends within"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd is not decompressed from a pipe"),
    ],
)
def test_damaged_bytes_are_said(place: Place, data: bytes, said: str) -> None:
    with pytest.raises(UnreadableInput, match=said):
        bytes_of(place, data)


def test_nothing_for_a_while_is_not_the_end(place: Place) -> None:
    read, write = os.pipe()
    pipe = Pipe(read, "a pipe")
    assert pipe.read(0.0) is None
    os.write(write, b"a,b\n1")
    assert pipe.read(0.0) is None  # too few bytes to tell what they are
    os.write(write, b",2\n3,4\n")
    assert pipe.read(0.0) == b"a,b\n1,2\n3,4\n"
    assert pipe.read(0.0) is None
    os.close(write)
    assert pipe.read(0.0) == b""
    pipe.close()
