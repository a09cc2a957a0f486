"""What holds for all tests."""

from collections.abc import Sequence
from pathlib import Path

import pytest

HEAVY = tuple(Path(__file__).parent / room for room in ("attacks", "laws"))
"""Rooms whose tests run the same lines thousands of times: traced for coverage, they would take 1.7 times as long."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(room) for room in HEAVY):
            item.add_marker(pytest.mark.no_cover)
