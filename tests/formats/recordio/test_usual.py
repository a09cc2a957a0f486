"""Sparse records laid out as SageMaker's client writes them are read in one pass, and as all others are."""

import numpy as np
import pyarrow as pa

from beam_ml.formats.recordio.records import Options, decode, layout_of
from beam_ml.formats.recordio.writing import framed
from beam_ml.kernels.recordio import frames, usual

RNG = np.random.default_rng(5)
COLUMNS = ("features", "label")
UNKNOWN = b"\x78\x01"  # field 15, which says nothing: in front of a record it is not laid out as usual


def payloads(rows, width, label_type="float64"):
    features = pa.array([list(row.items()) for row in rows], pa.map_(pa.int32(), pa.float32()))
    label = pa.array([float(i) if i % 3 else None for i in range(len(rows))], label_type)
    data = framed(pa.record_batch({"features": features, "label": label}), Options(width=width))[0]
    found = np.empty((len(frames.COLUMNS), len(rows)), np.int64)
    assert frames.index(data, 0, len(data), 1 << 20, found)[0] == len(rows)
    return [bytes(data[at : at + n]) for at, n in zip(found[2], found[3], strict=True)]


def some_rows(width):
    rows = [{int(k): float(k) / 7 for k in np.sort(RNG.choice(width, 8, replace=False))} for _ in range(20)]
    return [*rows, {0: 1.5}, {width - 1: -2.0}]


def read(records, width):
    size = np.array([len(one) for one in records], np.int64)
    found = decode(
        np.frombuffer(b"".join(records), np.uint8), np.cumsum(size) - size, size,
        layout_of(Options(form="sparse", values="float32", width=width), COLUMNS),
    )  # fmt: skip
    return found.batch.to_pydict(), found.good.tolist(), {why: at.tolist() for why, at in found.refused.items()}


def taken(record, width=0):
    values, keys, labels = np.zeros(len(record), np.uint8), np.zeros(len(record), np.int32), np.zeros(2)
    return usual.sparse(np.frombuffer(record, np.uint8), 0, len(record), width, values, keys, labels, 0, 0)


def test_records_of_the_client_are_read_as_others_are():
    # keys and shapes of one, two, three and four bytes; the last are left to the other reader
    for width, ours in ((100, True), (10_000, True), (1_000_000, True), (100_000_000, False)):
        for kind in ("float64", "float32"):
            records = payloads(some_rows(width), width, kind)
            assert all((taken(one, width)[0] > 0) == ours for one in records)
            assert all(taken(one, width + 1)[0] < 0 for one in records)
            found = read(records, width)
            assert found[1] == list(range(len(records)))
            assert found == read([UNKNOWN + one for one in records], width)


def test_damaged_records_are_judged_as_others_are():
    whole = payloads(some_rows(300), 300)
    damaged = [one[:i] for one in whole[:3] for i in range(1, len(one))]
    for _ in range(4_000):
        one = bytearray(whole[RNG.integers(len(whole))])
        for _ in range(RNG.integers(1, 4)):
            one[RNG.integers(len(one))] = RNG.integers(256)
        damaged.append(bytes(one))
    found, slowly = read(damaged, None), read([UNKNOWN + one for one in damaged], None)
    assert 0 < len(found[1]) < len(damaged)
    assert found[1:] == slowly[1:]
    for name in COLUMNS:  # NaN is not equal to itself
        assert str(found[0][name]) == str(slowly[0][name])
