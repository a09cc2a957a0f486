"""Streaming machine learning as Beam transforms. With `pipelines`, the only importer of apache_beam."""

from beam_ml.beam.accumulate import Accumulate, Accumulations, Merge, MergeFn
from beam_ml.beam.elements import Folded, Measured, Rejected, Slice
from beam_ml.beam.engine import new_pipeline, run
from beam_ml.beam.prepare import Batches, SliceByWindow, Slices, ToBatches
from beam_ml.beam.read import FileRanges, ReadAvro, ReadCsv, ReadParquet, ReadRanges
from beam_ml.beam.references import AnchorRef
from beam_ml.beam.score import Evaluate, Score, ScoredBlocks
from beam_ml.beam.train import Fold, Publish, Train, Trained
from beam_ml.beam.train_fn import MergeLearners, TrainFn
from beam_ml.beam.write import WriteAvro, WriteCsv, WriteParquet
from beam_ml.predictor import ModelRef

__all__ = [
    "Accumulate",
    "Accumulations",
    "AnchorRef",
    "Batches",
    "Evaluate",
    "FileRanges",
    "Fold",
    "Folded",
    "Measured",
    "Merge",
    "MergeFn",
    "MergeLearners",
    "ModelRef",
    "Publish",
    "ReadAvro",
    "ReadCsv",
    "ReadParquet",
    "ReadRanges",
    "Rejected",
    "Score",
    "ScoredBlocks",
    "Slice",
    "SliceByWindow",
    "Slices",
    "ToBatches",
    "Train",
    "TrainFn",
    "Trained",
    "WriteAvro",
    "WriteCsv",
    "WriteParquet",
    "new_pipeline",
    "run",
]
