"""A real Flink in one process: Beam's job server with an embedded cluster (`[local]`), from Maven's jars.

Beam's ready-made job-server jars are not what Maven resolves, so the runner's jars are wrapped by a small launcher jar.
Its Java parts are older than the Python SDK that it serves; Beam does not promise that this works, these tests do.
`make flink` runs one for a person.
"""

import contextlib
import dataclasses
import json
import os
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil  # type: ignore[import-untyped]
from services.support import (
    answers,
    beam_options,
    free_ports,
    java,
    kill,
    kill_group,
    maven_jars,
    pom,
    run_for_a_person,
    start,
    wait_for_interrupt,
    wait_until,
)

POM = pom(
    "flink",
    ["org.apache.beam:beam-runners-flink-1.19:2.70.0", "org.slf4j:slf4j-simple:2.0.16"],
    pinned=["org.apache.beam:beam-runners-java-job-service:2.65.0"],
)
_OPENED = (
    "lang lang.invoke lang.reflect net io nio text time util util.concurrent util.concurrent.atomic "
    "util.concurrent.locks"
)
"""Packages of java.base that Flink's serialisers reach into."""


@dataclasses.dataclass(frozen=True)
class Flink:
    """A running job server.

    Attributes:
        job_endpoint: host:port for Beam.
        checkpoints: the folder under which each job keeps its checkpoints.
        rest_port: where the newest job's cluster answers Flink's REST calls, while a job runs.
        log: the file with its output.
    """

    job_endpoint: str
    checkpoints: Path
    rest_port: int
    log: Path
    process: Popen[bytes]

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    def options(
        self, parallelism: int = 1, streaming: bool = False, workers: "WorkerPool | None" = None, **more: object
    ) -> list[str]:
        """Return Beam's options for a pipeline that runs here.

        Args:
            parallelism: copies of each stage.
            streaming: take checkpoints (every 3 s), before which bundles end, and cut bundles (at 0.1 s); all can be
                given in `more`.
            workers: an external pool; None: the workers are threads of the process that submits.
            more: further options by name; True stands for a flag, None leaves an option out.
        """
        usual: dict[str, object] = {"parallelism": parallelism, "streaming": streaming}
        if streaming:
            usual |= {"checkpointing_interval": 3000, "max_bundle_time_mills": 100}
            usual["finish_bundle_before_checkpointing"] = True
        if workers is not None:
            usual |= {"environment_type": "EXTERNAL", "environment_config": workers.endpoint}
        return beam_options(self.job_endpoint, **{**usual, **more})

    def newest_checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint, as a server's `savepoint`; None: there is none yet."""
        return newest_checkpoint(self.checkpoints)

    def rest(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask Flink itself about the job that runs: `/jobs`, `/jobs/<id>/checkpoints`; with a body it is a POST."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.rest_port}{path}", data=data)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        kill(self.process)


def newest_checkpoint(checkpoints: Path) -> Path | None:
    """Return the newest whole checkpoint under a folder; `_metadata` is what Flink writes last."""
    whole = []
    for file in checkpoints.glob("*/chk-*/_metadata"):
        with contextlib.suppress(FileNotFoundError):  # Flink has dropped this one meanwhile, for a newer one
            whole.append((file.stat().st_mtime_ns, file.parent))
    return max(whole)[1] if whole else None


def _launcher() -> Path:
    """Return a jar that starts the job server: it names the others, and opens the packages that Flink needs."""
    jars = maven_jars("flink", POM)
    launcher = jars / "job-server.jar"
    if not launcher.exists():
        names = " ".join(sorted(one.name for one in jars.glob("*.jar")))
        opened = " ".join(["java.base/sun.nio.ch", *(f"java.base/java.{package}" for package in _OPENED.split())])
        entries = {
            "Manifest-Version": "1.0",
            "Main-Class": "org.apache.beam.runners.flink.FlinkJobServerDriver",
            "Class-Path": names,
            "Add-Opens": opened,
        }
        beside = jars / f".job-server-{os.getpid()}"
        with zipfile.ZipFile(beside, "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", "".join(_folded(f"{k}: {v}") for k, v in entries.items()))
        beside.replace(launcher)
    return launcher


def _folded(line: str) -> str:
    # a manifest's lines have at most 72 bytes; one that starts with a blank goes on
    first, rest = line[:70], line[70:]
    return "\r\n ".join([first, *(rest[i : i + 69] for i in range(0, len(rest), 69))]) + "\r\n"


def _settings(folder: Path, savepoint: Path | None, rest_port: int, conf: dict[str, object]) -> dict[str, object]:
    settings: dict[str, object] = {
        "state.backend.type": "hashmap",
        "state.checkpoints.dir": (folder / "checkpoints").as_uri(),
        "state.savepoints.dir": (folder / "savepoints").as_uri(),
        "state.checkpoints.num-retained": 2,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        # with checkpoints Flink tries again for ever: a pipeline that cannot work would never say why
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 10,
        "restart-strategy.fixed-delay.delay": "500 ms",
        "rest.bind-port": rest_port,
        "rest.bind-address": "127.0.0.1",
        "taskmanager.memory.network.min": "32mb",
        "taskmanager.memory.network.max": "32mb",
        "io.tmp.dirs": str(folder / "tmp"),
    }
    if savepoint is not None:
        # Beam's --savepoint_path is ignored without a word by an embedded cluster; this is not
        settings["execution.savepoint.path"] = savepoint.as_uri()
    return settings | {(key if "." in key else key.replace("_", ".")): value for key, value in conf.items()}


@contextlib.contextmanager
def flink(folder: Path, savepoint: Path | None = None, heap_mb: int = 1024, **conf: object) -> Iterator[Flink]:
    """Run a job server until the block ends; it is stopped by its own process id.

    A second server in the same folder sees the first one's checkpoints.

    Args:
        folder: where checkpoints, settings and the log go.
        savepoint: a checkpoint or savepoint that the jobs of this server start from.
        heap_mb: the process's Java heap.
        conf: Flink's settings: as they are, `**{"restart-strategy.type": "none"}`, or with `_` for `.`.

    Raises:
        Unavailable: Java or Maven is missing, or the jars cannot be fetched.
        RuntimeError: it did not get ready.
    """
    launcher = _launcher()
    settings, log = folder / "conf", folder / "flink.log"
    for needed in (settings, folder / "artifacts", folder / "tmp", folder / "checkpoints"):
        needed.mkdir(parents=True, exist_ok=True)
    job_port, artifact_port, rest_port = free_ports(3)
    lines = "".join(f"{k}: {v}\n" for k, v in _settings(folder.resolve(), savepoint, rest_port, conf).items())
    (settings / "config.yaml").write_text(lines)
    # only the quick compiler: half the work until the first job runs
    quick = [
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
    ]
    arguments = {
        "--flink-master": "[local]",
        "--job-port": job_port,
        "--artifact-port": artifact_port,
        "--expansion-port": -1,
        "--artifacts-dir": folder / "artifacts",
        "--flink-conf-dir": settings,
    }
    command = [
        java("Flink"),
        f"-Xmx{heap_mb}m",
        *quick,
        "-jar",
        str(launcher),
        *(str(one) for pair in arguments.items() for one in pair),
    ]
    process = start(command, log)
    try:
        wait_until(lambda: answers(job_port) and answers(artifact_port), process, "Flink's job server", log)
        yield Flink(f"localhost:{job_port}", folder / "checkpoints", rest_port, log, process)
    finally:
        kill(process)  # a job that still runs would delay a polite end


@dataclasses.dataclass(frozen=True)
class WorkerPool:
    """A running pool: it starts one worker process for each that a runner asks for."""

    endpoint: str
    log: Path
    process: Popen[bytes]

    @property
    def pid(self) -> int:
        """Return the pool's process id."""
        return self.process.pid

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live."""
        try:
            children = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child.pid for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@contextlib.contextmanager
def worker_pool(folder: Path, **environment: str) -> Iterator[WorkerPool]:
    """Run Beam's pool of external workers until the block ends; it and its workers end together.

    Args:
        folder: where the log goes.
        environment: variables that the workers get besides this process's.

    Raises:
        RuntimeError: it did not get ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (port,), log = free_ports(1), folder / "workers.log"
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",  # it starts a plain `python`
        "PYTHONPATH": os.pathsep.join(one for one in sys.path if one),  # and imports what this process can
    }
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    command.append(f"--container_executable={Path(sys.executable).parent / 'beam-ml-worker'}")
    process = start(command, log, {**os.environ, **own, **environment}, own_group=True)
    try:
        wait_until(lambda: answers(port), process, "The worker pool", log)
        yield WorkerPool(f"localhost:{port}", log, process)
    finally:
        kill_group(process)


def main() -> None:
    """Run a job server until interrupted."""
    with run_for_a_person("flink") as folder, flink(folder) as running:
        print(f"Flink's job server runs (process {running.pid}, checkpoints in {running.checkpoints}).")
        print(f"A bounded pipeline's options:\n  {' '.join(running.options())}")
        print(f"An unbounded one's:\n  {' '.join(running.options(streaming=True))}")
        wait_for_interrupt()


if __name__ == "__main__":
    main()
