"""linear.AdaGrad accumulates a million sparse rows a second on one core, beside Vowpal Wabbit on the same file.

One pass over a9a (UCI Adult: 32,561 rows, 14 non-zeros each), copied eight times over for timing; quality on the test file
after one pass over one copy. Vowpal Wabbit (PyPI ``vowpalwabbit``, in an environment of the bench's own: it is no
dependency) reads its text form, and, as the fairer comparison, its own binary cache, which is what parsed batches are to
us. Then the cost of 32 packed variants against 32 runs of one, sparse and dense, with and without penalties; and a
table of a million features × 16 variants, learned in place and with a partial a batch.
Run: ``python integration/bench/adagrad_speed.py``.
"""

import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_support import last_line, machine, skipped_line, timed
from sklearn.metrics import log_loss, roc_auc_score

from beam_ml import linear
from beam_ml.core.batch import Batch
from beam_ml.core.threads import one_thread

CLAIM = "linear.AdaGrad accumulates at least a million sparse rows of a9a a second on one core"
A9A = Path(__file__).resolve().parents[3] / "shared" / "data" / "a9a"
N_FEATURES = 123
COPIES = 8
BATCH_ROWS = 16_384
REPEATS = 5
RATE = 0.1
WIDE = 1_000_000
WIDE_ROWS = 4_096
WIDE_BATCHES = 40


def read(path: Path) -> Batch:
    """Read libsvm rows whose values are all 1."""
    labels, columns, indptr = [], [], [0]
    for line in path.read_text(encoding="ascii").splitlines():
        label, *entries = line.split()
        labels.append(float(label) > 0)
        columns += [int(entry.partition(":")[0]) - 1 for entry in entries]
        indptr.append(len(columns))
    return Batch.csr(indptr, columns, np.ones(len(columns), np.float32), N_FEATURES, label=labels)


def spec_of(n_features: int, rates: Any, sparse: bool, penalties: tuple[float, ...] = (0.0,)) -> linear.AdaGrad:
    return linear.AdaGrad(n_features=n_features, learning_rates=rates, l1=penalties, l2=penalties, sparse=sparse)


def seconds(spec: linear.AdaGrad, batches: list[Batch]) -> float:
    """Return the fastest of several accumulations of all batches."""

    def once() -> None:
        partial = linear.ADAGRAD.empty(spec)
        for batch in batches:
            partial = linear.ADAGRAD.accumulate(spec, partial, batch, None)

    return min(timed(once)[0] for _ in range(REPEATS))


def cut(rows: Batch) -> list[Batch]:
    return [rows.take(slice(i, i + BATCH_ROWS)) for i in range(0, len(rows), BATCH_ROWS)]


def packing(rows: Batch, sparse: bool) -> dict[str, float]:
    """Return what 32 packed variants cost, as a share of 32 runs of one."""
    batches, d = cut(rows), rows.n_features
    rates = tuple(np.geomspace(0.01, 1.0, 32))
    plain = seconds(spec_of(d, rates, sparse), batches) / (32 * seconds(spec_of(d, RATE, sparse), batches))
    many = linear.AdaGrad(n_features=d, learning_rates=rates[::4], l1=(1e-5, 1e-4), l2=(1e-5, 1e-4), sparse=sparse)
    one = linear.AdaGrad(n_features=d, learning_rates=RATE, l1=1e-4, l2=1e-4, sparse=sparse)
    return {"plain": plain, "penalised": seconds(many, batches) / (32 * seconds(one, batches))}


def wide() -> dict[str, float]:
    """Return rows a second of the last quarter of batches of a wide table, grown in place and as a partial a batch."""
    rng = np.random.default_rng(0)
    spec = linear.AdaGrad(
        n_features=WIDE, sparse=True, learning_rates=tuple(np.geomspace(0.01, 1.0, 16)), l1=0.0, l2=0.0
    )
    batches = []
    for _ in range(WIDE_BATCHES):
        columns = np.sort(rng.integers(0, WIDE, (WIDE_ROWS, 14)), axis=1).ravel()
        label = rng.random(WIDE_ROWS) < 0.3
        bounds = np.arange(WIDE_ROWS + 1) * 14
        batches.append(Batch.csr(bounds, columns, np.ones(columns.size, np.float32), WIDE, label=label))
    grow = linear.ADAGRAD.grow
    assert grow is not None
    run = grow(spec, linear.ADAGRAD.empty(spec), None)
    in_place = [timed(lambda batch=batch: run.add(batch))[0] for batch in batches]
    took, partial = timed(run.partial)
    anew = []
    for batch in batches[: WIDE_BATCHES // 10]:
        used, partial = timed(lambda batch=batch, begun=partial: linear.ADAGRAD.accumulate(spec, begun, batch, None))
        anew.append(used)
    last = in_place[-WIDE_BATCHES // 4 :]
    return {
        "in_place_rows_per_s": WIDE_ROWS / float(np.median(last)),
        "a_partial_a_batch_rows_per_s": WIDE_ROWS / float(np.median(anew)),
        "seconds_of_the_partial": took,
        "partial_mb": run.nbytes / 1e6,
    }


def write_vw(rows: Batch, path: Path, copies: int) -> None:
    assert rows.indptr is not None
    assert rows.indices is not None
    assert rows.label is not None
    text = "".join(
        f"{'1' if y > 0 else '-1'} | {' '.join(map(str, rows.indices[a:b]))}\n"
        for y, a, b in zip(rows.label, rows.indptr[:-1], rows.indptr[1:], strict=True)
    )
    path.write_text(text * copies, encoding="ascii")


def vowpal_wabbit(train: Batch, test: Batch) -> dict[str, float] | None:
    """Return Vowpal Wabbit's rows a second from text and from its cache, and its quality after one pass."""
    if importlib.util.find_spec("vowpalwabbit") is None:
        return None
    import vowpalwabbit  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        large, small, held_out = (Path(folder) / name for name in ("large", "small", "test"))
        write_vw(train, large, COPIES)
        write_vw(train, small, 1)
        write_vw(test, held_out, 1)
        options = "--loss_function logistic --link logistic --quiet"

        def run(data: Path, more: str) -> Any:
            learner = vowpalwabbit.Workspace(f"-d {data} {options} {more}")
            learner.run_parser()
            return learner

        found: dict[str, float] = {}
        cache = Path(folder) / "cache"
        run(large, f"--cache_file {cache}").finish()
        for name, more in (("text", ""), ("cache", f"--cache_file {cache}")):
            took = []
            for _ in range(REPEATS):
                used, learner = timed(lambda more=more: run(large, more))
                took.append(used)
                learner.finish()
            found[f"{name}_rows_per_s"] = COPIES * len(train) / min(took)
        learner = run(small, "")
        score = np.array([learner.predict(line) for line in held_out.read_text(encoding="ascii").splitlines()])
        learner.finish()
    return found | quality(test, score)


def quality(test: Batch, score: np.ndarray) -> dict[str, float]:
    return {"log_loss": float(log_loss(test.label, score)), "auc": float(roc_auc_score(test.label, score))}


def main() -> None:
    """Run all and print one JSON line."""
    began = time.perf_counter()
    print(machine())
    if not A9A.exists():
        print(skipped_line(CLAIM, f"{A9A.name} is absent"))
        return
    train, test = read(A9A / "a9a"), read(A9A / "a9a.t")
    large = Batch.concat([train] * COPIES)
    spec = spec_of(N_FEATURES, RATE, True)
    with one_thread():
        ours = len(large) / seconds(spec, cut(large))
        state = linear.ADAGRAD.init(spec)
        partial = linear.ADAGRAD.accumulate(spec, linear.ADAGRAD.empty(spec), train, None)
        kind = linear.ADAGRAD.models["variant"]
        model = kind.derive(spec, linear.Variant(), linear.ADAGRAD.fold(spec, state, partial, None), None)
        found = quality(test, kind.predict(model, test)["score"])
        print(f"ours: {ours / 1e6:.2f} M rows/s, one pass log loss {found['log_loss']:.4f}, AUC {found['auc']:.4f}")
        peer = vowpal_wabbit(train, test)
        if peer is None:
            print("Vowpal Wabbit: not installed (pip install vowpalwabbit)")
        else:
            print(
                f"Vowpal Wabbit: {peer['cache_rows_per_s'] / 1e6:.2f} M rows/s from its cache, "
                f"{peer['text_rows_per_s'] / 1e6:.2f} from text, one pass log loss {peer['log_loss']:.4f}, "
                f"AUC {peer['auc']:.4f}"
            )
        rng = np.random.default_rng(0)
        x = rng.normal(size=(20_000, 200))
        dense = Batch.dense(x, label=x[:, 0] + rng.normal(size=20_000) > 0)
        shares = {"sparse": packing(train, True), "dense": packing(dense, False)}
        table = wide()
    for form, share in shares.items():
        print(f"32 packed variants, {form}: {share['plain']:.3f} of 32 runs, with penalties {share['penalised']:.3f}")
    print(
        f"{WIDE:,} features × 16 variants, {table['partial_mb']:.0f} MB: {table['in_place_rows_per_s']:,.0f} rows/s in "
        f"place, {table['a_partial_a_batch_rows_per_s']:,.0f} with a partial a batch"
    )
    rate = None if peer is None else max(peer["cache_rows_per_s"], peer["text_rows_per_s"])
    print(
        last_line(
            CLAIM,
            ours,
            rate,
            None if rate is None else ours / rate,
            {"ours": found, "peer": peer, "packed": shares, "wide": table},
            len(large),
            time.perf_counter() - began,
        )
    )


if __name__ == "__main__":
    main()
