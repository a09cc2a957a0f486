"""Real services for the integration tests: started once a session, stopped by their own process ids.

A service that this machine cannot have skips the tests that need it and says why; on CI (environment variable CI) it
fails them instead.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
for folder in (ROOT, ROOT / "integration", ROOT / "tests" / "registry", ROOT / "tests" / "toy"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
pytest.register_assert_rewrite("registry_conformance")

from services.minio import Minio, Unavailable, minio  # noqa: E402  (the path is set above)

BUILD_SECONDS = 1800
"""A service built from source on a fresh machine takes longer than a test may."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests that start a service the time to build it."""
    for item in items:
        if "s3" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))


def unavailable(why: str) -> None:
    """Skip, or on CI fail: there a service that is missing is a mistake."""
    if os.environ.get("CI"):
        pytest.fail(f"A service is missing on CI: {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """Give a running S3-compatible server."""
    server = minio(tmp_path_factory.mktemp("minio"))
    try:
        running = server.__enter__()
    except Unavailable as why:
        unavailable(str(why))
    try:
        yield running
    finally:
        server.__exit__(None, None, None)
