"""Raw rows in a stream: what rounds make of them, whatever the bundles, and a version from which both can continue."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from apache_beam import Impulse, ParDo, PTransform

from beam_ml.beam import engine
from beam_ml.beam.job import Job
from beam_ml.beam.rounds.prepare.kept import PAYLOAD, decode_kept, encode_kept, nothing_kept
from beam_ml.beam.rounds.prepare.step import arrived, prepare
from beam_ml.beam.stream import build
from beam_ml.beam.stream.marks import Mark, mark_at, read_mark
from beam_ml.beam.stream.prepare import every_us
from beam_ml.beam.stream.raw_state import RawState, beyond_of
from beam_ml.beam.stream.start import Start
from beam_ml.beam.stream.state import Held
from beam_ml.beam.versions.lineage import Standing
from beam_ml.beam.wire import coders
from beam_ml.core.batch import Origin
from beam_ml.errors import InvalidValue, MergeRefused
from beam_ml.formats.block import Block
from beam_ml.formats.messages import PLACES
from beam_ml.registry import Registry
from tests.beam.stream.support import SECOND, SOURCE, newest, versions
from tests.beam.support import Emit, Seen
from tests.beam.wire.test_coders import pickled

US = {"column": "at", "unit": "us"}


def raw_job(tmp_path, **more):
    given = {
        "name": "stream",
        "registry": str(tmp_path / "registry"),
        "refresh": "10s",
        "source": {"kind": "kafka", "brokers": "none:1", "topic": "rows", "out_of_orderness": "3s"},
        "rolling": {
            "time": US,
            "aggregates": [
                {"name": "n", "key": "card", "of": "count", "windows": ["20s"]},
                {"name": "risk", "key": "card", "of": "mean", "value": "fraud", "empty": 0.0, "windows": ["30s"]},
            ],
        },
        "labels": {
            "id": "tx",
            "time": US,
            "label": "fraud",
            "reported": {"column": "said", "unit": "us"},
            "maturity": "15s",
            "source": {"kind": "kafka", "brokers": "none:1", "topic": "reports"},
        },
        "predictions": {"path": str(tmp_path / "predictions"), "topic": None},
        "features": {"numeric": ["amount", "n_20s", "risk_30s"], "label": "fraud", "time": "known_at"},
        "spec": {"algorithm": "linear.newton", "loss": "logistic"},
        "models": {"one": {"kind": "classifier"}},
    }
    return Job.parse(given | more)


def messages(topic, partition, offset, columns):
    """One row a message."""
    batch = pa.record_batch(columns)
    place = (offset + np.arange(batch.num_rows, dtype=np.int64)) * PLACES
    stop = (offset + batch.num_rows) * PLACES
    return Block(batch, Origin(f"kafka://c/{topic}", str(partition)), place, None, offset * PLACES, int(stop))


def world(n=80, pieces=5, seed=3):
    """Rows a quarter of a second apart, out of order by up to 2 s, and reports of a third of them, in pieces."""
    rng = np.random.default_rng(seed)
    at = np.arange(n) * SECOND // 4 + rng.integers(0, 2 * SECOND, n)
    card, amount = [f"c{i}" for i in rng.integers(0, 6, n)], rng.uniform(1, 9, n)
    rows = []
    for part in np.array_split(np.arange(n), pieces):
        columns = {"tx": part, "card": [card[i] for i in part], "amount": amount[part], "at": at[part]}
        rows.append((int(at[part].min()) // SECOND - 3, messages("rows", 0, int(part[0]), columns)))
    said = np.sort(rng.permutation(n)[: n // 3])
    when = at[said] + rng.integers(1, 20 * SECOND, said.size)
    order = np.argsort(when, kind="stable")
    reports = []
    for part in np.array_split(order, pieces):
        columns = {"tx": said[part], "said": when[part], "fraud": said[part] % 2}
        reports.append((int(when[part].min()) // SECOND, messages("reports", 0, int(part[0]), columns)))
    first = 0
    for i, (seconds, block) in enumerate(reports):  # offsets in the order that they are sent in
        places = (first + np.arange(len(block), dtype=np.int64)) * PLACES
        reports[i] = (seconds, block.replace(position=places, start=first * PLACES, stop=(first + len(block)) * PLACES))
        first += len(block)
    return rows, reports


class Given(PTransform):
    def __init__(self, timed):
        super().__init__()
        self._emit = Emit([block for _, block in timed], coders.BlockCoder(), [seconds for seconds, _ in timed])

    def expand(self, pbegin):
        return pbegin | Impulse() | ParDo(self._emit).with_output_types(Block)


def run(job, rows, reports, folder, **settings):
    pipeline, seen = engine.new_pipeline(), Seen(folder, coders.BlockCoder())
    told = None if reports is None else Given(reports)
    out = build(pipeline, job, Registry(job.registry), read=Given(rows), reports=told, **settings)
    _ = out.featured | seen.sink()
    assert engine.run(pipeline).runner == "FnApiRunner"
    return Registry(job.registry), [row for block in seen.values() for row in block.to_dicts()]


def expected(job, rows, reports):
    kept = nothing_kept(job)
    came = arrived(job, kept, [block for _, block in rows], 1 << 60)
    done = prepare(job, kept, came._replace(until=1 << 60), [block for _, block in reports or ()])
    return [row for block in done.featured for row in block.to_dicts()], len(done.rows), sum(map(len, done.rejected))


def by_id(rows):
    found = {row["tx"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("every", [None, 10.0])
def test_rows_get_the_features_and_labels_that_rounds_give(tmp_path, every):
    job, (rows, reports) = raw_job(tmp_path), world()
    registry, featured = run(job, rows, reports, tmp_path / "seen", release_every=every)
    wanted, learned, without_a_row = expected(job, rows, reports)
    assert by_id(featured) == by_id(wanted)
    learner = newest(registry)
    assert learner.progress.rows == learned == 80
    assert learner.progress.rejected == {"report without a row": without_a_row}
    assert learner.progress.late == 0
    last = versions(registry)[-1]
    assert last.extra[PAYLOAD]["labels"]["rows"] == 80
    assert last.extra[PAYLOAD]["waiting"] == 0


def test_rows_are_learned_as_soon_as_their_label_is_known(tmp_path):
    """In the window of that time, which is not closed before."""
    labels = {**raw_job(tmp_path).labels.to_dict(), "learned": "known"}
    job, (rows, reports) = raw_job(tmp_path, labels=labels), world()
    registry, _ = run(job, rows, reports, tmp_path / "seen")
    learner = newest(registry)
    assert learner.progress.rows == 80
    assert learner.progress.late == 0


def test_rows_with_their_labels_get_rolling_features_alone(tmp_path):
    rolling = {"time": US, "aggregates": [{"name": "n", "key": "card", "of": "count", "windows": ["20s"]}]}
    features = {"numeric": ["amount", "n_20s"], "label": "fraud", "time": US}
    job, (rows, _) = raw_job(tmp_path, labels=None, rolling=rolling, features=features), world()
    rows = [(at, one.replace(batch=one.batch.append_column("fraud", parity(one)))) for at, one in rows]
    registry, featured = run(job, rows, None, tmp_path / "seen")
    assert by_id(featured) == by_id(expected(job, rows, None)[0])
    learner = newest(registry)
    assert learner.progress.rows == 80
    assert learner.progress.rejected == {}
    assert learner.progress.late == 0


def parity(block):
    return pa.array(block.batch.column("tx").to_numpy() % 2)


def test_nothing_that_a_stream_of_raw_rows_keeps_is_pickled(tmp_path):
    job, (rows, reports) = raw_job(tmp_path), world(8, 1)
    pipeline = engine.new_pipeline()
    build(pipeline, job, Registry(job.registry), read=Given(rows), reports=Given(reports))
    assert pickled(pipeline) == []


def test_a_version_holds_what_is_kept_at_the_end_of_its_window(tmp_path):
    """The next stream begins with it: what it was given up to there, it must not be given again."""
    job, (rows, reports) = raw_job(tmp_path, refresh="20s"), world(80, 4)
    registry, _ = run(job, rows[:2], reports, tmp_path / "seen")
    numbers = registry.versions("stream")
    for number in numbers:
        manifest = registry.manifest("stream", number)
        kept = decode_kept(job, registry.read("stream", number, PAYLOAD))
        assert kept.until == manifest.refreshes[-1]["window_end"]
        assert kept.released == manifest.progress["rows"]
        assert encode_kept(job, kept) == registry.read("stream", number, PAYLOAD)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (
            {"source": {"kind": "kafka", "brokers": "none:1", "topic": "rows", "on_gap": "skip"}},
            r"source\.on_gap must be",
        ),
        ({"predictions": {"path": "folder"}}, r"predictions\.topic must be given in a stream"),
        ({"refresh": "round"}, r"refresh must be a duration"),
    ],
)
def test_what_a_stream_of_raw_rows_cannot_do(tmp_path, more, what):
    job = raw_job(tmp_path, **more)
    with pytest.raises(InvalidValue, match=what):
        build(engine.new_pipeline(), job, Registry(job.registry))


def test_reports_in_files_are_for_rounds(tmp_path):
    labels = {**raw_job(tmp_path).labels.to_dict(), "source": {"path": "reports"}}
    job = raw_job(tmp_path, labels=labels, predictions={"topic": "scores"})
    with pytest.raises(InvalidValue, match=r"labels\.source must be a Kafka topic in a stream.*'reports'"):
        build(engine.new_pipeline(), job, Registry(job.registry))


@pytest.mark.parametrize("every", [0.3, 0.0005, 20.0])
def test_rows_are_released_in_parts_of_a_window(tmp_path, every):
    with pytest.raises(InvalidValue, match=r"release_every must be whole ms, and a part of job\.refresh, 10\.0 s; got"):
        every_us(raw_job(tmp_path), every)


def test_rows_are_released_each_second_or_window(tmp_path):
    assert every_us(raw_job(tmp_path), None) == SECOND
    assert every_us(raw_job(tmp_path, refresh="1500ms"), None) == 1_500_000


def test_places_behind_a_hole_are_noted_in_the_version(tmp_path):
    """A message may come before the one before it: a start from the version reads the hole alone."""
    job, start = raw_job(tmp_path), Start(Standing("run", 1), SOURCE, "c/id", begun={0: 3})
    state = RawState(nothing_kept(job), {}, {}, Counter(), 0)
    for offset in (3, 5, 6):
        state = state.came(False, 0, offset * PLACES, (offset + 1) * PLACES)
    mark = read_mark(Mark.of(job, state, start, None).encode())
    assert mark.read.topic(SOURCE).offsets == {0: 4}
    beyond = beyond_of(mark.facts, SOURCE)
    assert beyond[0].tolist() == [[5 * PLACES, 7 * PLACES]]
    again = RawState.decode(job, state.encode(job))
    assert again.rows[0].tolist() == [[3 * PLACES, 4 * PLACES], [5 * PLACES, 7 * PLACES]]


def test_a_window_is_not_folded_without_its_mark():
    marked = {10 * SECOND: Held(10 * SECOND, b"")}
    with pytest.raises(MergeRefused, match=r"must have marked the window's end 20000000 before it is folded"):
        mark_at(marked, 20 * SECOND, 10 * SECOND)
