"""Factorization machines in 8 and 32 shards stay within half a per cent of their sequential run's held-out loss.

Ratings like MovieLens' are generated: users, items, low-rank tastes, noise, popular items and busy users; half stars, or
whether a user likes an item. Five passes of four windows each, the first windows doubling from 512 rows, every shard from
the window's anchor; median of five seeds. Beside it, for the first seed, the fold's other rules: averaged runs, plain sums,
and the curvature-scaled sum without a line search. Then the same on real card transactions, where they are: the fraud job's
columns with customer and terminal by hash, in random order (in order of time the last window of a pass says more of its own
weeks than of the others, however it was learned), every fifth row held out.
Run: ``python integration/bench/fm_quality.py [transactions.parquet]``.
"""

import itertools
import statistics
import sys
import time
import tomllib
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bench_support import last_line, machine

from beam_ml import fm
from beam_ml.algorithms.shared.moves import Rule
from beam_ml.core import metrics
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.sample import Sample
from beam_ml.core.threads import one_thread
from beam_ml.features import Features
from beam_ml.formats.block import Block

CLAIM = "fm.Spec in 8 and 32 shards stays within half a per cent of its sequential run's held-out loss"
USERS, ITEMS, RANK = 943, 1_682, 4
TRAIN, HELD_OUT = 100_000, 20_000
FACTORS, PASSES, ROUNDS, FIRST = 16, 5, 4, 512
SEEDS = range(5)
SHARDS = (8, 32)
BATCH_ROWS = 4_096
ROOT = Path(__file__).resolve().parents[2]
FRAUD = ROOT.parent / "shared" / "data" / "fraud" / "transactions.parquet"
OTHERS: tuple[tuple[Rule, str], ...] = (("mean", "averaged"), ("sum", "plain sum"), ("curvature", "no line search"))


def ratings(seed: int, n: int, task: str, users: int = USERS, items: int = ITEMS) -> Batch:
    """Draw n ratings: user and item one-hot."""
    rng = np.random.default_rng(seed)
    user_bias, item_bias = 0.4 * rng.normal(size=users), 0.5 * rng.normal(size=items)
    tastes, traits = rng.normal(size=(users, RANK)), rng.normal(size=(items, RANK))
    busy, popular = rng.lognormal(size=users), np.arange(1, items + 1) ** -0.8
    u = rng.choice(users, n, p=busy / busy.sum())
    i = rng.choice(items, n, p=popular / popular.sum())
    score = 3.5 + user_bias[u] + item_bias[i] + 0.675 * (tastes[u] * traits[i]).sum(axis=1) / np.sqrt(RANK)
    if task == "binary":
        label = (rng.random(n) < 1 / (1 + np.exp(-2 * (score - 3.5)))).astype(np.float64)
    else:
        label = np.clip(np.round(2 * (score + 0.8 * rng.normal(size=n))) / 2, 0.5, 5.0)
    columns = np.stack([u, users + i], axis=1).ravel()
    return Batch.csr(
        np.arange(n + 1) * 2, columns, np.ones(2 * n, np.float32), users + items,
        label=label, origin=Origin("ratings", "0"), position=np.arange(n),
    )  # fmt: skip


def bounds_of(n: int, first: int | None) -> list[int]:
    """Cut n rows into windows; with `first`, doubling from there."""
    most = -(-n // ROUNDS)
    bounds, size = [0], first or most
    while bounds[-1] < n:
        bounds.append(min(n, bounds[-1] + min(size, most)))
        size *= 2
    return bounds


def grown(spec: fm.Spec, rows: Batch, anchor: Any) -> Any:
    run = fm.FM.grow(spec, fm.FM.empty(spec), anchor)  # type: ignore[misc]
    for i in range(0, len(rows), BATCH_ROWS):
        run.add(rows.take(slice(i, i + BATCH_ROWS)))
    return run.partial()


def learned(spec: fm.Spec, rows: Batch, shards: int, test: Batch, rule: Rule = "search") -> list[float]:
    """Return the held-out loss after each pass."""
    algorithm = fm.FM
    state, found = algorithm.init(spec), []
    for number in range(PASSES):
        for begin, end in itertools.pairwise(bounds_of(len(rows), None if number else FIRST)):
            window, anchor = rows.take(slice(begin, end)), algorithm.anchor(spec, state)
            parts = np.array_split(np.arange(len(window)), shards)
            partials = [grown(spec, window.take(slice(p[0], p[-1] + 1)), anchor) for p in parts]
            merged = reduce(lambda a, b: algorithm.merge(spec, a, b), partials)
            state = algorithm.fold(spec, state, merged, Sample.of(spec, window).estimate(spec), rule)
        found.append(held_out(spec, state, test))
    return found


def held_out(spec: fm.Spec, state: Any, test: Batch) -> float:
    """Return the root of the mean squared error, or the log loss."""
    kind = fm.FM.models["regressor" if spec.task == "regression" else "classifier"]
    values = metrics.compute(kind.measure(kind.derive(spec, kind.spec(), state, None), test))  # type: ignore[call-arg]
    return values["log_loss"] if spec.task == "binary" else values["mse"] ** 0.5


def compared(task: str) -> dict[str, Any]:
    """Return medians over seeds: the sequential loss by pass, and by how much the shards' exceeds it, in per cent."""
    spec = fm.Spec(n_features=USERS + ITEMS, n_factors=FACTORS, task=task)  # type: ignore[arg-type]
    single: list[list[float]] = []
    over: dict[str, list[list[float]]] = {}
    for seed in SEEDS:
        rows = ratings(seed, TRAIN + HELD_OUT, task)
        train, test = rows.take(slice(TRAIN)), rows.take(slice(TRAIN, None))
        single.append(learned(spec, train, 1, test))
        runs: list[tuple[str, int, Rule]] = [(f"{p} shards", p, "search") for p in SHARDS]
        if seed == SEEDS[0]:
            runs += [(f"{p} shards, {name}", p, rule) for rule, name in OTHERS for p in SHARDS]
        for name, p, rule in runs:
            losses = learned(spec, train, p, test, rule)
            over.setdefault(name, []).append([100 * (a / b - 1) for a, b in zip(losses, single[-1], strict=True)])
    middle = [statistics.median(values) for values in zip(*single, strict=True)]
    print(f"{task}, held-out loss after each pass: {', '.join(f'{x:.4f}' for x in middle)}")
    for name, values in over.items():
        found = [statistics.median(v) for v in zip(*values, strict=True)]
        last = sorted(v[-1] for v in values)
        print(
            f"  {name:28s} per cent above: {', '.join(f'{x:8.2f}' for x in found)} (last: {last[0]:.2f} to {last[-1]:.2f})"
        )
        over[name] = [found]
    return {"sequential": middle, "excess_per_cent": {name: values[0] for name, values in over.items()}}


def transactions(path: Path) -> tuple[Batch, Batch]:
    """Return card transactions to learn from, shuffled, and every fifth one held out."""
    job = tomllib.loads((ROOT / "pipelines" / "jobs" / "fraud_fm.toml").read_text(encoding="utf-8"))
    features = Features.parse(job["features"])
    table = pq.read_table(path, columns=features.columns()).combine_chunks()
    rows, _ = features.to_batch(Block(table.to_batches()[0]))
    rows = rows.replace(origin=Origin("transactions", "0"), position=np.arange(len(rows)))
    fifth = np.arange(len(rows)) % 5 == 0
    order = np.random.default_rng(0).permutation(np.flatnonzero(~fifth))
    return rows.take(order), rows.take(np.flatnonzero(fifth))


def of_transactions(path: Path) -> dict[str, Any]:
    """Return the sequential log loss by pass, and by how much the shards' exceeds it, in per cent."""
    train, test = transactions(path)
    spec = fm.Spec(n_features=train.n_features, n_factors=FACTORS)
    single = learned(spec, train, 1, test)
    print(f"card fraud, held-out log loss after each pass: {', '.join(f'{x:.5f}' for x in single)}", flush=True)
    excess = {}
    for p in SHARDS:
        losses = learned(spec, train, p, test)
        excess[f"{p} shards"] = [100 * (a / b - 1) for a, b in zip(losses, single, strict=True)]
        print(f"  {p} shards, per cent above: {', '.join(f'{x:.2f}' for x in excess[f'{p} shards'])}", flush=True)
    return {"sequential": single, "excess_per_cent": excess}


def main() -> None:
    """Run all and print one JSON line."""
    began = time.perf_counter()
    print(machine())
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else FRAUD
    with one_thread():
        found = {task: compared(task) for task in ("regression", "binary")}
        if path.exists():
            found["card fraud"] = of_transactions(path)
        else:
            print(f"card fraud: left out, {path.name} is absent")
    worst = max(found[task]["excess_per_cent"][f"{p} shards"][-1] for task in found for p in SHARDS)
    ours = {task: found[task]["sequential"][-1] for task in found}
    print(
        last_line(
            CLAIM, 1 + worst / 100, 1.0, 1 + worst / 100, found | {"loss": ours}, TRAIN, time.perf_counter() - began
        )
    )


if __name__ == "__main__":
    main()
