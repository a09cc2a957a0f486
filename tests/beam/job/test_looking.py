"""A job's columns of categories get their places by a look at its files or topic."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.beam.job import Job
from beam_ml.beam.job.looking import look
from beam_ml.beam.rounds.sizing import looked_at
from beam_ml.errors import BeamMLError, MissingColumn, RowsLost, SourceUnavailable
from beam_ml.formats import Block


def rows(start: int, stop: int, each: int = 1) -> pa.RecordBatch:
    """Return rows of shops that come one after the other, `each` rows of every one; of colours there are three."""
    at = np.arange(start, stop)
    return pa.record_batch({"shop": [f"s{i // each}" for i in at], "colour": at % 3, "label": at % 2})


def job(path: Path, hashed: Any = ("shop", "colour"), **settings: Any) -> Job:
    features = {"hashed": list(hashed), "label": "label"}
    source = settings.pop("source", {"path": str(path)})
    spec = {"algorithm": "linear.adagrad", **settings.pop("spec", {})}
    whole = {"name": "j", "registry": str(path / "registry"), "features": features, "source": source, "spec": spec}
    return Job.parse({**whole, "models": {"m": {"kind": "classifier"}}, **settings})


def places(one: Job) -> dict[str, int]:
    return {term.column: term.places for term in one.features.hashed}


@pytest.mark.parametrize("ending", ["csv", "parquet", "avro"])
def test_places_follow_from_the_values_seen(tmp_path: Path, ending: str) -> None:
    formats.write(str(tmp_path / f"a.{ending}"), [rows(0, 600, each=6)])
    found = look(job(tmp_path))
    assert dict(found.seen) == {"shop": 100, "colour": 3}
    assert found.rows == 600
    assert places(found.job) == {"shop": 8_192, "colour": 1_024}
    assert found.job.features.unsized == ()
    assert found.job.algorithm_spec().n_features == 9_216
    assert found.crowded() == []
    assert look(job(tmp_path)) == found
    assert look(found.job).job == found.job


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_sorted_by_category_are_looked_into_everywhere(tmp_path: Path, ending: str) -> None:
    """The first rows alone have one shop, all files together 3,000."""
    for day in range(30):
        batches = [rows(day * 4_000, (day + 1) * 4_000, each=40)]
        formats.write(str(tmp_path / f"{day:02d}.{ending}"), batches)
    found = look(job(tmp_path))
    assert found.seen["shop"] >= 700
    assert places(found.job)["shop"] == 65_536


def test_buckets_that_are_given_stay(tmp_path: Path) -> None:
    formats.write(str(tmp_path / "a.csv"), [rows(0, 600)])
    found = look(job(tmp_path, [{"column": "shop", "buckets": 50}, "colour"]))
    assert places(found.job) == {"shop": 50, "colour": 1_024}
    assert dict(found.seen) == {"colour": 3}
    given = job(tmp_path, [{"column": c, "buckets": 50} for c in ("shop", "colour")])
    assert look(given).job == given


def test_a_width_that_the_spec_gives_stays(tmp_path: Path) -> None:
    formats.write(str(tmp_path / "a.csv"), [rows(0, 600)])
    assert places(look(job(tmp_path, spec={"n_features": 2 << 16})).job) == {"shop": 65_536, "colour": 65_536}


@pytest.mark.parametrize("there", ["nothing", "no column", "damaged"])
def test_what_cannot_be_looked_at_leaves_the_default(tmp_path: Path, there: str) -> None:
    if there == "no column":
        formats.write(str(tmp_path / "a.csv"), [rows(0, 5).drop_columns(["shop"])])
    if there == "damaged":
        (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    found = look(job(tmp_path))
    assert (found.rows, dict(found.seen)) == (0, {})
    assert places(found.job) == {"shop": 65_536, "colour": 65_536}


def test_a_topic_has_the_default(tmp_path: Path) -> None:
    topic = {"kind": "kafka", "brokers": "localhost:1", "topic": "t"}
    assert places(look(job(tmp_path, source=topic)).job) == {"shop": 65_536, "colour": 65_536}


def test_crowded_columns_are_named(tmp_path: Path) -> None:
    formats.write(str(tmp_path / "a.parquet"), [rows(0, 4_000)])
    formats.write(str(tmp_path / "b.parquet"), [rows(4_000, 8_000)])
    found = look(job(tmp_path))
    assert found.crowded() == [
        "shop: 8,000 values in 8,000 rows, of which 11% share one of its 65,536 places (buckets = … gives it more)."
    ]
    assert found.crowded(0.2) == []


def test_a_topics_rows_are_counted_from_1024_on(tmp_path: Path) -> None:
    one = job(tmp_path, source={"kind": "kafka", "brokers": "localhost:1", "topic": "t"})
    blocks = [Block(rows(start, start + 512, each=6)) for start in (0, 512)]
    found = look(one, iter(blocks))
    assert (found.rows, dict(found.seen)) == (1_024, {"shop": 171, "colour": 3})
    assert places(found.job) == {"shop": 16_384, "colour": 1_024}
    few = look(one, iter([blocks[0], Block(rows(512, 1_023))]))
    assert (few.rows, dict(few.seen)) == (0, {})
    assert places(few.job) == {"shop": 65_536, "colour": 65_536}


@pytest.mark.parametrize("error", [RowsLost, MissingColumn])
def test_a_topic_that_cannot_be_looked_at_has_the_default(tmp_path: Path, error: type[BeamMLError]) -> None:
    """What the run would refuse as well is left to it."""

    def failing() -> Iterator[Block]:
        yield Block(rows(0, 2_000))
        raise error

    one = job(tmp_path, source={"kind": "kafka", "brokers": "localhost:1", "topic": "t"})
    assert places(look(one, failing()).job) == {"shop": 65_536, "colour": 65_536}


def test_brokers_that_do_not_answer_are_no_reason_to_choose(tmp_path: Path) -> None:
    one = job(tmp_path, source={"kind": "kafka", "brokers": "localhost:1", "topic": "t", "timeout": 0.1})
    with pytest.raises(SourceUnavailable):
        looked_at(one)
    given = job(tmp_path, [{"column": "shop", "buckets": 50}], source=one.source.to_dict())
    assert looked_at(given).job == given
