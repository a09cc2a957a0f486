"""Refresh lag of rounds on Kafka: from a row's record time to the version that has learned it, under a steady producer.

`integration/producer.py` sends 20,000 rows/s of 30 numbers as JSON, 100 rows a message, into two partitions, and
`python -m pipelines.train JOB --follow` trains PCA on them with windows of 5 s: three processes and a broker. A version's
instant is when a look at the registry, taken every 50 ms, first finds it. The producer's pace is even and its event times
are its clock, so the rows of a window that ends at E, folded into a version found at V, have lags spread evenly from V − E
to V − E + 5 s; the percentiles are of that distribution over all rows of all windows folded while the producer ran. Goal:
the 95th percentile within the window's length and 3 s.

Besides: memory and processor of the trainer by time (last third over middle third: flat is 1), and after the end whether
the learner's rows are exactly those produced: their number, and the sums of ids and of hashes, so that a row lost and one
counted twice cannot cancel.

Run: ``PYTHONPATH=integration python integration/bench/refresh_lag.py [--seconds 120] [--rows-per-second 20000]``.
"""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bench_support import last_line, machine, skipped_line
from producer import names
from services.kafka import Cluster, kafka
from services.support import Unavailable

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.core.learner import Learner
from beam_ml.registry import Registry

INTEGRATION = Path(__file__).parents[1]
CLAIM = "refresh lag of rounds on Kafka, record time to version visible, is within the window and 3 s at the 95th percentile"
WINDOW_S, SLACK_S = 5.0, 3.0
D = 30
NAME, TOPIC, PARTITIONS = "refresh-lag", "refresh-lag", 2
_LOOK_S, _WATCH_S = 0.05, 1.0
_DRAIN_S = 60.0

JOB = """
name = "{name}"
registry = "{registry}"
refresh = "{window:g}s"

[source]
kind = "kafka"
brokers = "{brokers}"
topic = "{topic}"
idle_timeout = "5s"

[source.options.types]
{types}

[features]
numeric = {numeric}
time = "time"

[spec]
algorithm = "pca"

[models.small]
kind = "components"
n_components = 3
"""


@dataclasses.dataclass(frozen=True)
class Look:
    """The trainer at an instant, its children included.

    Attributes:
        at_s: by the wall clock.
        rss_bytes: memory.
        cpu_s: processor seconds since it began.
        threads, files: how many it has, open.
        load: the machine's load average of a minute: whether it was ours alone.
    """

    at_s: float
    rss_bytes: int
    cpu_s: float
    threads: int
    files: int
    load: float


@dataclasses.dataclass
class Watched:
    """What was seen while it ran.

    Attributes:
        looks: of the trainer, one a second.
        found: version → wall clock at which it was first found.
        produced: the producer's last line.
    """

    looks: list[Look] = dataclasses.field(default_factory=list)
    found: dict[int, float] = dataclasses.field(default_factory=dict)
    produced: dict[str, Any] = dataclasses.field(default_factory=dict)


def write_job(folder: Path, brokers: str) -> Path:
    """Write the job's file."""
    types = "\n".join([*(f'{name} = "float64"' for name in names(D)), 'time = "int64"'])
    text = JOB.format(
        name=NAME, registry=folder / "registry", window=WINDOW_S, brokers=brokers, topic=TOPIC, types=types,
        numeric=json.dumps(names(D)),
    )  # fmt: skip
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def trainer(job: Path, log: Path, *mode: str) -> subprocess.Popen[str]:
    """Start the trainer."""
    with log.open("a", encoding="utf-8") as out:
        command = [sys.executable, "-m", "pipelines.train", str(job), *mode]
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True, cwd=INTEGRATION.parent)


def look(process: psutil.Process) -> Look | None:
    """Look at the trainer; None: it has gone."""
    try:
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
            return Look(
                time.time(), memory.rss, times.user + times.system + times.children_user + times.children_system,
                process.num_threads(), process.num_fds(), os.getloadavg()[0],
            )  # fmt: skip
    except psutil.NoSuchProcess:
        return None


@contextmanager
def watching(pid: int, registry: Path, watched: Watched) -> Iterator[None]:
    """Look at the registry and the trainer from a thread until the block ends."""
    over = threading.Event()
    head = registry / NAME

    def run() -> None:
        process, next_s, number = psutil.Process(pid), 0.0, 1
        while not over.wait(_LOOK_S):
            while (head / f"v{number}" / "manifest.json").exists():
                watched.found[number] = time.time()
                number += 1
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + _WATCH_S
                seen = look(process)
                if seen is not None:
                    watched.looks.append(seen)

    thread = threading.Thread(target=run, name="watch")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def newest(registry: Path) -> Learner | None:
    """Return the newest learner, if there is one."""
    found = Registry(registry).latest(NAME)
    return None if found is None else decode_learner(found.data, find)


def scanned(registry: Path) -> int:
    """Count the rows that the newest learner has scanned, those in open windows too."""
    learner = newest(registry)
    if learner is None:
        return 0
    return learner.progress.scanned + sum(one.progress.scanned for one in learner.pending.values())


def run(cluster: Cluster, folder: Path, seconds: float, rows_per_second: float) -> Watched:
    """Produce and train; the trainer is stopped as a person would, then once more started to close what is open.

    Raises:
        RuntimeError: the trainer ended by itself, or did not drain the topic in time.
    """
    cluster.create_topic(TOPIC, partitions=PARTITIONS)
    registry, log = folder / "registry", folder / "trainer.log"
    job, watched = write_job(folder, cluster.bootstrap), Watched()
    training = trainer(job, log, "--follow")
    try:
        with watching(training.pid, registry, watched):
            command = [
                sys.executable, str(INTEGRATION / "producer.py"), "--bootstrap", cluster.bootstrap, "--topic", TOPIC,
                "--rows-per-second", str(rows_per_second), "--seconds", str(seconds), "--features", str(D),
            ]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            watched.produced = json.loads(done.stdout.splitlines()[-1])
            until = time.monotonic() + _DRAIN_S
            while scanned(registry) < watched.produced["sent_rows"]:
                if training.poll() is not None or time.monotonic() > until:
                    message = f"The trainer must take all rows and go on; {log.read_text(encoding='utf-8')[-2000:]}"
                    raise RuntimeError(message)
                time.sleep(1.0)
        training.send_signal(signal.SIGTERM)
        training.wait(timeout=60)
    finally:
        if training.poll() is None:
            training.kill()
            training.wait()
    closing = trainer(job, log, "--once", "--close")
    if training.returncode != 0 or closing.wait(timeout=120) != 0:
        message = f"The trainer must end well; {log.read_text(encoding='utf-8')[-2000:]}"
        raise RuntimeError(message)
    return watched


def exactness(registry: Path, produced: dict[str, Any]) -> dict[str, Any]:
    """Compare the learner's rows with those produced: number, sums of ids and hashes, scatter of the ids.

    Raises:
        RuntimeError: they differ.
    """
    learner = newest(registry)
    assert learner is not None
    state, n = learner.state, int(produced["distinct_rows"])
    ids = np.arange(n, dtype=np.float64)
    mean = np.asarray(state.origin[:2], dtype=np.float64) + state.mean[:2]
    found = {
        "rows": learner.progress.rows,
        "rejected": dict(learner.progress.rejected),
        "repeated": learner.progress.repeated,
        "sum_id": float(mean[0] * n),
        "sum_hash": float(mean[1] * n),
        "scatter_id": float(state.scatter[0, 0]),
    }
    wanted = {
        "rows": n,
        "rejected": {},
        "repeated": 0,
        "sum_id": float(produced["distinct_sum_id"]),
        "sum_hash": float(produced["distinct_sum_hash"]),
        "scatter_id": float(((ids - ids.mean()) ** 2).sum()),
    }
    # Sums of 10⁷ rows keep 13 digits or more; one row lost and another doubled moves the hashes' by about 10⁻⁷.
    wrong = [
        key for key, value in wanted.items()
        if (abs(found[key] / value - 1) > 1e-11 if isinstance(value, float) else found[key] != value)
    ]  # fmt: skip
    if wrong:
        message = f"The learner must hold exactly the rows produced; {wrong} differ: {found} are not {wanted}."
        raise RuntimeError(message)
    return found


def lags(registry: Path, watched: Watched) -> tuple[np.ndarray, np.ndarray]:
    """Return (w,) s from each window's end to its version, and the lags of rows spread evenly over all these windows."""
    store = Registry(registry)
    began, ended = watched.produced["began_us"], watched.produced["ended_us"]
    behind = []
    for number, seen_s in sorted(watched.found.items()):
        for one in store.manifest(NAME, number).refreshes:
            end_us = one["window_end"]
            # Windows cut short by the producer's start or end have fewer rows than the others.
            if end_us is not None and began <= end_us - WINDOW_S * 1e6 and end_us <= ended:
                behind.append(seen_s - end_us / 1e6)
    ends = np.array(behind)
    return ends, (ends[:, None] + np.linspace(0.0, WINDOW_S, 101)[None, :]).ravel()


def thirds(watched: Watched) -> dict[str, float]:
    """Compare the trainer's memory and processor use in the last third of the producer's time with the middle third."""
    began, ended = watched.produced["began_us"] / 1e6, watched.produced["ended_us"] / 1e6
    step = (ended - began) / 3
    parts = [[one for one in watched.looks if began + i * step <= one.at_s < began + (i + 1) * step] for i in (1, 2)]
    memory = [float(np.mean([one.rss_bytes for one in part])) for part in parts]
    cores = [(part[-1].cpu_s - part[0].cpu_s) / (part[-1].at_s - part[0].at_s) for part in parts]
    return {
        "rss_mib_middle": memory[0] / 2**20,
        "rss_mib_last": memory[1] / 2**20,
        "rss_ratio": memory[1] / memory[0],
        "cores_middle": cores[0],
        "cores_last": cores[1],
        "cores_ratio": cores[1] / cores[0],
    }


def report(folder: Path, watched: Watched) -> dict[str, Any]:
    """Print and give the figures of a run."""
    exact = exactness(folder / "registry", watched.produced)
    ends, all_lags = lags(folder / "registry", watched)
    p50, p95 = np.percentile(all_lags, [50, 95])
    found = {
        "lag_p50_s": float(p50),
        "lag_p95_s": float(p95),
        "version_behind_window_end_s": {
            "p50": float(np.median(ends)), "p95": float(np.percentile(ends, 95)), "max": float(ends.max()),
        },
        "windows": len(ends),
        "versions": max(watched.found),
        **thirds(watched),
        "producer": {key: watched.produced[key] for key in ("rows_per_second", "worst_behind_s", "ended_behind_s")},
        "load_average": float(np.mean([one.load for one in watched.looks])),
        "exact": exact,
    }  # fmt: skip
    print(
        f"refresh lag p50 {p50:.2f} s, p95 {p95:.2f} s over {len(ends)} windows of {WINDOW_S:g} s; versions come "
        f"{np.median(ends):.2f} s (at most {ends.max():.2f} s) after their window's end"
    )
    print(
        f"trainer: {found['rss_mib_middle']:.0f} MiB, then {found['rss_mib_last']:.0f} MiB "
        f"(×{found['rss_ratio']:.3f}); {found['cores_middle']:.2f} cores, then {found['cores_last']:.2f} "
        f"(×{found['cores_ratio']:.2f})"
    )
    print(
        f"exact: {exact['rows']:,} rows, distinct values and all, at {found['producer']}; "
        f"load average {found['load_average']:.1f}",
        flush=True,
    )
    return found


def main() -> None:
    """Run and print one JSON line."""
    parser = argparse.ArgumentParser(description=CLAIM)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--rows-per-second", type=float, default=20_000)
    options = parser.parse_args()
    began = time.perf_counter()
    print(machine())
    try:
        with tempfile.TemporaryDirectory() as scratch, kafka(Path(scratch) / "kafka") as cluster:
            watched = run(cluster, Path(scratch), options.seconds, options.rows_per_second)
            found = report(Path(scratch), watched)
    except Unavailable as why:
        print(f"skipped: {why}")
        print(skipped_line(CLAIM, str(why)))
        return
    ours, goal = found["lag_p95_s"], WINDOW_S + SLACK_S
    rows = found["exact"]["rows"]
    print(last_line(CLAIM, ours, goal, ours / goal, found, rows, time.perf_counter() - began))


if __name__ == "__main__":
    main()
