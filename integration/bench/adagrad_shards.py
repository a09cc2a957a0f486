"""linear.AdaGrad in one cold window of many shards, and in 16 windows of 32, beside its own sequential run.

Held-out log loss of the default variants' best, as a share of the sequential run's over the same rows: a9a (UCI Adult),
20 Newsgroups made binary (whether a document has the word that comes nearest to half of them, which is then left out; rows
of counts and rows of norm 1), and made sets: one-hot rows whose classes overlap, and hardly do; dense correlated numbers.
Run: ``python integration/bench/adagrad_shards.py [folder of the data]``.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from adagrad_quality import bounds_of, learned, measured
from adagrad_speed import read
from bench_support import last_line, machine
from scipy.special import expit

from beam_ml import linear
from beam_ml.core.batch import Batch
from beam_ml.core.threads import one_thread

CLAIM = "linear.AdaGrad in one cold window of 64 shards stays near its own sequential run's held-out log loss"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CASES = ((1, 8), (1, 32), (1, 64), (16, 32))


def documents(folder: Path) -> dict[str, tuple[Batch, Batch]]:
    """Read bags of words; the label is one of the words."""
    parts = []
    for name in ("bow_tr.txt", "bow_ts.txt"):
        rows = [
            [tuple(map(int, entry.split(":"))) for entry in line.split()]
            for line in (folder / name).read_text(encoding="ascii").splitlines()
        ]
        parts.append([row for row in rows if row])
    counts = np.bincount([word for row in parts[0] for word, _ in row])
    word = int(np.argmin(np.abs(counts - len(parts[0]) / 2)))
    found = {}
    for name in ("counts", "norm 1"):
        pair = []
        for rows in parts:
            label = [any(j == word for j, _ in row) for row in rows]
            kept = [[(j, c) for j, c in row if j != word] for row in rows]
            indptr = np.concatenate([[0], np.cumsum([len(row) for row in kept])])
            columns = np.array([j for row in kept for j, _ in row])
            values = np.array([float(c) for row in kept for _, c in row])
            if name == "norm 1":
                squares = np.add.reduceat(np.append(values**2, 0.0), indptr[:-1])
                norm = np.sqrt(np.where(np.diff(indptr) > 0, squares, 1.0))
                values = values / np.repeat(norm, np.diff(indptr))
            pair.append(Batch.csr(indptr, columns, values, counts.size, label=label))
        order = np.random.default_rng(0).permutation(len(pair[0]))
        found[f"newsgroups, {name}"] = (pair[0].take(order), pair[1])
    return found


def symbols(n: int, seed: int, strength: float) -> Batch:
    """Draw rows of 16 symbols of 50 each, most of them rare."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, 51)
    columns = rng.choice(50, (n, 16), p=share / share.sum()) + 50 * np.arange(16)
    effect = np.random.default_rng(3).normal(size=800) * strength
    label = rng.random(n) < expit(effect[columns].sum(axis=1))
    return Batch.csr(np.arange(n + 1) * 16, columns.ravel(), np.ones(16 * n, np.float32), 800, label=label)


def numbers(n: int, seed: int) -> Batch:
    """Draw rows of 80 correlated numbers whose classes hardly overlap."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(4)
    mix, slope = np.eye(80) + fixed.normal(size=(80, 80)) / 9.0, fixed.normal(size=80)
    x = rng.normal(size=(n, 80)) @ mix
    return Batch.dense(x, label=rng.random(n) < expit(x @ slope))


def main() -> None:
    """Run all and print one JSON line."""
    began = time.perf_counter()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    print(machine())
    sets = {
        "one-hot": (symbols(20_000, 1, 0.5), symbols(8_000, 2, 0.5)),
        "one-hot, hardly overlapping": (symbols(20_000, 1, 2.5), symbols(8_000, 2, 2.5)),
        "80 numbers, hardly overlapping": (numbers(20_000, 1), numbers(8_000, 2)),
    }
    if (folder / "a9a").exists():
        sets["a9a"] = (read(folder / "a9a" / "a9a"), read(folder / "a9a" / "a9a.t"))
    if (folder / "newsgroups").exists():
        sets |= documents(folder / "newsgroups")
    results: dict[str, Any] = {}
    rows = 0
    with one_thread():
        for name, (train, test) in sets.items():
            n = len(train)
            rows += n
            spec = linear.AdaGrad(n_features=train.n_features, sparse=not train.is_dense)
            alone = measured(spec, learned(spec, train, [0, n], 1), test)["log_loss"]
            found = {"sequential": alone}
            for windows, shards in CASES:
                bounds = [0, n] if windows == 1 else bounds_of(n, windows)
                loss = measured(spec, learned(spec, train, bounds, shards), test)["log_loss"]
                found[f"{windows} x {shards}"] = loss / alone
            results[name] = found
            text = ", ".join(f"{case} {value:.3f}" for case, value in found.items())
            print(f"  {name:32s} {text}", flush=True)
    worst = max(found["1 x 64"] for found in results.values())
    print(last_line(CLAIM, worst, 1.0, worst, results, rows, time.perf_counter() - began))


if __name__ == "__main__":
    main()
