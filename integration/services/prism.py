"""A real Prism, Beam's own portable runner: built by `go install` into the cache folder, on a free loopback port.

It streams, and has no recovery: what it ran is lost with it. `make prism` runs one for a person.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from services.support import (
    answers,
    beam_options,
    free_ports,
    go_binary,
    run_for_a_person,
    start,
    stop,
    wait_for_interrupt,
    wait_until,
)

PACKAGE = "github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"


@dataclasses.dataclass(frozen=True)
class Prism:
    """A running job service."""

    job_endpoint: str
    pid: int
    log: Path

    def options(self, streaming: bool = False, **more: object) -> list[str]:
        """Return Beam's options for a pipeline that runs here, its workers in the process that submits it."""
        return beam_options(self.job_endpoint, streaming=streaming, **more)


def prism_binary() -> Path:
    """Return the program, for `--runner=PrismRunner --prism_location=…`; the first call builds it, which takes minutes.

    Raises:
        Unavailable: there is no Go, or the build failed.
    """
    return go_binary("prism", PACKAGE)


@contextlib.contextmanager
def prism(folder: Path) -> Iterator[Prism]:
    """Run a job service, its log in `folder`, until the block ends; it is stopped by its own process id.

    Raises:
        Unavailable: the program cannot be had here.
        RuntimeError: it did not get ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (port,), log = free_ports(1), folder / "prism.log"
    command = [str(prism_binary()), f"--job_port={port}", "--serve_http=false", "--log_level=warn"]
    process = start(command, log, {**os.environ, "GOMAXPROCS": "2"})
    try:
        wait_until(lambda: answers(port), process, "Prism", log)
        yield Prism(f"localhost:{port}", process.pid, log)
    finally:
        stop(process)


def main() -> None:
    """Run one until interrupted."""
    with run_for_a_person("prism") as folder, prism(folder) as running:
        print(f"Prism runs (process {running.pid}). A pipeline's options:\n  {' '.join(running.options())}")
        print(f"or, without this service:\n  --runner=PrismRunner --prism_location={prism_binary()}")
        wait_for_interrupt()


if __name__ == "__main__":
    main()
