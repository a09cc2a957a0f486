"""Raw rows as a stream: features, predictions, late labels and versions over real topics, exact whatever is killed."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from kafka_rows import check_values, newest
from kafka_stream import head, rows_of, trainer, wait
from raw_events import REPORT_TYPES, ROW_TYPES, Events, Out
from services.flink import flink, worker_pool
from services.kafka import Cluster
from services.prism import prism

from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import Mode, train
from beam_ml.beam.rounds.prepare.kept import PAYLOAD, nothing_kept
from beam_ml.beam.rounds.prepare.step import arrived, prepare
from beam_ml.formats.block import Block
from beam_ml.registry import Registry

JOB = """
name = "kafka"
registry = "{registry}"
refresh = "3s"

[source]
kind = "kafka"
brokers = "{brokers}"
topic = "{topics[0]}"
out_of_orderness = "2s"
idle_timeout = "3s"
options.types = {row_types}

[rolling]
time = {{ column = "at", unit = "us" }}
aggregates = [
  {{ name = "n", key = "card", of = "count", windows = ["2s", "5s"] }},
  {{ name = "mean", key = "card", of = "mean", value = "amount", windows = ["5s"] }},
  {{ name = "risk", key = "card", of = "mean", value = "fraud", empty = 0.0, windows = ["5s"] }},
]

[labels]
id = "tx"
time = {{ column = "at", unit = "us" }}
label = "fraud"
reported = {{ column = "said", unit = "us" }}
maturity = "4s"

[labels.source]
kind = "kafka"
brokers = "{brokers}"
topic = "{topics[1]}"
out_of_orderness = "2s"
idle_timeout = "3s"
options.types = {report_types}

[predictions]
path = "{registry}-scores"
topic = "{topics[2]}"
features = true

[features]
numeric = ["tx", "n_5s"]
label = "fraud"
time = "known_at"

[spec]
algorithm = "pca"

[models.one]
kind = "components"
n_components = 1
"""
CELL_US = 1_000_000
"""Rows of one cell of event time are released together, some of them maybe just before the first version."""
ALSO = frozenset({"model_version", "projection"})
"""What a row that is predicted again may have of another version."""


def types(of: dict[str, str]) -> str:
    return "{ " + ", ".join(f'{name} = "{kind}"' for name, kind in of.items()) + " }"


def made(cluster: Cluster, folder: Path, name: str, per_second: float = 40.0) -> tuple[Path, str, Events, Out]:
    """Write a job; return its file and registry, what sends its rows, and what reads its predictions."""
    topics = [cluster.create_topic(f"{name}-{one}", n) for one, n in (("tx", 2), ("said", 2), ("out", 1))]
    path, registry, brokers = folder / "job.toml", str(folder / "registry"), cluster.bootstrap
    given = {"registry": registry, "brokers": brokers, "topics": topics}
    path.write_text(JOB.format(**given, row_types=types(ROW_TYPES), report_types=types(REPORT_TYPES)))
    out = Out(brokers, topics[2], lambda message: [json.loads(message)], ALSO)
    return path, registry, Events(brokers, (topics[0], topics[1]), per_second), out


def check(path: Path, registry: str, events: Events, out: Out) -> None:
    """Every row is learned once, and what went out has the features that one process computes of the same rows."""
    learner = newest(registry)
    check_values(learner, np.arange(len(events.rows), dtype=np.float64))
    assert learner.progress.late == 0
    assert learner.progress.rejected == {}
    assert learner.progress.repeated == 0
    job = load_job(path)
    kept = nothing_kept(job)
    rows, reports = (Block(pa.RecordBatch.from_pylist(one)) for one in (events.rows, events.reports))
    done = prepare(job, kept, arrived(job, kept, [rows], 1 << 62)._replace(until=1 << 62), [reports])
    wanted = {row["tx"]: row for block in done.featured for row in block.to_dicts()}
    names = ["tx", *job.rolling.names] if job.rolling is not None else []
    assert {tx: [row[name] for name in names] for tx, row in out.rows.items()} == {
        tx: [wanted[tx][name] for name in names] for tx in out.rows
    }
    at = {row["tx"]: row["at"] for row in events.rows}
    first = min(at[tx] for tx in out.rows)
    assert all(when < first + CELL_US for tx, when in at.items() if tx not in out.rows), "rows after the first version"
    assert len({row["risk_5s"] for row in out.rows.values()}) > 2
    facts = Registry(registry).head("kafka").extra[PAYLOAD]
    assert facts["labels"]["labelled"] == len(events.reports)
    assert facts["waiting"] == 0


def drain(registry: str, events: Events, out: Out, folder: Path) -> None:
    """Stop sending, and wait until all that was sent is learned and predicted."""
    events.finish()
    wait(lambda: rows_of(registry) == len(events.rows), "all rows", folder)
    last = len(events.rows) - 1
    wait(lambda: bool(out.look()) and last in out.rows, "the last prediction", folder)


def test_on_flink_with_a_worker_killed(kafka_cluster: Cluster, tmp_path: Path) -> None:
    path, registry, events, out = made(kafka_cluster, tmp_path, "loop-flink")
    with flink(tmp_path / "flink") as engine, worker_pool(tmp_path / "pool") as pool:
        options = engine.options(streaming=True, workers=pool, checkpointing_interval=1000)
        with trainer(path, options, tmp_path) as one:
            events.start()
            wait(lambda: head(registry) >= 2 and out.look() > 50, "versions and predictions before the kill", tmp_path)
            victims = pool.workers()
            assert victims
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            at, before = head(registry), len(out.rows)
            wait(lambda: head(registry) >= at + 2 and out.look() > before + 50, "the same after it", tmp_path)
            drain(registry, events, out, tmp_path)
            one.send_signal(signal.SIGTERM)
            assert one.wait(60) == 0
    check(path, registry, events, out)
    print(f"{len(events.rows)} rows, {len(out.rows)} predicted, {out.again} of them again")


def in_rounds(path: Path) -> None:
    job = load_job(path)
    list(train(job, Registry(job.registry), Mode("once")))


def test_on_prism_it_continues_from_the_registry(kafka_cluster: Cluster, tmp_path: Path) -> None:
    """Killed with its engine, it finds what waited in the newest version, and reads on; so it does after rounds."""
    path, registry, events, out = made(kafka_cluster, tmp_path, "loop-prism")
    events.start()
    time.sleep(6.0)
    in_rounds(path)
    assert Registry(registry).head("kafka").extra[PAYLOAD]["waiting"] > 0
    for attempt in range(2):
        with prism(tmp_path / f"prism-{attempt}") as engine:
            with trainer(path, engine.options(streaming=True), tmp_path) as one:
                if attempt == 0:
                    at = head(registry)
                    wait(
                        lambda at=at: head(registry) >= at + 3 and out.look() > 50, "versions before the kill", tmp_path
                    )
                    one.kill()
                    continue
                at = head(registry)
                wait(lambda at=at: head(registry) >= at + 2, "versions after it", tmp_path)
                drain(registry, events, out, tmp_path)
    in_rounds(path)  # nothing is left for them
    check(path, registry, events, out)
    print(f"{len(events.rows)} rows, {len(out.rows)} predicted, {out.again} of them again")
