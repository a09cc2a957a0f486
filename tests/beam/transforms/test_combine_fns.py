"""`TrainFn` and `MergeLearners` through every path an engine may take, against the Beam-free API."""

import itertools
import tracemalloc

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing import test_stream
from apache_beam.transforms.trigger import AccumulationMode, AfterWatermark
from apache_beam.transforms.window import FixedWindows, GlobalWindows, SlidingWindows, TimestampedValue

from beam_ml import api, fm, linear, pca
from beam_ml.algorithms import algorithm_of, find
from beam_ml.artefact.records import encode_accumulation
from beam_ml.beam import MergeLearners, TrainFn
from beam_ml.beam.wire import coders
from beam_ml.core.accumulation import add
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.learner import Learner
from beam_ml.errors import MergeRefused
from tests.beam.support import RUNNERS, Seen, batches, create, make_batch, ran

SPEC = pca.Spec(n_features=3)
PCA = find("pca")
SIZE = 40
WINDOWS = {"global": GlobalWindows(), "fixed": FixedWindows(120), "sliding": SlidingWindows(120, 60)}


@beam.typehints.with_output_types(tuple[str, Batch])
class MakeBatch(beam.DoFn):
    """Number of a batch → (key, batch)."""

    def __init__(self, size):
        self._size = size

    def process(self, i):
        yield "key", make_batch(i * SIZE, self._size)


@beam.typehints.with_output_types(tuple[str, Batch])
class Shard(beam.DoFn):
    def process(self, element):
        key, batch = element
        yield f"{key}/{int(batch.position[0]) // SIZE % 3}", batch


@beam.typehints.with_output_types(tuple[str, Learner])
class Unshard(beam.DoFn):
    def process(self, element):
        key, learner = element
        yield key.split("/")[0], learner


class Lifted(beam.PTransform):
    def expand(self, pcoll):
        return pcoll | beam.CombinePerKey(TrainFn(SPEC))


class Unlifted(beam.PTransform):
    def expand(self, pcoll):
        return pcoll | beam.GroupByKey() | beam.CombineValues(TrainFn(SPEC))


class FannedOut(beam.PTransform):
    def expand(self, pcoll):
        shards = pcoll | beam.ParDo(Shard()) | "Shards" >> beam.CombinePerKey(TrainFn(SPEC))
        return shards | beam.ParDo(Unshard()) | "Join" >> beam.CombinePerKey(MergeLearners())


PATHS = {"lifted": Lifted, "unlifted": Unlifted, "fanned out": FannedOut}
AMOUNTS = {"empty": (0, SIZE), "one row": (1, 1), "many": (7, SIZE)}


@beam.typehints.with_output_types(int)
class Numbers(beam.DoFn):
    def __init__(self, n):
        self._n = n

    def process(self, element):
        for i in range(self._n):
            yield TimestampedValue(i, i * SIZE)


def numbers(pipeline, runner, n):
    if runner == "FnApiRunner":
        return pipeline | beam.Impulse() | beam.ParDo(Numbers(n))
    stream = test_stream.TestStream(coder=beam.coders.VarIntCoder()).advance_watermark_to(0)
    for i in range(n):
        stream = stream.add_elements([TimestampedValue(i, i * SIZE)])
        if i % 3 == 2:
            stream = stream.advance_watermark_to(i * SIZE)
    return pipeline | stream.advance_watermark_to_infinity()


def expected(windowing, n, size):
    """Window start in s (None: global) → the batches in it."""
    if windowing == "global":
        return {None: list(range(n))} if n else {}
    period = 120 if windowing == "fixed" else 60
    found = {}
    for i in range(n):
        start = i * SIZE // period * period
        while start > i * SIZE - 120:
            found.setdefault(start, []).append(i)
            start -= period
    return found


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("windowing", WINDOWS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("runner", RUNNERS)
def test_every_path_learns_what_fit_learns(runner, path, windowing, amount, tmp_path):
    n, size = AMOUNTS[amount]
    pipeline = beam.Pipeline(runner=RUNNERS[runner]())
    seen = Seen(tmp_path, coders.LearnerCoder())
    windowed = beam.WindowInto(
        WINDOWS[windowing], trigger=AfterWatermark(), accumulation_mode=AccumulationMode.DISCARDING
    )
    rows = numbers(pipeline, runner, n) | windowed | beam.ParDo(MakeBatch(size))
    rows | PATHS[path]() | seen.sink()
    assert ran(pipeline) == runner
    found = {(None if w[0] is None else w[0] // 10**6): learner for _, w, learner in seen.items()}
    wanted = expected(windowing, n, size)
    assert found.keys() == wanted.keys()
    for start, numbers_in in wanted.items():
        learner = api.fit(SPEC, [make_batch(i * SIZE, size) for i in numbers_in])
        assert found[start].progress.rows == len(numbers_in) * size
        assert close(found[start].state, learner.state, rtol=1e-9)
        assert sorted(found[start].sample.identity) == sorted(learner.sample.identity)


@pytest.mark.parametrize("runner", RUNNERS)
def test_combine_globally(runner, tmp_path):
    pipeline = beam.Pipeline(runner=RUNNERS[runner]())
    seen = Seen(tmp_path, coders.LearnerCoder())
    create(pipeline, batches(200)) | beam.CombineGlobally(TrainFn(SPEC)).without_defaults() | seen.sink()
    assert ran(pipeline) == runner
    assert close(seen.one().state, api.fit(SPEC, batches(200)).state, rtol=1e-9)


def test_one_model_a_key(tmp_path):
    pipeline = beam.Pipeline(runner=RUNNERS["FnApiRunner"]())
    seen = Seen(tmp_path, coders.LearnerCoder())

    def by_source(batch: Batch) -> tuple[str, Batch]:
        return batch.origin.source, batch

    rows = [*batches(200, source="north", seed=1), *batches(80, source="south", seed=2)]
    create(pipeline, rows) | beam.Map(by_source) | beam.CombinePerKey(TrainFn(SPEC)) | seen.sink()
    ran(pipeline)
    north, south = seen.items()
    assert (north[0], south[0]) == ("north", "south")
    assert close(north[2].state, api.fit(SPEC, batches(200, source="north", seed=1)).state)
    assert close(south[2].state, api.fit(SPEC, batches(80, source="south", seed=2)).state)


def test_rejected_rows_are_counted():
    fn = TrainFn(SPEC)
    bad = make_batch(0, 5)
    bad = bad.replace(X=bad.X.copy())
    bad.X[2, 1] = float("nan")
    progress = fn.extract_output(fn.add_input(fn.create_accumulator(), bad)).progress
    assert (progress.rows, dict(progress.rejected)) == (4, {"non-finite feature": 1})
    assert progress.scanned == 5


def accumulations(n=4):
    fn = TrainFn(SPEC)
    return fn, [fn.add_input(fn.create_accumulator(), make_batch(i * SIZE, SIZE)) for i in range(n)]


def as_bytes(accumulation):
    return encode_accumulation(PCA, SPEC, accumulation)


def test_merge_takes_generators_single_items_and_nothing():
    fn, parts = accumulations()
    whole = as_bytes(fn.merge_accumulators(parts))
    assert as_bytes(fn.merge_accumulators(part for part in parts)) == whole
    assert as_bytes(fn.merge_accumulators(iter(parts[:1]))) == as_bytes(parts[0])
    assert as_bytes(fn.merge_accumulators([])) == as_bytes(fn.create_accumulator())
    assert as_bytes(fn.merge_accumulators([fn.create_accumulator(), parts[0]])) == as_bytes(parts[0])
    assert fn.extract_output(fn.merge_accumulators([])).progress.rows == 0


def test_nothing_but_what_is_added_to_is_mutated():
    fn, parts = accumulations()
    before = [as_bytes(part) for part in parts]
    merged = fn.merge_accumulators(parts)
    fn.add_input(merged, make_batch(1000, SIZE))
    first = fn.extract_output(merged)
    second = fn.extract_output(fn.compact(merged))
    fn.merge_accumulators([merged, parts[0]])
    assert [as_bytes(part) for part in parts] == before
    assert close(first.state, second.state, rtol=0, atol=0)


def wide_spec(algorithm, half_life=None):
    if algorithm == "fm":
        return fm.Spec(n_features=20_000, n_factors=4, half_life=half_life)
    return linear.AdaGrad(n_features=20_000, sparse=True, l1=0.0, l2=0.0, half_life=half_life)


def wide(seed, n=400, features=20_000, at=0):
    rng = np.random.default_rng(seed)
    indices = np.sort(rng.integers(0, features, (n, 20)), axis=1).astype(np.int32).ravel()
    position = np.arange(seed * n, (seed + 1) * n)
    return Batch.csr(
        np.arange(0, n * 20 + 1, 20), indices, np.ones(n * 20), features, label=rng.integers(0, 2, n).astype(float),
        time=np.full(n, at + seed * 1_000_000), origin=Origin("wide", "0"), position=position,
    )  # fmt: skip


@pytest.mark.parametrize("half_life", [None, 3.0])
@pytest.mark.parametrize("algorithm", ["fm", "adagrad"])
def test_a_wide_table_grows_in_place_and_is_the_pure_sum(algorithm, half_life):
    spec = wide_spec(algorithm, half_life)
    fn = TrainFn(spec)
    accumulator = fn.create_accumulator()
    for i in range(6):
        accumulator = fn.add_input(accumulator, wide(i))
        if i in (2, 3):  # an engine may write it down and read it back at any time
            coder = fn.get_accumulator_coder()
            before = coder.encode(accumulator)
            assert coder.encode(accumulator) == before
            assert coder.estimate_size(accumulator) > 1_000_000
            accumulator = coder.decode(before) if i == 2 else accumulator
    found = fn.extract_output(accumulator)
    pure = fn.create_accumulator()
    for i in range(6):
        pure = add(algorithm_of(spec), spec, pure, wide(i))
    expected = fn.extract_output(pure)
    assert close(found.state, expected.state, rtol=1e-9)
    assert sorted(found.sample.identity) == sorted(expected.sample.identity)
    assert found.progress.summary() == expected.progress.summary()

    few = wide(7, n=4)
    accumulator = fn.add_input(accumulator, few)  # grows from here on
    held = fn.get_accumulator_coder().estimate_size(accumulator)
    tracemalloc.start()
    try:
        assert fn.add_input(accumulator, few) is accumulator
        assert tracemalloc.get_traced_memory()[1] < 0.1 * held
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("algorithm", ["fm", "adagrad"])
def test_what_was_given_on_the_way_stays_as_it_is(algorithm):
    spec = wide_spec(algorithm)
    fn = TrainFn(spec)

    def told(accumulation):
        return encode_accumulation(algorithm_of(spec), spec, fn.compact(accumulation))

    begun = fn.add_input(fn.create_accumulator(), wide(0))
    given = [fn.compact(begun), fn.merge_accumulators([begun]), fn.merge_accumulators(one for one in [begun, begun])]
    before = [told(one) for one in given]
    from_given = fn.add_input(given[0], wide(1))
    assert from_given is not given[0]
    assert fn.add_input(begun, wide(2)) is begun
    learner = fn.extract_output(begun)
    assert [told(one) for one in given] == before
    assert close(fn.extract_output(begun).state, learner.state, rtol=0, atol=0)
    assert told(from_given) == told(fn.add_input(given[0], wide(1)))


def test_a_small_part_of_a_wide_table_keeps_no_memory_to_grow_in():
    """There may be thousands of keys, each with a few rows."""
    spec = fm.Spec(n_features=1_000_000, n_factors=2)
    fn = TrainFn(spec)
    tracemalloc.start()
    try:
        kept = [fn.add_input(fn.create_accumulator(), wide(i, n=2, features=1_000_000)) for i in range(20)]
        assert tracemalloc.get_traced_memory()[0] < 20 * 100_000
    finally:
        tracemalloc.stop()
    assert [fn.extract_output(one).progress.rows for one in kept[:2]] == [2, 2]


@pytest.mark.parametrize("runner", RUNNERS)
def test_hot_keys_are_fanned_out(runner, tmp_path):
    pipeline = beam.Pipeline(runner=RUNNERS[runner]())
    seen = Seen(tmp_path, coders.LearnerCoder())
    windowed = beam.WindowInto(FixedWindows(1_000))
    rows = numbers(pipeline, runner, 7) | windowed | beam.ParDo(MakeBatch(SIZE))
    rows | beam.CombinePerKey(TrainFn(SPEC)).with_hot_key_fanout(3) | seen.sink()
    assert ran(pipeline) == runner
    assert close(seen.one().state, api.fit(SPEC, [make_batch(i * SIZE, SIZE) for i in range(7)]).state, rtol=1e-9)


def test_order_and_shape_of_the_tree_do_not_matter():
    fn, parts = accumulations()
    flat = fn.extract_output(fn.merge_accumulators(parts))
    for order in itertools.islice(itertools.permutations(parts), 0, 24, 5):
        left, right = fn.merge_accumulators(order[:1]), fn.merge_accumulators(order[1:])
        tree = fn.extract_output(fn.merge_accumulators([right, fn.create_accumulator(), left]))
        assert close(tree.state, flat.state, rtol=1e-9)
        assert tree.progress.summary() == flat.progress.summary()


def test_a_foreign_spec_is_refused():
    _, parts = accumulations(1)
    with pytest.raises(MergeRefused, match="Accumulations of one spec merge"):
        TrainFn(pca.Spec(n_features=3, seed=1)).merge_accumulators(parts)


NAMES = ("a", "b", "c")


def test_features_of_another_order_are_refused_whatever_the_bundles():
    one, two = batches(80)
    named, mixed = one.replace(names=NAMES), two.replace(names=("b", "a", "c"))
    train = TrainFn(SPEC)
    first = train.add_input(train.create_accumulator(), named)
    with pytest.raises(MergeRefused, match=r"the same in order.*\['a', 'b', 'c'\] and \['b', 'a', 'c'\]"):
        train.add_input(first, mixed)
    with pytest.raises(MergeRefused, match="the same in order"):
        train.merge_accumulators([first, train.add_input(train.create_accumulator(), mixed)])
    coder = train.get_accumulator_coder()
    shipped = [coder.decode(coder.encode(train.add_input(train.create_accumulator(), rows))) for rows in (named, mixed)]
    with pytest.raises(MergeRefused, match="the same in order"):
        train.merge_accumulators(shipped)
    whole = train.extract_output(train.add_input(first, mixed.ordered(NAMES)))
    assert whole.names == NAMES
    assert api.derive(whole, pca.Components(n_components=1)).names == NAMES


@pytest.mark.parametrize("runner", RUNNERS)
def test_learners_of_regions_merge(runner, tmp_path):
    learners = [api.fit(SPEC, batches(120, source=name)) for name in ("north", "south", "east")]
    pipeline = beam.Pipeline(runner=RUNNERS[runner]())
    seen = Seen(tmp_path, coders.LearnerCoder())
    pcoll = create(pipeline, learners, Learner, coders.LearnerCoder())
    pcoll | beam.CombineGlobally(MergeLearners()).without_defaults() | seen.sink()
    assert ran(pipeline) == runner
    merged = api.merge(api.merge(learners[0], learners[1]), learners[2])
    assert seen.one().progress.rows == 360
    assert close(seen.one().state, merged.state, rtol=1e-9)


def test_learners_that_share_rows_are_refused_unless_asked():
    learner = api.fit(SPEC, batches(80))
    fn = MergeLearners()
    assert fn.merge_accumulators(iter([])) is None
    assert fn.extract_output(fn.merge_accumulators([None, learner, None])) is learner
    with pytest.raises(MergeRefused, match="must not share rows"):
        fn.merge_accumulators([learner, learner])
    assert MergeLearners(allow_overlap=True).add_input(learner, learner).progress.rows == 160
