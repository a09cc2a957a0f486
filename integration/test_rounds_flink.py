"""Each round as a job of a Flink cluster: no engine state at all, the same learner as the in-process runner's."""

from pathlib import Path

import numpy as np
import pytest
from kafka_rows import START_US, check_values, job_file, newest, produce, rows, versions_rise
from services.flink import Flink
from services.kafka import Cluster

from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import Mode, train
from beam_ml.core.arrays import close
from beam_ml.registry import Registry

# The workers are threads of this process: Flink hangs up on them at the end of a job, whatever Beam's are still reading.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception in thread read_grpc_client_inputs:pytest.PytestUnhandledThreadExceptionWarning"
)


def test_rounds_are_submitted_to_flink(flink_server: Flink, kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic, n = "rounds-on-flink", 4_000
    kafka_cluster.create_topic(topic, partitions=3)
    produce(kafka_cluster.bootstrap, topic, rows(range(n), START_US + np.arange(n) * 10_000), 3)
    found = {}
    for name, options in (("here", []), ("flink", flink_server.options(parallelism=2))):
        path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, name=name, source="round_rows = 2500")
        job = load_job(path)
        rounds = list(train(job, Registry(job.registry), Mode("once", close=True), options))
        assert sum(len(one.refreshes) for one in rounds) == 8
        versions_rise(registry, name)
        found[name] = newest(registry, name)
    check_values(found["flink"], np.arange(n, dtype=np.float64))
    assert close(found["here"].state, found["flink"].state, rtol=1e-9)
    assert found["here"].progress.summary() == found["flink"].progress.summary()
