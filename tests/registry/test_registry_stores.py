"""The registry's promises, in memory and on local disk."""

from collections.abc import Iterator
from pathlib import Path

import obstore.store
import pytest

from tests.registry.faulty_store import Place
from tests.registry.registry_conformance import *  # noqa: F403


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        yield Place(obstore.store.MemoryStore(), processes=False)
    else:
        yield Place(str(tmp_path / "registry"))
