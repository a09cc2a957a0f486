"""What SageMaker's own client does with records, run by the interpreter of an environment that has it: no part of ours.

``python sagemaker_peer.py write ARRAYS.npz OUT.rec`` and ``python sagemaker_peer.py read IN.rec ARRAYS.npz``; the last line
of the output is JSON with processor seconds. Sparse matrices are stored as data, indices, indptr and shape.
"""

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse
from sagemaker.amazon.common import read_records, write_numpy_to_dense_tensor, write_spmatrix_to_sparse_tensor

KINDS = ("float32_tensor", "float64_tensor", "int32_tensor")


def write(arrays: str, out: str) -> dict[str, float]:
    with np.load(arrays) as given:
        label = given["label"] if "label" in given else None
        buffer = io.BytesIO()
        if "indptr" in given:
            parts = (given["data"], given["indices"], given["indptr"])
            matrix, write_rows = scipy.sparse.csr_matrix(parts, given["shape"]), write_spmatrix_to_sparse_tensor
        else:
            matrix, write_rows = given["X"], write_numpy_to_dense_tensor
    began = time.process_time()
    write_rows(buffer, matrix, label)
    spent = time.process_time() - began
    Path(out).write_bytes(buffer.getvalue())
    return {"write": spent}


def read(source: str, arrays: str) -> dict[str, float]:
    buffer = io.BytesIO(Path(source).read_bytes())
    began = time.process_time()
    records = read_records(buffer)
    read_s = time.process_time() - began
    began = time.process_time()
    tensors = [getattr(one.features["values"], one.features["values"].WhichOneof("value")) for one in records]
    values = [np.array(one.values) for one in tensors]
    labels = [
        list(getattr(one.label["values"], one.label["values"].WhichOneof("value") or KINDS[0]).values)
        for one in records
    ]
    arrays_s = time.process_time() - began
    keys = [np.array(one.keys, np.int64) for one in tensors]
    np.savez(
        arrays,
        values=np.concatenate([np.empty(0), *values]),
        keys=np.concatenate([np.empty(0, np.int64), *keys]),
        counts=np.array([len(one) for one in values], np.int64),
        shape=np.array([list(one.shape) for one in tensors]),
        label=np.array([one for some in labels for one in some], np.float64),
        uid=np.array([one.uid for one in records]),
    )
    return {"read": read_s, "arrays": arrays_s}


if __name__ == "__main__":
    print(json.dumps({"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])))
