"""Claim: from the same Parquet files, beam_ml learns faster than Spark ML; quality stands beside the time.

K-means (k = 10), logistic regression (unpenalised) and PCA (5 components) on generated rows of 30 numbers, a label and
an event time; Spark runs as `local[2]`:

- algorithm: `fit` and `derive` over decoded batches, beside Spark's `fit` on a DataFrame of assembled vectors that is
  cached beforehand. `fit` uses one thread, Spark two.
- pipeline: from Parquet on disk to a model on disk. Ours is the rounds driver with `refresh = "round"`: decode, sample,
  test-then-train metrics and registry versions included, in one process that uses the cores it has, as it does for
  users. Spark's is read, VectorAssembler, fit, save.

K-means learns a coreset for any k up to k_max: k_max = 10 and k_max = 100 are both shown, with k = 10 derived. Quality:
the sum of squares of both clusterings on the training rows; the log loss of both regressions and the variance that both
subspaces keep, on held-out rows. Starting Spark's session is given apart. Both sides run once on few rows
beforehand. Seconds and quality are medians of the repeats, each of another seed. Processor time of both (Spark's with
its JVM's compiler and collector) is beside the wall time: on a busy machine it is the steadier.

Run: ``python integration/bench/vs_spark.py [--rows 1000000] [--repeats 3]``. It skips where pyspark or Java is absent.
"""

import argparse
import dataclasses
import importlib.util
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bench_support import N_FEATURES, draw, features, last_line, machine, skipped_line, timed, write_files
from scipy.linalg import subspace_angles
from sklearn.metrics import log_loss

from beam_ml import Batch, derive, fit, kmeans, linear, pca, predict
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.core.threads import cores
from beam_ml.features import Features
from beam_ml.formats import list_files, ranges, read
from beam_ml.kernels.kmeans.nearest import nearest
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry

CLAIM = "from the same Parquet, beam_ml learns faster than Spark ML local[2] (ratio: its seconds over ours)"
HELD_OUT = 100_000
K, COMPONENTS = 10, 5
SEED = 0
FEATURES = Features(numeric=features(), label="label", time="time")


@dataclasses.dataclass(frozen=True)
class Case:
    """One algorithm: our spec by seed, our model spec, and Spark's estimator by seed."""

    name: str
    spec: Callable[[int], Spec]
    model: ModelSpec
    spark: Callable[[int], Any]


@dataclasses.dataclass(frozen=True)
class Rows:
    """What quality is measured on: features and labels of the training rows and of the held-out ones."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def spark_kmeans(seed: int) -> Any:
    """Return Spark's k-means with its defaults: k-means|| seeding, at most 20 iterations."""
    from pyspark.ml.clustering import KMeans

    return KMeans(k=K, seed=seed + 1, featuresCol="features")


def spark_logistic(seed: int) -> Any:
    """Return Spark's logistic regression with its defaults: L-BFGS without penalty on standardised features."""
    from pyspark.ml.classification import LogisticRegression

    return LogisticRegression(featuresCol="features", labelCol="label")


def spark_pca(seed: int) -> Any:
    """Return Spark's PCA."""
    from pyspark.ml.feature import PCA

    return PCA(k=COMPONENTS, inputCol="features", outputCol="projection")


def cases() -> list[Case]:
    """Return what is compared."""
    clusters = kmeans.Clusters(k=K)
    return [
        Case(
            "k-means, k_max=10", lambda s: kmeans.Spec(n_features=N_FEATURES, k_max=K, seed=s), clusters, spark_kmeans
        ),
        Case(
            "k-means, k_max=100",
            lambda s: kmeans.Spec(n_features=N_FEATURES, k_max=100, seed=s),
            clusters,
            spark_kmeans,
        ),
        Case(
            "logistic regression",
            lambda s: linear.Newton(n_features=N_FEATURES, seed=s),
            linear.Classifier(),
            spark_logistic,
        ),
        Case(
            "PCA",
            lambda s: pca.Spec(n_features=N_FEATURES, seed=s),
            pca.Components(n_components=COMPONENTS),
            spark_pca,
        ),
    ]


def start_session(folder: Path) -> Any:
    """Start Spark on two threads; it sees this Python only."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    session = (
        SparkSession.builder.master("local[2]")
        .appName("vs_spark")
        .config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.local.dir", str(folder))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    return session


def assembled(session: Any, data: Path) -> Any:
    """Return the files' rows as a DataFrame of feature vectors, lazily."""
    from pyspark.ml.feature import VectorAssembler

    frame = session.read.parquet(str(data))
    return VectorAssembler(inputCols=features(), outputCol="features").transform(frame).select("features", "label")


def spark_pipeline(session: Any, case: Case, data: Path, target: Path, seed: int) -> Any:
    """Read, assemble, fit and save as a user's script does."""
    model = case.spark(seed).fit(assembled(session, data))
    model.write().overwrite().save(str(target))
    return model


def our_pipeline(case: Case, data: Path, registry: Path, seed: int) -> Any:
    """Train in rounds into a new registry; give the served model."""
    spec = case.spec(seed).to_dict()
    job = Job.parse(
        {
            "name": "bench",
            "registry": str(registry),
            "refresh": "round",
            "source": {"path": str(data)},
            "features": FEATURES.to_dict(),
            "spec": {key: value for key, value in spec.items() if key != "n_features"},
            "models": {"model": case.model.to_dict()},
        }
    )
    store = Registry(str(registry))
    for _ in train(job, store, Mode("once", close=True)):
        pass
    return Predictor(store, "bench").model


def batches_of(data: Path) -> list[Batch]:
    """Decode the files as a worker does."""
    found = []
    for file in list_files(str(data), "parquet"):
        for piece in ranges(file, 1 << 20, "parquet"):
            found += [FEATURES.to_batch(block)[0] for block in read(piece, FEATURES.columns())]
    return found


def sum_of_squares(X: np.ndarray, centres: np.ndarray) -> float:
    """Sum the squared distances between the rows and their closest centres."""
    return float(nearest(X, np.ascontiguousarray(centres, dtype=np.float64))[1].sum())


def kept_variance(X: np.ndarray, components: np.ndarray) -> float:
    """Return the share of the rows' variance within the span of orthonormal components, (c, d)."""
    centred = X - X.mean(axis=0)
    return float(np.sum((centred @ components.T) ** 2) / np.sum(centred**2))


def quality(case: Case, rows: Rows, model: Any, theirs: bool) -> dict[str, float]:
    """Measure one model, ours or Spark's, on the same rows."""
    if case.name.startswith("k-means"):
        centres = np.array(model.clusterCenters()) if theirs else model.arrays.centres
        return {"sum_of_squares": sum_of_squares(rows.X, centres)}
    if case.name == "PCA":
        components = np.array(model.pc.toArray()).T if theirs else model.arrays.components
        centred = rows.X - rows.X.mean(axis=0)
        exact = np.linalg.eigh(centred.T @ centred)[1][:, : -COMPONENTS - 1 : -1]
        return {
            "kept_variance": kept_variance(rows.X_test, components),
            "largest_angle_to_exact": float(np.max(subspace_angles(exact, components.T))),
        }
    if theirs:
        eta = rows.X_test @ model.coefficients.toArray() + model.intercept
        score = 1.0 / (1.0 + np.exp(-eta))
    else:
        score = predict(model, Batch.dense(rows.X_test))["score"]
    return {"log_loss": float(log_loss(rows.y_test, score))}


def processor_s() -> float:
    """Return the processor seconds that this process and its children, Spark's JVM among them, have used."""
    used = psutil.Process().cpu_times()
    total = used.user + used.system + used.children_user + used.children_system
    for one in psutil.Process().children(recursive=True):
        used = one.cpu_times()
        total += used.user + used.system
    return float(total)


def measure(case: Case, rows: Rows, repeats: int, run: Callable[[int], Any], theirs: bool) -> dict[str, Any]:
    """Run one side with each seed; give medians."""
    wall, processor, found = [], [], []
    for seed in range(repeats):
        before = processor_s()
        seconds, model = timed(lambda seed=seed: run(seed))
        wall.append(seconds)
        processor.append(processor_s() - before)
        found.append(quality(case, rows, model, theirs))
    good = {key: float(np.median([one[key] for one in found])) for key in found[0]}
    return {"wall_s": float(np.median(wall)), "processor_s": float(np.median(processor)), "runs_s": wall} | good


def show(way: str, case: Case, ours: dict[str, Any], spark: dict[str, Any]) -> dict[str, Any]:
    """Print both sides beside each other; give them with their ratios."""
    key = next(name for name in ours if name not in ("wall_s", "processor_s", "runs_s"))
    print(f"{way}, {case.name}:")
    for side, one in (("ours", ours), ("spark", spark)):
        shown = ", ".join(f"{name} {value:.6g}" for name, value in one.items() if not name.endswith("_s"))
        runs = " ".join(f"{value:.2f}" for value in one["runs_s"])
        print(f"  {side:5s} {one['wall_s']:7.2f} s (runs {runs})  processor {one['processor_s']:7.2f} s  {shown}")
    ratios = {name: spark[name] / ours[name] for name in ("wall_s", "processor_s")} | {key: ours[key] / spark[key]}
    print(
        f"  Spark takes {ratios['wall_s']:.1f}× our time, {ratios['processor_s']:.1f}× our processor time; "
        f"our {key} is {ratios[key]:.5f} of Spark's",
        flush=True,
    )
    return {"ours": ours, "spark": spark, "ratios": ratios}


def compare_all(
    way: str,
    rows: Rows,
    repeats: int,
    ours: Callable[[Case, int], Any],
    spark: Callable[[Case, int], Any],
) -> dict[str, Any]:
    """Compare every case; Spark's runs serve all cases that share its estimator."""
    theirs: dict[Any, dict[str, Any]] = {}
    results = {}
    for case in cases():
        mine = measure(case, rows, repeats, lambda seed, case=case: ours(case, seed), False)
        if case.spark not in theirs:
            theirs[case.spark] = measure(case, rows, repeats, lambda seed, case=case: spark(case, seed), True)
        results[case.name] = show(way, case, mine, theirs[case.spark])
    return results


def missing() -> str | None:
    """Return why Spark cannot run here."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed (pip install pyspark)"
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        return "there is no Java"
    return None


def bench(folder: Path, n_rows: int, repeats: int) -> str:
    """Run all; give the last line."""
    began = time.perf_counter()
    data, few = folder / "data", folder / "few"
    data.mkdir()
    few.mkdir()
    file_rows = max(1, n_rows // 8)
    size = write_files(data, SEED, n_rows, file_rows)
    write_files(few, SEED, 20_000, 10_000)
    print(f"{n_rows:,} rows × {N_FEATURES} in {len(list(data.iterdir()))} Parquet files, {size / 2**20:.0f} MiB")
    start_s, session = timed(lambda: start_session(folder))
    print(f"Spark {session.version} local[2]: session start {start_s:.1f} s")
    print(f"threads: Spark 2; ours 1 in fit, {cores()} in the pipeline")
    try:
        for case in cases():
            our_pipeline(case, few, folder / f"warm {case.name}", SEED)
            spark_pipeline(session, case, few, folder / "warm spark", SEED)
        decode_s, batches = timed(lambda: batches_of(data))
        cached = assembled(session, data).cache()
        cache_s, _ = timed(cached.count)
        print(f"decode, once: ours {decode_s:.2f} s; Spark's cache filled in {cache_s:.2f} s")
        everything = Batch.concat([batch.replace(origin=None) for batch in batches])
        assert everything.label is not None
        rows = Rows(everything.dense_x, everything.label, *draw(SEED, 1_000_000, HELD_OUT))
        algorithm = compare_all(
            "algorithm",
            rows,
            repeats,
            lambda case, seed: derive(fit(case.spec(seed), batches), case.model),
            lambda case, seed: case.spark(seed).fit(cached),
        )
        cached.unpersist(blocking=True)
        pipeline = compare_all(
            "Parquet to saved model",
            rows,
            repeats,
            lambda case, seed: our_pipeline(case, data, folder / f"{case.name} {seed}", seed),
            lambda case, seed: spark_pipeline(session, case, data, folder / "spark model", seed),
        )
    finally:
        session.stop()
    worst = min(pipeline, key=lambda name: pipeline[name]["ratios"]["wall_s"])
    least = pipeline[worst]
    print(f"whole pipeline, least favourable: {worst}, Spark takes {least['ratios']['wall_s']:.1f}× our time")
    return last_line(
        CLAIM,
        least["ours"]["wall_s"],
        least["spark"]["wall_s"],
        least["ratios"]["wall_s"],
        {"case": worst, "session_start_s": start_s, "algorithm": algorithm, "pipeline": pipeline},
        n_rows,
        time.perf_counter() - began,
    )


def main() -> None:
    """Run in a folder of its own and print one JSON line."""
    parser = argparse.ArgumentParser(description=CLAIM)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to learn from")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, with as many seeds")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        print(f"skipped: {reason}")
        print(skipped_line(CLAIM, reason))
        return
    logging.getLogger("py4j").setLevel(logging.ERROR)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        line = bench(Path(folder), options.rows, options.repeats)
    print(line)


if __name__ == "__main__":
    main()
