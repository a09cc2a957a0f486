"""Several passes over files: what is counted, when they end, and what goes on after a stop."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml.algorithms import find
from beam_ml.artefact.cursors import cursors_from_json, cursors_to_json
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.job.sources import FileSource
from beam_ml.beam.rounds import Mode, Round, train
from beam_ml.beam.rounds import driver as rounds
from beam_ml.beam.rounds.file_plan import plan_files
from beam_ml.beam.rounds.files import FileRounds
from beam_ml.beam.rounds.passes import after_round
from beam_ml.beam.versions.lineage import Standing
from beam_ml.core import learner as learners
from beam_ml.core.cursors import Cursors, FileCursor, Passes
from beam_ml.core.gate import Verdict
from beam_ml.core.learner import Learner
from beam_ml.core.passes import EarlyStopping
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh
from beam_ml.errors import InputChanged, InvalidValue
from beam_ml.registry import Registry

ROWS = 60


def write(tmp_path: Path, name: str, rows: int = ROWS) -> Path:
    (tmp_path / "data").mkdir(exist_ok=True)
    rng = np.random.default_rng(len(name) + ord(name[0]))
    x, noise = rng.normal(size=rows), rng.normal(size=rows)
    path = tmp_path / "data" / f"{name}.parquet"
    pq.write_table(pa.table({"x": x, "y": 2 * x + 1 + 0.1 * noise}), path, row_group_size=20)
    return path


def settings(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    source = {"path": str(tmp_path / "data"), "round_files": 1} | changes.pop("source", {})
    return {
        "name": "n", "registry": str(tmp_path / "registry"), "refresh": "round", "source": source,
        "features": {"numeric": ["x"], "label": "y"}, "spec": {"algorithm": "toy_sgd:TOY_SGD"},
        "models": {"line": {"kind": "line"}}, **changes,
    }  # fmt: skip


def job(tmp_path: Path, **changes: Any) -> Job:
    return Job.parse(settings(tmp_path, **changes))


def run(one: Job) -> list[Round]:
    return list(train(one, Registry(one.registry)))


def learner(one: Job) -> Learner:
    found = Registry(one.registry).latest(one.name)
    assert found is not None
    return decode_learner(found.data, find)


def places(found: Learner) -> dict[str, int]:
    """Source → places covered, over all its files."""
    counts: dict[str, int] = {}
    for origin, ranges in found.progress.covered.items():
        counts[origin.source] = counts.get(origin.source, 0) + int((ranges[:, 1] - ranges[:, 0]).sum())
    return counts


def test_each_pass_reads_every_row_in_rounds_of_its_own(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path, name)
    one = job(tmp_path, passes=3)
    done = run(one)
    counted = [(r.passes.number, r.progress.rows) for r in done if r.passes]
    assert counted == [(1, 60), (1, 60), (2, 60), (2, 60), (3, 60), (3, 60)]
    found = learner(one)
    assert (found.progress.rows, found.progress.repeated) == (360, 0)
    assert places(found) == {"files": 120, "files, pass 2": 120, "files, pass 3": 120}
    assert done[-1].manifest.next["passes"]["number"] == 3
    assert done[-1].manifest.next["files"].items() >= {"pass": 3, "batch": 2, "again": 2}.items()
    assert run(one) == []
    losses = done[-1].passes.values
    assert len(losses) == 3
    assert losses[2] < losses[1] < losses[0]


def test_one_pass_keeps_what_it_kept(tmp_path: Path) -> None:
    write(tmp_path, "a")
    one = job(tmp_path)
    (done,) = run(one)
    assert done.passes is None
    found = learner(one)
    assert (found.cursors.passes, found.cursors.topics) == (None, {})
    assert (found.cursors.files.number, found.cursors.files.batch, found.cursors.files.again) == (1, None, frozenset())
    assert places(found) == {"files": 60}


def test_files_are_read_in_parts_in_each_pass(tmp_path: Path) -> None:
    write(tmp_path, "a", rows=40)
    one = job(tmp_path, passes=2, source={"round_rows": 20, "round_files": None})
    done = run(one)
    assert [r.progress.rows for r in done] == [20] * 4
    assert places(learner(one)) == {"files": 40, "files, pass 2": 40}


def test_each_pass_has_four_rounds_or_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds grow with what was read, but not to a whole pass: all rows of a round are learned from one anchor."""
    monkeypatch.setattr(rounds, "_FIRST_ROWS", 20)
    write(tmp_path, "a", rows=160)
    grown = plan_files(FileSource(path=str(tmp_path / "data")), FileCursor(), 20, passes=3)
    taken: Any = grown.after
    counts: dict[int, list[int]] = {1: [20], 2: [], 3: []}
    one = job(tmp_path, passes=3)
    while True:  # as the driver does, without the pipelines
        seen = sum(map(sum, counts.values()))
        now = Passes(number=taken.number)
        before = learners.new(one.algorithm(), one.algorithm_spec()).replace(
            progress=Progress(rows=seen), cursors=Cursors(taken, passes=now)
        )
        state: Any = rounds._Run(one, None, None, one.algorithm(), (), Standing("run", 1), before, {})  # type: ignore[arg-type]
        plan = FileRounds(one.source, False, 3).plan(before, rounds._rows_wanted(state))
        if plan is None:
            break
        counts[plan.after.number].append(plan.rows() or 0)
        taken = plan.after
    assert [sum(one) for one in counts.values()] == [160, 160, 160]
    assert all(4 <= len(one) <= 8 for one in counts.values())
    assert max(counts[3]) == 40


def test_a_stop_in_any_pass_goes_on_where_it_was(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path, name)
    one = job(tmp_path, passes=2)
    for count in (1, 2):  # in the midst of the first pass, then of the second
        steps = train(one, Registry(one.registry))
        for _ in range(count):
            next(steps)
        steps.close()
    assert places(learner(one)) == {"files": 120, "files, pass 2": 60}
    assert len(run(one)) == 1
    assert places(learner(one)) == {"files": 120, "files, pass 2": 120}
    whole = job(tmp_path, passes=2, name="whole")
    run(whole)
    assert learner(whole).state.theta.tolist() == learner(one).state.theta.tolist()


def test_more_passes_go_on_over_the_same_files(tmp_path: Path) -> None:
    """From one pass on, too, which keeps no list of its files but that of all that were read."""
    write(tmp_path, "a")
    for passes, count in ((1, 1), (2, 1), (2, 0), (4, 2), (3, 0)):
        assert len(run(job(tmp_path, passes=passes))) == count
    assert places(learner(job(tmp_path))) == {"files": 60, **{f"files, pass {n}": 60 for n in (2, 3, 4)}}


def test_new_files_are_a_lot_of_their_own_once_the_passes_are_over(tmp_path: Path) -> None:
    write(tmp_path, "a")
    one = job(tmp_path, passes=2)
    assert len(run(one)) == 2
    write(tmp_path, "b", rows=40)
    assert [(r.passes.number, r.progress.rows) for r in run(one) if r.passes] == [(1, 40), (2, 40)]
    assert places(learner(one)) == {"files": 100, "files, pass 2": 100}
    assert len(run(job(tmp_path, passes=3))) == 1, "the newest lot alone"
    assert places(learner(one))["files, pass 3"] == 40


def test_a_lot_whose_first_round_ends_no_file_is_one_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "a", rows=20)
    one = job(tmp_path, passes=2, source={"round_rows": 20})
    assert len(run(one)) == 2
    write(tmp_path, "b", rows=40)
    assert [(r.passes.number, r.progress.rows) for r in run(one) if r.passes] == [(1, 20), (1, 20), (2, 20), (2, 20)]
    assert places(learner(one)) == {"files": 60, "files, pass 2": 60}


def test_new_files_wait_for_the_end_of_the_passes(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path, name)
    one = job(tmp_path, passes=2)
    steps = train(one, Registry(one.registry))
    for _ in range(3):
        next(steps)
    write(tmp_path, "aa", rows=40)
    assert [(r.passes.number, r.progress.rows) for r in steps if r.passes] == [(2, 60), (1, 40), (2, 40)]


def test_new_files_take_no_pass_from_those_before_them(tmp_path: Path) -> None:
    """They come in the midst of the second pass of three; so does a stop."""
    write(tmp_path, "a")
    write(tmp_path, "b")
    one = job(tmp_path, passes=3)
    steps = train(one, Registry(one.registry))
    for _ in range(3):
        next(steps)
    steps.close()
    write(tmp_path, "aa", rows=40)
    rest = [(2, 60), (3, 60), (3, 60), (1, 40), (2, 40), (3, 40)]
    assert [(r.passes.number, r.progress.rows) for r in run(one) if r.passes] == rest
    assert places(learner(one)) == {"files": 160, "files, pass 2": 160, "files, pass 3": 160}


def test_merged_learners_go_on_with_the_passes_of_either(tmp_path: Path) -> None:
    """One has had both passes over its file; the other has read half of its file again."""
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    write(tmp_path / "one", "a", rows=20)
    write(tmp_path / "two", "b", rows=40)
    whole, half = (job(tmp_path / place, passes=2, source={"round_rows": 20}) for place in ("one", "two"))
    run(whole)
    steps = train(half, Registry(half.registry))
    for _ in range(3):
        next(steps)
    (tmp_path / "two" / "data" / "b.parquet").rename(tmp_path / "one" / "data" / "b.parquet")
    pair = learner(whole), learner(half)
    for a, b in (pair, pair[::-1]):
        both = learners.merge(whole.algorithm(), a, b)
        found = both.cursors.files
        assert (found.number, len(found.batch), len(found.again), len(found.part)) == (2, 2, 1, 1)
        text = json.dumps(cursors_to_json(both.cursors))
        text = text.replace(str(tmp_path / "two" / "data"), str(tmp_path / "one" / "data"))
        both = both.replace(cursors=cursors_from_json(json.loads(text)))
        plan = FileRounds(whole.source, False, 2).plan(both, 1000)
        assert plan is not None
        assert {(origin.source, Path(origin.partition).name): at for origin, at in plan.covered().items()} == {
            ("files, pass 2", "b.parquet"): [[20, 40]]
        }
        assert plan.last


def test_what_merged_learners_know_of_their_passes_does_not_stop_the_next_round(tmp_path: Path) -> None:
    """The numbers are the larger ones, the values those of the other."""
    one, bare = after([1.0, 0.5], None), Passes(number=1, of=9)
    a, b = (learners.new(job(tmp_path).algorithm(), job(tmp_path).algorithm_spec()) for _ in range(2))
    both = learners.merge(
        job(tmp_path).algorithm(), a.replace(cursors=Cursors(passes=one)), b.replace(cursors=Cursors(passes=bare))
    )
    found = both.cursors.passes
    assert found is not None
    assert (found.number, found.judged, found.values) == (2, 2, ())
    assert after_round(found, 2, True, [refreshed(0.4)], 9, EarlyStopping(patience=1)).values == (0.4,)


def sizes(path: Path, one: Job, row_bytes: float) -> list[int]:
    """Rows in each round of a cold start, as the driver plans them, without the pipelines."""
    source, now, found = FileRounds(one.source, False), learners.new(one.algorithm(), one.algorithm_spec()), []
    while True:
        state: Any = rounds._Run(one, source, None, one.algorithm(), (), Standing("run", 1), now, {})  # type: ignore[arg-type]
        plan = source.plan(now, rounds._rows_wanted(state))
        if plan is None:
            return found
        covered = {origin: np.array(at) for origin, at in plan.covered().items()}
        rows = round(sum(stop - start for at in covered.values() for start, stop in at.tolist()) / row_bytes)
        found.append(rows)
        read = Progress(rows=rows, covered=covered)
        now = now.replace(progress=now.progress.merge(read), cursors=plan.advance(now.cursors))


def test_rounds_of_wide_text_grow_as_fast_as_others(tmp_path: Path) -> None:
    """In CSV places are bytes; how many a row has is known from what was read."""
    (tmp_path / "data").mkdir()
    line = "1.5,2," + "x" * 793 + "\n"
    (tmp_path / "data" / "a.csv").write_text("x,y,t\n" + line * 40_000)
    grown = sizes(tmp_path, job(tmp_path, source={"round_files": None}), len(line))
    assert sum(grown) == 40_000
    assert grown[0] == pytest.approx(2048 * 64 / 800, abs=1)
    assert len(grown) < 14, "at the guessed 64 bytes a row there were more than fifty"
    for before, size in enumerate(grown[2:], start=2):
        assert size <= max(2048, 1.6 * sum(grown[:before])), "of what came before a half, to the next place to cut"


def test_rounds_are_of_few_sizes_since_each_has_a_file_cut_anew(tmp_path: Path) -> None:
    write(tmp_path, "a")
    one = job(tmp_path)
    wanted = []
    for seen in range(0, 3_000_000, 1000):
        now = learners.new(one.algorithm(), one.algorithm_spec()).replace(progress=Progress(rows=seen))
        state: Any = rounds._Run(one, None, None, one.algorithm(), (), Standing("run", 1), now, {})  # type: ignore[arg-type]
        wanted.append(rounds._rows_wanted(state))
        assert wanted[-1] <= max(2048, seen // 2)
    assert sorted(set(wanted)) == [*(2048 << i for i in range(8)), 500_000]


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_files_stay_as_they_are_until_their_last_pass(tmp_path: Path, what: str) -> None:
    path = write(tmp_path, "a")
    write(tmp_path, "b")
    one = job(tmp_path, passes=2)
    steps = train(one, Registry(one.registry))
    for _ in range(2):
        next(steps)
    if what == "gone":
        path.unlink()
    else:
        write(tmp_path, "a", rows=70)
    with pytest.raises(InputChanged, match="must stay until its last pass" if what == "gone" else "must not change"):
        next(steps)
    assert places(learner(one)) == {"files": 120}


def test_plans_survive_json_and_tell_passes_apart(tmp_path: Path) -> None:
    write(tmp_path, "a")
    source = FileSource(path=str(tmp_path / "data"))
    first = plan_files(source, FileCursor(), 1000, passes=2)
    assert (first.last, first.after.number) == (True, 1)
    second = plan_files(source, first.after.next_pass(), 20, passes=2)
    assert (second.last, second.after.number, len(second.after.part)) == (False, 2, 1)
    text = json.dumps(cursors_to_json(Cursors(second.after)))
    assert cursors_from_json(json.loads(text)).files == second.after
    assert {origin.source for origin in second.covered()} == {"files, pass 2"}


def refreshed(value: float, rows: int = 10, **more: float) -> Refresh:
    progress = Progress(rows=rows)
    measured = {"m": {"mse": value, **more}}
    return Refresh(1, None, progress, measured, measured, "m", Verdict(True), {})


def after(values: list[float], stopping: EarlyStopping | None, passes: int = 9, before: Passes | None = None) -> Passes:
    before = before or Passes()
    for value in values:
        before = after_round(before, before.judged + 1, True, [refreshed(value)], passes, stopping)
    return before


def test_a_pass_is_judged_by_the_mean_over_its_rows() -> None:
    rounds = [refreshed(1.0, 10), refreshed(4.0, 20)]
    one = after_round(after_round(Passes(), 1, False, rounds[:1], 3, None), 1, True, rounds[1:], 3, None)
    assert one.values == (3.0,)
    assert (one.rows, one.metric) == ((30,), "mse")
    again = after_round(one, 2, True, [refreshed(2.0)], 3, None)
    assert again.values == (3.0, 2.0)
    assert after_round(again, 1, False, [refreshed(7.0)], 3, None).values == (7.0,), "a new lot"


def test_passes_end_when_the_loss_stands_still() -> None:
    stopping = EarlyStopping(patience=2, tolerance=0.01)
    one = after([1.0, 0.5, 0.499, 0.498], stopping)
    assert one.stopped.startswith("stopped after pass 4 of 9: mse is 0.498, no better by 0.01 of it in 2 pass(es)")
    assert not one.continues(4, 9)
    assert one.continues(4, 10)
    assert not after([1.0, 0.5, 0.499], stopping).stopped
    assert not after([1.0, 1.0, 1.0], stopping, passes=3).stopped, "they have all been had"
    assert not after([1.0, 1.0, 1.0], None).stopped
    more = after([0.497], stopping, 12, one)
    assert more.stopped == ""
    assert after([0.497, 0.496], stopping, 12, one).stopped.startswith("stopped after pass 6 of 12")


def test_a_named_metric_may_be_better_when_larger() -> None:
    stopping = EarlyStopping(patience=1, metric="auc")
    one = Passes()
    for number, auc in enumerate((0.5, 0.6, 0.7), start=1):
        one = after_round(one, number, True, [refreshed(1.0, auc=auc)], 9, stopping)
        assert not one.stopped
    assert after_round(one, 4, True, [refreshed(0.1, auc=0.7)], 9, stopping).stopped.startswith(
        "stopped after pass 4 of 9: auc"
    )
    with pytest.raises(InvalidValue, match=r"early_stopping\.metric must be one of mse; got 'f1'"):
        after_round(one, 4, True, [refreshed(0.1)], 9, EarlyStopping(metric="f1"))


def test_a_first_pass_of_one_round_has_no_model_to_judge() -> None:
    bare = Refresh(1, None, Progress(rows=5), {}, {}, None, Verdict(True), {})
    stopping = EarlyStopping(patience=1)
    one = after_round(Passes(), 1, True, [bare], 9, stopping)
    assert (one.values, one.stopped) == ((), "")
    assert not after([], stopping, 9, after_round(one, 2, True, [refreshed(1.0)], 9, stopping)).stopped


def test_a_job_stops_early_says_so_and_stays_stopped(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path, name)
    stopping = {"patience": 1, "tolerance": 0.9}
    one = job(tmp_path, passes=9, early_stopping=stopping)
    done = run(one)
    number = done[-1].passes.number
    assert 2 <= number < 9
    assert [bool(r.passes.stopped) for r in done] == [False] * (len(done) - 1) + [True]
    assert done[-1].manifest.next["passes"]["stopped"].startswith(f"stopped after pass {number} of 9: mse is ")
    assert run(one) == []
    assert run(job(tmp_path, passes=number + 1, early_stopping=stopping)) == [], "fewer were asked for than then"
    more = run(job(tmp_path, passes=10, early_stopping=stopping))
    assert more[0].passes.number == number + 1
    write(tmp_path, "c")
    fresh = run(job(tmp_path, passes=10, early_stopping=stopping))
    assert fresh[0].passes.number == 1
    assert learner(one).progress.repeated == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"passes": 0}, r"job\.passes must be >= 1; got 0\."),
        (
            {"source": {"kind": "kafka", "brokers": "b:1", "topic": "t", "path": None, "round_files": None}},
            r"passes must be 1 with a Kafka topic, which has no end to begin again after; got 2\.",
        ),
        ({"spec": {"algorithm": "linear.newton"}, "models": {}}, r"job\.passes must be 1 with linear\.newton"),
        ({"spec": {"algorithm": "pca"}, "models": {}}, r"job\.passes must be 1 with pca: one pass is exact.*; got 2\."),
        (
            {"refresh": "1d", "features": {"numeric": ["x"], "label": "y", "time": "t"}},
            r"passes must be 1 where refresh is a duration, since a window is folded once; got 2 \(refresh = 'round'\)\.",
        ),
        ({"source": {"remember": "1d"}}, r"passes must be 1 with source\.remember"),
        ({"passes": 1, "early_stopping": {}}, r"early_stopping ends passes before their number: passes must be > 1"),
        ({"early_stopping": {"patience": 0}}, r"early_stopping\.patience must be >= 1; got 0\."),
    ],
)
def test_who_may_not_have_passes(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    whole = settings(tmp_path, passes=2)
    if "kind" in change.get("source", {}):
        whole["source"] = {key: value for key, value in change["source"].items() if value is not None}
    else:
        whole |= {**change, "source": whole["source"] | change.get("source", {})}
    with pytest.raises(InvalidValue, match=sentence):
        Job.parse(whole)


def test_a_source_that_is_followed_has_no_second_pass(tmp_path: Path) -> None:
    write(tmp_path, "a")
    one = job(tmp_path, passes=2)
    with pytest.raises(InvalidValue, match=r"job\.passes must be 1 with follow, which has no end to begin again after"):
        list(train(one, Registry(one.registry), Mode("follow")))
