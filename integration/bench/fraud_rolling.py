"""The fraud data as `fraud_loop.py` needs them: the handbook's rolling features of every day, and its figures per day.

Claim: none; it holds no measurement. Features and figures are those of the Fraud Detection Handbook (chapters 3 and 4): rows
in ``(t − window, t]``, of a card the row itself included, of a terminal seven days earlier, so that no label is used before
it is known. Cards with a fraud in the week of labels before the test day are left out of that day, for all three figures.
Each day is a test period of its own: a card detected on an earlier test day stays in until its label is known, which the
handbook would leave out for the rest of a test period of several days. Letters: ``n`` rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score, roc_auc_score

__all__ = [
    "DELAY_DAYS",
    "FEATURES",
    "TRAIN_DAYS",
    "Transactions",
    "card_precision",
    "figures",
    "known_cards",
    "mismatches",
    "read",
]

DELAY_DAYS = 7
TRAIN_DAYS = 7
WINDOWS = (1, 7, 30)
TOP_CARDS = 100
_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
FEATURES = (
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    *(f"CUSTOMER_ID_{what}_{days}DAY_WINDOW" for days in WINDOWS for what in ("NB_TX", "AVG_AMOUNT")),
    *(f"TERMINAL_ID_{what}_{days}DAY_WINDOW" for days in WINDOWS for what in ("NB_TX", "RISK")),
)


@dataclass(frozen=True)
class Transactions:
    """All rows in order of time: what identifies them, their day 0, 1, …, their label, and `FEATURES` as (n,) columns."""

    number: np.ndarray
    card: np.ndarray
    day: np.ndarray
    label: np.ndarray
    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.label)

    def matrix(self) -> np.ndarray:
        """Return `FEATURES` as (n, 15) float32."""
        return np.column_stack([self.columns[name] for name in FEATURES]).astype(np.float32)

    def of_days(self, begin: int, end: int) -> slice:
        """Return the rows of the days begin ≤ day < end."""
        return slice(*(int(place) for place in np.searchsorted(self.day, (begin, end))))


def _rolling(key: np.ndarray, time: np.ndarray, value: np.ndarray, spans: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Return count and sum of each row's window ``(t − span, t]`` among the rows of its key so far: span → (2, n).

    Rows are in order of time; of equal times those that stand earlier belong to the window, as in pandas.
    """
    order = np.argsort(key, kind="stable")
    group = np.unique(key[order], return_inverse=True)[1]
    reach = int(time.max() - time.min()) + max(spans) * _DAY_US + 1
    at = group * reach + (time[order] - time.min())
    total = np.concatenate([[0.0], np.cumsum(value[order])])
    first = np.searchsorted(group, group)
    end = np.arange(1, len(at) + 1)
    found = {}
    for span in spans:
        begin = np.maximum(np.searchsorted(at, at - span * _DAY_US, side="right"), first)
        rolled = np.empty((2, len(at)))
        rolled[:, order] = end - begin, total[end] - total[begin]
        found[span] = rolled
    return found


def read(path: Path) -> Transactions:
    """Read the transactions and compute the features of all days."""
    table = pq.read_table(path).sort_by([("TX_DATETIME", "ascending"), ("TRANSACTION_ID", "ascending")])
    raw = {name: table[name].to_numpy() for name in table.column_names}
    time = raw["TX_DATETIME"].astype("datetime64[us]").astype(np.int64)
    amount, label = raw["TX_AMOUNT"], raw["TX_FRAUD"].astype(np.float64)
    since_1970 = time // _DAY_US
    columns = {
        "TX_AMOUNT": amount,
        "TX_DURING_WEEKEND": ((since_1970 + 3) % 7 >= 5).astype(np.float64),
        "TX_DURING_NIGHT": (time // _HOUR_US % 24 <= 6).astype(np.float64),
    }
    cards = _rolling(raw["CUSTOMER_ID"], time, np.round(amount * 100), WINDOWS)  # cents: their sums are exact
    terminals = _rolling(raw["TERMINAL_ID"], time, label, (DELAY_DAYS, *(DELAY_DAYS + days for days in WINDOWS)))
    for days in WINDOWS:
        count, cents = cards[days]
        columns[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"] = count
        columns[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"] = cents / 100 / count
        count, frauds = terminals[DELAY_DAYS + days] - terminals[DELAY_DAYS]
        columns[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"] = count
        columns[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"] = frauds / np.maximum(count, 1)
    return Transactions(raw["TRANSACTION_ID"], raw["CUSTOMER_ID"], since_1970 - since_1970[0], label, columns)


def mismatches(rows: Transactions, reference: Path) -> dict[str, int]:
    """Return, per feature of the reference, how many rows differ: counts and flags at all, others by more than 1e-6."""
    table = pq.read_table(reference)
    place = np.argsort(rows.number)[np.searchsorted(np.sort(rows.number), table["TRANSACTION_ID"].to_numpy())]
    found = {}
    for name in FEATURES:
        if name in table.column_names:
            off = np.abs(table[name].to_numpy() - rows.columns[name][place])
            found[name] = int(np.sum(off > (0 if "NB_TX" in name or "DURING" in name else 1e-6)))
    return found


def known_cards(rows: Transactions, day: int) -> np.ndarray:
    """Return the cards that are known at the start of a day to have been defrauded in the week of labels before it."""
    week = rows.of_days(day - DELAY_DAYS - TRAIN_DAYS, day - DELAY_DAYS)
    return np.unique(rows.card[week][rows.label[week] == 1])


def card_precision(card: np.ndarray, label: np.ndarray, score: np.ndarray) -> float:
    """Return which part of the 100 cards of the highest scores had a fraud that day: a card counts by its highest score."""
    cards, place = np.unique(card, return_inverse=True)
    highest, fraud = np.full(len(cards), -np.inf), np.zeros(len(cards))
    np.maximum.at(highest, place, score)
    np.maximum.at(fraud, place, label)
    return float(fraud[np.argsort(-highest, kind="stable")[:TOP_CARDS]].sum() / TOP_CARDS)


def figures(rows: Transactions, day: int, score: np.ndarray) -> dict[str, float]:
    """Return a day's AUC, average precision and card precision@100, of the cards that are not yet known.

    Args:
        rows: all of them.
        day: which day is scored.
        score: one per row of that day.
    """
    today = rows.of_days(day, day + 1)
    kept = ~np.isin(rows.card[today], known_cards(rows, day))
    card, label, score = rows.card[today][kept], rows.label[today][kept], score[kept]
    return {
        "auc": float(roc_auc_score(label, score)),
        "ap": float(average_precision_score(label, score)),
        "cp100": card_precision(card, label, score),
    }
