"""A look at a job's files or topic before it runs: some rows from everywhere, and what they say of its categories."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import pyarrow as pa

from beam_ml import formats
from beam_ml.beam.job.job import Job
from beam_ml.beam.job.sources import FileSource
from beam_ml.core.cursors import FileId
from beam_ml.core.spec import Settings
from beam_ml.errors import BeamMLError, NoInput, SourceRefused, SourceUnavailable
from beam_ml.features.hashing import CROWDED, sharing
from beam_ml.features.seen import places_by, seen_in
from beam_ml.formats import Block

__all__ = ["Looked", "asks", "blocks_of", "category_columns", "look"]

T = TypeVar("T")
_FILES, _PIECES, _ROWS = 8, 16, 4_096
"""Files that are looked into at most, pieces of them, and rows of a piece."""
_LEAST = 1_024
"""Rows of a topic by which it is judged: fewer say little about what is still to come. With so many, a column of which every
row has another value gets the most places that there are."""
_RANGE = 1 << 18
"""Bytes of a piece of a file whose places are bytes, and rows of others."""


class Looked(NamedTuple):
    """What was found.

    Attributes:
        job: the same with the buckets of all its columns of categories.
        rows: looked at; 0: nothing was there, or nothing was asked.
        seen: column whose buckets were not given → different values in those rows.
    """

    job: Job
    rows: int = 0
    seen: Mapping[str, int] = MappingProxyType({})

    def crowded(self, share: float = CROWDED) -> list[str]:
        """Return a sentence about each column of which more than a share of the values seen share their places."""
        places = {field.name: field.term.places for field in self.job.features.by_hash}
        found = {column: sharing(seen, places[column]) for column, seen in self.seen.items()}
        return [
            f"{column}: {self.seen[column]:,} values in {self.rows:,} rows, of which {one:.0%} share one of its "
            f"{places[column]:,} places (buckets = … gives it more)."
            for column, one in found.items()
            if one > share
        ]


def asks(job: Job) -> bool:
    """Return whether to look: a column of categories has no buckets, and rows are learned as they are read."""
    return bool(job.features.unsized) and "n_features" not in job.spec and not job.prepares


def category_columns(job: Job) -> list[str]:
    """Return the columns that are looked at: of what has no buckets yet."""
    wanted = job.features.unsized
    return list(dict.fromkeys(name for one in job.features.by_hash if one.name in wanted for name in one.term.columns))


def look(job: Job, blocks: Iterable[Block] | None = None) -> Looked:
    """Choose the places of the columns of categories that have no buckets, by rows from everywhere in the job's source.

    Of at most 8 files in their order and 16 pieces of these, spread evenly, the first 4,096 rows each: the same files are
    always answered in the same way. Rows that are prepared before they are learned are not looked at, nor is anything where
    the spec says how many features there are: a column then has 65,536 places, as with a topic of fewer than 1,024 rows.
    What cannot be read is passed over; the run says why.

    Args:
        job: the deployment.
        blocks: rows of its topic, as `kafka.looking` reads them; None: none of it.
    """
    wanted, source = job.features.unsized, job.source
    if not asks(job) or (blocks is None and not isinstance(source, FileSource)):
        return Looked(job.with_features(job.features.sized()))
    least = 1
    if isinstance(source, FileSource):
        blocks = _everywhere(source, category_columns(job))
    else:
        least = _LEAST
    counted = _Counted(blocks or ())
    try:
        seen = seen_in(job.features, counted.batches(), wanted)
    except (NoInput, SourceRefused, SourceUnavailable):
        raise
    except BeamMLError:  # a column that is not there, which the run refuses
        counted.rows, seen = 0, {}
    rows = counted.rows if counted.rows >= least else 0
    return Looked(job.with_features(job.features.sized(places_by(seen) if rows else {})), rows, seen if rows else {})


class _Counted:
    """Blocks whose rows are counted as they pass, so that not all are held at once."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks, self.rows = blocks, 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        for block in self._blocks:
            self.rows += len(block)
            yield block.batch


def _everywhere(source: FileSource, columns: Sequence[str]) -> Iterator[Block]:
    try:
        files = _spread(formats.list_files(source.path, source.format), _FILES)
    except NoInput:
        return
    for file in files:
        try:
            for piece in _spread(_ranges(source, file, _RANGE), max(_PIECES // len(files), 1)):
                yield from _first(source, piece, columns)
        except BeamMLError:
            continue


def _first(source: FileSource, piece: formats.FileRange, columns: Sequence[str]) -> Iterator[Block]:
    block = next(formats.read(piece, columns, _ROWS, options=_options(source, piece.path)), None)
    if block is not None:
        yield block


def _spread(all: Sequence[T], most: int) -> list[T]:
    """Return at most so many of all, evenly spread, the first and the last among them."""
    if len(all) <= most or most < 2:
        return list(all[:most])
    return [all[i * (len(all) - 1) // (most - 1)] for i in range(most)]


def _options(source: FileSource, path: str) -> Settings | None:
    return formats.of_files(source.format or formats.format_of(path)).options(source.options, source.roles)


def _ranges(source: FileSource, file: FileId, target: int) -> list[formats.FileRange]:
    return formats.ranges(file, target, source.format or formats.format_of(file.path), _options(source, file.path))


def blocks_of(source: FileSource, file: FileId, columns: Sequence[str], rows: int) -> Iterator[Block]:
    """Read a file from its beginning in blocks of at most so many rows."""
    for piece in _ranges(source, file, 1 << 20):
        yield from formats.read(piece, columns, rows, options=_options(source, file.path))
