"""A real S3-compatible server: MinIO, built by `go install` into the cache folder, on free loopback ports."""

import contextlib
import dataclasses
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.support import free_ports, go_binary, start, stop, wait_until

PACKAGE = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
USER, PASSWORD = "beam-ml-test", "beam-ml-test-password"


@dataclasses.dataclass(frozen=True)
class Minio:
    """A running server; `bucket` makes a new empty bucket."""

    endpoint: str
    folder: Path
    pid: int

    def bucket(self) -> tuple[str, dict[str, Any]]:
        """Return the URL of a new bucket and the store options that open it."""
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


def _is_ready(endpoint: str) -> bool:
    with contextlib.suppress(OSError, urllib.error.URLError):
        with urllib.request.urlopen(f"{endpoint}/minio/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    return False


@contextlib.contextmanager
def minio(folder: Path) -> Iterator[Minio]:
    """Run a server whose data lie in `folder` until the block ends; it is stopped by its own process id.

    Raises:
        Unavailable: the program cannot be had here.
    """
    binary = go_binary("minio", PACKAGE)
    data, log = folder / "data", folder / "minio.log"
    data.mkdir(parents=True)
    address, console = (f"127.0.0.1:{port}" for port in free_ports(2))
    command = [str(binary), "server", str(data), "--address", address, "--console-address", console]
    environment = {
        **os.environ,
        "MINIO_ROOT_USER": USER,
        "MINIO_ROOT_PASSWORD": PASSWORD,
        "MINIO_UPDATE": "off",
        "GOMAXPROCS": "2",
    }
    process = start(command, log, environment)
    try:
        wait_until(lambda: _is_ready(f"http://{address}"), process, "MinIO", log)
        yield Minio(f"http://{address}", data, process.pid)
    finally:
        stop(process)
