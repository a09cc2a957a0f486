"""One record per rejected row, whatever refused it, and the files that hold them."""

import json

import numpy as np

from beam_ml.beam import Reject, WriteRejects, engine, reject_records
from beam_ml.beam.wire import coders
from beam_ml.core.batch import Batch, Origin
from beam_ml.formats.messages import place
from tests.beam.support import create, make_batch, ran

TOPIC = Origin("kafka://c/t", "3")


def test_a_record_says_which_row_and_why():
    of_format = Reject("malformed line", np.array([7, 9]), np.array([9, 12]), ("a", "b")).of(Origin("s", "f"))
    assert list(reject_records(of_format)) == [
        {"source": "s", "partition": "f", "position": 7, "reason": "malformed line", "detail": "a"},
        {"source": "s", "partition": "f", "position": 9, "reason": "malformed line", "detail": "b"},
    ]
    of_topic = Reject("late", np.array([place(5, 2)]), origin=TOPIC)
    assert list(reject_records(of_topic)) == [
        {"source": TOPIC.source, "partition": "3", "position": place(5, 2), "reason": "late", "offset": 5, "row": 2}
    ]


def test_a_batch_is_rejected_with_its_places_or_without():
    placed = Reject.of_batch(make_batch(4, 3), "late")
    assert [one["position"] for one in reject_records(placed)] == [4, 5, 6]
    assert placed.origin is not None
    bare = Reject.of_batch(Batch.dense([[1.0], [2.0]]), "late")
    assert len(bare) == 2
    record = {"source": "", "partition": "", "position": None, "reason": "late"}
    assert list(reject_records(bare)) == [record, record]
    back = coders.RejectCoder().decode(coders.RejectCoder().encode(bare))
    assert list(reject_records(back)) == [record, record]


def test_rejects_are_written_as_lines(tmp_path):
    rejects = [Reject("late", np.array([place(5, 2)]), origin=TOPIC), Reject("x", np.array([1]), None, ("y",))]
    pipeline = engine.new_pipeline()
    create(pipeline, rejects, Reject, coders.RejectCoder()) | WriteRejects(str(tmp_path), "job/rejects/run/")
    ran(pipeline)
    files = sorted((tmp_path / "job" / "rejects" / "run").glob("*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    wanted = [record for one in rejects for record in reject_records(one)]
    assert sorted(lines, key=str) == sorted(wanted, key=str)
