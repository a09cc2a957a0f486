"""What would be sent to Dataflow, as far as the job graph: Beam's own DataflowRunner makes it, and nothing is contacted.

The runner needs Google's client library (`apache-beam[gcp]`) for its last step only, the request to the service. A module
in that client's place keeps the graph instead of sending it.
"""

import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions, StandardOptions, WorkerOptions
from apache_beam.runners.dataflow import internal
from apache_beam.testing import test_stream as streams
from apache_beam.transforms.combiners import ToListCombineFn

from beam_ml import fit, formats
from beam_ml.beam import JoinLabels, ToBatches, WriteRejects
from beam_ml.beam.engine import new_pipeline, run
from beam_ml.beam.job import Job
from beam_ml.beam.rounds.file_plan import plan_files
from beam_ml.beam.rounds.pipeline import run_round_pipeline
from beam_ml.beam.rounds.topic_plan import KafkaPlan
from beam_ml.beam.stream import build
from beam_ml.beam.stream.start import Start
from beam_ml.beam.versions.contents import payloads_of
from beam_ml.beam.versions.lineage import Standing
from beam_ml.beam.wire.coders import BlockCoder
from beam_ml.core import learner as learners
from beam_ml.core.batch import Batch
from beam_ml.core.cursors import FileCursor
from beam_ml.features import Features
from beam_ml.formats.block import Block
from beam_ml.late_labels import LateLabels
from beam_ml.registry import Registry
from tests.beam.dataflow_support import (
    COMBINE,
    NEEDS,
    UNBOUNDED,
    Carry,
    Graph,
    Hold,
    HoldBag,
    HoldByClock,
    HoldPickled,
    HoldSum,
    environment,
    foreign_coders,
    heavy,
    loose_keys,
    odd_sources,
    odd_state,
    shuffled_rows,
)
from tests.beam.support import create, make_batch

DEPLOY = Path(__file__).parents[2] / "deploy" / "dataflow"
CLIENT = "apache_beam.runners.dataflow.internal.apiclient"
REGISTRY = "gs://my-bucket/registry"
SECRET = "swordfish"

# The graphs.


def options() -> list[str]:
    """What a person passes: the lines of the file."""
    lines = (DEPLOY / "options.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def image() -> str:
    (found,) = (line.partition("=")[2] for line in options() if line.startswith("--sdk_container_image="))
    return found


Submit = Callable[..., Graph]


@pytest.fixture(scope="module")
def submit() -> Iterator[Submit]:
    """Return a function that runs something with the file's options, and gives the graph of the job it submits."""
    found: list[Graph] = []
    client = types.ModuleType(CLIENT)
    vars(client)["get_container_image_from_options"] = lambda given: given.view_as(WorkerOptions).sdk_container_image
    vars(client)["Job"] = lambda given, proto: found.append(Graph(proto, given))

    def take(start: Callable[[Sequence[str]], None], *more: str) -> Graph:
        found.clear()
        start([*options(), *more, "--dry_run=true"])
        (graph,) = found
        return graph

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, CLIENT, client)
        patch.setattr(internal, "apiclient", client, raising=False)
        patch.setenv("KAFKA_PASSWORD", SECRET)
        yield take


def job(**source: object) -> Job:
    return Job.parse(
        {
            "name": "fraud",
            "registry": REGISTRY,
            "refresh": "1m",
            "source": source,
            "features": {"numeric": ["a", "b"], "label": "y", "time": {"column": "t", "unit": "us"}},
            "spec": {"algorithm": "linear.newton", "loss": "logistic"},
            "models": {"plain": {"kind": "classifier"}},
        }
    )


KAFKA = job(kind="kafka", brokers="b:9092", topic="t", client={"sasl_plain_password": "$KAFKA_PASSWORD"})


def file_round(given: Sequence[str], folder: Path) -> None:
    """The first round over files: no version yet."""
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=300) for name in "ab"}
    rows = columns | {"y": (rng.random(300) < 0.3).astype(float), "t": np.arange(300) * 1_000_000}
    formats.write(str(folder / "rows.parquet"), [pa.record_batch(rows)])
    over = job(path=str(folder))
    learner = learners.new(over.algorithm(), over.algorithm_spec())
    plan = plan_files(over.source, FileCursor(), 1000)
    run_round_pipeline(over, Registry(REGISTRY), "1-a", plan, learner, Standing("run", 1), given)


def kafka_round(given: Sequence[str]) -> None:
    """A later round over a topic of many partitions: workers start from the parent's anchor."""
    spec = KAFKA.algorithm_spec()
    learner = fit(spec, [make_batch(0, 20_000, d=2, label=True)])
    assert KAFKA.algorithm().anchor(spec, learner.state) is not None
    stored = Registry("memory://")
    parent = stored.publish("fraud", payloads_of(learner, {}), parent=None, round_id="1-a")
    offsets = {partition: (1000 * partition, 100_000) for partition in range(100)}
    plan = KafkaPlan(KAFKA.source, "kafka://c/t", offsets, {p: stop for p, (_, stop) in offsets.items()})
    run_round_pipeline(KAFKA, Registry(REGISTRY), "2-a", plan, learner, Standing("run", 2).at(parent), given)


def stream(given: Sequence[str]) -> None:
    """A streaming job that goes on from a version, in the midst of a message."""
    places = {partition: [[0, 5 << 20]] for partition in range(100)}
    start = Start(Standing("run", 2, 1, 1, "0" * 64), offsets=dict.fromkeys(places, 7), seen=places)
    pipeline = new_pipeline(given)
    build(pipeline, KAFKA, Registry(REGISTRY), start=start, n_shards=4, splits=2)
    run(pipeline)


@pytest.fixture(scope="module")
def graphs(submit: Submit, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    folder = tmp_path_factory.mktemp("rows")
    return {
        "files": submit(lambda given: file_round(given, folder)),
        "kafka": submit(kafka_round),
        "stream": submit(stream),
    }


@pytest.fixture(params=["files", "kafka", "stream"])
def graph(request: pytest.FixtureRequest, graphs: dict[str, Graph]) -> Graph:
    return graphs[request.param]


# What holds.


def test_steps_are_of_the_expected_kinds(graphs: dict[str, Graph]) -> None:
    flattened = {"pardo": 1, "flatten": 2}
    shared = {"Batches": {"pardo": 1}, "Slices": flattened, "Accumulate": flattened | {"pardo": 2}}
    ends = {"Merge": {"pardo": 3, "group_by_key": 1}, "Write": {"pardo": 1}, "Rejects": {"pardo": 1}}
    root = {"impulse": 1, "group_by_key": 1}
    assert graphs["files"].steps() == {"Read": root | {"pardo": 3}, **shared, **ends}
    assert graphs["kafka"].steps() == {"Read": root | {"pardo": 4}, **shared, **ends}
    root = {"impulse": 2, "pardo": 8, "flatten": 1}
    held = {
        "Counted": {"flatten": 1},
        "Shards": {"pardo": 8, "flatten": 1},
        "Fold": {"pardo": 2},
        "Rejects": {"pardo": 1},
    }
    assert graphs["stream"].steps() == {"Source": root, **shared, **held}
    for name in ("files", "kafka"):
        merges = [one for one in graphs[name].parts.transforms.values() if one.spec.urn == COMBINE]
        assert [one.unique_name for one in merges] == ["Merge/MergeWindows"]


def test_rounds_need_nothing_special_and_are_batch_jobs(graphs: dict[str, Graph]) -> None:
    for name in ("files", "kafka"):
        assert not graphs[name].proto.requirements
        assert not graphs[name].options.view_as(StandardOptions).streaming


def join_labels(given: Sequence[str]) -> None:
    """Rows and reports, joined by three shards."""
    spec = LateLabels(id="tx", time="at", label="fraud", reported="at", maturity="7d")
    pipeline = new_pipeline(given)
    rows, reports = (
        create(pipeline, [Block(pa.record_batch({"tx": [1]}))], Block, BlockCoder(), label=name) for name in "ab"
    )
    out = (rows, reports) | JoinLabels(spec, n_shards=3)
    out.released | ToBatches(Features(numeric=("amount",), label="fraud", time="known_at"))
    out.rejected | WriteRejects(REGISTRY, "fraud/rejects/monday/")
    run(pipeline)


def test_a_join_of_labels_has_a_step_per_shard_and_no_coder_that_pickles(submit: Submit) -> None:
    graph = submit(join_labels)
    stateful = {one.unique_name: payload for one, payload in graph.pardos() if payload.state_specs}
    assert set(stateful) == {f"JoinLabels/Hold{shard}/ParDo(_Hold)" for shard in range(3)}
    assert foreign_coders(graph) == []
    assert loose_keys(graph) == []
    assert sorted(odd_state(graph)) == [f"JoinLabels/Hold{shard}/ParDo(_Hold).aside: bag_spec" for shard in range(3)]


def test_streams_keep_state_and_are_streaming_jobs(graphs: dict[str, Graph]) -> None:
    graph = graphs["stream"]
    assert set(graph.proto.requirements) == set(map(NEEDS, ("stateful", "splittable_dofn", "finalization")))
    assert graph.options.view_as(StandardOptions).streaming
    stateful = {one.unique_name for one, payload in graph.pardos() if payload.state_specs}
    assert stateful == {"Fold/Fold", *(f"Shards/Hold{shard}" for shard in range(4))}
    assert stateful == {one.unique_name for one, payload in graph.pardos() if payload.timer_family_specs}


def test_all_coders_of_data_are_ours_or_standard(graph: Graph) -> None:
    assert foreign_coders(graph) == []
    assert any(urn.startswith("beam_ml:coder:") for one in graph.parts.coders for urn in graph.urns(one))


def test_no_function_carries_data(graph: Graph) -> None:
    assert heavy(graph) == []
    assert any(b"_Accumulate" in data for _, data in graph.shipped())


def test_all_runs_in_the_image_of_the_options_and_nothing_is_staged(graph: Graph) -> None:
    assert environment(graph, image()) == []


def test_state_is_one_value_a_key_and_timers_go_by_event_time(graph: Graph) -> None:
    assert odd_state(graph) == []


def test_keys_have_one_form(graph: Graph) -> None:
    assert loose_keys(graph) == []


def test_rows_never_travel_between_workers(graph: Graph) -> None:
    assert shuffled_rows(graph) == []


def test_unbounded_sources_are_splittable(graph: Graph) -> None:
    assert odd_sources(graph) == []


def test_only_the_stream_is_unbounded(graphs: dict[str, Graph]) -> None:
    for name, graph in graphs.items():
        unbounded = [one for one in graph.parts.pcollections.values() if one.is_bounded == UNBOUNDED]
        splittable = [one.unique_name for one, payload in graph.pardos() if payload.restriction_coder_id]
        assert bool(unbounded) == (name == "stream")
        assert [one.rpartition("/")[2] for one in splittable] == (["ReadUnbounded"] * 2 if name == "stream" else [])


def test_workers_are_told_to_import_the_coders(graph: Graph) -> None:
    assert "beam_ml.beam.wire.coders" in graph.options.view_as(SetupOptions).beam_plugins


def test_the_graph_names_secrets_and_the_anchor_but_holds_neither(graphs: dict[str, Graph]) -> None:
    shipped = b"".join(data for _, data in graphs["kafka"].shipped())
    assert b"$KAFKA_PASSWORD" in shipped
    assert REGISTRY.encode() in shipped
    assert b"AnchorRef" in shipped
    for one in graphs.values():
        assert SECRET.encode() not in b"".join(data for _, data in one.shipped())
        assert SECRET not in str(one.options.get_all_options())


def test_the_options_are_known_to_beam_and_name_places_that_workers_reach() -> None:
    given = PipelineOptions(options())
    assert set(given.get_all_options(retain_unknown_options=True)) == set(given.get_all_options())
    places = [line for line in options() if "location=" in line and not line.startswith("--sdk_location")]
    assert len(places) == 2
    assert all("=gs://" in line for line in places)


def test_the_image_is_built_on_the_sdk_that_submits(graph: Graph) -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (base,) = (line.removeprefix("FROM ") for line in lines if line.startswith("FROM "))
    (one,) = graph.parts.environments.values()
    assert f"beam:version:sdk_base:{base}" in one.capabilities
    pins = (DEPLOY.parents[1] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"apache-beam=={base.rpartition(':')[2]}" in pins
    assert not [line for line in lines if line.startswith(("ENTRYPOINT", "CMD", "USER"))]


# That each check finds what it looks for.


def same(element: object) -> object:
    return element


def by_block(element: Batch) -> tuple[Block, bytes]:
    raise ValueError(element)


def by_name(element: Batch) -> tuple[bytes, Batch]:
    return b"key", element


def bytes_by_name(element: Batch) -> tuple[bytes, bytes]:
    return b"key", b""


Build = Callable[[beam.Pipeline], object]


def rows(pipeline: beam.Pipeline) -> beam.PCollection:
    return create(pipeline, [make_batch(0, 3)])


def kept(fn: beam.DoFn, by: Callable[..., object] = bytes_by_name) -> Build:
    return lambda pipeline: rows(pipeline) | beam.Map(by) | beam.ParDo(fn)


def planted(submit: Submit, build: Build, *more: str) -> Graph:
    def start(given: Sequence[str]) -> None:
        pipeline = new_pipeline(given)
        build(pipeline)
        run(pipeline)

    return submit(start, *more)


def test_a_state_of_the_allowed_shape_passes_all_checks(submit: Submit) -> None:
    graph = planted(submit, kept(Hold()))
    checks = (foreign_coders, heavy, odd_state, loose_keys, shuffled_rows, odd_sources)
    assert [check(graph) for check in checks] == [[]] * len(checks)
    assert environment(graph, image()) == []
    assert list(graph.proto.requirements) == [NEEDS("stateful")]


@pytest.mark.parametrize(
    ("check", "build", "told"),
    [
        (
            foreign_coders,
            lambda p: rows(p) | "U" >> beam.Map(same).with_output_types(object) | beam.Map(same),
            "pickled",
        ),
        (foreign_coders, kept(HoldPickled()), "pickled"),
        (
            foreign_coders,
            lambda p: rows(p) | beam.Map(bytes_by_name) | beam.CombinePerKey(ToListCombineFn()),
            "pickled",
        ),
        (heavy, lambda p: rows(p) | beam.ParDo(Carry(np.zeros(3))), "numpy"),
        (heavy, lambda p: rows(p) | beam.ParDo(Carry(pa.array([1]))), "pyarrow"),
        (heavy, lambda p: rows(p) | beam.ParDo(Carry("0" * 20_000)), "20"),
        (odd_state, kept(HoldBag()), "bag"),
        (odd_state, kept(HoldSum()), "combining"),
        (odd_state, kept(HoldByClock()), "due"),
        (shuffled_rows, lambda p: rows(p) | beam.Map(by_name) | beam.GroupByKey(), "batch"),
        (shuffled_rows, kept(Hold(), by_name), "batch"),
        (odd_sources, lambda p: p | streams.TestStream(BytesCoder()).add_elements([b""]), "TestStream"),
    ],
)
def test_a_planted_bug_is_found(submit: Submit, check: Callable[[Graph], list[str]], build: Build, told: str) -> None:
    found = check(planted(submit, build))
    assert found
    assert told in " ".join(found)


BY_BLOCK = (kept(Hold(), by_block), lambda pipeline: rows(pipeline) | beam.Map(by_block) | beam.GroupByKey())


@pytest.mark.parametrize("build", BY_BLOCK)
def test_keys_of_many_forms_are_refused_by_the_runner_and_else_found(submit: Submit, build: Build) -> None:
    with pytest.raises(ValueError, match="BlockCoder cannot be made deterministic"):
        planted(submit, build)
    assert "BlockCoder" in " ".join(loose_keys(planted(submit, build, "--allow_non_deterministic_key_coders")))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--sdk_container_image=another:1", "image another:1"),
        ("--save_main_session", "pickled_main_session"),
        ("--extra_package={folder}/extra.tar.gz", "extra.tar.gz"),
    ],
)
def test_an_environment_of_another_kind_is_found(submit: Submit, tmp_path: Path, more: str, told: str) -> None:
    (tmp_path / "extra.tar.gz").write_bytes(b"")
    found = environment(planted(submit, rows, more.format(folder=tmp_path)), image())
    assert told in " ".join(found)


def test_a_second_container_is_found(submit: Submit) -> None:
    graph = planted(submit, lambda p: rows(p) | beam.Map(same).with_resource_hints(min_ram="1GB"))
    assert environment(graph, image()) == ["2 environments"]


def test_a_worker_without_a_needed_capability_is_found(submit: Submit) -> None:
    graph = planted(submit, rows)
    (one,) = graph.parts.environments.values()
    one.capabilities.remove("beam:protocol:sibling_workers:v1")
    assert environment(graph, image()) == ["not capable of beam:protocol:sibling_workers:v1"]
