"""`RollingFeatures` in pipelines: bounded or not, however blocks come, what leaves is what the function says."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing import test_stream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from beam_ml.beam import RollingFeatures
from beam_ml.beam.transforms import rolling
from beam_ml.beam.wire import coders
from beam_ml.core.batch import Origin
from beam_ml.errors import InvalidValue
from beam_ml.features.rolling import END, Rolling, roll_blocks
from beam_ml.formats.block import Block
from tests.beam.support import RUNNERS, Seen, create
from tests.features.rolling.support import BEGIN, DELAYED, TYPES, S, block, every, rows, spec

SPEC = spec(
    every(known="label_time")
    + [{**one, "key": ["card", "shop"], "name": f"t{i}"} for i, one in enumerate(every(kind="sawtooth"))]
)
GIVEN = rows(11, 120)


def blocks_of(places: list[np.ndarray]) -> list[Block]:
    """Return blocks of some of the rows, in an order of their own, with their places."""
    return [
        Block(
            pa.RecordBatch.from_pylist([GIVEN[i] for i in part], TYPES),
            Origin("topic", "0"),
            part.astype(np.int64),
            None,
            int(part.min()),
            int(part.max()) + 1,
        )
        for part in places
    ]


def by_place(found: list[Block]) -> dict[int, dict[str, Any]]:
    return {int(place): row for one in found for place, row in zip(one.position, one.to_dicts(), strict=True)}


def expected(one: Rolling) -> dict[int, dict[str, Any]]:
    return by_place(list(roll_blocks(one, {}, [block(GIVEN)], before=END).blocks))


@pytest.mark.parametrize("runner", RUNNERS)
def test_bounded_blocks_in_any_order_have_what_the_function_says(tmp_path: Path, runner: str) -> None:
    places = np.array_split(np.random.default_rng(0).permutation(len(GIVEN)), 7)
    with beam.Pipeline(runner=RUNNERS[runner]()) as pipeline:
        blocks = create(pipeline, blocks_of(places), Block, coders.BlockCoder())
        _ = blocks | RollingFeatures(SPEC) | Seen(tmp_path, coders.BlockCoder()).sink()
    found = Seen(tmp_path, coders.BlockCoder()).values()
    assert sorted(len(one) for one in found) == sorted(len(part) for part in places)
    assert by_place(found) == expected(SPEC)
    assert all(one.batch.schema.names == [*TYPES.names, *SPEC.names] for one in found)


def streamed(folder: Path, one: Rolling, steps: list[Any], every: Any = "1s") -> list[Block]:
    """Run blocks, each at the time of its oldest row, and watermarks (µs) through an unbounded pipeline."""
    stream, reached = test_stream.TestStream(coder=coders.BlockCoder()), 0
    for step in steps:
        if isinstance(step, Block):
            oldest = min(row["ts"] for row in (GIVEN[i] for i in step.position))
            stream = stream.add_elements([TimestampedValue(step, Timestamp(micros=oldest))])
        elif step > reached:
            stream, reached = stream.advance_watermark_to(Timestamp(micros=int(step))), step
    pipeline = beam.Pipeline(runner=RUNNERS["BundleBasedDirectRunner"]())
    blocks = pipeline | stream.advance_watermark_to_infinity()
    _ = blocks | RollingFeatures(one, every) | Seen(folder, coders.BlockCoder()).sink()
    pipeline.run().wait_until_finish()
    return Seen(folder, coders.BlockCoder()).values()


SMALL = Rolling.parse(
    {
        "time": "ts",
        "shards": 2,
        "lateness": "20s",
        "aggregates": [
            {"key": "card", "of": "mean", "value": "x", "windows": ["30s", DELAYED]},
            {"key": "card", "of": "top_k", "value": "shop", "k": 2, "windows": ["30s"]},
            {"key": "shop", "of": "sum", "value": "x", "windows": ["1h"], "kind": "sawtooth", "known": None},
        ],
    }
)


def arrivals(n_blocks: int, seed: int) -> list[np.ndarray]:
    """Return the rows as they come, each up to 20 s late, in blocks."""
    rng = np.random.default_rng(seed)
    came = np.argsort([row["ts"] + int(rng.integers(0, 20 * S)) for row in GIVEN], kind="stable")
    return np.array_split(came, n_blocks)


def watermarks(places: list[np.ndarray]) -> list[int]:
    """Return after each block the newest time that no later row is 20 s older than."""
    newest = np.maximum.accumulate([max(GIVEN[i]["ts"] for i in part) for part in places])
    return newest.tolist()


@pytest.mark.parametrize(("n_blocks", "every"), [(1, "7s"), (12, "1ms"), (9, "7s"), (12, "1h")])
def test_unbounded_blocks_have_what_the_function_says(tmp_path: Path, n_blocks: int, every: str) -> None:
    places = arrivals(n_blocks, n_blocks)
    steps: list[Any] = []
    for part, time in zip(blocks_of(places), watermarks(places), strict=True):
        steps += [part, time]
    found = streamed(tmp_path, SMALL, steps, every)
    assert by_place(found) == expected(SMALL)
    assert all(one.rejected == () for one in found)


@pytest.mark.parametrize("kept", [True, False])
def test_timers_that_fire_late_and_workers_that_restart_change_nothing(
    tmp_path: Path, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:  # a worker that has nothing but the state's bytes
        read = rolling.from_bytes

        def load(self: Any, state: int, data: bytes | None) -> Any:
            return rolling.empty(SMALL, state) if data is None else read(SMALL, data)

        monkeypatch.setattr(rolling._Roll, "_load", load)
    places = arrivals(6, 3)
    late = [*blocks_of(places), watermarks(places)[-1]]
    step_by_step: list[Any] = []
    for part, time in zip(blocks_of(places), watermarks(places), strict=True):
        step_by_step += [part, *range(BEGIN, time, 5 * S)]
    for number, steps in enumerate((late, step_by_step)):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert by_place(streamed(folder, SMALL, steps)) == expected(SMALL)


def test_rows_behind_the_lateness_are_rejects_of_their_block(tmp_path: Path) -> None:
    order = np.arange(len(GIVEN))
    early, rest = order[:5], order[5:]
    steps = [*blocks_of([rest]), GIVEN[-1]["ts"] + 60 * S, *blocks_of([early])]
    found = streamed(tmp_path, SMALL, steps)
    whole = by_place(found)
    done = roll_blocks(SMALL, {}, [block(GIVEN[5:], 5)], before=END)
    assert whole == by_place(list(done.blocks))
    (late,) = (reject for one in found for reject in one.rejected)
    assert (late.reason, late.position.tolist()) == ("late for rolling windows", early.tolist())


def test_a_grid_finer_than_the_timers_of_engines_is_refused() -> None:
    for every_, message in (
        ("10us", "must be a duration such as"),
        (0.0005, "must be whole ms"),
        (0, "must be whole ms"),
    ):
        with pytest.raises(InvalidValue, match=rf"^RollingFeatures\.every {message}"):
            RollingFeatures(SMALL, every_)
