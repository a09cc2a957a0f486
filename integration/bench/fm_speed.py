"""Factorization machines learn ratings at three hundred times River's rows a second, beside xlearn, on one core.

Ratings like MovieLens' (user and item one-hot, 16 factors), copied four times over for timing. Ours starts from rows in
memory; a worker grows its partial in place as on Beam. River takes a dict a row, as it must; its rows are few, since it is
slow, and the runs of both take turns, by processor seconds, the best of each counting, since other work may share the
machine. xlearn reads a text file, so its reading is timed apart and taken off. Held-out root mean squared error after one
pass over the same rows is told for each. Then ours over a table of a million features by 16 factors.
River, xlearn: ``pip install river xlearn`` into an environment of the bench's own; they are no dependencies.
Run: ``python integration/bench/fm_speed.py``.
"""

import contextlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_support import last_line, machine, timed
from fm_quality import FACTORS, HELD_OUT, ITEMS, TRAIN, USERS, held_out, ratings

from beam_ml import fm
from beam_ml.core.batch import Batch
from beam_ml.core.threads import one_thread

CLAIM = "fm.Spec learns ratings at three hundred times the rows a second of River's factorization machine, on one core"
PEER_ROWS = 4_000
COPIES = 4
REPEATS = 9
BATCH_ROWS = 8_192
WIDE, WIDE_ROWS, WIDE_VALUES = 1_000_000, 65_536, 10


def used(function: Callable[[], Any]) -> float:
    """Return the processor seconds of a call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def cut(rows: Batch) -> list[Batch]:
    return [rows.take(slice(i, i + BATCH_ROWS)) for i in range(0, len(rows), BATCH_ROWS)]


def grown(spec: fm.Spec, batches: list[Batch], anchor: Any = None) -> Any:
    run = fm.FM.grow(spec, fm.FM.empty(spec), anchor)  # type: ignore[misc]
    for batch in batches:
        run.add(batch)
    return run.partial()


def river_model() -> Any:
    from river import facto, optim  # type: ignore[import-not-found]

    return facto.FMRegressor(
        n_factors=FACTORS,
        weight_optimizer=optim.AdaGrad(0.1),
        latent_optimizer=optim.AdaGrad(0.1),
        intercept_lr=0.01,
        seed=0,
    )


def dicts(rows: Batch) -> list[tuple[dict[str, str], float]]:
    assert rows.indices is not None
    assert rows.label is not None
    pairs = rows.indices.reshape(-1, 2)
    return [({"user": str(u), "item": str(i)}, float(y)) for (u, i), y in zip(pairs, rows.label, strict=True)]


def river_seconds(rows: list[tuple[dict[str, str], float]]) -> float:
    model = river_model()

    def once() -> None:
        for x, y in rows:
            model.learn_one(x, y)

    return used(once)


def river_loss(train: Batch, test: Batch) -> float:
    model = river_model()
    for x, y in dicts(train):
        model.learn_one(x, y)
    errors = [model.predict_one(x) - y for x, y in dicts(test)]
    return float(np.sqrt(np.mean(np.square(errors))))


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Send what compiled code prints nowhere."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def xlearn_figures(train: Batch, test: Batch) -> dict[str, float]:
    """Return rows a second of a pass, reading taken off, and the held-out error after one pass."""
    os.environ.setdefault("USER", "bench")  # it names its log by it, and fails without
    import xlearn  # type: ignore[import-not-found]

    def write(rows: Batch, path: Path) -> None:
        assert rows.indices is not None
        assert rows.label is not None
        pairs = rows.indices.reshape(-1, 2)
        path.write_text(
            "".join(f"{y} {u}:1 {i}:1\n" for (u, i), y in zip(pairs, rows.label, strict=True)), encoding="ascii"
        )

    with silent(), tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("train", "test", "model", "out")]
        write(train, Path(paths[0]))
        write(test, Path(paths[1]))

        def run(epochs: int) -> Any:
            model = xlearn.create_fm()
            model.setQuiet()
            model.disableNorm()
            model.disableEarlyStop()
            model.disableLockFree()
            model.setTrain(paths[0])
            settings = {"task": "reg", "lr": 0.1, "lambda": 0.002, "k": FACTORS, "epoch": epochs, "opt": "adagrad"}
            model.fit({**settings, "nthread": 1}, paths[2])
            return model

        few = min(used(lambda: run(1)) for _ in range(3))
        many = min(used(lambda: run(11)) for _ in range(3))
        model = run(1)
        model.setTest(paths[1])
        model.predict(paths[2], paths[3])
        score = np.loadtxt(paths[3])
    return {"rows_per_s": 10 * len(train) / (many - few), "rmse": float(np.sqrt(np.mean((score - test.label) ** 2)))}


def wide() -> dict[str, float]:
    """Return rows a second over a million features by 16 factors, from an anchor, and what a worker holds and sends."""
    rng = np.random.default_rng(0)
    spec = fm.Spec(n_features=WIDE, n_factors=FACTORS)
    # Few features are met often, as in any log of identifiers.
    column = (WIDE * rng.random((WIDE_ROWS, WIDE_VALUES)) ** 3).astype(np.int64)
    column = np.sort(column // WIDE_VALUES * WIDE_VALUES + np.arange(WIDE_VALUES), axis=1)
    rows = Batch.csr(
        np.arange(WIDE_ROWS + 1) * WIDE_VALUES, column.ravel(), np.ones(column.size, np.float32), WIDE,
        label=rng.random(WIDE_ROWS) < 0.5,
    )  # fmt: skip
    batches = cut(rows)
    partial = grown(spec, batches[:1])
    seconds, state = timed(lambda: fm.FM.fold(spec, fm.FM.init(spec), partial, None))
    anchor = fm.FM.anchor(spec, state)
    took = min(used(lambda: grown(spec, batches, anchor)) for _ in range(3))
    one = grown(spec, batches[:1], anchor)
    bytes_of = sum(array.nbytes for array in (one.open_scaled, one.open_moved, one.open_squares, one.open_sums))
    return {
        "rows_per_s": WIDE_ROWS / took,
        "values_per_row": WIDE_VALUES,
        "init_and_fold_s": seconds,
        "touched": float(one.open_rows.size),
        "partial_mib": bytes_of / 2**20,
        "table_mib": state.theta.nbytes / 2**20,
    }


def main() -> None:
    """Run all and print one JSON line."""
    began = time.perf_counter()
    print(machine())
    has = {name: importlib.util.find_spec(name) is not None for name in ("river", "xlearn")}
    rows = ratings(0, TRAIN + HELD_OUT, "regression")
    train, test = rows.take(slice(TRAIN)), rows.take(slice(TRAIN, None))
    spec = fm.Spec(n_features=USERS + ITEMS, n_factors=FACTORS, task="regression")
    with one_thread():
        batches, few = cut(train), dicts(train.take(slice(PEER_ROWS))) if has["river"] else []
        grown(spec, batches[:1])
        mine: list[float] = []
        theirs: list[float] = []
        for _ in range(REPEATS):
            mine.append(used(lambda: grown(spec, batches * COPIES)))
            if has["river"]:
                theirs.append(river_seconds(few))
        ours = COPIES * TRAIN / min(mine)
        state = fm.FM.fold(spec, fm.FM.init(spec), grown(spec, batches), None)
        quality: dict[str, Any] = {"ours": held_out(spec, state, test), "spread": float(np.std(test.label))}
        print(
            f"ours: {ours / 1e6:.2f} M rows/s, one pass held-out RMSE {quality['ours']:.4f} (spread {quality['spread']:.4f})"
        )
        rate, ratio = None, None
        if has["river"]:
            rate = PEER_ROWS / min(theirs)
            ratio = ours / rate
            quality["river"] = river_loss(train, test)
            print(f"River: {rate:,.0f} rows/s, RMSE {quality['river']:.4f}; ratio {ratio:,.0f}")
        else:
            print("River: not installed (pip install river)")
        if has["xlearn"]:
            quality["xlearn"] = xlearn_figures(train, test)
            print(
                f"xlearn: {quality['xlearn']['rows_per_s'] / 1e6:.2f} M rows/s a pass, RMSE {quality['xlearn']['rmse']:.4f}"
            )
        else:
            print("xlearn: not installed (pip install xlearn)")
        quality["wide"] = found = wide()
    print(
        f"{WIDE:,} features × {FACTORS} factors: {found['rows_per_s']:,.0f} rows/s of {WIDE_VALUES} values; a batch of "
        f"{BATCH_ROWS:,} rows sends {found['partial_mib']:.1f} MiB of a table of {found['table_mib']:.0f} MiB"
    )
    print(last_line(CLAIM, ours, rate, ratio, quality, TRAIN, time.perf_counter() - began))


if __name__ == "__main__":
    main()
