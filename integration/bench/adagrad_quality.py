"""One pass of linear.AdaGrad in windows of many shards loses little loss against its own sequential run.

On a9a (UCI Adult): held-out log loss in W windows of P shards, the first windows growing geometrically, beside averaged
parameters and beside the curvature-scaled sum without a line search. Then one pass over MNIST (softmax; five shuffles and
the file's order) and over KDD Cup 99, ten per cent (many classes, most of them rare), beside scikit-learn's
SGDClassifier, one pass too.
Run: ``python integration/bench/adagrad_quality.py [folder of the data]``.
"""

import gzip
import itertools
import sys
import time
from collections import Counter
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from adagrad_speed import read
from bench_support import last_line, machine, skipped_line
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from beam_ml import fit, linear
from beam_ml.algorithms.shared.moves import Rule
from beam_ml.core import metrics
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.sample import Sample
from beam_ml.core.threads import one_thread

CLAIM = "linear.AdaGrad in 16 windows of 64 shards stays within a hundredth of its sequential run's held-out log loss"
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BATCH_ROWS = 4_096
CASES = ((4, 8), (4, 64), (16, 8), (16, 64), (16, 512), (64, 8), (64, 512))
MNIST_CLASSES = 10
_SYMBOLIC = (1, 2, 3)


def bounds_of(n: int, windows: int, first: int = 512) -> list[int]:
    """Cut n rows into windows that double from `first` up to n / windows rows."""
    bounds, size, step = [0], first, -(-n // windows)
    while bounds[-1] < n:
        bounds.append(min(n, bounds[-1] + min(size, step)))
        size *= 2
    return bounds


def learned(spec: linear.AdaGrad, rows: Batch, bounds: list[int], shards: int, rule: Rule = "search") -> Any:
    """Learn window by window, every shard from the window's anchor."""
    algorithm = linear.ADAGRAD
    state = algorithm.init(spec)
    rows = rows.replace(origin=Origin("bench", "0"), position=np.arange(len(rows)))
    for begin, end in itertools.pairwise(bounds):
        window, anchor = rows.take(slice(begin, end)), algorithm.anchor(spec, state)
        partials = []
        for part in np.array_split(np.arange(len(window)), min(shards, len(window))):
            partial = algorithm.empty(spec)
            for i in range(part[0], part[-1] + 1, BATCH_ROWS):
                piece = window.take(slice(i, min(i + BATCH_ROWS, part[-1] + 1)))
                partial = algorithm.accumulate(spec, partial, piece, anchor)
            partials.append(partial)
        merged = reduce(lambda a, b: algorithm.merge(spec, a, b), partials)
        state = algorithm.fold(spec, state, merged, Sample.of(spec, window).estimate(spec), rule)
    return state


def measured(spec: linear.AdaGrad, state: Any, test: Batch, index: Any = "best") -> dict[str, float]:
    kind = linear.ADAGRAD.models["variant"]
    return metrics.compute(kind.measure(kind.derive(spec, linear.Variant(index=index), state, None), test))


def adult(folder: Path) -> dict[str, Any]:
    """Return held-out log loss and AUC of a9a, sequential and in windows of shards."""
    train, test = read(folder / "a9a"), read(folder / "a9a.t")
    spec = linear.AdaGrad(
        n_features=train.n_features, sparse=True, learning_rates=(0.1, 0.2), l1=0.0, l2=0.0, halve_at=()
    )

    def shown(name: str, state: Any) -> list[dict[str, float]]:
        found = [measured(spec, state, test, i) for i in range(spec.n_variants)]
        text = ", ".join(
            f"rate {rate}: {one['log_loss']:.4f} (AUC {one['auc']:.4f})"
            for (rate, _, _), one in zip(spec.variants, found, strict=True)
        )
        print(f"  {name:34s} {text}")
        return [{key: one[key] for key in ("log_loss", "auc")} for one in found]

    print(f"a9a, one pass over {len(train):,} rows, held-out log loss")
    results: dict[str, Any] = {"sequential": shown("sequential", learned(spec, train, [0, len(train)], 1))}
    for windows, shards in CASES:
        state = learned(spec, train, bounds_of(len(train), windows), shards)
        results[f"{windows} x {shards}"] = shown(f"{windows} windows × {shards} shards", state)
    others: tuple[tuple[Rule, str], ...] = (("mean", "averaged"), ("curvature", "no line search"))
    for rule, name in others:
        for windows, shards in ((4, 64), (16, 64)):
            state = learned(spec, train, bounds_of(len(train), windows), shards, rule)
            results[f"{name} {windows} x {shards}"] = shown(f"{name}, {windows} × {shards}", state)
    packed = linear.AdaGrad(n_features=train.n_features, sparse=True)
    whole = learned(packed, train, bounds_of(len(train), 16), 64)
    results["16 variants, 16 x 64"] = found = measured(packed, whole, test)
    print(f"  {'16 variants by default, the best':34s} {found['log_loss']:.4f} (AUC {found['auc']:.4f})")
    return results


def digits(path: Path) -> dict[str, Any]:
    """Return held-out log loss of softmax on MNIST after one pass, for five shuffles and the file's order."""
    with np.load(path) as file:
        x, y = file["x_train"].reshape(60_000, -1).astype(np.float32), file["y_train"].astype(np.float64)
        test = Batch.dense(file["x_test"].reshape(10_000, -1).astype(np.float32), label=file["y_test"])
    common: dict[str, Any] = {
        "n_features": x.shape[1],
        "task": "multiclass",
        "n_classes": MNIST_CLASSES,
        "sparse": True,
    }
    # Rate and penalty are those of the default ones that did best on the last 10,000 training rows.
    chosen = linear.AdaGrad(**common, learning_rates=0.1, l1=0.0, l2=1e-5)
    last = linear.AdaGrad(**common, learning_rates=0.1, l1=0.0, l2=1e-5, averaging=False)
    cases = {
        "one variant": (chosen, 65_536),
        "one variant, a fold every 4,096 rows": (chosen, BATCH_ROWS),
        "one variant, the last parameters": (last, 65_536),
        "16 variants by default, the best": (linear.AdaGrad(**common), 65_536),
    }
    results: dict[str, Any] = {}
    print("MNIST softmax, one pass over 60,000 rows, held-out log loss")
    for name, (spec, refresh_rows) in cases.items():
        losses, took = [], []
        for seed in (None, 0, 1, 2, 3, 4):
            order = np.arange(y.size) if seed is None else np.random.default_rng(seed).permutation(y.size)
            batches = [
                Batch.dense(x[order[i : i + BATCH_ROWS]], label=y[order[i : i + BATCH_ROWS]])
                for i in range(0, y.size, BATCH_ROWS)
            ]
            began = time.perf_counter()
            learner = fit(spec, batches, refresh_rows=refresh_rows)
            took.append(time.perf_counter() - began)
            losses.append(measured(spec, learner.state, test)["log_loss"])
        middle = float(np.median(losses[1:]))
        print(
            f"  {name:38s} in the file's order {losses[0]:.4f}; median of five shuffles {middle:.4f} "
            f"({min(losses[1:]):.4f} to {max(losses[1:]):.4f}); {np.median(took):.2f} s"
        )
        results[name] = {
            "shuffled": losses[1:], "median": middle, "file order": losses[0], "seconds": float(np.median(took))
        }  # fmt: skip
    return results


def connections(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read KDD Cup 99: 38 numbers, three symbols one-hot; the class number; the classes."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = [line.rstrip(".\n").split(",") for line in file]
    columns = list(zip(*table, strict=True))
    numbers = np.array([columns[j] for j in range(41) if j not in _SYMBOLIC], dtype=np.float64).T
    indicators = []
    for j in _SYMBOLIC:
        known, code = np.unique(np.array(columns[j]), return_inverse=True)
        indicators.append(np.eye(known.size)[code])
    classes, label = np.unique(np.array(columns[41]), return_inverse=True)
    return np.hstack([np.log1p(np.maximum(numbers, 0.0)), *indicators]), label.astype(np.float64), classes.tolist()


def intrusions(path: Path) -> dict[str, Any]:
    """Return macro F of one pass over KDD Cup 99, ours and SGDClassifier's, on a held-out fifth."""
    x, y, classes = connections(path)
    order = np.random.default_rng(0).permutation(y.size)
    cut = y.size * 4 // 5
    train, test = order[:cut], order[cut:]
    results: dict[str, Any] = {"classes": len(classes), "rows": cut, "rarest": min(Counter(y[train]).values())}
    held_out = Batch.dense(x[test], label=y[test])
    for name, balanced in (("ours", False), ("ours, balanced", True)):
        spec = linear.AdaGrad(
            n_features=x.shape[1], task="multiclass", n_classes=len(classes), learning_rates=(0.1, 0.3), l1=0.0, l2=0.0,
            balance_multiclass_weights=balanced,
        )  # fmt: skip
        began = time.perf_counter()
        learner = fit(spec, [Batch.dense(x[part], label=y[part]) for part in np.array_split(train, 100)])
        took = time.perf_counter() - began
        found = measured(spec, learner.state, held_out)
        results[name] = {key: found[key] for key in ("macro_f", "accuracy", "balanced_accuracy", "log_loss")}
        results[name]["seconds"] = took
    began = time.perf_counter()
    scaler = StandardScaler()
    peer = SGDClassifier(loss="log_loss", max_iter=1, tol=None, random_state=0).fit(
        scaler.fit_transform(x[train]), y[train]
    )
    took = time.perf_counter() - began
    guess = peer.predict(scaler.transform(x[test]))
    results["SGDClassifier"] = {
        "macro_f": float(f1_score(y[test], guess, average="macro", labels=np.unique(y[test]))),
        "accuracy": float(np.mean(guess == y[test])), "seconds": took,
    }  # fmt: skip
    print(f"KDD Cup 99, one pass over {cut:,} rows of {len(classes)} classes")
    for name in ("ours", "ours, balanced", "SGDClassifier"):
        print(f"  {name:16s} " + ", ".join(f"{key} {value:.4f}" for key, value in results[name].items()))
    return results


def main() -> None:
    """Run all and print one JSON line."""
    began = time.perf_counter()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    print(machine())
    if not (folder / "a9a").exists():
        print(skipped_line(CLAIM, f"{folder} is absent"))
        return
    with one_thread():
        found: dict[str, Any] = {"a9a": adult(folder / "a9a")}
        if (folder / "mnist").exists():
            found["mnist"] = digits(folder / "mnist" / "mnist.npz")
        if (folder / "kdd99").exists():
            found["kdd99"] = intrusions(folder / "kdd99" / "kddcup.data_10_percent.gz")
    one, many = (found["a9a"][name][0]["log_loss"] for name in ("sequential", "16 x 64"))
    print(last_line(CLAIM, many, one, many / one, found, 32_561, time.perf_counter() - began))


if __name__ == "__main__":
    main()
