"""A real S3-compatible server: MinIO, built by `go install` into a cache folder, on free loopback ports."""

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
USER, PASSWORD = "beam-ml-test", "beam-ml-test-password"


class Unavailable(Exception):
    """The server cannot be had on this machine; the message says why."""


@dataclasses.dataclass(frozen=True)
class Minio:
    """A running server; `bucket` makes a new empty bucket."""

    endpoint: str
    folder: Path
    pid: int

    def bucket(self) -> tuple[str, dict[str, Any]]:
        """Give the URL of a new bucket and the store options that open it."""
        name = f"beam-ml-{uuid.uuid4().hex[:12]}"
        (self.folder / name).mkdir()  # a folder made in the server's folder is a bucket
        options = {
            "endpoint": self.endpoint,
            "access_key_id": USER,
            "secret_access_key": PASSWORD,
            "region": "us-east-1",
            "virtual_hosted_style_request": False,
            "client_options": {"allow_http": True},
        }
        return f"s3://{name}", options


def cache_folder() -> Path:
    """Give where built servers are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "beam_ml"


def _go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        message = "MinIO is built with Go, and there is no go command here."
        raise Unavailable(message)
    return found


def minio_binary() -> Path:
    """Give the server's program; the first call builds it, which takes minutes.

    Raises:
        Unavailable: there is no Go, or the build failed.
    """
    folder = cache_folder() / "go" / "bin"
    binary = folder / "minio"
    if not binary.exists():
        # built beside its place and renamed, so that an interrupted build leaves nothing that looks whole
        building = folder.with_name(f"building-{uuid.uuid4().hex[:8]}")
        environment = {**os.environ, "GOBIN": str(building), "GOFLAGS": "-p=2"}
        try:
            built = subprocess.run([_go(), "install", PACKAGE], env=environment, capture_output=True, text=True)
            if built.returncode != 0:
                message = f"go install {PACKAGE} failed: {built.stderr.strip()[-500:]}"
                raise Unavailable(message)
            folder.mkdir(parents=True, exist_ok=True)
            (building / "minio").replace(binary)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return binary


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], endpoint: str, log: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(f"{endpoint}/minio/health/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        time.sleep(0.1)
    message = f"MinIO did not get ready: {log.read_text(errors='replace')[-500:]}"
    raise RuntimeError(message)


@contextlib.contextmanager
def minio(folder: Path) -> Iterator[Minio]:
    """Run a server whose data lie in `folder` until the block ends; it is stopped by its own process id.

    Raises:
        Unavailable: the program cannot be had here.
    """
    binary = minio_binary()
    data, log = folder / "data", folder / "minio.log"
    data.mkdir(parents=True)
    address, console = f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}"
    command = [str(binary), "server", str(data), "--address", address, "--console-address", console]
    environment = {
        **os.environ,
        "MINIO_ROOT_USER": USER,
        "MINIO_ROOT_PASSWORD": PASSWORD,
        "MINIO_UPDATE": "off",
        "GOMAXPROCS": "2",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(process, f"http://{address}", log)
        yield Minio(f"http://{address}", data, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
