"""The shared tests report their assertions as test modules do."""

import pytest

pytest.register_assert_rewrite("registry_conformance")
