"""Formats beside their own clients: RecordIO-protobuf is written and read many times faster than by SageMaker's client.

Rows of 30 float32 with a label, and sparse ones of about 30 of 10,000; byte for byte the same files on both sides. Reading
is compared where both end with arrays of the values; what SageMaker's client takes to its records alone, without a number
taken out of them, is given as well. Processor seconds of one thread, medians of the repeats, with both sides taking turns.
Goals: 12 times for dense writes, 14 for reads, 12 for sparse writes. The client lives in an environment of its own, with its
telemetry switched off.

Run: ``PYTHONPATH=integration python integration/bench/formats.py [--rows 100000] [--repeats 5]``.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse
from bench_support import last_line, machine, skipped_line
from sagemaker_client import asked, client
from services.support import Unavailable

from beam_ml.formats import recordio

CLAIM = "RecordIO-protobuf is written 12 times and read 14 times as fast as by SageMaker's client, byte for byte"
D = 30
WIDE = 10_000


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor seconds of a call, and its result."""
    began = time.process_time()
    value = function()
    return time.process_time() - began, value


def rows_of(X: Any, label: np.ndarray) -> tuple[pa.RecordBatch, recordio.Options]:
    """Return a matrix as rows, and the options to write them by."""
    if scipy.sparse.issparse(X):
        parts = (pa.array(X.indptr, pa.int32()), pa.array(X.indices, pa.int32()), pa.array(X.data))
        return pa.record_batch({"features": pa.MapArray.from_arrays(*parts), "label": label}), recordio.Options(
            width=WIDE
        )
    features = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
    return pa.record_batch({"features": features, "label": label}), recordio.DEFAULT


def beside(folder: Path, X: Any, label: np.ndarray, repeats: int) -> dict[str, float]:
    """Return medians of processor seconds per million rows, ours and theirs, and check that the bytes agree."""
    stored, theirs, out = folder / "rows.npz", folder / "theirs.rec", folder / "out.npz"
    arrays = {"X": X}
    if scipy.sparse.issparse(X):
        arrays = {"data": X.data, "indices": X.indices, "indptr": X.indptr, "shape": np.array(X.shape)}
    np.savez(stored, label=label, **arrays)
    rows, options = rows_of(X, label)
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        took = asked("write", stored, theirs) | asked("read", theirs, out)
        for name, value in took.items():
            found.setdefault(f"theirs_{name}", []).append(value)
        spent, data = seconds(lambda: recordio.encode(rows, options))
        found.setdefault("ours_write", []).append(spent)
        if data != theirs.read_bytes():
            message = "Both must write the same bytes."
            raise RuntimeError(message)
        spent, block = seconds(lambda data=data: recordio.decode(data, ["features", "label"]))
        found.setdefault("ours_read", []).append(spent)
        column = block.batch["features"]
        values = column.items if scipy.sparse.issparse(X) else column.values
        if not np.array_equal(values.to_numpy(), X.data if scipy.sparse.issparse(X) else X.ravel()):
            message = "What is read must be what was written."
            raise RuntimeError(message)
    return {name: statistics.median(values) * 1e6 / len(label) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    began = time.perf_counter()
    try:
        client()
    except Unavailable as error:
        print(skipped_line(CLAIM, str(error)))
        return
    print(machine())
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, given.rows).astype(np.float32)
    dense = rng.normal(size=(given.rows, D)).astype(np.float32)
    sparse = scipy.sparse.random(given.rows, WIDE, D / WIDE, format="csr", dtype=np.float32, rng=rng)
    sparse.sort_indices()
    figures: dict[str, float] = {}
    for name, X in (("dense", dense), ("sparse", sparse)):
        recordio.decode(recordio.encode(*rows_of(X[:100], label[:100])))  # kernels are compiled or read from disk
        with tempfile.TemporaryDirectory() as folder:
            took = beside(Path(folder), X, label, given.repeats)
        figures[f"{name}_write"] = took["theirs_write"] / took["ours_write"]
        figures[f"{name}_read"] = (took["theirs_read"] + took["theirs_arrays"]) / took["ours_read"]
        figures[f"{name}_read_records_alone"] = took["theirs_read"] / took["ours_read"]
        print(f"{name}, µs a row: " + ", ".join(f"{key} {value:.3f}" for key, value in took.items()))
    print(", ".join(f"{key} {value:.1f}×" for key, value in figures.items()))
    ratios = {key: round(value, 2) for key, value in figures.items()}
    done = time.perf_counter() - began
    print(
        last_line(
            CLAIM,
            None,
            None,
            ratios["dense_read"],
            "the same bytes both ways",
            2 * given.rows,
            round(done, 1),
            **ratios,
        )
    )


if __name__ == "__main__":
    main()
