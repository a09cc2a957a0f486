"""Formats beside their own clients: RecordIO-protobuf beside SageMaker's, libsvm text beside scikit-learn's.

RecordIO: rows of 30 float32 with a label, and sparse ones of about 30 of 10,000; byte for byte the same files on both sides.
Reading is compared where both end with arrays of the values; what SageMaker's client takes to its records alone, without a
number taken out of them, is given as well. Goals: 12 times for dense writes, 14 for reads, 12 for sparse writes. The client
lives in an environment of its own, with its telemetry switched off.

libsvm: the same sparse rows in float64, as scikit-learn writes them, with all their digits and with four behind the point.
Goals: 100 MB/s, and 5 times as fast as scikit-learn's loader.

JSON: messages of 30 doubles, one row each, to columns of float64, beside pyarrow's reader (all as one text, which one bad
message spoils), orjson, msgspec (a struct of 30 floats) and pysimdjson, each with the messages read one by one and the
numbers put into one array. Goal: twice what is read where the kernel
of flat objects is not asked. The peers are the extra `bench`.

CSV and Avro: rows of 30 doubles with a label, to columns, beside pyarrow's reader alone (ours tells the place of each row
and sets bad ones aside besides) and fastavro with its records put into one array.

Processor seconds of one thread, medians of the repeats, with both sides taking turns.

Run: ``PYTHONPATH=integration python integration/bench/formats.py [--rows 100000] [--repeats 5]``.
"""

import argparse
import importlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import scipy.sparse
from bench_support import has, last_line, machine
from sagemaker_client import asked, client
from services.support import Unavailable
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from beam_ml.formats import avro, csv, libsvm, recordio
from beam_ml.formats.json import flat
from beam_ml.formats.messages import decoder

CLAIM = (
    "RecordIO-protobuf is written 12 times and read 14 times as fast as by SageMaker's client, byte for byte; "
    "libsvm text is read 5 times as fast as by scikit-learn, 100 MB/s or more; "
    "JSON messages of 30 numbers are read twice as fast as without the kernel of flat objects"
)
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


def beside_scikit_learn(X: Any, label: np.ndarray, repeats: int) -> dict[str, float]:
    """Return medians of MB per processor second, ours and theirs, and check that the numbers agree."""
    out = io.BytesIO()
    dump_svmlight_file(X, label, out, zero_based=False)
    data = out.getvalue()
    found: dict[str, list[float]] = {"ours_read": [], "theirs_read": [], "ours_write": [], "theirs_write": []}
    libsvm.decode(data[: data.index(b"\n") + 1])  # kernels are compiled or read from disk
    for _ in range(repeats):
        spent, theirs = seconds(lambda: load_svmlight_file(io.BytesIO(data), n_features=X.shape[1], zero_based=False))
        found["theirs_read"].append(spent)
        spent, block = seconds(lambda: libsvm.decode(data, ["features", "label"]))
        found["ours_read"].append(spent)
        column = block.batch["features"]
        ours = (column.offsets, column.keys, column.items, block.batch["label"])
        pairs = zip(ours, (theirs[0].indptr, theirs[0].indices, theirs[0].data, theirs[1]), strict=True)
        if not all(np.array_equal(one.to_numpy(zero_copy_only=False), other) for one, other in pairs):
            message = "Both must read the same numbers."
            raise RuntimeError(message)
        spent, _ = seconds(lambda: dump_svmlight_file(X, label, io.BytesIO(), zero_based=False))
        found["theirs_write"].append(spent)
        spent, text = seconds(lambda block=block: libsvm.encode(block.batch))
        found["ours_write"].append(spent)
        if not libsvm.decode(text, ["features", "label"]).batch.equals(block.batch):
            message = "What is read must be what was written."
            raise RuntimeError(message)
    return {name: len(data) / 1e6 / statistics.median(values) for name, values in found.items()}


def beside_json_readers(rows: int, repeats: int) -> dict[str, float]:
    """Return medians of messages per processor second, ours and theirs, and check that the numbers agree."""
    names = [f"f{i}" for i in range(D)]
    X = np.random.default_rng(1).normal(size=(rows, D))
    values = [json.dumps(dict(zip(names, row, strict=True))).encode() for row in X.tolist()]
    column, decode = pa.array(values), decoder("json")
    schema = pa.schema([(name, pa.float64()) for name in names])
    form = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")

    def ours() -> np.ndarray:
        return np.column_stack([one.to_numpy() for one in decode(column, names).batch.columns])

    def without_kernel() -> np.ndarray:
        with mock.patch.object(flat, "numbers", lambda raw, columns: ([], np.arange(len(raw)))):
            return ours()

    def by_pyarrow() -> np.ndarray:
        text = b"\n".join(values)
        how = pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1)
        table = pa.json.read_json(pa.BufferReader(text), read_options=how, parse_options=form)
        return np.column_stack([one.to_numpy() for one in table.columns])

    readers: dict[str, Callable[[], np.ndarray]] = {
        "ours": ours,
        "without_kernel": without_kernel,
        "pyarrow": by_pyarrow,
    }
    if has(sys.executable, "orjson"):
        orjson = importlib.import_module("orjson")
        readers["orjson"] = lambda: np.array([[row[name] for name in names] for row in map(orjson.loads, values)])
    if has(sys.executable, "msgspec"):
        msgspec = importlib.import_module("msgspec")
        struct = msgspec.defstruct("Row", [(name, float) for name in names])
        one = msgspec.json.Decoder(struct)
        readers["msgspec"] = lambda: np.array([msgspec.structs.astuple(one.decode(value)) for value in values])
    if has(sys.executable, "simdjson"):
        parser = importlib.import_module("simdjson").Parser()

        def by_simdjson() -> np.ndarray:
            rows = []
            for value in values:
                document = parser.parse(value)
                rows.append([document[name] for name in names])
                del document  # a parser holds one at a time
            return np.array(rows)

        readers["pysimdjson"] = by_simdjson
    decode(column.slice(0, 10), names)  # kernels are compiled or read from disk
    return {name: rows / spent for name, spent in in_turn(readers, X, repeats).items()}


def in_turn(readers: dict[str, Callable[[], Any]], wanted: Any, repeats: int) -> dict[str, float]:
    """Return medians of processor seconds of each, in turn; each must return what is wanted."""
    found: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repeats):
        for name, read in readers.items():
            spent, value = seconds(read)
            found[name].append(spent)
            if not np.array_equal(value, wanted):
                message = f"{name} must read the numbers that were written."
                raise RuntimeError(message)
    return {name: statistics.median(values) for name, values in found.items()}


def beside_csv_readers(X: np.ndarray, label: np.ndarray, repeats: int) -> dict[str, float]:
    """Return medians of MB per processor second of CSV, ours and theirs, and check that the numbers agree."""
    whole = np.column_stack([X, label])
    names = [*(f"f{i}" for i in range(D)), "label"]
    rows = pa.RecordBatch.from_arrays([pa.array(whole[:, i]) for i in range(D + 1)], names=names)
    data = csv.encode(rows)
    how = pa.csv.ReadOptions(use_threads=False)

    def table(read: pa.Table | pa.RecordBatch) -> np.ndarray:
        return np.column_stack([one.to_numpy() for one in read.columns])

    took = in_turn(
        {
            "ours": lambda: table(csv.decode(data).batch),
            "pyarrow": lambda: table(pa.csv.read_csv(pa.BufferReader(data), read_options=how)),
        },
        whole,
        repeats,
    )
    return {name: len(data) / 1e6 / value for name, value in took.items()}


def beside_fastavro(X: np.ndarray, label: np.ndarray, repeats: int) -> dict[str, float]:
    """Return medians of rows per processor second of Avro files, ours and theirs, and check that the numbers agree."""
    whole = np.column_stack([X, label])
    names = [*(f"f{i}" for i in range(D)), "label"]
    rows = pa.RecordBatch.from_arrays([pa.array(whole[:, i]) for i in range(D + 1)], names=names)
    data = avro.encode(rows)
    took = in_turn(
        {
            "ours": lambda: np.column_stack([one.to_numpy() for one in avro.decode(data).batch.columns]),
            "fastavro": lambda: np.array([list(one.values()) for one in fastavro.reader(io.BytesIO(data))]),
        },
        whole,
        repeats,
    )
    return {name: len(label) / value for name, value in took.items()}


def beside_sagemaker(dense: np.ndarray, sparse: Any, label: np.ndarray, repeats: int) -> dict[str, float]:
    """Return how many times as fast ours is as SageMaker's client."""
    figures: dict[str, float] = {}
    for name, X in (("dense", dense), ("sparse", sparse)):
        recordio.decode(recordio.encode(*rows_of(X[:100], label[:100])))  # kernels are compiled or read from disk
        with tempfile.TemporaryDirectory() as folder:
            took = beside(Path(folder), X, label, repeats)
        figures[f"{name}_write"] = took["theirs_write"] / took["ours_write"]
        figures[f"{name}_read"] = (took["theirs_read"] + took["theirs_arrays"]) / took["ours_read"]
        figures[f"{name}_read_records_alone"] = took["theirs_read"] / took["ours_read"]
        print(f"{name}, µs a row: " + ", ".join(f"{key} {value:.3f}" for key, value in took.items()))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    began = time.perf_counter()
    print(machine())
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, given.rows).astype(np.float32)
    dense = rng.normal(size=(given.rows, D)).astype(np.float32)
    sparse = scipy.sparse.random(given.rows, WIDE, D / WIDE, format="csr", dtype=np.float32, rng=rng)
    sparse.sort_indices()
    figures: dict[str, float] = {}
    for name, digits in (("libsvm", None), ("libsvm_short", 4)):
        X = sparse.astype(np.float64)
        if digits is not None:
            X.data = np.round(X.data, digits)
        speed = beside_scikit_learn(X, label, given.repeats)
        figures[f"{name}_read"] = speed["ours_read"] / speed["theirs_read"]
        figures[f"{name}_write"] = speed["ours_write"] / speed["theirs_write"]
        print(f"{name}, MB/s: " + ", ".join(f"{key} {value:.1f}" for key, value in speed.items()))
    speed = beside_json_readers(min(given.rows, 20_000), given.repeats)
    print("JSON messages of 30 doubles, rows/s: " + ", ".join(f"{key} {value:,.0f}" for key, value in speed.items()))
    figures |= {f"json_{name}": speed["ours"] / value for name, value in speed.items() if name != "ours"}
    wide = dense.astype(np.float64)
    speed = beside_csv_readers(wide, label, given.repeats)
    print("CSV of 31 doubles, MB/s: " + ", ".join(f"{key} {value:.1f}" for key, value in speed.items()))
    figures |= {f"csv_{name}": speed["ours"] / value for name, value in speed.items() if name != "ours"}
    speed = beside_fastavro(wide, label, given.repeats)
    print("Avro of 31 doubles, rows/s: " + ", ".join(f"{key} {value:,.0f}" for key, value in speed.items()))
    figures["avro_fastavro"] = speed["ours"] / speed["fastavro"]
    skipped = {}
    try:
        client()
        figures |= beside_sagemaker(dense, sparse, label, given.repeats)
    except Unavailable as error:
        skipped["skipped"] = str(error)
    print(", ".join(f"{key} {value:.1f}×" for key, value in figures.items()))
    ratios = {key: round(value, 2) for key, value in figures.items()}
    done = time.perf_counter() - began
    print(
        last_line(
            CLAIM,
            None,
            None,
            ratios.get("dense_read"),
            "the same bytes both ways, the same numbers as scikit-learn",
            6 * given.rows,
            round(done, 1),
            **ratios,
            **skipped,
        )
    )


if __name__ == "__main__":
    main()
