"""Two logs against an oracle of dicts, whatever their formats, order and size."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml import formats
from beam_ml.consistency import Log, Tolerance, compare
from beam_ml.consistency import logs as room
from beam_ml.consistency.shares import FAN
from beam_ml.errors import InvalidValue, MissingColumn


def log(path, **given):
    return Log(formats.list_files(str(path)), formats.of_files(formats.format_of(str(path))), **given)


def write(path, columns):
    batch = pa.record_batch(columns)
    formats.write(str(path), [batch])
    return path


def served(n=4_000, seed=0):
    """A log, and the same computed again with known faults."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(n)
    amount, count = rng.normal(size=n), rng.integers(0, 50, n)
    a = {"id": ids, "amount": amount, "count": count, "shop": np.array([f"s{i % 7}" for i in ids])}
    again = rng.permutation(n)
    b = {name: values[again] for name, values in a.items()}
    b["amount"] = b["amount"].astype(np.float32)
    b["amount"][:40] += 1.0
    b["count"] = pa.array(b["count"], mask=np.arange(n) < 10)
    a["count"] = pa.array(a["count"], mask=np.isin(ids, b["id"][20:25]))
    b["shop"] = np.where(np.arange(n) < 4, "?", b["shop"])
    keep = np.arange(n) >= 2  # two rows of it are not computed again, and three are in it alone
    b = {name: pa.array(values).filter(pa.array(keep)) for name, values in b.items()}
    more = {
        "id": pa.array([n, n + 1, n + 2]),
        "amount": pa.array([0.0] * 3, pa.float32()),
        "count": pa.array([0] * 3),
        "shop": pa.array(["s"] * 3),
    }
    return a, {name: pa.concat_arrays([b[name], more[name].cast(b[name].type)]) for name in b}


def check(report, n=4_000):
    assert report.rows == [n, n + 1]
    assert report.both == n - 2
    assert report.rates == {"missing": pytest.approx(2 / n), "extra": pytest.approx(3 / (n + 1))}
    counts = {name: (one.mismatch, one.missing, one.extra) for name, one in report.features.items()}
    assert counts == {"amount": (38, 0, 0), "count": (0, 8, 5), "shop": (2, 0, 0)}
    assert len(report.missing) == 2
    assert report.extra == [str(n), str(n + 1), str(n + 2)]


@pytest.mark.parametrize("endings", [("parquet", "parquet"), ("csv", "parquet"), ("avro", "csv")])
def test_rates_are_those_of_the_faults(tmp_path, endings):
    a, b = served()
    files = [
        write(tmp_path / f"{name}.{ending}", of) for name, of, ending in (("a", a, endings[0]), ("b", b, endings[1]))
    ]
    report = compare(*map(log, files))
    check(report)
    assert report.worst == 38 / 3_998
    assert report.features["amount"].largest == pytest.approx(1.0)


def test_what_does_not_fit_is_cut_again(tmp_path, monkeypatch):
    """The same figures and examples with shares of few rows as with shares of many."""
    a, b = served()
    files = [write(tmp_path / f"{name}.parquet", of) for name, of in (("a", a), ("b", b))]
    at_once = compare(*map(log, files)).to_dict()
    cuts, largest = [], []
    again, tally = room.Shares.again, room._tally
    monkeypatch.setattr(room, "_SPREAD", 400)
    monkeypatch.setattr(room.Shares, "again", lambda self, number, n: cuts.append(n) or again(self, number, n))
    monkeypatch.setattr(
        room,
        "_tally",
        lambda report, pair, *rest: (
            largest.append(sum(x.num_rows for y in pair for x in y)) or tally(report, pair, *rest)
        ),
    )
    small = compare(*map(log, files), memory=1 << 20)
    check(small)
    assert small.to_dict() == at_once
    assert len(cuts) >= 2 * FAN
    assert max(largest) < 8_001 / FAN


def test_memory_does_not_grow_with_the_logs(tmp_path):
    """What is held at once is a share: of 16 times as many rows, the same bytes at most."""
    peaks = []
    for n in (4_000, 64_000):
        ids = np.arange(n)
        path = write(tmp_path / f"{n}.parquet", {"id": ids, "x": ids * 0.5, "text": np.array(["x" * 200] * n)})
        held = []
        found = room._tally

        def tally(report, pair, *rest, found=found, held=held):
            held.append(sum(one.nbytes for each in pair for one in each))
            found(report, pair, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "_tally", tally)
            compare(log(path), log(path), memory=1 << 20)
        peaks.append(max(held))
    assert peaks[1] <= (1 << 20) // 4


def test_the_worst_examples_are_kept_over_all_shares(tmp_path):
    n = 1_000
    a = write(tmp_path / "a.parquet", {"id": np.arange(n), "x": np.ones(n)})
    b = write(tmp_path / "b.parquet", {"id": np.arange(n), "x": 1.0 + np.arange(n) / n})
    report = compare(log(a), log(b), examples=3)
    assert [one[1] for one in report.features["x"].worst] == ["999", "998", "997"]
    assert report.features["x"].to_dict()["worst"][0] == {
        "id": "999",
        "a": 1.0,
        "b": 1.999,
        "relative": pytest.approx(0.999 / 1.999),
    }


def test_duplicates_are_counted_and_the_first_is_compared(tmp_path):
    a = write(tmp_path / "a.csv", {"id": ["7", "8", "007"], "x": [1.0, 2.0, 3.0]})
    b = write(tmp_path / "b.csv", {"id": ["7", "8"], "x": [1.0, 2.0]})
    report = compare(log(a), log(b))
    assert report.duplicates == [1, 0]
    assert report.rows == [2, 2]
    assert report.worst == 0.0


def test_a_column_of_one_log_is_missing_in_every_row(tmp_path):
    a = write(tmp_path / "a.parquet", {"id": [1, 2], "x": [1.0, None], "": [5, 6]})
    b = write(tmp_path / "b.parquet", {"key": [1, 2], "y": ["a", "b"], "": [5, 6]})
    report = compare(log(a), log(b, id="key"))
    assert {name: (one.mismatch, one.missing, one.extra) for name, one in report.features.items()} == {
        "x": (0, 1, 0), "y": (0, 0, 2), "": (0, 0, 0),
    }  # fmt: skip
    assert report.worst == 1.0
    assert compare(log(a), log(b, id="key"), [""]).worst == 0.0


def test_rows_without_an_id_are_counted(tmp_path):
    a = write(tmp_path / "a.parquet", {"id": pa.array(["a", None, "b"]), "x": [1, 2, 3]})
    report = compare(log(a), log(a))
    assert report.rejected == ({"missing id": 1}, {"missing id": 1})
    assert report.both == 2


def test_logs_without_a_row_in_common_do_not_agree(tmp_path):
    a, b = (write(tmp_path / f"{name}.parquet", {"id": [name], "x": [1]}) for name in "ab")
    report = compare(log(a), log(b))
    assert (report.both, report.worst) == (0, 1.0)
    empty = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"id": pa.array([], pa.int64()), "x": pa.array([], pa.int64())}), empty)
    assert compare(log(empty), log(empty)).worst == 1.0


def test_the_tolerance_decides(tmp_path):
    a = write(tmp_path / "a.parquet", {"id": [1, 2], "x": [1.0, 100.0]})
    b = write(tmp_path / "b.parquet", {"id": [1, 2], "x": [1.05, 101.0]})
    for tolerance, mismatches in ((Tolerance(), 2), (Tolerance(0.02), 1), (Tolerance(0, 0.1), 1), (Tolerance(0.05), 0)):
        assert compare(log(a), log(b), tolerance=tolerance).features["x"].mismatch == mismatches


def test_arguments_are_refused_in_a_sentence(tmp_path):
    a = write(tmp_path / "a.parquet", {"id": [1], "x": [1.0]})
    with pytest.raises(MissingColumn, match=r"--id names the column 'tx'"):
        compare(log(a, id="tx"), log(a))
    with pytest.raises(MissingColumn, match=r"must name columns of either log, \['x'\] or \['x'\]; got 'y'"):
        compare(log(a), log(a), ["x", "y"])
    with pytest.raises(InvalidValue, match=r"memory must be at least 1,048,576 bytes; got 5"):
        compare(log(a), log(a), memory=5)


def test_one_id_of_more_rows_than_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_SPREAD", 1 << 10)
    a = write(tmp_path / "a.parquet", {"id": np.ones(2_000, dtype=int), "x": np.arange(2_000)})
    with pytest.raises(InvalidValue, match=r"Rows of one id, or of few, must fit into 1,024 bytes"):
        compare(log(a), log(a), memory=1 << 20)
