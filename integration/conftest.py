"""Real services for the integration tests: started once a session, stopped by their own process ids.

A service that this machine cannot have skips the tests that need it and says why; on CI (environment variable CI) it
fails them instead.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from services.flink import Flink, flink
from services.kafka import Cluster, kafka
from services.minio import Minio, minio
from services.prism import Prism, prism, prism_binary
from services.support import Unavailable

pytest.register_assert_rewrite("tests.registry.registry_conformance")


BUILD_SECONDS = 1800
"""A service built or fetched on a fresh machine takes longer than a test may."""

SERVICES = frozenset({"s3", "kafka_cluster", "kafka_secured", "kafka_three", "prism_location", "prism_server"}) | {
    "flink_server"
}
"""The fixtures that may build or fetch a service."""

Service = TypeVar("Service")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Allow the tests that start a service the time to build it."""
    for item in items:
        if SERVICES.intersection(getattr(item, "fixturenames", ())) and item.get_closest_marker("timeout") is None:
            asked = float(config.getoption("timeout", None) or 0.0)
            item.add_marker(pytest.mark.timeout(max(BUILD_SECONDS, asked)))


def unavailable(why: str) -> NoReturn:
    """Skip, or on CI fail: there a service that is missing is a mistake."""
    if os.environ.get("CI"):
        pytest.fail(f"A service is missing on CI: {why}", pytrace=False)
    pytest.skip(why)


@contextlib.contextmanager
def had(service: contextlib.AbstractContextManager[Service]) -> Iterator[Service]:
    """Run a service, or skip or fail if this machine cannot have it."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(service)
        except Unavailable as why:
            unavailable(str(why))
        yield running


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """Return a running S3-compatible server."""
    with had(minio(tmp_path_factory.mktemp("minio"))) as running:
        yield running


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a running Kafka of one broker; whoever kills the broker starts it again."""
    with had(kafka(tmp_path_factory.mktemp("kafka"))) as running:
        yield running


@pytest.fixture(scope="session")
def kafka_secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a running Kafka of one broker whose second listener asks for TLS and a password."""
    with had(kafka(tmp_path_factory.mktemp("kafka-secured"), sasl=True, tls=True)) as running:
        yield running


@pytest.fixture
def kafka_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a running Kafka of three brokers, for one test: a test may leave nodes down."""
    with had(kafka(tmp_path_factory.mktemp("kafka-three"), nodes=3)) as running:
        yield running


@pytest.fixture(scope="session")
def prism_location() -> Path:
    """Return Prism's program, for `--runner=PrismRunner --prism_location`."""
    try:
        return prism_binary()
    except Unavailable as why:
        unavailable(str(why))


@pytest.fixture(scope="module")
def prism_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prism]:
    """Return a running Prism, for a module's tests: it starts in a second, and after its jobs it keeps a core busy."""
    with had(prism(tmp_path_factory.mktemp("prism"))) as running:
        yield running
    # Beam's worker threads in this process end with it, and say so: in the module that knows it, not in the next one.
    until = time.monotonic() + 10.0
    for thread in threading.enumerate():
        if thread.name.startswith(("run_worker", "read_")):
            thread.join(max(0.0, until - time.monotonic()))


@pytest.fixture(scope="session")
def flink_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flink]:
    """Return a running Flink job server; a test that kills or restores one starts its own with `flink(folder)`."""
    with had(flink(tmp_path_factory.mktemp("flink"))) as running:
        yield running
