"""Raw rows in rounds: rolling features, predictions and labels that come later, however the rows are cut into rounds."""

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml.beam.job import Job
from beam_ml.beam.job.looking import look
from beam_ml.beam.rounds import Mode, Round, driver, train
from beam_ml.beam.rounds.prepare import preparer, slices
from beam_ml.beam.rounds.prepare.kept import PAYLOAD, Kept, decode_kept, nothing_kept
from beam_ml.beam.rounds.prepare.step import Arrived, arrived, prepare
from beam_ml.beam.versions.resume import resume
from beam_ml.cli.checking import checked
from beam_ml.errors import BeamMLError, InvalidValue, NoInput, PublishFailed, SourceError
from beam_ml.formats.block import Block
from beam_ml.registry import Registry, keep

DAY = 86_400_000_000
START = 1_704_067_200_000_000
DAYS, PER_DAY, SHOPS = 8, 120, 6
MATURITY = 2


def _world(seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    n = DAYS * PER_DAY
    at = np.sort(START + rng.choice(DAYS * 86_400, n, replace=False).astype(np.int64) * 1_000_000)
    shop = rng.integers(0, SHOPS, n)
    amount = rng.gamma(2.0, 20.0, n).round(2)
    fraud = rng.random(n) < 0.05 + 0.4 * (shop == 0)
    known = at + (rng.uniform(0.05, 1.9, n) * DAY).astype(np.int64)
    order = np.argsort(known[fraud], kind="stable")
    reports = {"tx": np.flatnonzero(fraud)[order], "at": known[fraud][order]}
    return {"tx": np.arange(n), "at": at, "shop": shop, "amount": amount, "fraud": fraud}, reports


def _stamps(us: np.ndarray) -> pa.Array:
    return pa.array(us.astype("datetime64[us]"), pa.timestamp("us", tz="UTC"))


def _days(us: np.ndarray) -> np.ndarray:
    return (us - START) // DAY


def _write(root: Path, rows: dict[str, np.ndarray], reports: dict[str, np.ndarray]) -> None:
    for name in ("rows", "reports"):
        (root / name).mkdir(parents=True)
    for day in range(DAYS):
        mine = _days(rows["at"]) == day
        table = {name: rows[name][mine] for name in ("tx", "shop", "amount")} | {"at": _stamps(rows["at"][mine])}
        pq.write_table(pa.table(table), root / "rows" / f"{day:03d}.parquet")
    for day in np.unique(_days(reports["at"])):
        mine = _days(reports["at"]) == day
        table = {"tx": reports["tx"][mine], "reported": _stamps(reports["at"][mine]), "fraud": np.ones(int(mine.sum()))}
        pq.write_table(pa.table(table), root / "reports" / f"{day:03d}.parquet")


AGGREGATES = [
    {"key": "shop", "of": "count", "windows": ["1d"]},
    {"key": "shop", "of": "mean", "value": "amount", "windows": ["2d"]},
    {"key": "shop", "of": "mean", "value": "fraud", "windows": [{"length": "3d", "delay": "2d"}], "empty": 0.0},
]
NAMES = ["count_by_shop_1d", "mean_amount_by_shop_2d", "mean_fraud_by_shop_3d_delay_2d"]


def _labels(root: Path) -> dict[str, Any]:
    return {
        "id": "tx", "time": "at", "label": "fraud", "reported": "reported", "maturity": f"{MATURITY}d",
        "source": {"path": str(root / "reports")},
    }  # fmt: skip


def _job(root: Path, **changes: Any) -> Job:
    settings = {
        "name": "fraud",
        "registry": str(root / "registry"),
        "refresh": "1d",
        "source": {"path": str(root / "rows"), "round_files": 1},
        "rolling": {"time": "at", "aggregates": AGGREGATES, "shards": 2},
        "labels": _labels(root),
        "predictions": {"path": str(root / "predictions"), "columns": ["at"], "features": True},
        "features": {"numeric": ["amount", *NAMES], "label": "fraud", "time": "known_at"},
        "spec": {"algorithm": "linear.newton", "loss": "logistic", "half_life": "14d"},
        "models": {"m": {"kind": "classifier"}},
    }  # fmt: skip
    return Job.parse({key: value for key, value in {**settings, **changes}.items() if value is not None})


def _run(job: Job, **options: Any) -> list[Round]:
    return list(train(job, Registry(job.registry), Mode("once", close=True), threads=1, **options))


def _predictions(root: Path) -> pa.Table:
    files = sorted((root / "predictions").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(one) for one in files]).sort_by("tx")


def _expected(rows: dict[str, np.ndarray], reports: dict[str, np.ndarray], i: int) -> list[float]:
    """Compute a row's features by looking at every row and report."""
    at, shop = rows["at"][i], rows["shop"] == rows["shop"][i]
    before = rows["at"] <= at
    known = rows["at"] + MATURITY * DAY  # of what nobody reports
    known[reports["tx"]] = reports["at"]
    day = shop & before & (rows["at"] > at - DAY)
    two = shop & before & (rows["at"] > at - 2 * DAY)
    risk = shop & (rows["at"] <= at - 2 * DAY) & (rows["at"] > at - 5 * DAY) & (known < at)
    return [day.sum(), rows["amount"][two].mean(), rows["fraud"][risk].mean() if risk.any() else 0.0]


def test_rows_are_scored_with_what_was_known_then(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    rounds = _run(_job(tmp_path))
    found = _predictions(tmp_path)
    assert len(found) > 3 * PER_DAY
    assert len(set(found["tx"].to_pylist())) == len(found)
    for row in found.to_pylist()[::7]:
        np.testing.assert_allclose([row[name] for name in NAMES], _expected(rows, reports, row["tx"]), rtol=1e-12)
    facts = rounds[-1].manifest.extra[PAYLOAD]
    assert facts["predictions"]["scored"] == len(found)
    assert facts["labels"]["rows"] + 1 == len(rows["tx"])  # the newest row waits for one that is newer still
    versions = found["model_version"].to_numpy()
    assert (versions[1:] >= versions[:-1]).all()
    assert versions.min() < versions.max()


@pytest.mark.parametrize("when", ["mature", "known"])
def test_every_row_is_learned_once_with_its_label(tmp_path: Path, when: str) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    rounds = _run(_job(tmp_path, labels={**_labels(tmp_path), "learned": when}))
    learned = sum(one.progress.rows for one in rounds)
    newest = rows["at"].max()
    matured = rows["at"] + MATURITY * DAY
    settled = matured.copy()
    settled[reports["tx"]] = reports["at"]
    assert learned == int(((matured if when == "mature" else settled) < newest).sum())
    assert rounds[-1].manifest.extra[PAYLOAD]["waiting"] == len(rows["tx"]) - learned
    assert (
        sum(one.progress.rejected.total() if isinstance(one.progress.rejected, Counter) else 0 for one in rounds) == 0
    )
    reported = np.isin(np.flatnonzero(settled < newest), reports["tx"])
    counts = rounds[-1].manifest.extra[PAYLOAD]["labels"]
    assert (counts["labelled"], counts["unreported"]) == (int(reported.sum()), int((~reported).sum()))


@pytest.mark.parametrize("files", [2, 3, DAYS])
def test_how_rows_are_cut_into_rounds_changes_nothing(tmp_path: Path, files: int) -> None:
    rows, reports = _world(1)
    ends = []
    for name, per_round in (("one", 1), ("several", files)):
        root = tmp_path / name
        _write(root, rows, reports)
        job = _job(root, predictions=None, source={"path": str(root / "rows"), "round_files": per_round})
        _run(job)
        registry = Registry(job.registry)
        head = registry.head_number("fraud")
        kept = decode_kept(job, registry.read("fraud", head, PAYLOAD))
        manifest = registry.manifest("fraud", head)
        states = [(state.before, state.nbytes, [p.keys() for p in state.parts]) for state in kept.rolling.values()]
        assert kept.waiting is not None
        waiting = kept.waiting.columns
        assert waiting is not None
        ends.append((kept.until, kept.released, states, waiting.to_pydict(), manifest.progress["rows"]))
    assert ends[0] == ends[1]


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    rows, reports = _world(2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    payloads = []
    for root in (whole, parts):
        _write(root, rows, reports)
        job = _job(root)
        if root == parts:
            for n in range(1, DAYS + 1):
                stop = iter([False, True])
                list(train(job, Registry(job.registry), Mode("once"), threads=1, stopping=lambda s=stop: next(s)))
                assert Registry(job.registry).head_number("fraud") == n
        _run(job)
        registry = Registry(job.registry)
        kept = decode_kept(job, registry.read("fraud", registry.head_number("fraud"), PAYLOAD))
        assert kept.waiting is not None
        payloads.append((kept.until, kept.released, kept.waiting.columns.to_pydict()))  # type: ignore[union-attr]
    assert payloads[0] == payloads[1]
    a, b = _predictions(whole), _predictions(parts)
    assert a.drop_columns(["model_version"]).equals(b.drop_columns(["model_version"]))


@pytest.mark.parametrize("where", ["publish", "deliver"])
def test_a_round_that_dies_at_its_publish_has_its_effect_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    rows, reports = _world(3)
    sound, broken = tmp_path / "sound", tmp_path / "broken"
    for root in (sound, broken):
        _write(root, rows, reports)
    _run(_job(sound))
    module, calls = (driver, iter(range(100))) if where == "publish" else (preparer, iter(range(100)))
    real = getattr(module, where)

    def dies(*args: Any, **kwargs: Any) -> Any:
        if next(calls) % 3 == 1:
            message = "the store is away"
            raise PublishFailed(message)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, where, dies)
    job = _job(broken)
    for _ in range(3 * DAYS):
        try:
            _run(job)
            break
        except PublishFailed:
            continue
    else:
        pytest.fail("never through")
    assert _predictions(sound).equals(_predictions(broken))
    ends = [Registry(str(root / "registry")) for root in (sound, broken)]
    facts = [one.manifest("fraud", one.head_number("fraud")).extra[PAYLOAD] for one in ends]
    assert facts[0] == facts[1]


def test_what_is_refused_is_counted_once_and_written_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "reports").mkdir()
    stamp = "2024-01-{:02d}T10:00:00Z".format
    lines = ["tx,at,shop,amount"]
    lines += [f"{i},{stamp(1 + i)},a,{i}" for i in range(9)]
    lines += [f"9,{stamp(3)},a,9", "10,,a,10", "11,never,a,11", "broken", f"12,{stamp(10)},a,12"]
    (tmp_path / "rows" / "a.csv").write_text("\n".join(lines[:10]) + "\n")
    (tmp_path / "rows" / "b.csv").write_text("\n".join([lines[0], *lines[10:]]) + "\n")
    reports = [f"3,{stamp(5)},1", f"77,{stamp(5)},1", f"3,{stamp(5)},0"]
    (tmp_path / "reports" / "a.csv").write_text("tx,reported,fraud\n" + "\n".join(reports) + "\n")
    rounds = _run(_job(tmp_path))
    rejected: Counter[str] = Counter()
    for one in rounds:
        rejected.update(one.progress.rejected)
    assert rejected["missing event time"] == 1
    assert rejected["event time cannot be read"] == 1
    assert rejected["late for rolling features"] == 1
    assert rejected["report without a row"] == 1
    assert sum(count for why, count in rejected.items() if "field" in why or "line" in why or "column" in why) == 1
    facts = rounds[-1].manifest.extra[PAYLOAD]["labels"]
    assert facts["report disagrees with another"] == 1
    registry = Registry(str(tmp_path / "registry"))
    written = []
    for number in registry.versions("fraud"):
        manifest = registry.manifest("fraud", number)
        for file in manifest.rejects:
            path = tmp_path / "registry" / "fraud" / "rounds" / manifest.round_id / file
            written += [json.loads(line) for line in path.read_text().splitlines()]
    assert {one["reason"] for one in written} == set(rejected)
    assert {Path(one["partition"]).name for one in written if "event time" in one["reason"]} == {"b.csv"}


def test_rolling_without_labels_learns_the_rows_themselves(tmp_path: Path) -> None:
    rows, _ = _world()
    (tmp_path / "rows").mkdir()
    table = pa.table({name: rows[name] for name in ("tx", "shop", "amount")} | {
        "at": _stamps(rows["at"]), "fraud": rows["fraud"]
    })  # fmt: skip
    pq.write_table(table, tmp_path / "rows" / "a.parquet")
    aggregates = AGGREGATES[:2]
    job = _job(
        tmp_path, labels=None, rolling={"time": "at", "aggregates": aggregates},
        features={"numeric": ["amount", *NAMES[:2]], "label": "fraud", "time": "at"},
        source={"path": str(tmp_path / "rows"), "round_rows": 100},
        predictions={"path": str(tmp_path / "predictions"), "columns": ["tx"], "features": True},
    )  # fmt: skip
    rounds = _run(job)
    assert sum(one.progress.rows for one in rounds) == len(rows["tx"]) - 1
    found = _predictions(tmp_path)
    for row in found.to_pylist()[::20]:
        expected = _expected(rows, {"tx": np.zeros(0, np.int64), "at": np.zeros(0, np.int64)}, row["tx"])
        np.testing.assert_allclose([row[name] for name in NAMES[:2]], expected[:2], rtol=1e-12)


def test_predictions_alone(tmp_path: Path) -> None:
    rows, _ = _world()
    (tmp_path / "rows").mkdir()
    table = {"tx": rows["tx"], "amount": rows["amount"], "fraud": rows["fraud"], "at": _stamps(rows["at"])}
    pq.write_table(pa.table(table), tmp_path / "rows" / "a.parquet")
    job = _job(
        tmp_path, labels=None, rolling=None, features={"numeric": ["amount"], "label": "fraud", "time": "at"},
        source={"path": str(tmp_path / "rows"), "round_rows": 100},
        predictions={"path": str(tmp_path / "predictions"), "columns": ["tx"], "format": "csv"},
    )  # fmt: skip
    facts = _run(job)[-1].manifest.extra[PAYLOAD]["predictions"]
    lines = [one.read_text().splitlines() for one in sorted((tmp_path / "predictions").glob("*.csv"))]
    assert lines[0][0].split(",")[0].strip('"') == "tx"
    assert sum(len(one) - 1 for one in lines) == facts["scored"] > 0
    assert facts["scored"] + facts["not scored"] == len(rows["tx"]) - 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": {"numeric": ["amount"], "label": "fraud", "time": "at"}}, "features.time must be 'known_at'"),
        ({"features": {"numeric": ["amount"], "label": "tx", "time": "known_at"}}, "features.label must be"),
        ({"rolling": {"time": "when", "aggregates": AGGREGATES}}, "labels.time must be that of rolling"),
        ({"rolling": {"time": "at", "lateness": "1h", "aggregates": AGGREGATES}}, "rolling.lateness must be left out"),
        ({"predictions": {"path": "p", "format": "cvs"}}, "cvs"),
        ({"predictions": {"columns": ["tx"]}}, "predictions.path or topic must be given"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        _job(tmp_path, **changes)


def test_rows_of_one_time_are_learned_together(tmp_path: Path) -> None:
    """A row that is reported is not learned before those around it: else what is new in the features would be blamed."""
    rows, reports = _world(4)
    _write(tmp_path, rows, reports)
    share = rows["fraud"].mean()
    found = {}
    for when in ("mature", "known"):
        job = _job(tmp_path, name=when, labels={**_labels(tmp_path), "learned": when}, predictions=None)
        refreshes = [refresh for one in _run(job) for refresh, _ in one.refreshes]
        found[when] = [one.measured["m"]["base_rate"] for one in refreshes if "base_rate" in one.measured.get("m", {})]
    assert max(abs(rate - share) for rate in found["mature"]) < 0.12
    assert found["known"][0] == 1.0, "of the first windows only reports are known"


def test_reports_are_read_up_to_the_clock_and_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "AHEAD", 1)
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    one_by_one = {"path": str(tmp_path / "reports"), "round_files": 1}
    job = _job(tmp_path, labels={**_labels(tmp_path), "source": one_by_one})
    registry = Registry(job.registry)
    for one in train(job, registry, Mode("once"), threads=1):
        kept = decode_kept(job, registry.read("fraud", one.manifest.number, PAYLOAD))
        files = kept.reports.files
        assert files is not None
        day = (kept.until - START) // DAY
        assert len(files.done) <= day + 2, "a file that holds the first report after the clock, and none behind it"


def test_reports_that_have_piled_up_are_joined_slice_by_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of all rows, its reports in slices of a file: each is joined before the next one is read."""
    rows, reports = _world(6)
    ends, most, losses = [], [], []

    def counted(job: Job, kept: Kept, came: Arrived, given: Any) -> Any:
        most[-1] = max(most[-1], sum(map(len, given)))
        return prepare(job, kept, came, given)

    monkeypatch.setattr(slices, "prepare", counted)
    for name, ahead, per_slice in (("whole", 1_000, DAYS + 2), ("slices", 5, 1)):
        monkeypatch.setattr(slices, "AHEAD", ahead)
        most.append(0)
        root = tmp_path / name
        _write(root, rows, reports)
        labels = {**_labels(root), "source": {"path": str(root / "reports"), "round_files": per_slice}}
        job = _job(root, predictions=None, labels=labels, source={"path": str(root / "rows"), "round_files": DAYS})
        (first, *_) = _run(job)
        facts = copy.deepcopy(first.manifest.extra[PAYLOAD])
        del facts["labels"]["reports"]  # none is read that no row has waited for
        ends.append((first.progress.rows, facts))
        losses.append(first.refreshes[-1][0].measured["m"]["log_loss"])
    assert ends[0] == ends[1]
    assert losses[0] == pytest.approx(losses[1])
    assert most[0] == len(reports["tx"])
    assert most[1] <= np.bincount(_days(reports["at"])).max()


def _raw(*days: float) -> Block:
    at = START + (np.array(days) * DAY).astype(np.int64)
    n = len(days)
    return Block(
        pa.record_batch({"tx": np.arange(n), "shop": np.zeros(n, int), "amount": np.ones(n), "at": _stamps(at)})
    )


@pytest.mark.parametrize("refresh", ["1d", "round"])
def test_a_single_row_dated_far_ahead_moves_no_clock(tmp_path: Path, refresh: str) -> None:
    spec = {"algorithm": "linear.newton", "loss": "logistic"}
    job, now = _job(tmp_path, labels=None, refresh=refresh, spec=spec, rolling=None, features={
        "numeric": ["amount"], "label": "shop", "time": "at"}), START + 10_000 * DAY  # fmt: skip
    kept = nothing_kept(job)
    clocks = []
    for days in ([0.0, 1.0, 2.0], [400.0], [3.0, 3.5], [50.0], [52.0], [54.0, 55.0]):
        came = arrived(job, kept, [_raw(*days)], now)
        assert came.rejected == ()
        kept = prepare(job, kept, came, ()).kept
        clocks.append((kept.until - START) / DAY)
    assert clocks == [2.0, 2.0, 3.5, 50.0, 52.0, 55.0], "the row of day 400 waits; two that are dated ahead are a pause"


def test_a_row_after_a_pause_that_a_watermark_has_passed_is_what_later_ones_are_compared_with(tmp_path: Path) -> None:
    """In a stream the watermark moves the clock, though rows come one by one."""
    features = {"numeric": ["amount"], "label": "shop", "time": "at"}
    job, now = _job(tmp_path, labels=None, rolling=None, features=features), START + 10_000 * DAY
    kept = nothing_kept(job)
    for days, passed in (([0.0, 1.0, 2.0], 2), ([400.0], 401)):
        came = arrived(job, kept, [_raw(*days)], now)
        kept = prepare(job, kept, came._replace(until=START + passed * DAY), ()).kept
    assert kept.held == ()
    came = arrived(job, kept, [_raw(*[3.0] * 120, 402.0)], now)
    assert came.rejected == (), "120 rows are late; the one beside them is not far ahead of what was passed"
    assert came.newest == START + 402 * DAY


def test_a_single_report_dated_far_ahead_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    """It is dated before now, so that it may be right: a replay of old data cannot say."""
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    table = pa.table({"tx": [7], "reported": _stamps(np.array([START + 500 * DAY])), "fraud": [1.0]})
    pq.write_table(table, tmp_path / "reports" / "000-typo.parquet")
    one_by_one = {"path": str(tmp_path / "reports"), "round_files": 1}
    rounds = _run(_job(tmp_path, predictions=None, labels={**_labels(tmp_path), "source": one_by_one}))
    known = rounds[-1].manifest.extra[PAYLOAD]["labels"]
    assert known["labelled"] == int((reports["at"] < rows["at"].max()).sum())


def test_a_file_of_reports_that_cannot_be_read_is_set_aside_and_counted_once(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    (tmp_path / "reports" / "002.parquet").write_bytes(b"PAR1 no more PAR1")
    skips = {"path": str(tmp_path / "reports"), "on_bad_file": "skip", "round_files": 2}
    job = _job(tmp_path, labels={**_labels(tmp_path), "source": skips})
    rounds = _run(job)
    rejected: Counter[str] = Counter()
    for one in rounds:
        rejected.update(one.progress.rejected)
    assert rejected == {"file set aside": 1}
    assert rounds[-1].manifest.extra[PAYLOAD]["labels"]["reports"] < len(reports["tx"])
    with pytest.raises(SourceError, match=r"002\.parquet"):
        _run(_job(tmp_path, name="strict"))


def test_check_shows_what_becomes_of_raw_rows(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    found = checked(look(_job(tmp_path)))
    first = int((_days(rows["at"]) == 0).sum())
    assert (found["rows_looked_at"], found["rows_to_score"], found["rejected"]) == (first, first, {})
    assert found["columns"] == {"tx": "int64", "shop": "int64", "amount": "double", "at": "timestamp[us, tz=UTC]"}
    assert found["rolling"] == NAMES
    assert set(found["report_columns"]) == {"tx", "reported", "fraud"}
    assert found["kept_bytes"] > 1000


def test_other_windows_do_not_continue_what_was_kept(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    next(iter(train(_job(tmp_path), Registry(str(tmp_path / "registry")), threads=1)))
    other = [{**AGGREGATES[0], "windows": ["2d"], "name": "count_by_shop"}, *AGGREGATES[1:]]
    job = _job(tmp_path, rolling={"time": "at", "aggregates": other, "shards": 2})
    with pytest.raises(InvalidValue, match=r"job\.(rolling|features)"):
        _run(job)
    longer = _job(tmp_path, labels={**_labels(tmp_path), "maturity": "1d"})
    with pytest.raises(
        InvalidValue, match=r"job.labels.maturity must be as fraud was trained with it, 172800.0; got 86400.0"
    ):
        _run(longer)


def test_bounds_may_be_moved_while_rows_wait(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    next(iter(train(_job(tmp_path), Registry(str(tmp_path / "registry")), threads=1)))
    moved = _job(
        tmp_path, labels={**_labels(tmp_path), "most_rows": 5_000, "most_bytes": 1 << 22},
        rolling={"time": "at", "aggregates": AGGREGATES, "shards": 2, "max_state_bytes": 1 << 20},
    )  # fmt: skip
    assert _run(moved)[-1].manifest.number > 2


def test_reports_that_are_nowhere_are_said_where(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    for file in (tmp_path / "reports").iterdir():
        file.unlink()
    with pytest.raises(NoInput, match=r"labels\.source\.path: "):
        _run(_job(tmp_path))


def test_damaged_bytes_of_what_is_kept_are_typed_errors(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    job = _job(tmp_path)
    _run(job)
    registry = Registry(job.registry)
    data = registry.read("fraud", registry.head_number("fraud"), PAYLOAD)
    decode_kept(job, data)
    rng = np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(data)
        at = int(rng.integers(len(bad)))
        if rng.random() < 0.5:
            bad[at] ^= 1 << int(rng.integers(8))
        else:
            del bad[at:]
        with pytest.raises(BeamMLError):
            decode_kept(job, bytes(bad))


@pytest.mark.parametrize("gone", [False, True])
def test_training_steps_back_from_a_version_whose_rows_that_wait_are_damaged(tmp_path: Path, gone: bool) -> None:
    """Its learner is whole, but would go on without the rows that wait: the version before has both."""
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    job = _job(tmp_path)
    registry, stop = Registry(job.registry), iter([False, False, True])
    list(train(job, registry, Mode("once"), threads=1, stopping=lambda: next(stop)))
    file = registry.manifest("fraud", 2).files[PAYLOAD]
    path = tmp_path / "registry" / file.path
    data = path.read_bytes()
    path.write_bytes(data[:-9])
    if gone:
        path.unlink()
    keep(registry, "fraud", 1, 0.0)
    (standing, learner) = resume(job, registry)
    assert (standing.version, standing.head) == (1, 2)
    assert decode_kept(job, registry.read("fraud", 1, PAYLOAD)).released >= learner.progress.rows
    path.write_bytes(data)
    assert resume(job, registry)[0].version == 2


def test_a_report_dated_in_the_future_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    reported = _stamps(np.array([4_102_444_800_000_000]))
    pq.write_table(
        pa.table({"tx": [7], "reported": reported, "fraud": [1.0]}), tmp_path / "reports" / "000-typo.parquet"
    )
    base = _job(tmp_path).to_dict()["labels"]
    labels = {**base, "source": {"path": str(tmp_path / "reports"), "round_files": 1}}
    rounds = _run(_job(tmp_path, labels=labels))
    assert sum((Counter(one.progress.rejected) for one in rounds), Counter()) == {"event time in the future": 1}
    known = rounds[-1].manifest.extra[PAYLOAD]["labels"]
    assert known["labelled"] == int((reports["at"] < rows["at"].max()).sum())


def test_raw_rows_are_neither_begun_nor_given_up_under_the_same_name(tmp_path: Path) -> None:
    rows, reports = _world()
    _write(tmp_path, rows, reports)
    _run(_job(tmp_path))
    with pytest.raises(InvalidValue, match=r"job\.rolling, job\.labels or job\.predictions must be given"):
        _run(_job(tmp_path, rolling=None, labels=None, predictions=None))
    features = {"numeric": ["amount"], "label": "shop", "time": "at"}
    plain = {"name": "plain", "rolling": None, "labels": None, "predictions": None, "features": features}
    plain |= {"spec": {"algorithm": "linear.newton", "loss": "squared"}, "models": {"m": {"kind": "regressor"}}}
    _run(_job(tmp_path, **plain))
    begun = {**plain, "predictions": {"path": str(tmp_path / "predictions")}}
    with pytest.raises(InvalidValue, match="must be left out, as when version"):
        _run(_job(tmp_path, **begun))


def test_predictions_of_a_topic_alone_are_for_streams(tmp_path: Path) -> None:
    _write(tmp_path, *_world())
    with pytest.raises(InvalidValue, match=r"predictions\.path must be given in rounds.*beam-ml stream"):
        _run(_job(tmp_path, predictions={"topic": "scores"}))


def test_rounds_leave_a_stream_alone_that_has_read_behind_a_hole(tmp_path: Path) -> None:
    """A topic's cursor stands at the hole: what lies behind it would be read twice."""
    _write(tmp_path, *_world())
    job = _job(tmp_path)
    newest = _run(job)[-1].manifest
    registry = Registry(job.registry)
    payloads = {name: registry.read(job.name, newest.number, name) for name in newest.files}
    facts = newest.extra | {PAYLOAD: {**newest.extra[PAYLOAD], preparer.BEYOND: {"kafka://c/t": {"0": [[1, 2]]}}}}
    registry.publish(job.name, payloads, parent=newest.number, round_id="stream", facts=facts)
    with pytest.raises(InvalidValue, match=r"must be continued by a stream, which had read messages behind some"):
        _run(job)
