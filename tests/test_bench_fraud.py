"""The rolling features and the figures of the fraud bench, against what they say in so many words."""

from pathlib import Path

import fraud_rolling
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

DAY_US = 86_400_000_000


@pytest.fixture
def rows(tmp_path: Path) -> fraud_rolling.Transactions:
    rng, n = np.random.default_rng(7), 400
    time = np.sort(rng.integers(0, 50 * 96, n)) * (DAY_US // 96)  # quarters of an hour, some of them twice
    table = pa.table(
        {
            "TRANSACTION_ID": np.arange(n),
            "TX_DATETIME": pa.array(time, pa.timestamp("us", tz="UTC")),
            "CUSTOMER_ID": rng.integers(0, 4, n),
            "TERMINAL_ID": rng.integers(0, 4, n),
            "TX_AMOUNT": np.round(rng.gamma(2.0, 30.0, n), 2),
            "TX_FRAUD": (rng.random(n) < 0.2).astype(np.int32),
        }
    )
    pq.write_table(table, tmp_path / "transactions.parquet")
    return fraud_rolling.read(tmp_path / "transactions.parquet")


@pytest.mark.parametrize("days", [1, 7, 30])
def test_windows_hold_what_lies_in_them(rows: fraud_rolling.Transactions, tmp_path: Path, days: int) -> None:
    raw = pq.read_table(tmp_path / "transactions.parquet").to_pydict()
    time = np.array([int(at.timestamp() * 1e6) for at in raw["TX_DATETIME"]])
    card, terminal, amount, fraud = (
        np.array(raw[name]) for name in ("CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")
    )
    past = np.arange(len(time))
    for i in range(len(time)):
        mine = (past <= i) & (card == card[i]) & (time > time[i] - days * DAY_US)
        assert rows.columns[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"][i] == mine.sum()
        assert rows.columns[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"][i] == pytest.approx(amount[mine].mean())
        known = time[i] - fraud_rolling.DELAY_DAYS * DAY_US
        there = (terminal == terminal[i]) & (time <= known) & (time > known - days * DAY_US)
        assert rows.columns[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"][i] == there.sum()
        risk = fraud[there].mean() if there.any() else 0.0
        assert rows.columns[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"][i] == pytest.approx(risk)


def test_only_cards_found_in_the_week_of_known_labels_are_left_out(rows: fraud_rolling.Transactions) -> None:
    week = (rows.day >= 6) & (rows.day < 13) & (rows.label == 1)
    assert set(fraud_rolling.known_cards(rows, 20)) == set(rows.card[week])


def test_a_card_counts_once_by_its_highest_score() -> None:
    card = np.repeat(np.arange(200), 2)
    label, score = np.zeros(400), np.zeros(400)
    score[1::2] = np.arange(200)  # the second row of each card is its highest
    label[0::2] = np.arange(200) % 2  # and the first one a fraud, of every other card
    assert fraud_rolling.card_precision(card, label, score) == 0.5
    label[:] = 0
    label[2 * 150] = 1
    assert fraud_rolling.card_precision(card, label, score) == 0.01
