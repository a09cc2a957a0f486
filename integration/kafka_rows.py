"""Rows with distinct ids for tests over a real broker, and what a learner must hold when it has seen each of them once."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaProducer

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.core.learner import Learner
from beam_ml.registry import Registry

SECOND_US = 1_000_000
START_US = 1_700_000_000 * SECOND_US

JOB = """
name = "{name}"
registry = "{registry}"
refresh = "{refresh}"

[source]
kind = "kafka"
brokers = "{brokers}"
topic = "{topic}"
{source}

[source.options.types]
id = "float64"
x = "float64"
y = "int64"
time = "int64"

[features]
numeric = ["id", "x"]
time = "time"
{label}

[spec]
{spec}

[models.one]
{model}
"""

ALGORITHMS = {
    "pca": ('algorithm = "pca"', 'kind = "components"\nn_components = 1', ""),
    "squared": (
        'algorithm = "linear.newton"\nloss = "squared"\nhalf_life = "20s"',
        'kind = "regressor"',
        'label = "y"',
    ),
    "linear.newton": ('algorithm = "linear.newton"\nloss = "logistic"', 'kind = "classifier"', 'label = "y"'),
}


def job_file(
    folder: Path,
    brokers: str,
    topic: str,
    *,
    name: str = "kafka",
    algorithm: str = "pca",
    refresh: str = "5s",
    source: str = "",
    registry: Path | str | None = None,
) -> tuple[Path, str]:
    """Write a job; give its file and its registry."""
    spec, model, label = ALGORITHMS[algorithm]
    where = str(folder / f"registry-{name}" if registry is None else registry)
    path = folder / f"{name}.toml"
    path.write_text(
        JOB.format(
            name=name, registry=where, refresh=refresh, brokers=brokers, topic=topic, source=source, spec=spec,
            model=model, label=label,
        )
    )  # fmt: skip
    return path, where


def rows(ids: Iterable[int], times_us: Sequence[int] | np.ndarray, seed: int = 0) -> list[dict[str, Any]]:
    """Return one row per id: a feature that depends on it alone, a label, an event time."""
    numbers = list(ids)
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=max(numbers) + 1), rng.random(max(numbers) + 1)
    y = u < 1 / (1 + np.exp(-x))
    return [
        {"id": float(i), "x": float(x[i]), "y": int(y[i]), "time": int(at)}
        for i, at in zip(numbers, times_us, strict=True)
    ]


def produce(
    brokers: str,
    topic: str,
    values: Sequence[dict[str, Any]],
    partitions: int,
    rows_per_message: int = 1,
    **client: Any,
) -> int:
    """Write rows to partitions in turn; give the number of messages, all acknowledged."""
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all", linger_ms=20, **client)
    sent = []
    for number, start in enumerate(range(0, len(values), rows_per_message)):
        part = values[start : start + rows_per_message]
        text = "\n".join(json.dumps(one) for one in part)
        sent.append(producer.send(topic, text.encode(), partition=number % partitions))
    producer.flush()
    for one in sent:
        one.get(timeout=30)
    producer.close()
    return len(sent)


def newest(registry: Path | str, name: str = "kafka") -> Learner:
    """Return the newest learner."""
    found = Registry(registry, create=False).latest(name)
    assert found is not None
    return decode_learner(found.data, find)


def check_values(learner: Learner, ids: np.ndarray) -> None:
    """Distinct ids: a row lost and another counted twice would shift the sums."""
    assert learner.progress.rows == ids.size
    state = learner.state
    assert float(state.weight) == ids.size
    mean = float(state.origin[0] + state.mean[0])
    assert abs(mean * ids.size - ids.sum()) < 1e-9 * max(1.0, float(np.abs(ids).sum()))
    scatter = float(((ids - ids.mean()) ** 2).sum())
    assert abs(float(state.scatter[0, 0]) / scatter - 1) < 1e-9


def versions_rise(registry: Path | str, name: str = "kafka") -> list[Any]:
    """Every version's manifest is valid, its number one above the last, its refreshes without a gap; give them."""
    store = Registry(registry, create=False)
    numbers = store.versions(name)
    assert numbers == list(range(1, len(numbers) + 1))
    manifests = [store.manifest(name, number) for number in numbers]
    assert [m.parent for m in manifests] == [None, *numbers[:-1]]
    refreshes = [one["number"] for m in manifests for one in m.refreshes]
    assert refreshes == list(range(1, len(refreshes) + 1))
    return manifests
