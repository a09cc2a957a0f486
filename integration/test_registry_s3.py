"""The registry's promises on a real S3-compatible server: the same tests as in memory and on disk, and its own."""

import datetime

import pytest
from services.minio import Minio

from beam_ml.errors import PublishFailed, RegistryError
from beam_ml.registry import Registry, sweep
from tests.registry.faulty_store import PAYLOADS, Place, publish_next
from tests.registry.registry_conformance import *  # noqa: F403


@pytest.fixture
def place(s3: Minio) -> Place:
    url, options = s3.bucket()
    return Place(f"{url}/team/registry", options)


def test_a_payload_sent_in_parts(place: Place) -> None:
    registry = place.open()
    learner = bytes(range(256)) * 65_536  # 16 MiB: over the store's part size
    registry.publish("fraud", {"learner": learner}, parent=None, round_id="1-a")
    assert place.open().read("fraud") == learner


def test_more_objects_than_one_listing_gives(place: Place) -> None:
    registry = place.open(clock=lambda: 4e9)
    publish_next(registry, "run")
    for i in range(1100):
        registry.objects.put(f"fraud/rounds/dead/{i}", b"x")
    assert len(sweep(registry, "fraud", grace_s=60)) == 1100
    assert registry.read("fraud") == PAYLOADS["learner"]


def test_rights_and_buckets_that_are_missing(s3: Minio, place: Place) -> None:
    publish_next(place.open(), "run")
    wrong = {**place.options, "secret_access_key": "wrong"}
    stranger = Registry(place.where, **wrong)
    with pytest.raises(RegistryError, match="could not be read"):
        stranger.latest("fraud")
    with pytest.raises(PublishFailed):
        stranger.publish("fraud", PAYLOADS, parent=1, round_id="2-a")
    nowhere = Registry("s3://beam-ml-no-such-bucket/x", **place.options)
    with pytest.raises(RegistryError, match=r"could not be listed: .*NoSuchBucket"):
        nowhere.latest("fraud")
    with pytest.raises(PublishFailed, match="NoSuchBucket"):
        nowhere.publish("fraud", PAYLOADS, parent=None, round_id="1-a")
    assert place.open().head_number("fraud") == 1


def test_a_server_that_is_gone(place: Place) -> None:
    gone = {
        **place.options,
        "endpoint": "http://127.0.0.1:9",
        "retry_config": {"max_retries": 1, "retry_timeout": datetime.timedelta(seconds=2)},
    }
    registry = Registry(place.where, **gone)
    with pytest.raises(RegistryError, match="could not be read"):
        registry.latest("fraud")
    with pytest.raises(PublishFailed):
        registry.publish("fraud", PAYLOADS, parent=None, round_id="1-a")


def test_the_environment_opens_it_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and jobs name a registry by its URL alone."""
    publish_next(place.open(), "run")
    for name, value in place.options.items():
        if isinstance(value, str):
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert Registry(place.where).read("fraud") == PAYLOADS["learner"]
