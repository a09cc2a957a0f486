"""Workers of a gradient learner pull the newest version's parameters while the stream runs."""

from collections import Counter

import numpy as np
import pytest

from beam_ml.algorithms import find, linear
from beam_ml.artefact.records import encode_learner
from beam_ml.beam import engine
from beam_ml.beam.stream import build
from beam_ml.beam.stream import fold as stream_fold
from beam_ml.beam.stream.start import Start
from beam_ml.beam.transforms import accumulate, anchors
from beam_ml.beam.transforms.anchors import Newest, newest_anchor
from beam_ml.beam.versions.lineage import Standing
from beam_ml.beam.wire.references import LiveAnchor
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch
from beam_ml.core.refresh import Plan, fold_open
from beam_ml.errors import MergeRefused
from beam_ml.registry import Registry, new_round_id
from tests.beam.stream import support
from tests.beam.stream.support import SECOND, Script, block, job, newest, stream, versions

LABELLED = {"numeric": ["x"], "label": "id", "time": {"column": "time", "unit": "us"}}


@pytest.fixture(autouse=True)
def fresh():
    anchors.held.cache_clear()


def sgd_job(tmp_path, name="stream", **more):
    spec = {"algorithm": "toy_sgd:TOY_SGD"} | more
    return job(tmp_path, name=name, features=LABELLED, spec=spec, models={"line": {"kind": "line"}})


def steps(n=5):
    """One poll a window."""
    script = Script()
    for window in range(n):
        at = window * 5
        script.send(at, block([[(i, at + i % 5)] for i in range(at, at + 5)], offset=at))
        script.reach(at + 5)
    return script.end()


def anchors_used(monkeypatch, ttl=0.0):
    used = []

    def spy(reference, spec_json):
        number, anchor = newest_anchor(LiveAnchor(reference.registry, reference.name, ttl), spec_json)
        used.append(number)
        return number, anchor

    monkeypatch.setattr(accumulate, "newest_anchor", spy)
    return used


def without_beam(a_job, n=5):
    """Each window grown from the parameters of the refresh before."""
    algorithm, spec = a_job.algorithm(), a_job.algorithm_spec()
    learner = learners.new(algorithm, spec)
    for window in range(n):
        i = np.arange(window * 5, window * 5 + 5)
        rows = Batch.dense(np.sin(i)[:, None], i.astype(float), time=(window * 5 + i % 5) * SECOND)
        accumulator = Accumulator(algorithm, spec, learner.version, algorithm.anchor(spec, learner.state))
        accumulator.add(rows)
        learner = learners.add_pending(algorithm, learner, (window + 1) * 5 * SECOND, accumulator.result())
        ((learner, _),) = fold_open(algorithm, learner, Plan({}))
    return learner


def test_each_window_starts_from_the_refresh_before(tmp_path, monkeypatch):
    used = anchors_used(monkeypatch)
    a_job = sgd_job(tmp_path)
    learner = newest(stream(steps(), a_job))
    assert sorted(set(used)) == [0, 1, 2, 3, 4]
    assert used == sorted(used)
    assert close(learner.state, without_beam(a_job).state, rtol=1e-9)
    assert learner.progress.rejected == {}


def test_workers_that_never_look_again_learn_something_else(tmp_path, monkeypatch):
    """The planted fault: one anchor for ever. Its rows are soon too stale, and are counted as rejected."""
    used = anchors_used(monkeypatch, ttl=1e9)
    a_job = sgd_job(tmp_path)
    learner = newest(stream(steps(), a_job))
    assert set(used) == {0}
    assert not close(learner.state, without_beam(a_job).state, rtol=1e-3)
    assert learner.progress.rows + sum(learner.progress.rejected.values()) == 25
    assert sum(learner.progress.rejected.values()) > 0


def test_stale_rows_are_counted_and_seen(tmp_path, caplog):
    """One poll of five windows, all grown from no anchor: one version may lie between."""
    a_job = sgd_job(tmp_path)
    registry, pipeline = Registry(a_job.registry), engine.new_pipeline()
    rows = block([[(i, i)] for i in range(25)])
    build(pipeline, a_job, registry, read=support._Given([(0, rows)]))
    done = engine.run(pipeline)
    assert done.runner == "FnApiRunner"
    counted = Counter()
    for one in done.result.metrics().query()["counters"]:
        counted[one.key.metric.name] += one.result
    made = versions(registry)
    assert [one.refreshes[0]["behind"] for one in made] == [{str(age): 5} for age in (0, 1, 2, 3, 4)]
    assert [one.refreshes[0]["progress"]["rejected"] for one in made] == [{}, {}, *[{"stale anchor": 5}] * 3]
    assert made[-1].progress["rejected"] == {"stale anchor": 15}
    assert (counted["stale_rows"], counted["refreshes"], counted["rows"]) == (15, 5, 25)
    assert "5 rows are rejected: more than 1 versions were published" in caplog.text


def test_windows_that_one_firing_folds_go_into_one_version(tmp_path):
    a_job = sgd_job(tmp_path)
    algorithm, spec = a_job.algorithm(), a_job.algorithm_spec()
    fold = stream_fold._StreamFold(stream_fold.FoldJob.of(a_job, a_job.registry, Start(Standing("run", 1))))
    fold.setup()
    learner = learners.new(algorithm, spec)
    for end in (1, 2, 3, 4):
        accumulator = Accumulator(algorithm, spec)
        accumulator.add(Batch.dense([[float(end)]], [1.0]))
        learner = learners.add_pending(algorithm, learner, end, accumulator.result())
    after, refreshes, _ = fold._fold(learner, 3, None)
    assert [one.behind for one, _ in refreshes] == [{0: 1}] * 3
    assert (after.refresh, after.version, list(after.pending)) == (3, 1, [4])


def test_newton_starts_from_the_newest_solution(tmp_path, monkeypatch):
    used = anchors_used(monkeypatch)
    a_job = job(
        tmp_path,
        features={"numeric": ["x"], "label": "y", "time": {"column": "time", "unit": "us"}},
        spec={"algorithm": "linear.newton", "pending_bytes": 65_536},
        models={"one": {"kind": "classifier"}},
    )
    script = Script()
    rng = np.random.default_rng(0)
    for window in range(4):
        ids = np.arange(6000) + 6000 * window
        messages = [[(int(i), 5 * window + int(i) % 5) for i in part] for part in np.split(ids, 12)]
        script.send(5 * window, block(messages, offset=12 * window, label=rng)).reach(5 * window + 5)
    registry = stream(script.end(), a_job)
    learner = newest(registry)
    assert learner.progress.rows == 24_000
    assert max(used) >= 3
    assert len(versions(registry)) == 4


SPEC = linear.Newton(n_features=1)


def stored(registry, name="n", spec=SPEC, refresh=1, head=None):
    algorithm = find(spec.algorithm)
    learner = learners.new(algorithm, spec).replace(refresh=refresh)
    data = encode_learner(algorithm, learner)
    return registry.publish(name, {"learner": data}, parent=head, round_id=new_round_id(head or 0))


def test_a_look_every_ttl_and_none_in_between(tmp_path):
    registry, look = Registry(tmp_path), Newest(LiveAnchor(str(tmp_path), "n", 10.0), SPEC.to_json())
    assert look.get(0.0) == (0, None)
    stored(registry)
    assert look.get(9.9)[0] == 0
    assert look.get(10.0)[0] == 1
    stored(registry, refresh=2, head=1)
    assert look.get(19.0)[0] == 1
    assert look.get(20.0)[0] == 2


def test_a_registry_that_cannot_be_read_leaves_the_anchor(tmp_path, caplog):
    registry, look = Registry(tmp_path), Newest(LiveAnchor(str(tmp_path), "n", 10.0), SPEC.to_json())
    stored(registry)
    assert look.get(0.0)[0] == 1
    stored(registry, refresh=2, head=1)
    registry.objects.put("n/v2/manifest.json", b"{")
    (path,) = [one.path for one in registry.objects.walk("n/v1") if "learner" in one.path]
    registry.objects.put(path, b"damaged")
    assert look.get(10.0)[0] == 1
    assert "continue from the anchor of version 1" in caplog.text


def test_an_anchor_of_another_spec_is_refused(tmp_path):
    stored(Registry(tmp_path), spec=linear.Newton(n_features=2))
    with pytest.raises(MergeRefused, match="its own spec"):
        newest_anchor(LiveAnchor(str(tmp_path), "n"), SPEC.to_json())


def test_learners_without_anchors_never_look(tmp_path):
    from beam_ml.algorithms import pca

    gone = LiveAnchor(str(tmp_path / "nowhere"), "n")
    assert newest_anchor(gone, pca.Spec(n_features=2).to_json()) == (0, None)
    assert not (tmp_path / "nowhere").exists()
