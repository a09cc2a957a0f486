"""The shared tests report their assertions as test modules do."""

import pytest

pytest.register_assert_rewrite("tests.registry.registry_conformance")
