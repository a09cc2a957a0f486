"""Sources: ranges of files → blocks."""

import functools
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from apache_beam import GroupByKey, Impulse, Map, ParDo, PTransform
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml import formats
from beam_ml.beam.steps import Step
from beam_ml.beam.wire import coders
from beam_ml.core.spec import Settings
from beam_ml.core.threads import ahead
from beam_ml.formats import Block, FileRange
from beam_ml.formats.table import NO_ROLES, Roles

__all__ = ["FileRanges", "ReadAvro", "ReadCsv", "ReadFiles", "ReadParquet", "ReadRanges", "in_json", "options_of"]

_INDEX = struct.Struct(">I")
_TARGET = {"rows": 1 << 20, "bytes": 64 << 20}
"""About how large a range is, in what its format counts."""


def in_json(ranges: Iterable[Any]) -> tuple[bytes, ...]:
    """Return ranges as the elements that workers read them from."""
    return tuple(json.dumps(one.to_dict(), sort_keys=True).encode() for one in ranges)


@with_output_types(tuple[bytes, bytes])
class _EmitRanges(Step):
    renewed = ("ranges",)

    def __init__(self, ranges: tuple[bytes, ...]) -> None:
        self._ranges = ranges

    def process(self, element: bytes) -> Iterator[tuple[bytes, bytes]]:
        for i, one in enumerate(self._ranges):
            yield _INDEX.pack(i), one


@with_output_types(bytes)
class _Values(Step):
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterable[bytes]:
        return element[1]


class FileRanges(PTransform):
    """Ranges of files as elements, spread over the workers: a root transform.

    Args:
        ranges: as `formats.ranges` or a round's plan returns them.

    >>> import tempfile, apache_beam as beam, pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> folder = tempfile.mkdtemp()
    >>> _ = formats.write(f"{folder}/a.csv", [pa.record_batch({"x": [1, 2]})], "csv")
    >>> pieces = [piece for file in formats.list_files(folder, "csv") for piece in formats.ranges(file, 1 << 20, "csv")]
    >>> pipeline = new_pipeline()
    >>> _ = pipeline | FileRanges(pieces) | ReadRanges() | beam.Map(lambda block: print(block.batch.to_pydict()))
    >>> _ = run(pipeline)
    {'x': [1, 2]}
    """

    def __init__(self, ranges: Sequence[FileRange]) -> None:
        super().__init__()
        self._ranges = in_json(ranges)

    def expand(self, pbegin: PBegin) -> PCollection:
        """Emit the ranges at one place and regroup them, so that every worker gets some."""
        emitted = pbegin | Impulse() | "Emit" >> ParDo(_EmitRanges(self._ranges))
        return emitted | GroupByKey() | "Ranges" >> ParDo(_Values())


@functools.lru_cache(maxsize=16)
def options_of(format: str, text: str | None, roles: Roles = NO_ROLES) -> Settings | None:
    """Return a format's options of their JSON, None: the defaults, with the roles of columns added."""
    return formats.of_files(format).options(None if text is None else json.loads(text), roles)


@with_output_types(Block)
class _ReadRange(Step):
    def __init__(
        self,
        columns: tuple[str, ...] | None,
        max_rows: int,
        source: str,
        options: str | None,
        roles: Roles,
    ) -> None:
        self._columns, self._max_rows, self._source = columns, max_rows, source
        self._options, self._roles = options, roles

    def process(self, element: bytes | dict[str, Any]) -> Iterator[Block]:
        piece = FileRange.from_dict(element if isinstance(element, dict) else json.loads(element))
        options = options_of(piece.format, self._options, self._roles)
        blocks = formats.read(piece, self._columns, self._max_rows, self._source, options)
        # A thread takes longer to start than one small file to be read.
        yield from blocks if formats.of_files(piece.format).folders else ahead(blocks)


class ReadRanges(PTransform):
    """Ranges of files (JSON of `FileRange.to_dict`) → blocks.

    Args:
        columns: what to decode; None: all.
        max_rows: of one block.
        source: names the source in each block's origin.
        options: the format's own (`csv.Options`).
        roles: of columns (`Features.roles`), for formats of text.

    >>> import tempfile, apache_beam as beam, pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> folder = tempfile.mkdtemp()
    >>> _ = formats.write(f"{folder}/a.csv", [pa.record_batch({"x": [1, 3], "y": [2, 4]})], "csv")
    >>> pieces = [piece for file in formats.list_files(folder, "csv") for piece in formats.ranges(file, 1 << 20, "csv")]
    >>> pipeline = new_pipeline()
    >>> blocks = pipeline | FileRanges(pieces) | ReadRanges(columns=["y"], source="shop")
    >>> _ = blocks | beam.Map(lambda block: print(block.origin.source, block.batch.to_pydict()))
    >>> _ = run(pipeline)
    shop {'y': [2, 4]}
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        max_rows: int = 65_536,
        source: str = "files",
        options: Settings | None = None,
        roles: Roles = NO_ROLES,
    ) -> None:
        super().__init__()
        wanted, given = None if columns is None else tuple(columns), None if options is None else options.to_json()
        self._fn = _ReadRange(wanted, max_rows, source, given, roles)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Read each range where it arrives."""
        coders.install(pcoll.pipeline)
        return pcoll | "Read" >> ParDo(self._fn)


@with_input_types(bytes)
@with_output_types(bytes)
class _CutFiles(Step):
    """Lists and cuts files where the pipeline runs, so that what is built does not age."""

    def __init__(self, pattern: str, format: str, target: int, options: str | None) -> None:
        self._pattern, self._format, self._target, self._options = pattern, format, target, options

    def process(self, element: bytes) -> Iterator[bytes]:
        options = options_of(self._format, self._options)
        for file in formats.list_files(self._pattern, self._format):
            yield from in_json(formats.ranges(file, self._target, self._format, options))


def _keyed(piece: bytes) -> tuple[bytes, bytes]:
    return piece, b""


def _key(element: tuple[bytes, Any]) -> bytes:
    return element[0]


class ReadFiles(PTransform):
    """Files of a format (a directory, a pattern, one file) → blocks. They are cut into ranges that are read in parallel.

    Args:
        pattern: which files.
        columns: what to decode; None: all.
        max_rows: of one block.
        source: names the source in each block's origin.
        options: the format's own (`csv.Options`).
        format: a key of FORMATS, or 'module:attribute' of one's own record.

    >>> import tempfile, apache_beam as beam, pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> folder = tempfile.mkdtemp()
    >>> _ = formats.write(f"{folder}/a.avro", [pa.record_batch({"x": [1.0, 2.0]})])
    >>> pipeline = new_pipeline()
    >>> _ = pipeline | ReadFiles(folder, format="avro") | beam.Map(lambda block: print(block.batch.to_pydict()))
    >>> _ = run(pipeline)
    {'x': [1.0, 2.0]}
    """

    format = ""

    def __init__(
        self,
        pattern: str,
        columns: Sequence[str] | None = None,
        max_rows: int = 65_536,
        source: str = "files",
        options: Settings | None = None,
        format: str = "",
    ) -> None:
        super().__init__()
        record = formats.of_files(format or self.format)
        cut = _CutFiles(pattern, record.name, _TARGET[record.counts], None if options is None else options.to_json())
        self._cut, self._read = cut, ReadRanges(columns, max_rows, source, options)

    def expand(self, pbegin: PBegin) -> PCollection:
        """List and cut the files where the pipeline runs, spread the pieces, and read them."""
        pieces = pbegin | Impulse() | "List" >> ParDo(self._cut)
        keyed = pieces | "Key" >> Map(_keyed).with_output_types(tuple[bytes, bytes])
        spread = keyed | GroupByKey() | "Ranges" >> Map(_key).with_output_types(bytes)
        return spread | self._read


class ReadParquet(ReadFiles):
    """Parquet files (a directory, a pattern, one file) → blocks. Row groups are read in parallel.

    >>> import tempfile, apache_beam as beam, pyarrow as pa, pyarrow.parquet
    >>> from beam_ml.beam import new_pipeline, run
    >>> folder = tempfile.mkdtemp()
    >>> pyarrow.parquet.write_table(pa.table({"x": [1.0, 2.0], "y": [3.0, 4.0]}), f"{folder}/a.parquet")
    >>> pipeline = new_pipeline()
    >>> _ = pipeline | ReadParquet(folder, columns=["x"]) | beam.Map(lambda block: print(block.batch.to_pydict()))
    >>> _ = run(pipeline)
    {'x': [1.0, 2.0]}
    """

    format = "parquet"


class ReadCsv(ReadFiles):
    """CSV files, gzip and zstd included → blocks. Plain ones are cut at lines and read in parallel.

    >>> import tempfile, apache_beam as beam, pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> from beam_ml.formats.csv import Options
    >>> folder, semicolons = tempfile.mkdtemp(), Options(delimiter=";")
    >>> _ = formats.write(f"{folder}/a.csv", [pa.record_batch({"x": [1, 3], "y": [2, 4]})], "csv", semicolons)
    >>> pipeline = new_pipeline()
    >>> blocks = pipeline | ReadCsv(folder, options=semicolons)
    >>> _ = blocks | beam.Map(lambda block: print(block.batch.to_pydict()))
    >>> _ = run(pipeline)
    {'x': [1, 3], 'y': [2, 4]}
    """

    format = "csv"


class ReadAvro(ReadFiles):
    """Avro container files → blocks, cut at their sync markers.

    >>> import tempfile, apache_beam as beam, pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> folder = tempfile.mkdtemp()
    >>> _ = formats.write(f"{folder}/a.avro", [pa.record_batch({"x": [1.0, 2.0]})], "avro")
    >>> pipeline = new_pipeline()
    >>> _ = pipeline | ReadAvro(folder) | beam.Map(lambda block: print(block.batch.to_pydict()))
    >>> _ = run(pipeline)
    {'x': [1.0, 2.0]}
    """

    format = "avro"
