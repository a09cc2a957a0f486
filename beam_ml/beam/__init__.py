"""Streaming machine learning as Beam transforms. With `cli`, the only importer of apache_beam."""

from beam_ml.beam.engine import new_pipeline, run
from beam_ml.beam.transforms.accumulate import Accumulate, Accumulations
from beam_ml.beam.transforms.batches import Batches, SliceByWindow, Slices, ToBatches
from beam_ml.beam.transforms.combine_fns import MergeLearners, TrainFn
from beam_ml.beam.transforms.decode import Decode
from beam_ml.beam.transforms.join_labels import JoinedLabels, JoinLabels
from beam_ml.beam.transforms.merge import Merge, MergeFn
from beam_ml.beam.transforms.publish import Publish
from beam_ml.beam.transforms.read import FileRanges, ReadAvro, ReadCsv, ReadFiles, ReadParquet, ReadRanges
from beam_ml.beam.transforms.rejects import WriteRejects, reject_records
from beam_ml.beam.transforms.rolling import RollingFeatures
from beam_ml.beam.transforms.score import Evaluate, Score, ScoredBlocks
from beam_ml.beam.transforms.train import Fold, Train, Trained
from beam_ml.beam.transforms.write import WriteAvro, WriteCsv, WriteFiles, WriteParquet
from beam_ml.beam.wire.elements import Folded, Measured, Slice
from beam_ml.beam.wire.references import AnchorRef
from beam_ml.core.rejects import Reject
from beam_ml.predictor import ModelRef

__all__ = [
    "Accumulate",
    "Accumulations",
    "AnchorRef",
    "Batches",
    "Decode",
    "Evaluate",
    "FileRanges",
    "Fold",
    "Folded",
    "JoinLabels",
    "JoinedLabels",
    "Measured",
    "Merge",
    "MergeFn",
    "MergeLearners",
    "ModelRef",
    "Publish",
    "ReadAvro",
    "ReadCsv",
    "ReadFiles",
    "ReadParquet",
    "ReadRanges",
    "Reject",
    "RollingFeatures",
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
    "WriteFiles",
    "WriteParquet",
    "WriteRejects",
    "new_pipeline",
    "reject_records",
    "run",
]
