"""Sinks: blocks → files with sharded names, all of them there at the end or none."""

import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam import DoFn, GroupByKey, ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_output_types

from beam_ml import formats
from beam_ml.beam.transforms.read import options_of
from beam_ml.beam.transforms.windowing import globally, to_global
from beam_ml.beam.wire import coders
from beam_ml.core.spec import Settings
from beam_ml.formats import Block

__all__ = ["WriteAvro", "WriteCsv", "WriteFiles", "WriteParquet"]

_SHARD_BYTES = 64 << 20


@with_output_types(tuple[bytes, bytes])
class _WriteShards(DoFn):
    """Writes a bundle's blocks under hidden names and yields the names."""

    def __init__(self, folder: str, ending: str, format: str, options: str | None) -> None:
        self._folder, self._ending, self._format, self._options = folder, ending, format, options

    def start_bundle(self) -> None:
        self._blocks: list[Block] = []
        self._bytes = 0

    def process(self, element: Block) -> Iterator[tuple[bytes, bytes]]:
        if self._blocks and element.batch.schema != self._blocks[0].batch.schema:
            yield b"", self._flush()
        self._blocks.append(element)
        self._bytes += element.batch.nbytes
        if self._bytes >= _SHARD_BYTES:
            yield b"", self._flush()

    def finish_bundle(self) -> Iterator[Any]:
        if self._blocks:
            yield globally((b"", self._flush()))

    def _flush(self) -> bytes:
        os.makedirs(self._folder, exist_ok=True)
        path = os.path.join(self._folder, f"{uuid.uuid4().hex}{self._ending}")
        formats.write(path, [b.batch for b in self._blocks], self._format, options_of(self._format, self._options))
        self._blocks, self._bytes = [], 0
        return path.encode()


@with_output_types(bytes)
class _Finish(DoFn):
    """Renames the shards to their final names; done again after a failure, it finds what is left to do."""

    def __init__(self, prefix: str, folder: str, ending: str) -> None:
        self._prefix, self._folder, self._ending = prefix, folder, ending

    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[bytes]:
        shards = sorted(one.decode() for one in element[1])
        for i, shard in enumerate(shards):
            target = f"{self._prefix}-{i:05d}-of-{len(shards):05d}{self._ending}"
            if os.path.exists(shard):
                os.replace(shard, target)
            yield target.encode()
        for leftover in os.listdir(self._folder) if os.path.isdir(self._folder) else ():
            os.unlink(os.path.join(self._folder, leftover))
        if os.path.isdir(self._folder):
            os.rmdir(self._folder)


class WriteFiles(PTransform):
    """Blocks → ``<prefix>-00000-of-00002.parquet`` …, on a disk that all workers share; yields the paths as bytes.

    Args:
        prefix: how the files' names begin.
        options: the format's own (`csv.Options`).
        format: a key of FORMATS, or 'module:attribute' of one's own record.

    >>> import os, tempfile, apache_beam as beam, pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline, folder = new_pipeline(), tempfile.mkdtemp()
    >>> blocks = pipeline | beam.Create([Block(pa.record_batch({"x": [1.0, 2.0]}))])
    >>> _ = blocks | WriteFiles(f"{folder}/scored", format="csv")
    >>> _ = run(pipeline)
    >>> os.listdir(folder)
    ['scored-00000-of-00001.csv']
    """

    format = ""

    def __init__(self, prefix: str, options: Settings | None = None, format: str = "") -> None:
        super().__init__()
        self._record = formats.of_files(format or self.format)
        self._prefix, self._options = os.path.abspath(prefix), None if options is None else options.to_json()

    def expand(self, pcoll: PCollection) -> PCollection:
        """Write shards into a hidden folder, and rename them once all are there."""
        coders.install(pcoll.pipeline)
        parent, name = os.path.split(self._prefix)
        folder, ending = os.path.join(parent, f".{name}-{uuid.uuid4().hex}"), self._record.endings[0]
        shards = ParDo(_WriteShards(folder, ending, self._record.name, self._options))
        return (
            to_global(pcoll)
            | "Shards" >> shards
            | GroupByKey()
            | "Finish" >> ParDo(_Finish(self._prefix, folder, ending))
        )


class WriteParquet(WriteFiles):
    """Blocks → ``<prefix>-00000-of-00002.parquet`` …, on a disk that all workers share; yields the paths as bytes.

    >>> import tempfile, apache_beam as beam, pyarrow as pa, pyarrow.parquet
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline, prefix = new_pipeline(), f"{tempfile.mkdtemp()}/scored"
    >>> _ = pipeline | beam.Create([Block(pa.record_batch({"x": [1.0, 2.0]}))]) | WriteParquet(prefix)
    >>> _ = run(pipeline)
    >>> pyarrow.parquet.read_table(f"{prefix}-00000-of-00001.parquet").to_pydict()
    {'x': [1.0, 2.0]}
    """

    format = "parquet"


class WriteCsv(WriteFiles):
    """Blocks → ``<prefix>-00000-of-00002.csv`` …, on a disk that all workers share; yields the paths as bytes.

    >>> import pathlib, tempfile, apache_beam as beam, pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline, prefix = new_pipeline(), f"{tempfile.mkdtemp()}/scored"
    >>> _ = pipeline | beam.Create([Block(pa.record_batch({"x": [1, 2], "y": [3, 4]}))]) | WriteCsv(prefix)
    >>> _ = run(pipeline)
    >>> print(pathlib.Path(f"{prefix}-00000-of-00001.csv").read_text(), end="")
    "x","y"
    1,3
    2,4
    """

    format = "csv"


class WriteAvro(WriteFiles):
    """Blocks → ``<prefix>-00000-of-00002.avro`` …, on a disk that all workers share; yields the paths as bytes.

    >>> import tempfile, apache_beam as beam, pyarrow as pa
    >>> from beam_ml.beam import ReadAvro, new_pipeline, run
    >>> pipeline, prefix = new_pipeline(), f"{tempfile.mkdtemp()}/scored"
    >>> _ = pipeline | beam.Create([Block(pa.record_batch({"x": [1.0, 2.0]}))]) | WriteAvro(prefix)
    >>> _ = run(pipeline)
    >>> again = new_pipeline()
    >>> _ = again | ReadAvro(f"{prefix}-*.avro") | beam.Map(lambda block: print(block.batch.to_pydict()))
    >>> _ = run(again)
    {'x': [1.0, 2.0]}
    """

    format = "avro"
