import datetime
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from scipy.stats import rankdata

from beam_ml.cli.simulate import SCHEMA, main, simulate_days, write_days
from beam_ml.formats import list_files, parquet, ranges, read


@pytest.fixture(scope="module")
def days() -> list[tuple[datetime.date, pa.Table]]:
    return list(simulate_days(30, seed=3))


@pytest.fixture(scope="module")
def month(days: list[tuple[datetime.date, pa.Table]]) -> dict[str, np.ndarray]:
    table = pa.concat_tables([table for _, table in days])
    return {name: table[name].to_numpy() for name in table.column_names}


def test_days_hold_their_own_payments_in_order_of_time(days: list[tuple[datetime.date, pa.Table]]) -> None:
    before = 0
    for i, (day, table) in enumerate(days):
        assert day == datetime.date(2024, 1, 1) + datetime.timedelta(days=i)
        assert table.schema == SCHEMA
        times = table["TX_DATETIME"].to_pylist()
        assert {time.date() for time in times} == {day}
        assert times == sorted(times)
        assert table["TRANSACTION_ID"].to_pylist() == list(range(before, before + table.num_rows))
        before += table.num_rows
    assert 9_000 * 30 < before < 11_000 * 30


def test_equal_seeds_give_equal_payments_and_longer_runs_begin_alike() -> None:
    five = [table for _, table in simulate_days(5, 200, 300, seed=1)]
    three = [table for _, table in simulate_days(3, 200, 300, seed=1)]
    other = [table for _, table in simulate_days(3, 200, 300, seed=2)]
    assert all(a.equals(b) for a, b in zip(five, three, strict=False))
    assert not any(a.equals(b) for a, b in zip(three, other, strict=True))


def test_about_one_payment_in_a_hundred_is_fraud_from_the_first_days_on(month: dict[str, np.ndarray]) -> None:
    n = month["TX_FRAUD"].size
    for part in (slice(0, n // 3), slice(n // 3, 2 * n // 3), slice(2 * n // 3, n)):
        assert 0.006 < month["TX_FRAUD"][part].mean() < 0.016
    counts = np.bincount(month["TX_FRAUD_SCENARIO"], minlength=4)
    assert counts[1:].min() > 200
    assert counts[1:].sum() == month["TX_FRAUD"].sum()
    np.testing.assert_array_equal(month["TX_FRAUD"], month["TX_FRAUD_SCENARIO"] > 0)


def test_each_scenario_is_what_it_says(month: dict[str, np.ndarray]) -> None:
    amount, scenario = month["TX_AMOUNT"], month["TX_FRAUD_SCENARIO"]
    assert amount[scenario == 1].min() > 220
    assert amount[scenario == 0].max() <= 220
    genuine = np.median(amount[scenario == 0])
    assert 0.8 < np.median(amount[scenario == 2]) / genuine < 1.25
    assert np.median(amount[scenario == 3]) > 2.5 * genuine


def test_a_compromised_terminal_stays_so_for_weeks(month: dict[str, np.ndarray]) -> None:
    day = month["TX_DATETIME"].astype("datetime64[D]").astype(int)
    mine = month["TX_FRAUD_SCENARIO"] == 2
    spans = []
    for terminal in np.unique(month["TERMINAL_ID"][mine]):
        here = month["TERMINAL_ID"] == terminal
        bad = day[here & mine]
        between = here & (day >= bad.min()) & (day <= bad.max())
        assert (month["TX_FRAUD_SCENARIO"][between] > 0).mean() > 0.5
        spans.append(np.ptp(bad) + 1)
    assert 7 < np.mean(spans) <= 28


def test_customers_keep_to_a_few_terminals_near_them(month: dict[str, np.ndarray]) -> None:
    pairs = np.unique(np.stack([month["CUSTOMER_ID"], month["TERMINAL_ID"]], axis=1), axis=0)
    used = np.bincount(pairs[:, 0])
    assert used.max() < 200
    assert month["TERMINAL_ID"].max() < 10_000
    assert month["CUSTOMER_ID"].max() < 5_000


def test_customers_without_a_terminal_in_reach_use_the_closest() -> None:
    _, table = next(simulate_days(1, n_customers=500, n_terminals=1))
    assert set(table["TERMINAL_ID"].to_pylist()) == {0}


def test_the_amount_tells_something_but_not_everything(month: dict[str, np.ndarray]) -> None:
    rank = rankdata(month["TX_AMOUNT"])
    fraud = month["TX_FRAUD"] == 1
    n_fraud = fraud.sum()
    auc = (rank[fraud].sum() - n_fraud * (n_fraud + 1) / 2) / (n_fraud * (~fraud).sum())
    assert 0.65 < auc < 0.9


def test_days_are_written_as_files_that_are_listed_in_order(tmp_path: Path) -> None:
    folder = str(tmp_path / "new")
    start = datetime.date(2024, 2, 28)
    paths = list(write_days(folder, 3, 100, 100, start=start))
    assert [os.path.basename(path) for path in paths] == [
        "2024-02-28.parquet",
        "2024-02-29.parquet",
        "2024-03-01.parquet",
    ]
    assert sorted(os.listdir(folder)) == [os.path.basename(path) for path in paths]
    files = list_files(folder)
    assert [file.path for file in files] == paths
    for file, (_, table) in zip(files, simulate_days(3, 100, 100, start=start), strict=True):
        (piece,) = ranges(file, 1_000_000)
        (block,) = read(piece)
        assert pa.Table.from_batches([block.batch]).equals(table)


def test_each_file_is_there_when_its_path_is_given(tmp_path: Path) -> None:
    for n, path in enumerate(write_days(str(tmp_path), 3, 50, 50), 1):
        assert len(os.listdir(tmp_path)) == n
        assert len(parquet.decode(Path(path).read_bytes())) > 0


def test_the_command_writes_days(tmp_path: Path) -> None:
    options = ["--days", "2", "--customers", "50", "--terminals", "20", "--seed", "5", "--start", "2024-03-01"]
    result = CliRunner().invoke(main, [str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(tmp_path)) == ["2024-03-01.parquet", "2024-03-02.parquet"]
