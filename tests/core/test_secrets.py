"""No message repeats a secret."""

from typing import Any

import numpy as np
import pytest

from beam_ml import Batch, Registry
from beam_ml.beam.job import Job
from beam_ml.beam.kafka.connection import Connection
from beam_ml.cli.report import day
from beam_ml.errors import BeamMLError, InvalidBatch, InvalidValue

JOB: dict[str, Any] = {
    "name": "n",
    "registry": "r",
    "features": {"numeric": ["a"], "label": "y"},
    "spec": {"algorithm": "linear.newton"},
    "models": {"m": {"kind": "classifier"}},
}
KAFKA: dict[str, Any] = {"kind": "kafka", "brokers": "b:9092", "topic": "t"}


@pytest.mark.parametrize(
    "changes",
    [
        {"registry": "s3://me:hunter2@bucket/x"},
        {"registry": "s3://me:p@hunter2@bucket/x"},
        {"source": KAFKA | {"password": "hunter2"}},
        {"source": KAFKA | {"client": {"sasl_plain_password": ["hunter2"]}}},
        {"source": KAFKA | {"client": [{"sasl_plain_password": "hunter2"}]}},
        {"source": {"sasl_plain_password": "hunter2"}},
        {"announce": {"brokers": "b", "topic": "t", "secret": "hunter2"}},
        {"source": KAFKA | {"start": "http://me:hunter2@registry"}},
        {"api_key": "hunter2"},
    ],
)
def test_a_refused_job_shows_no_secret(changes: dict[str, Any]) -> None:
    with pytest.raises(BeamMLError) as refused:
        Job.parse(JOB | changes)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(refused.value)


def test_what_is_no_secret_is_shown() -> None:
    with pytest.raises(BeamMLError, match="got 'sometimes'"):
        Job.parse(JOB | {"source": KAFKA | {"start": "sometimes"}})


@pytest.mark.parametrize(
    "brokers",
    [
        "me:hunter2@b:9092", "a:9092,me:hunter2@b:9092", "SASL_SSL://me:hunter2@b:9092",
        "me:hunter2/4@b:9092", "me:hunter2,4@b:9092", "me:hunter2 4@b:9092",
    ],
)  # fmt: skip
def test_brokers_take_no_password_and_show_none(brokers: str) -> None:
    announced = {"announce": {"brokers": brokers, "topic": "t"}}
    for refused in (
        lambda: Job.parse(JOB | {"source": KAFKA | {"brokers": brokers}}),
        lambda: Job.parse(JOB | announced),
        lambda: Connection(brokers),
    ):
        with pytest.raises(InvalidValue, match=r"without a user and password; got '.*\*\*\*@b:9092'") as refusal:
            refused()
        assert "hunter2" not in str(refusal.value)


def test_a_registry_takes_no_password_in_its_url() -> None:
    with pytest.raises(BeamMLError, match=r"must hold no user and password, .* got 's3://\*\*\*@bucket/x'"):
        Registry("s3://me:hunter2@bucket/x")


def test_the_least_time_is_a_missing_one() -> None:
    with pytest.raises(InvalidBatch, match="NaT in entry 1"):
        Batch.dense(np.zeros((2, 1)), time=np.array([0, -(2**63)]))
    assert day(-(2**63)) == "-9223372036854775808 µs"
