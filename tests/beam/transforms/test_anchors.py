"""Where workers get their anchors: what a process holds of them, and what holds when one cannot be read."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy_sgd

from beam_ml import fit
from beam_ml.algorithms import find, pca
from beam_ml.artefact.records import decode_learner, encode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.beam.transforms import anchors
from beam_ml.beam.transforms.anchors import Held, Newest, anchor_of, newest_anchor, newest_seen
from beam_ml.beam.wire.references import AnchorRef, LiveAnchor
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.arrays import nbytes
from beam_ml.core.batch import Batch
from beam_ml.core.refresh import Plan, refresh
from beam_ml.errors import CorruptArtefact, RegistryError, VersionNotFound
from beam_ml.registry import Registry, new_round_id

SPEC = toy_sgd.SgdSpec(n_features=1)
NAME = "n"


@pytest.fixture(autouse=True)
def fresh() -> None:
    anchors.held.cache_clear()


class Sized:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_what_is_held_is_limited_by_bytes_and_the_oldest_goes_first() -> None:
    made: list[str] = []

    def make(name: str, size: int) -> Any:
        return lambda: made.append(name) or Sized(size)

    held = Held(most=10, most_bytes=100)
    for name in "abc":
        held.get(name, make(name, 40))
    assert held.nbytes == 80
    held.get("b", make("b", 40))  # still there, and now the one asked for last
    held.get("d", make("d", 40))
    held.get("b", make("b", 40))
    assert made == ["a", "b", "c", "d"]
    held.get("c", make("c", 40))
    assert made == ["a", "b", "c", "d", "c"]
    held.get("huge", make("huge", 1000))
    held.get("huge", make("huge", 1000))
    assert made[-1] == "huge"
    assert made.count("huge") == 1
    assert held.nbytes == 1000


def test_what_is_held_is_limited_by_number() -> None:
    held = Held(most=2, most_bytes=100)
    for name in "abc":
        held.get(name, lambda: Sized(1))
    assert held.nbytes == 2


def test_threads_that_ask_at_once_read_once() -> None:
    held, made, ready = Held(2, 100), [], threading.Barrier(4)

    def make() -> Sized:
        made.append(1)
        threading.Event().wait(0.02)
        return Sized(1)

    def ask() -> None:
        ready.wait()
        held.get("a", make)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert made == [1]


def grown(learner: Any = None) -> Any:
    """Return a learner one refresh on."""
    learner = learner or learners.new(toy_sgd.TOY_SGD, SPEC)
    accumulator = Accumulator(toy_sgd.TOY_SGD, SPEC, learner.version)
    accumulator.add(Batch.dense([[1.0 + learner.refresh]], label=[2.0]))
    return refresh(toy_sgd.TOY_SGD, learner, None, accumulator.result(), Plan({}))[0]


def publish(registry: Registry, learner: Any) -> None:
    head = registry.head_number(NAME)
    data = {"learner": encode_learner(toy_sgd.TOY_SGD, learner)}
    registry.publish(NAME, data, parent=head or None, round_id=new_round_id(head))


def path_of(registry: Registry, version: int) -> str:
    return registry.manifest(NAME, version).files["learner"].path


def three(registry: Registry) -> list[Any]:
    made: list[Any] = []
    for _ in range(3):
        made.append(grown(made[-1] if made else None))
        publish(registry, made[-1])
    return made


def test_a_pinned_anchor_is_that_of_its_version_and_read_once(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    made = three(registry)
    reference = AnchorRef(str(tmp_path), NAME, 2)
    number, anchor = anchor_of(reference, SPEC.to_json())
    assert number == 2
    assert anchor.theta.tolist() == made[1].state.theta.tolist()
    registry.objects.delete([path_of(registry, 2)])
    assert anchor_of(reference, SPEC.to_json())[1] is anchor
    assert anchors.held().nbytes == nbytes(anchor)


@pytest.mark.parametrize(
    ("spoil", "error", "why"),
    [
        ("removed", VersionNotFound, "n version 2 no longer has its learner"),
        ("damaged", CorruptArtefact, "n version 2 has a damaged learner"),
    ],
)
def test_a_pinned_anchor_that_is_gone_is_one_sentence(
    tmp_path: Path, spoil: str, error: type[Exception], why: str
) -> None:
    registry = Registry(tmp_path)
    three(registry)
    if spoil == "removed":
        registry.objects.delete([path_of(registry, 2)])
    else:
        registry.objects.put(path_of(registry, 2), b"damaged")
    with pytest.raises(error, match=f"Workers must start from n v2, and cannot: {why}"):
        anchor_of(AnchorRef(str(tmp_path), NAME, 2), SPEC.to_json())


def test_the_number_is_that_of_the_state_however_many_refreshes_or_publishes_it_had(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    learner = grown(grown()).replace(refresh=40, coalesced=38)
    for _ in range(3):  # versions that folded nothing
        publish(registry, learner)
    assert anchor_of(AnchorRef(str(tmp_path), NAME, 3), SPEC.to_json())[0] == 2
    assert newest_anchor(LiveAnchor(str(tmp_path), NAME), SPEC.to_json())[0] == 2


def test_workers_of_any_algorithm_know_what_the_newest_version_has_seen(tmp_path: Path) -> None:
    spec, reference = pca.Spec(n_features=2), LiveAnchor(str(tmp_path), NAME, 0.0)
    assert newest_seen(reference, spec.to_json(), 0) is None
    registry = Registry(tmp_path)
    learner = None
    for times in (1.0, 100.0):
        batch = Batch.dense(np.array([[-1.0, 5.0], [0.0, 6.0], [1.0, 7.0]]) * times)
        learner = fit(spec, [batch], learner=learner)
        data = {"learner": encode_learner(find("pca"), learner)}
        head = registry.head_number(NAME)
        registry.publish(NAME, data, parent=head or None, round_id=new_round_id(head))
        seen = newest_seen(reference, spec.to_json(), 0)
        assert seen is not None
        assert seen.reach[0] == times
    assert newest_anchor(reference, spec.to_json()) == (0, None)
    assert anchors.held().nbytes == learner.sample.estimate(spec).nbytes


def spoil(registry: Registry, *numbers: int) -> None:
    for number in numbers:
        registry.objects.put(path_of(registry, number), b"damaged")


def test_a_stream_goes_on_from_an_older_anchor_while_the_fold_takes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One version may lie between."""
    registry, look = Registry(tmp_path), Newest(LiveAnchor(str(tmp_path), NAME, 0.0), SPEC.to_json())
    publish(registry, first := grown())
    assert look.get(0.0)[0] == 1
    publish(registry, second := grown(first))
    spoil(registry, 2)
    number, anchor = look.get(1.0)
    assert number == 1
    assert anchor.theta.tolist() == first.state.theta.tolist()
    assert "continue from the anchor of version 1: n v2 cannot be read" in caplog.text
    publish(registry, third := grown(second))
    spoil(registry, 3)
    with pytest.raises(VersionNotFound, match=r"at most 1 versions behind v3; the newest readable one is v1\."):
        look.get(2.0)
    with pytest.raises(VersionNotFound):
        look.get(2.0)  # and no bundle goes through with it until a newer one is there
    publish(registry, grown(third))
    assert look.get(2.0)[0] == 4


def test_an_older_version_than_the_one_at_hand_is_not_taken(tmp_path: Path) -> None:
    registry, look = Registry(tmp_path), Newest(LiveAnchor(str(tmp_path), NAME, 0.0), SPEC.to_json())
    made = three(registry)
    assert look.get(0.0)[0] == 3
    publish(registry, grown(made[-1]))
    spoil(registry, 3, 4)  # v2 is readable
    assert look.get(1.0)[0] == 3


def test_a_registry_recreated_is_begun_with_again(tmp_path: Path) -> None:
    registry, look = Registry(tmp_path), Newest(LiveAnchor(str(tmp_path), NAME, 0.0), SPEC.to_json())
    made = three(registry)
    assert look.get(0.0)[0] == 3
    registry.objects.delete([one.path for one in registry.objects.walk(NAME)])
    publish(Registry(tmp_path), grown())
    look._registry = Registry(tmp_path)
    number, anchor = look.get(1.0)
    assert number == 1
    assert anchor.theta.tolist() == made[0].state.theta.tolist()


def test_workers_that_never_had_an_anchor_do_without_as_long_as_the_fold_takes_that(tmp_path: Path) -> None:
    registry, look = Registry(tmp_path), Newest(LiveAnchor(str(tmp_path), NAME, 0.0), SPEC.to_json())
    publish(registry, first := grown())
    spoil(registry, 1)
    assert look.get(0.0) == (0, None)
    publish(registry, grown(first))
    spoil(registry, 2)
    with pytest.raises(VersionNotFound, match=r"behind v2; the newest readable one is none\."):
        look.get(1.0)


def test_a_store_that_fails_leaves_the_anchor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry, look = Registry(tmp_path), Newest(LiveAnchor(str(tmp_path), NAME, 0.0), SPEC.to_json())
    three(registry)
    assert look.get(0.0)[0] == 3

    def fail(name: str) -> int:
        raise RegistryError("The registry could not be listed: it is away.")  # noqa: EM101

    monkeypatch.setattr(look._registry, "head_number", fail)
    assert look.get(1.0)[0] == 3
    assert "continue from the anchor of version 3: The registry could not be listed" in caplog.text


def test_it_is_looked_again_sooner_where_versions_come_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the staleness of 8 is used up by four versions."""
    monkeypatch.setattr(toy_sgd.SgdSpec, "max_staleness", 8)
    registry, look = Registry(tmp_path), Newest(LiveAnchor(str(tmp_path), NAME, 10.0), SPEC.to_json())
    learner = grown()
    publish(registry, learner)
    assert look.get(0.0)[0] == 1
    for _ in range(40):
        publish(registry, learner := grown(learner))
    assert look.get(9.9)[0] == 1
    assert look.get(10.0)[0] == 41  # four a second: to be looked for every second
    publish(registry, learner := grown(learner))
    assert look.get(10.9)[0] == 41
    assert look.get(11.1)[0] == 42
    publish(registry, learner := grown(learner))
    assert look.get(15.0)[0] == 42, "one in a second: every four seconds"
    assert look.get(15.6)[0] == 43


def job(tmp_path: Path) -> Job:
    return Job.parse(
        {
            "name": NAME, "registry": str(tmp_path / "registry"), "refresh": "round",
            "source": {"path": str(tmp_path / "data"), "round_files": 1},
            "features": {"numeric": ["x"], "label": "y"},
            "spec": {"algorithm": "toy_sgd:TOY_SGD"}, "models": {"line": {"kind": "line"}},
        }
    )  # fmt: skip


def write(tmp_path: Path, count: int) -> None:
    (tmp_path / "data").mkdir()
    for file in range(count):
        x = np.random.default_rng(file).normal(size=50)
        pq.write_table(pa.table({"x": x, "y": 2 * x}), tmp_path / "data" / f"{file}.parquet")


@pytest.mark.parametrize("spoil", ["removed", "damaged"])
def test_a_round_whose_anchor_is_gone_fails_and_the_next_start_goes_on(tmp_path: Path, spoil: str) -> None:
    write(tmp_path, 4)
    one = job(tmp_path)
    registry = Registry(one.registry)
    steps = train(one, registry)
    next(steps)
    next(steps)
    if spoil == "removed":
        registry.objects.delete([path_of(registry, 2)])
    else:
        registry.objects.put(path_of(registry, 2), b"damaged")
    with pytest.raises((VersionNotFound, CorruptArtefact), match="Workers must start from n v2, and cannot"):
        next(steps)
    assert registry.versions(NAME) == [1, 2], "nothing of the round has had an effect"
    done = list(train(one, registry))
    found = registry.latest(NAME)
    assert found is not None
    learner = decode_learner(found.data, find)
    assert [one.manifest.number for one in done] == [3, 4, 5]
    assert [one.manifest.parent for one in done] == [1, 3, 4]
    assert learner.progress.rows == 200
    assert (learner.progress.repeated, learner.progress.rejected) == (0, {})


def test_a_round_of_many_windows_loses_none_to_staleness(tmp_path: Path) -> None:
    """Forty windows in one cold round, and forty in the next, from an anchor: one version may lie between."""
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for file in range(2):
        x = rng.normal(size=400)
        time = pa.array((np.arange(400) // 10 + 40 * file) * 1_000_000, pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"x": x, "y": 2 * x, "t": time}), tmp_path / "data" / f"{file}.parquet")
    settings = job(tmp_path).to_dict() | {"refresh": "1s"}
    for order, age in (("together", "1"), ("in_order", "0")):
        changed = {"name": order, "order": order, "features": {"numeric": ["x"], "label": "y", "time": "t"}}
        one = Job.parse(settings | changed)
        done = list(train(one, Registry(one.registry), Mode("once", close=True)))
        found = Registry(one.registry).latest(order)
        assert found is not None
        learner = decode_learner(found.data, find)
        assert learner.refresh == 80
        assert learner.version == len(done) == 3
        assert (learner.progress.rows, learner.progress.rejected) == (800, {})
        # The window that closes last has its rows of the second round from the state before it, or behind its folds.
        assert [list(one.manifest.refreshes[-1]["behind"]) for one in done] == [["0"], ["0"], [age]]
