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
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score, roc_auc_score

from beam_ml.features.rolling import Rolling, roll_blocks
from beam_ml.formats.block import Block

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


def _aggregates(key: str, what: str, value: str, windows: list[Any]) -> list[dict[str, Any]]:
    """Return the count and the mean of a card or terminal."""
    shared = {"key": key, "windows": windows}
    return [
        {**shared, "name": f"{key}_NB_TX", "of": "count"},
        {**shared, "name": f"{key}_{what}", "of": "mean", "value": value, "empty": 0.0},
    ]


ROLLING = Rolling(
    time="TX_DATETIME",
    aggregates=[
        *_aggregates("CUSTOMER_ID", "AVG_AMOUNT", "TX_AMOUNT", [f"{days}d" for days in WINDOWS]),
        *_aggregates(
            "TERMINAL_ID", "RISK", "TX_FRAUD", [{"length": f"{days}d", "delay": f"{DELAY_DAYS}d"} for days in WINDOWS]
        ),
    ],
)
"""The handbook's windows, where labels are in the rows: none is used before it is known."""


def handbook_name(output: str) -> str:
    """Return what the handbook calls an output of `ROLLING`.

    >>> handbook_name("TERMINAL_ID_RISK_30d_delay_7d")
    'TERMINAL_ID_RISK_30DAY_WINDOW'
    """
    name, _, window = output.removesuffix(f"_delay_{DELAY_DAYS}d").rpartition("_")
    return f"{name}_{window.removesuffix('d')}DAY_WINDOW"


def read(path: Path) -> Transactions:
    """Read the transactions and compute the features of all days."""
    table = pq.read_table(path).sort_by([("TX_DATETIME", "ascending"), ("TRANSACTION_ID", "ascending")])
    done = roll_blocks(ROLLING, {}, [Block(table.combine_chunks().to_batches()[0])])
    (block,) = done.blocks
    if len(block) != len(table):
        message = f"no row may be rejected; {len(table) - len(block):,} of {len(table):,} are"
        raise ValueError(message)
    raw = {name: block.batch[name].to_numpy(zero_copy_only=False) for name in block.batch.schema.names}
    time = raw["TX_DATETIME"].astype("datetime64[us]").astype(np.int64)
    since_1970 = time // _DAY_US
    columns = {
        "TX_AMOUNT": raw["TX_AMOUNT"],
        "TX_DURING_WEEKEND": ((since_1970 + 3) % 7 >= 5).astype(np.float64),
        "TX_DURING_NIGHT": (time // _HOUR_US % 24 <= 6).astype(np.float64),
    }
    columns |= {handbook_name(name): raw[name].astype(np.float64) for name in ROLLING.names}
    return Transactions(
        raw["TRANSACTION_ID"],
        raw["CUSTOMER_ID"],
        since_1970 - since_1970[0],
        raw["TX_FRAUD"].astype(np.float64),
        columns,
    )


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
        score: one per row of that day; rows that have none, NaN, are left out.
    """
    today = rows.of_days(day, day + 1)
    kept = ~np.isin(rows.card[today], known_cards(rows, day)) & ~np.isnan(score)
    card, label, score = rows.card[today][kept], rows.label[today][kept], score[kept]
    return {
        "auc": float(roc_auc_score(label, score)),
        "ap": float(average_precision_score(label, score)),
        "cp100": card_precision(card, label, score),
    }
