"""How good predictions were when they were made: joined with what is known by now, day by day."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_ml.core.figures import compute
from beam_ml.core.metrics import binary

__all__ = ["CARDS", "Served", "served"]

CARDS = 100
"""Cards that are looked into per day."""
_DAY_US = 86_400_000_000


class Served(NamedTuple):
    """Means over days.

    Attributes:
        auc: area under the ROC curve.
        average_precision: likewise under the curve of precision over recall.
        card_precision: share of cards with fraud among the CARDS with the highest score of a day.
        fraud: share of transactions that were fraud.
        cards: share of cards with fraud.
    """

    auc: float
    average_precision: float
    card_precision: float
    fraud: float
    cards: float


def served(predictions: Path, data: Path) -> Served | None:
    """Return how good the demo's predictions were; None where no day has any with both outcomes.

    Args:
        predictions: folder of files with TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID and score.
        data: folder of files with TRANSACTION_ID and TX_FRAUD.
    """
    files = sorted(predictions.glob("*.parquet"))
    if not files:
        return None
    truth = pa.concat_tables(
        [pq.read_table(one, columns=["TRANSACTION_ID", "TX_FRAUD"]) for one in data.glob("*.parquet")]
    )
    wanted = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "score"]
    rows = pa.concat_tables([pq.read_table(one, columns=wanted) for one in files]).join(truth, "TRANSACTION_ID")
    day = rows["TX_DATETIME"].cast(pa.int64()).to_numpy() // _DAY_US
    score, card = rows["score"].to_numpy(), rows["CUSTOMER_ID"].to_numpy()
    fraud = rows["TX_FRAUD"].to_numpy().astype(float)
    found = []
    for one in np.unique(day):
        mine = day == one
        if 0.0 < fraud[mine].mean() < 1.0:
            found.append(_of_day(score[mine], fraud[mine], card[mine]))
    return Served(*np.mean(found, axis=0).tolist()) if found else None


def _of_day(score: np.ndarray, fraud: np.ndarray, card: np.ndarray) -> Served:
    figures = compute(binary(score, fraud, np.ones(score.size)))
    cards, number = np.unique(card, return_inverse=True)
    highest, is_fraud = np.full(cards.size, -np.inf), np.zeros(cards.size)
    np.maximum.at(highest, number, score)
    np.maximum.at(is_fraud, number, fraud)
    first = np.argsort(-highest, kind="stable")[:CARDS]
    return Served(
        figures["auc"], figures["average_precision"], float(is_fraud[first].mean()), float(fraud.mean()),
        float(is_fraud.mean()),
    )  # fmt: skip
