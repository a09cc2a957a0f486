"""The 14 features of the Fraud Detection Handbook, reproduced on its transactions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml.features import Features
from beam_ml.features.rolling import Rolling, roll_blocks
from beam_ml.formats.block import Block

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "fraud"
WINDOWS = ["1d", "7d", "30d"]
DELAYED = [{"length": window, "delay": "7d"} for window in WINDOWS]
SPEC = Rolling(
    time="TX_DATETIME",
    aggregates=[
        {"key": "CUSTOMER_ID", "of": "count", "windows": WINDOWS, "name": "CUSTOMER_ID_NB_TX"},
        {"key": "CUSTOMER_ID", "of": "mean", "value": "TX_AMOUNT", "windows": WINDOWS, "name": "CUSTOMER_ID_AVG_AMOUNT"},
        {"key": "TERMINAL_ID", "of": "count", "windows": DELAYED, "name": "TERMINAL_ID_NB_TX"},
        {
            "key": "TERMINAL_ID",
            "of": "share",
            "value": "TX_FRAUD",
            "category": 1,
            "windows": DELAYED,
            "empty": 0.0,
            "name": "TERMINAL_ID_RISK",
        },
    ],
)  # fmt: skip
CLOCK = Features(
    numeric=[
        {"column": "TX_DATETIME", "transform": "weekend"},
        {"column": "TX_DATETIME", "transform": "night"},
    ]
)


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is absent")
def test_the_handbook_s_features_are_reproduced() -> None:
    rows = pq.read_table(DATA / "transactions.parquet").combine_chunks().to_batches()[0]
    (done,) = roll_blocks(SPEC, {}, [Block(rows)]).blocks
    reference = pq.read_table(DATA / "reference_features.parquet")
    at = {number: i for i, number in enumerate(done.batch["TRANSACTION_ID"].to_pylist())}
    place = np.array([at[number] for number in reference["TRANSACTION_ID"].to_pylist()])

    def of(name: str) -> np.ndarray:
        return done.batch[name].to_numpy(zero_copy_only=False)[place].astype(np.float64)

    for name in WINDOWS:
        theirs, delayed = f"{name[:-1]}DAY_WINDOW", f"{name}_delay_7d"
        pairs = {
            f"CUSTOMER_ID_NB_TX_{name}": f"CUSTOMER_ID_NB_TX_{theirs}",
            f"TERMINAL_ID_NB_TX_{delayed}": f"TERMINAL_ID_NB_TX_{theirs}",
            f"TERMINAL_ID_RISK_{delayed}": f"TERMINAL_ID_RISK_{theirs}",
            f"CUSTOMER_ID_AVG_AMOUNT_{name}": f"CUSTOMER_ID_AVG_AMOUNT_{theirs}",
        }
        for ours, other in pairs.items():
            given = reference[other].to_numpy()
            if "NB_TX" in ours:
                assert np.count_nonzero(of(ours) != given) == 0, ours
            else:
                # 1e-12: of two means that are 0 the reference has what its own running sums have left over.
                assert np.all(np.abs(of(ours) - given) <= 1e-9 * np.abs(given) + 1e-12), ours
    clock, _ = CLOCK.to_batch(Block(rows.take(pa.array(place))))
    for column, other in enumerate(["TX_DURING_WEEKEND", "TX_DURING_NIGHT"]):
        assert np.array_equal(clock.X[:, column], reference[other].to_numpy())
