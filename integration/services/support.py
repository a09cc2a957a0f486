"""What the services share: the cache folder, builds with Maven and Go, free ports, start, readiness and stop."""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_ENDS_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that wanted this service is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Unavailable(Exception):
    """The service cannot be had on this machine; the message says why."""


def cache_folder() -> Path:
    """Return where fetched and built services are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beam_ml"


def tool(name: str, needed_by: str, also_in: str = "") -> str:
    """Find a command on the path, or in the folder `also_in`.

    Raises:
        Unavailable: there is no such command.
    """
    found = shutil.which(name) or (shutil.which(name, path=also_in) if also_in else None)
    if found is None:
        message = f"{needed_by} needs the command {name}, and there is none here."
        raise Unavailable(message)
    return found


def java(needed_by: str) -> str:
    """Find Java.

    Raises:
        Unavailable: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    return tool("java", needed_by, also_in=f"{home}/bin" if home else "")


@contextlib.contextmanager
def building(place: Path) -> Iterator[Path]:
    """Return a new folder beside `place`, renamed to it at the end: an interrupted build leaves nothing that looks whole.

    Who is second to finish the same build keeps the first one's.
    """
    beside = place.with_name(f"building-{uuid.uuid4().hex[:8]}")
    beside.mkdir(parents=True)
    try:
        yield beside
        if not place.exists():
            with contextlib.suppress(FileExistsError):
                beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def go_binary(name: str, package: str) -> Path:
    """Return the program `name` of a Go package at a version; the first call builds it, which takes minutes.

    Raises:
        Unavailable: there is no Go, or the build failed.
    """
    folder = cache_folder() / "go" / f"{name}-{package.rpartition('@')[2]}"
    if not folder.exists():
        command = [tool("go", name, also_in="/usr/local/go/bin"), "install", package]
        with building(folder) as beside:
            environment = {**os.environ, "GOBIN": str(beside), "GOFLAGS": "-p=2"}
            built = subprocess.run(command, env=environment, capture_output=True, text=True)
            if built.returncode != 0:
                message = f"go install {package} failed: {built.stderr.strip()[-500:]}"
                raise Unavailable(message)
    return folder / name


def maven_jars(name: str, pom: str) -> Path:
    """Return the folder with the jars that a pom's dependencies need at run time; the first call fetches them.

    Args:
        name: what the jars are for; with a hash of the pom it names the folder in the cache.
        pom: the text of pom.xml.

    Raises:
        Unavailable: there is no Maven, or it failed.
    """
    folder = cache_folder() / "jars" / f"{name}-{hashlib.sha256(pom.encode()).hexdigest()[:12]}"
    if not folder.exists():
        maven = tool("mvn", name)
        with building(folder) as beside, tempfile.TemporaryDirectory() as project:
            (Path(project) / "pom.xml").write_text(pom)
            copy = ["dependency:copy-dependencies", f"-DoutputDirectory={beside}", "-DincludeScope=runtime"]
            fetched = subprocess.run([maven, "-q", "-B", *copy], cwd=project, capture_output=True, text=True)
            if fetched.returncode != 0:
                message = f"Maven could not fetch the jars of {name}: {(fetched.stdout + fetched.stderr).strip()[:500]}"
                raise Unavailable(message)
    return folder


def pom(name: str, dependencies: Sequence[str], pinned: Sequence[str] = ()) -> str:
    """Write a pom of dependencies `group:artifact:version`; those pinned win over what others ask for."""

    def entries(coordinates: Sequence[str]) -> str:
        parts = [one.split(":") for one in coordinates]
        return "".join(
            f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version></dependency>\n"
            for group, artifact, version in parts
        )

    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>\n'
        f"<groupId>beam_ml.integration</groupId><artifactId>{name}</artifactId><version>1</version>\n"
        f"<dependencyManagement><dependencies>\n{entries(pinned)}</dependencies></dependencyManagement>\n"
        f"<dependencies>\n{entries(dependencies)}</dependencies></project>\n"
    )


def free_ports(count: int) -> list[int]:
    """Return distinct loopback ports that nobody listens on.

    They lie below the range that outgoing connections are given ports from: a client that keeps trying a dead
    server's port from that range can be connected to itself, and then the server cannot have its port back.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                if port not in ports:
                    ports.append(port)
    return ports


@functools.lru_cache(maxsize=1)
def _starter() -> concurrent.futures.ThreadPoolExecutor:
    # "Parent" means the thread that made the child: a service that a test's passing thread starts would end with
    # that thread. This one thread lives as long as the process.
    return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="services")


def start(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, *, own_group: bool = False
) -> subprocess.Popen[bytes]:
    """Start a service that ends with this process, even if this process is killed hard (on Linux).

    Without that a killed test run would leave brokers behind. The kernel does it (PR_SET_PDEATHSIG); it is asked by a
    few lines that then become the service, since code between fork and exec of a threaded process may hang.

    Args:
        command: the program and its arguments.
        log: the file that gets its output, at the end.
        environment: its whole environment; None: this process's.
        own_group: lead a process group of its own, so that its children can be stopped with it.
    """
    wrapped = [sys.executable, "-I", "-S", "-c", _ENDS_WITH_PARENT, str(os.getpid()), *command]

    def spawn() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                wrapped,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=own_group,
            )

    return _starter().submit(spawn).result()


def stop(process: subprocess.Popen[bytes], seconds: float = 15.0) -> None:
    """End a process by its id: asked first, killed after `seconds`."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process at once (SIGKILL) and wait until it is gone; one that has ended already is left alone."""
    if process.poll() is None:
        process.kill()
    process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process started with `own_group` and all its children at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(port: int) -> bool:
    """Return whether somebody listens on a loopback port."""
    with socket.socket() as one:
        one.settimeout(1.0)
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str, log: Path, seconds: float = 90.0
) -> None:
    """Wait until a service that was started is ready.

    Raises:
        RuntimeError: it ended, or was not ready in time; with the end of its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return
        time.sleep(0.05)
    how = "did not get ready" if process.poll() is None else f"ended with {process.returncode}"
    message = f"{name} {how}: {log.read_text(errors='replace')[-1500:]}"
    raise RuntimeError(message)


def beam_options(job_endpoint: str, **options: object) -> list[str]:
    """Write Beam's options for a job service; True stands for a flag, None and False leave an option out."""
    usual: dict[str, object] = {
        "runner": "PortableRunner",
        "job_endpoint": job_endpoint,
        "environment_type": "LOOPBACK",
    }
    given = {name: value for name, value in {**usual, **options}.items() if value is not None and value is not False}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]


@contextlib.contextmanager
def run_for_a_person(name: str) -> Iterator[Path]:
    """Return a temporary folder; once the block inside has started a service, `wait_for_interrupt` keeps it running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder, contextlib.suppress(KeyboardInterrupt):
        yield Path(folder)


def wait_for_interrupt() -> None:
    """Sleep until SIGINT or SIGTERM."""
    print("Stop it with Ctrl-C.", flush=True)
    while True:
        time.sleep(3600)
