"""Jobs of a learner that gathers rows: the same state to the bit however the rounds, the workers or the stream cut them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.core.arrays import identical
from beam_ml.core.folding import THINNED
from beam_ml.core.learner import Learner
from beam_ml.registry import Registry
from tests.beam.stream import support

DAY_US = 86_400_000_000
SPEC = {"algorithm": "toy_sample:TOY_SAMPLE", "half_life": "1d"}


def run(folder: Path, **changes: Any) -> Learner:
    data = folder.parent / "data"  # the same for all: which rows are drawn depends on where they came from
    data.mkdir(exist_ok=True)
    x = np.random.default_rng(1).normal(size=(360, 2))
    time = np.arange(360) * (DAY_US // 120)
    table = pa.table({"a": x[:, 0], "b": x[:, 1], "t": pa.array(time, pa.timestamp("us", tz="UTC"))})
    pq.write_table(table, data / "0.parquet", row_group_size=50)
    one = Job.parse(
        {
            "name": "test", "registry": str(folder / "registry"), "refresh": "1d",
            "source": {"path": str(data), "round_rows": changes.pop("round_rows", 100_000)},
            "features": {"numeric": ["a", "b"], "time": "t"}, "spec": SPEC | changes.pop("spec", {}),
            "models": {"near": {"kind": "nearest"}},
        }
        | changes
    )  # fmt: skip
    list(train(one, Registry(one.registry), Mode("once", close=True)))
    found = Registry(one.registry).latest("test")
    assert found is not None
    return decode_learner(found.data, find)


def test_rounds_of_any_size_and_on_workers_or_not_come_to_the_same_state(tmp_path: Path) -> None:
    whole = run(tmp_path / "a", order="together")
    parts = run(tmp_path / "b", order="together", round_rows=100)  # windows stay open between rounds
    here = run(tmp_path / "c")
    assert whole.progress.summary() == parts.progress.summary() == here.progress.summary()
    assert (whole.progress.rows, whole.progress.adjusted) == (360, {})
    for other in (parts, here):
        assert identical(whole.state, other.state)
        assert other.champion == "near"


@pytest.mark.parametrize(("order", "left_out"), [("together", 3 * (120 - 64)), ("in_order", 120 - 64)])
def test_rows_over_the_room_are_thinned_by_workers_and_where_windows_wait_and_folded_early_in_order(
    tmp_path: Path, order: str, left_out: int
) -> None:
    learner = run(tmp_path / "a", order=order, spec={"gather_bytes": 4096})
    assert learner.progress.adjusted == {THINNED: left_out}
    registry = Registry(str(tmp_path / "a" / "registry"))
    manifests = [registry.manifest("test", number) for number in registry.versions("test")]
    assert (
        sum(one["progress"].get("adjusted", {}).get(THINNED, 0) for m in manifests for one in m.refreshes) == left_out
    )


def test_a_stream_comes_to_the_same_state_whatever_its_shards_and_order(tmp_path: Path) -> None:
    polls = [support.block([[(i, i / 4)] for i in range(k, k + 8)], offset=k) for k in (0, 8, 16)]
    found = []
    for n_shards, order in ((1, polls), (2, polls[::-1])):
        a_job = support.job(
            tmp_path / str(n_shards), spec=SPEC | {"half_life": "3s"}, models={"near": {"kind": "nearest"}}
        )
        registry = support.stream(support.Script().send(0, *order).end(), a_job, n_shards=n_shards)
        found.append(support.newest(registry))
    assert found[0].progress.rows == 24
    assert identical(found[0].state, found[1].state)
