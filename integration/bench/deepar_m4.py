"""DeepAR on the hourly series of M4: 414 series, a horizon of 48, learned from nothing.

`beam_ml.fit` of `deepar.Spec`, one fold, and forecasts of 100 paths each; MASE, sMAPE, mean weighted quantile loss and MSIS
by the evaluator of gluonts 0.17.0 (``pip install gluonts==0.17.0 packaging`` into an environment of the bench's own),
seasonality 24, medians of seeds; the ratio is of MASE to the best zero-shot model of the public table (GIFT-Eval, 0.722).
Seconds are those of the processor, of all threads, from the first row to the last forecast. With ``--validate`` the last 48
points of the training set are forecast from what is before them: settings are chosen so, and the test set is scored once.
Without ``--gluonts`` it is skipped.
Run: ``python integration/bench/deepar_m4.py --gluonts PYTHON [--validate] [--seeds 3] [--passes 60]``.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_support import last_line, machine, skipped_line

from beam_ml import derive, fit, predict
from beam_ml.algorithms import deepar

CLAIM = "deepar.Spec on M4 hourly, learned from nothing: MASE beside the best zero-shot model of the public table"
DATA = Path("../shared/data/m4_hourly")
HORIZON, SEASON = 48, 24
LEVELS = (0.025, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.975)
PUBLIC_MASE = 0.722  # zero-shot TiRex, the best of the public table

EVALUATOR = """
import json, sys
import numpy as np
from gluonts.dataset.common import ListDataset
from gluonts.dataset.split import split
from gluonts.ev.metrics import MASE, MSIS, SMAPE, MeanWeightedSumQuantileLoss
from gluonts.model import evaluate_forecasts
from gluonts.model.forecast import QuantileForecast
found = np.load(sys.argv[1], allow_pickle=False)
ends, values = found["ends"], found["values"]
series = np.split(values, ends[:-1])
data = ListDataset([{"start": "1750-01-01 00:00:00", "target": one} for one in series], freq="H")
_, template = split(data, offset=-int(found["horizon"]))
test = template.generate_instances(prediction_length=int(found["horizon"]))
keys = [str(level) for level in found["levels"]]
forecasts = [
    QuantileForecast(one.T, start_date=label["start"], forecast_keys=keys)
    for one, (_, label) in zip(found["quantiles"], test)
]
table = evaluate_forecasts(
    forecasts, test_data=test, seasonality=int(found["season"]),
    metrics=[MASE(), SMAPE(), MeanWeightedSumQuantileLoss(quantile_levels=[i / 10 for i in range(1, 10)]), MSIS()],
)
print(json.dumps({name: float(value) for name, value in table.iloc[0].items()}))
"""


def read(path: Path) -> list[np.ndarray]:
    """Return the series of a file of the competition."""
    with path.open(encoding="utf-8") as lines:
        return [np.array([float(value) for value in row[1:] if value]) for row in list(csv.reader(lines))[1:]]


def seconds() -> float:
    """Return the processor's seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def forecast(past: list[np.ndarray], seed: int, passes: float) -> tuple[np.ndarray, float]:
    """Return quantiles (n, h, q) and the seconds that fit and forecast took."""
    begun = seconds()
    spec = deepar.Spec(
        time_freq="H", context_length=24, prediction_length=HORIZON, max_length=1_024, passes_per_refresh=passes,
        seed=seed,
    )  # fmt: skip
    records = [{"start": "2000-01-01 00:00:00", "target": target} for target in past]
    rows = deepar.SeriesBatch.of_records(spec.layout, records).to_batch()
    model = derive(fit(spec, rows), deepar.Forecast(quantiles=LEVELS))
    return predict(model, rows)["quantiles"], seconds() - begun


def scores(python: str, quantiles: np.ndarray, past: list[np.ndarray], future: list[np.ndarray]) -> dict[str, float]:
    """Return what the evaluator says, and which share of the values three intervals cover."""
    whole = [np.concatenate(pair) for pair in zip(past, future, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forecasts.npz"
        np.savez(
            path, quantiles=quantiles, values=np.concatenate(whole), ends=np.cumsum([one.size for one in whole]),
            levels=np.array(LEVELS), horizon=HORIZON, season=SEASON,
        )  # fmt: skip
        done = subprocess.run([python, "-c", EVALUATOR, str(path)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    actual, place = np.array(future), {level: i for i, level in enumerate(LEVELS)}
    for share, low, high in ((50, 0.25, 0.75), (80, 0.1, 0.9), (95, 0.025, 0.975)):
        inside = (actual >= quantiles[..., place[low]]) & (actual <= quantiles[..., place[high]])
        found[f"covered_{share}"] = float(inside.mean())
    return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gluonts", help="interpreter of an environment that has gluonts 0.17.0 and packaging")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=float, default=60.0)
    asked = parser.parse_args()
    if not DATA.exists():
        print(skipped_line(CLAIM, f"{DATA} is absent"))
        return
    if asked.gluonts is None:
        print(skipped_line(CLAIM, "--gluonts names no interpreter (pip install gluonts==0.17.0 packaging)"))
        return
    subprocess.run([asked.gluonts, "-c", EVALUATOR.partition("found =")[0]], check=True)  # fails here, not after a fit
    print(machine())
    past, future = read(DATA / "Hourly-train.csv"), read(DATA / "Hourly-test.csv")
    if asked.validate:
        past, future = [one[:-HORIZON] for one in past], [one[-HORIZON:] for one in past]
    runs: list[dict[str, Any]] = []
    for seed in range(asked.seeds):
        begun = time.perf_counter()
        quantiles, took = forecast(past, seed, asked.passes)
        runs.append(scores(asked.gluonts, quantiles, past, future) | {"seconds": round(took, 1)})
        print(f"seed {seed}: {runs[-1]}, {time.perf_counter() - begun:.0f} s by the clock", flush=True)
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    mase = median["MASE[0.5]"]
    rows = sum(one.size for one in past)
    print(last_line(CLAIM, mase, PUBLIC_MASE, mase / PUBLIC_MASE, median, rows, median["seconds"]))


if __name__ == "__main__":
    main()
