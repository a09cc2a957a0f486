"""Models of ranges of time: what is composed is what was learned in them, and every odd range is one clear sentence."""

import dataclasses
import datetime
import re

import numpy as np
import pytest

from beam_ml import api
from beam_ml.algorithms import kmeans, linear, pca, quantile
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch
from beam_ml.errors import CorruptArtefact, InvalidValue, VersionNotFound, WrongKind
from beam_ml.ledger import Ledger, Rules
from beam_ml.ledger.book import covering, refusal
from beam_ml.ledger.ledger import time_of
from beam_ml.registry import File, Registry, read_index, retention, sweep, tidy
from beam_ml.registry import ledger as ledger_files
from beam_ml.registry.ledger import entries_in
from tests.ledger.support import DAY, ROWS, Trainer, rows


@pytest.fixture(scope="module")
def month() -> Trainer:
    """Thirty days of `linear.Newton`, in memory: tests read it."""
    return Trainer(Registry("memory://")).days(30)


def loss(model, days):
    y = np.concatenate([rows(day).label for day in days])
    p = api.predict(model, Batch.concat([rows(day) for day in days]))["score"]
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


@pytest.mark.parametrize("span", [range(20, 30), range(14, 21), range(3, 17)])
def test_a_composed_model_is_the_maximum_likelihood_fit_of_its_days(month, span):
    found = Ledger(month.registry, "name").compose(span.start * DAY, span.stop * DAY)
    assert (found.start, found.end, found.windows) == (span.start * DAY, span.stop * DAY, len(span))
    assert found.files <= 2 * np.ceil(np.log2(len(span)))
    assert found.learner.progress.rows == ROWS * len(span)
    whole = api.fit(linear.Newton(n_features=3), [Batch.concat([rows(day) for day in span])])
    composed, refitted = (loss(api.derive(one, "classifier"), span) for one in (found.learner, whole))
    assert composed <= 1.001 * refitted


EXACT = (
    (pca.PCA, pca.Spec(n_features=3)),
    (linear.NEWTON, linear.Newton(n_features=3, loss="squared")),
    (quantile.QUANTILE, quantile.Spec(n_features=3)),
)


@pytest.mark.parametrize(("algorithm", "spec"), EXACT, ids=["pca", "squared", "quantile"])
@pytest.mark.parametrize("rules", [Rules(), Rules(roll_up=["2d", "6d"])], ids=["dyadic", "given"])
def test_exact_sums_of_a_range_are_those_of_its_rows(algorithm, spec, rules):
    trainer = Trainer(Registry("memory://"), spec, algorithm, rules).days(11)
    ledger = Ledger(trainer.registry, "name")
    for start, stop in ((0, 11), (1, 8), (4, 5), (5, 11)):
        found = ledger.compose(start * DAY, stop * DAY).learner
        assert close(found.state, trainer.summed(range(start, stop)), rtol=1e-9)


def test_windows_that_were_learned_without_an_anchor_are_kept_as_sums_once_there_is_one():
    trainer = Trainer(Registry("memory://"))
    trainer.day(0)
    trainer.day(*range(1, 13))
    ledger = Ledger(trainer.registry, "name")
    single = [one for one in ledger.index.windows if one.windows == 1]
    waiting = [ledger.accumulation(one).parts for one in single]
    assert [len(next(iter(one.values())).dated.summary.pending_key) for one in waiting] == [ROWS] + [0] * 12
    assert [*waiting[0]] == [0]  # the first had none
    assert {number for one in waiting[1:] for number in one} == {2}
    composed = api.derive(ledger.compose(DAY).learner, "classifier")
    whole = api.fit(linear.Newton(n_features=3), [Batch.concat([rows(day) for day in range(1, 13)])])
    span = range(1, 13)
    assert loss(composed, span) <= 1.001 * loss(api.derive(whole, "classifier"), span)


def test_rows_that_are_forgotten_weigh_in_a_range_by_their_age():
    spec = linear.Newton(n_features=3, loss="squared", half_life="2d")
    trainer = Trainer(Registry("memory://"), spec).days(7)
    found = Ledger(trainer.registry, "name").compose(2 * DAY).learner
    assert found.dated.time == trainer.learner.dated.time
    whole = api.fit(spec, [Batch.concat([rows(day) for day in range(2, 7)])])
    assert close(found.state, whole.state, rtol=1e-9)


def test_sketches_compose_and_gradients_say_why_not():
    spec = kmeans.Spec(n_features=3, k_max=4)
    trainer = Trainer(Registry("memory://"), spec, kmeans.KMEANS).days(5)
    assert Ledger(trainer.registry, "name").compose(DAY, 4 * DAY).learner.state.weight.sum() == pytest.approx(3 * ROWS)
    adagrad = Trainer(Registry("memory://"), linear.AdaGrad(n_features=3), linear.ADAGRAD)
    assert "steps from an anchor" in refusal(adagrad.algorithm, adagrad.spec)


def test_times_are_written_as_people_write_them(month):
    ledger = Ledger(month.registry, "name")
    dated = [datetime.datetime(1970, 1, day, tzinfo=datetime.UTC) for day in (5, 9)]
    for start, end in ((4 * DAY, 8 * DAY), ("1970-01-05", "1970-01-09T00:00:00Z"), dated):
        found = ledger.compose(start, end)
        assert (found.start, found.end) == (4 * DAY, 8 * DAY)
    assert ledger.compose().windows == 30
    assert repr(ledger).endswith("1970-01-01T00:00:00 to 1970-01-31T00:00:00)")


@pytest.mark.parametrize(
    ("start", "end", "sentence"),
    [
        (40 * DAY, 50 * DAY, "has no window from 1970-02-10T00:00:00"),
        (3 * DAY, 3 * DAY, "must end after it starts"),
        (
            3 * DAY + 1,
            9 * DAY,
            "cuts a window at 1970-01-04T00:00:00.000001: the nearest bounds are 1970-01-04T00:00:00",
        ),
        (3 * DAY + 1, 3 * DAY + 2, "cuts a window"),
        ("soon", 9 * DAY, "start must be a time such as 2018-05-01"),
    ],
)
def test_an_odd_range_is_one_clear_sentence(month, start, end, sentence):
    with pytest.raises(InvalidValue, match=re.escape(sentence)):
        Ledger(month.registry, "name").compose(start, end)


def test_whole_numbers_are_microseconds_of_whatever_type():
    assert time_of("start", np.int64(8 * DAY)) == 8 * DAY  # ms of 1991, by its size


def test_a_range_that_cuts_what_is_kept_merged_names_its_bounds():
    trainer = Trainer(Registry("memory://"), *EXACT[0][::-1], Rules(roll_up=["4d"], fine="3d", keep="9d")).days(13)
    ledger = Ledger(trainer.registry, "name")
    spans = [(one.start // DAY, one.end // DAY) for one in ledger.index.windows]
    assert spans == [(4, 8), (8, 12), (8, 9), (9, 10), (10, 11), (11, 12), (12, 13)]
    with pytest.raises(InvalidValue, match=r"4 windows that are kept merged at .*-06T.*-05T00:00:00 and 1970-01-09T"):
        ledger.compose(5 * DAY, 12 * DAY)
    with pytest.raises(InvalidValue, match=r"must start at 1970-01-05T00:00:00 or later"):
        ledger.compose(3 * DAY, 12 * DAY)
    assert close(ledger.compose(4 * DAY).learner.state, trainer.summed(range(4, 13)), rtol=1e-9)


def test_any_range_is_made_of_few_files(month):
    windows = read_index(month.registry.objects, month.registry.manifest("name", 30)).windows
    for start in range(30):
        for stop in range(start + 1, 31):
            chosen = covering(windows, start * DAY, stop * DAY)
            assert [one.start for one in chosen[1:]] == [one.end for one in chosen[:-1]]
            assert (chosen[0].start, chosen[-1].end) == (start * DAY, stop * DAY)
            assert len(chosen) <= max(1, 2 * np.log2(stop - start))


def broken(registry, path):
    data = bytearray(registry.objects.get(path))
    data[-1] ^= 1
    registry.objects.put(path, bytes(data))


def test_a_damaged_window_is_named_and_left_out_only_when_asked():
    trainer = Trainer(Registry("memory://"), *EXACT[0][::-1]).days(3)
    ledger = Ledger(trainer.registry, "name")
    window = next(one for one in ledger.index.windows if one.start == 2 * DAY)
    broken(trainer.registry, window.file.path)
    with pytest.raises(CorruptArtefact, match=window.file.path):
        ledger.compose()
    found = ledger.compose(without_damaged=True)
    assert (found.windows, found.end) == (2, 2 * DAY)
    assert window.file.path in found.left_out[0]
    with pytest.raises(CorruptArtefact, match="no readable window"):
        ledger.compose(2 * DAY, without_damaged=True)
    broken(trainer.registry, ledger.manifest.ledger.path)
    with pytest.raises(CorruptArtefact, match="the ledger's index of name version 3"):
        Ledger(trainer.registry, "name")


def test_a_ledger_of_another_spec_or_none_is_refused():
    registry = Registry("memory://")
    Trainer(registry, *EXACT[0][::-1]).days(2)
    other = Trainer(registry, quantile.Spec(n_features=3), quantile.QUANTILE, name="other")
    other.day(0, ledger=False)
    with pytest.raises(VersionNotFound, match="other version 1 has no ledger"):
        Ledger(registry, "other")
    other.day(1)
    manifest = registry.manifest("name", 2)
    index = read_index(registry.objects, manifest)
    moved = Ledger(registry, "other")
    moved.index = index
    with pytest.raises(WrongKind, match="is of another spec"):
        moved.compose()


def test_a_ledger_that_begins_late_does_not_reach_further_back():
    trainer = Trainer(Registry("memory://"), *EXACT[0][::-1])
    trainer.day(0, ledger=False)
    trainer.days(6, start=1)
    ledger = Ledger(trainer.registry, "name")
    with pytest.raises(InvalidValue, match="must start at 1970-01-02T00:00:00 or later"):
        ledger.compose(0)
    assert all(one.start >= DAY for one in ledger.index.windows)
    assert close(ledger.compose().learner.state, trainer.summed(range(1, 6)), rtol=1e-9)


def test_windows_of_one_publish_and_of_several_are_the_same_ledger():
    one, three = (Trainer(Registry("memory://"), *EXACT[0][::-1]) for _ in range(2))
    one.day(0, 1, 2, 3, 4)
    three.day(0, 1)
    three.day(2)
    three.day(3, 4)
    spans = [[(w.start, w.end, w.rows) for w in Ledger(t.registry, "name").index.windows] for t in (one, three)]
    assert spans[0] == spans[1]


def test_a_ledger_copied_to_another_store_reads(month, tmp_path):
    there = Registry(tmp_path)
    for stat in month.registry.objects.walk("name"):
        there.objects.put(stat.path, month.registry.objects.get(stat.path))
    assert close(Ledger(there, "name").compose().learner.state, Ledger(month.registry, "name").compose().learner.state)


def test_a_kill_between_ledger_and_manifest_leaves_neither(monkeypatch):
    registry = Registry("memory://")
    trainer = Trainer(registry, *EXACT[0][::-1]).days(3)
    before = Ledger(registry, "name").index
    real, written = registry.objects.put, []

    class Killed(BaseException):
        pass

    for instant in range(1, 5):  # learner, window, index, and before the manifest

        def put(path, data, instant=instant):
            if len(written) == instant:
                raise Killed
            real(path, data)
            written.append(path)

        def create(path, data):
            raise Killed

        written.clear()
        monkeypatch.setattr(type(registry.objects), "put", lambda self, path, data: put(path, data))
        monkeypatch.setattr(type(registry.objects), "create", lambda self, path, data: create(path, data))
        with pytest.raises(Killed):
            Trainer(registry, trainer.spec, trainer.algorithm, learner=trainer.learner, version=3).day(3)
        monkeypatch.undo()
        assert registry.head_number("name") == 3
        assert Ledger(registry, "name").index == before
    orphans = [path for path in written if "/ledger/" in path]
    assert len(orphans) >= 2
    trainer.day(5)  # another day's files: what the killed attempts have left is named by no version
    registry.clock = lambda: 4e9
    assert set(sweep(registry, "name", 0.0)) >= set(orphans)
    assert Ledger(registry, "name").compose().windows == 4


def test_retention_removes_old_indices_and_no_window_that_a_version_names():
    registry = Registry("memory://")
    Trainer(registry, *EXACT[0][::-1], Rules(keep="4d", roll_up=["2d"])).days(12)
    registry.clock = lambda: 4e9
    tidy(registry, "name", 2, 0.0)
    for version in (11, 12):
        assert Ledger(registry, "name", version).compose().windows >= 4
    left = {stat.path for stat in registry.objects.walk("name/ledger")}
    indices = {path for path in left if "index-" in path}
    assert indices == {registry.manifest("name", version).ledger.path for version in (11, 12)}
    assert len(left) < 16


def test_a_long_ledger_is_swept_once_in_some_versions(monkeypatch):
    registry = Registry("memory://")
    trainer = Trainer(registry, *EXACT[0][::-1])
    trainer.days(3)
    registry.clock = lambda: 4e9
    tidy(registry, "name", 2, 0.0)  # the first of a process looks at all
    indices = []
    for day in range(4, 9):
        trainer.day(day)
        assert entries_in(registry.objects, registry.manifest("name", day)) >= day
        monkeypatch.setattr(retention, "_LEDGER_FILES", 1)
        monkeypatch.setattr(retention, "_LEDGER_VERSIONS", 4)
        tidy(registry, "name", 2, 0.0)
        indices.append(sum("index-" in stat.path for stat in registry.objects.walk("name/ledger")))
    assert indices == [2, 3, 4, 5, 2]
    assert Ledger(registry, "name").compose().windows == 8


def test_an_index_that_is_not_known_stops_the_sweep(monkeypatch):
    registry = Registry("memory://")
    Trainer(registry, *EXACT[0][::-1]).days(3)
    registry.clock = lambda: 4e9
    before = {stat.path for stat in registry.objects.walk("name/ledger")}
    manifests = [registry.manifest("name", number) for number in (1, 2, 3)]
    for newer in ({"format": 2, "windows": []}, {"format": 1, "windows": [{}]}, []):
        monkeypatch.setattr(ledger_files.json, "loads", lambda *_, newer=newer: newer)
        assert ledger_files.named_files(registry.objects, manifests) is None
        monkeypatch.undo()
    manifest = registry.manifest("name", 3)
    registry.objects.put(manifest.ledger.path, b"{}")
    assert not [path for path in sweep(registry, "name", 0.0) if "/ledger/" in path]
    assert {stat.path for stat in registry.objects.walk("name/ledger")} == before


@pytest.mark.parametrize(
    "rules",
    [Rules(), Rules(keep="9d", roll_up=["2d", "4d"]), Rules(fine="3d"), Rules(keep="20d", fine="5d", roll_up=["4d"])],
    ids=["all", "keep", "fine", "both"],
)
def test_entries_in_files_of_their_own_read_as_what_the_trainer_knows(monkeypatch, rules):
    monkeypatch.setattr(ledger_files, "_SEALED", 4)
    monkeypatch.setattr(ledger_files, "_JOINED", 3)
    registry = Registry("memory://")
    trainer = Trainer(registry, *EXACT[0][::-1], rules)
    for day in range(40):
        manifest = trainer.day(day)
        known = trainer.keeper._newest[2]
        read = read_index(registry.objects, manifest)
        assert read.windows == known.windows
        assert (read.sealed, read.fresh, read.since) == (known.sealed, known.fresh, known.since)
        assert len(read.fresh) < 4
    if rules.keep is not None:
        assert min(one.end for one in read.windows) > trainer.learner.folded_through - 20 * DAY
        assert len(read.sealed) < 16
    # A trainer that starts anew goes on with it.
    again = Trainer(registry, trainer.spec, trainer.algorithm, rules, learner=trainer.learner, version=40)
    trainer.day(40)
    other = Registry("memory://")
    for stat in registry.objects.walk("name"):
        if not stat.path.startswith("name/v41/"):
            other.objects.put(stat.path, registry.objects.get(stat.path))
    again.registry = other
    again.day(40)
    assert Ledger(other, "name").index == Ledger(registry, "name").index


def test_an_index_names_some_log_n_files_and_is_small_however_long_the_ledger_is():
    file = File(path="p", sha256="0" * 64, bytes=1)
    index, largest = ledger_files.Index(fingerprint="f", size=1, through=0), 0
    written = 0
    for at in range(5_000):
        one = ledger_files.Window(at, at + 1, 1, 1, file)
        index = dataclasses.replace(index, windows=(*index.windows, one), fresh=(*index.fresh, one), through=at + 1)
        named, files, index = ledger_files.index_of("name", index)
        largest, written = max(largest, named.bytes), written + sum(map(len, files.values()))
    assert sum(len(one.windows) for one in index.sealed) + len(index.fresh) == 5_000
    assert len(index.sealed) <= 2 * 15
    assert largest < 20_000  # the entries are 600 KB
    assert written / 5_000 < 10_000


def test_damaged_entries_are_named(monkeypatch):
    monkeypatch.setattr(ledger_files, "_SEALED", 4)
    trainer = Trainer(Registry("memory://"), *EXACT[0][::-1]).days(6)
    (first, *_) = Ledger(trainer.registry, "name").index.sealed
    broken(trainer.registry, first.file.path)
    with pytest.raises(
        CorruptArtefact, match=f"{first.file.path}, entries of the ledger of name version 6, is damaged"
    ):
        Ledger(trainer.registry, "name")
