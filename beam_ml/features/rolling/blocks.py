"""Blocks with their aggregates: what shards compute, row by row, is put back beside the rows that it belongs to."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_ml.core.rejects import Reject
from beam_ml.errors import InvalidValue
from beam_ml.features.rolling.layout import layout_of
from beam_ml.features.rolling.roll import Rolled, roll
from beam_ml.features.rolling.rows import Rows, Tag, concatenated, no_rows, rows_of
from beam_ml.features.rolling.spec import Rolling
from beam_ml.features.rolling.state import State, empty
from beam_ml.formats.block import Block

__all__ = ["LATE", "OpenBlock", "Piece", "RolledBlocks", "assembled", "pieces_of", "roll_blocks"]

LATE = "late for rolling windows"
"""Why a row is rejected that came behind the lateness."""


class Piece(NamedTuple):
    """What one shard says of some rows of one block.

    Attributes:
        key: number of the key in `Rolling.keys`.
        row: (m,) int32 numbers of the rows in their block.
        columns: of the key's outputs, m rows; None: the rows came too late.
    """

    key: int
    row: np.ndarray
    columns: pa.RecordBatch | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class OpenBlock:
    """A block of which not all aggregates are known yet.

    Attributes:
        block: its rows.
        good: numbers of the rows that are computed.
        rejected: the others, by reason.
        pieces: what is known so far.
    """

    block: Block
    good: np.ndarray
    rejected: tuple[Reject, ...]
    pieces: tuple[Piece, ...] = ()

    def missing(self, spec: Rolling) -> int:
        """Return how many rows are still to come, each once per key."""
        return len(spec.keys) * len(self.good) - sum(len(piece.row) for piece in self.pieces)


class RolledBlocks(NamedTuple):
    """What `roll_blocks` returns.

    Attributes:
        blocks: with their aggregates as further columns, in the order they were begun; rejects are in `Block.rejected`.
        open: blocks that have rows which wait.
        states: all of them, by number.
    """

    blocks: tuple[Block, ...]
    open: Mapping[Tag, OpenBlock]
    states: Mapping[int, State]


def pieces_of(key: int, rolled: Rolled) -> list[tuple[Tag, Piece]]:
    """Return what a call of `roll` says, by block."""
    found = []
    for rows, columns in ((rolled.rows, rolled.columns), (rolled.late, None)):
        found += [
            (tag, Piece(key, rows.row[index], None if columns is None else columns.take(pa.array(index))))
            for tag, index in _by_tag(rows)
        ]
    return found


def _by_tag(rows: Rows) -> Iterable[tuple[Tag, np.ndarray]]:
    if len(rows) == 0:
        return
    order = np.argsort(rows.tag, kind="stable")
    bounds = np.searchsorted(rows.tag[order], np.arange(len(rows.tags) + 1))
    for i, tag in enumerate(rows.tags):
        if bounds[i] < bounds[i + 1]:
            yield tag, order[bounds[i] : bounds[i + 1]]


def assembled(spec: Rolling, open_: OpenBlock) -> Block:
    """Return a block with its aggregates, once none is missing; rows that were late for one of their keys are rejected.

    Raises:
        InvalidValue: an output is called as a column of the block is.
    """
    block = open_.block
    taken = [name for name in spec.names if name in block.batch.schema.names]
    if taken:
        message = (
            f"Rolling.aggregates must have outputs that are no columns of the rows; got {taken[:5]} (name settles it)."
        )
        raise InvalidValue(message)
    keep = np.zeros(len(block), bool)
    keep[open_.good] = True
    late = np.zeros(len(block), bool)
    for piece in open_.pieces:
        if piece.columns is None:
            late[piece.row] = True
    late &= keep
    keep &= ~late
    rejected = (*block.rejected, *open_.rejected)
    if late.any():
        rejected = (*rejected, _rejected(block, late))
    columns: dict[str, pa.Array] = {}
    for key in range(len(spec.keys)):
        columns |= _columns([one for one in open_.pieces if one.key == key and one.columns is not None], keep)
    whole = block if keep.all() else _some(block, keep)
    names = [name for name in spec.names if name in columns]
    arrays = [*whole.batch.columns, *(columns[name] for name in names)]
    batch = pa.RecordBatch.from_arrays(arrays, names=[*whole.batch.schema.names, *names]) if len(whole) else whole.batch
    if not len(whole):
        batch = _without_rows(spec, whole.batch)
    return whole.replace(batch=batch, rejected=rejected)


def _without_rows(spec: Rolling, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of no rows with the columns of the outputs."""
    columns: dict[str, pa.Array] = {}
    for key in range(len(spec.keys)):
        state = empty(spec, key * spec.shards)
        found = roll(spec, state, no_rows(layout_of(spec, key))).columns
        columns |= dict(zip(found.schema.names, found.columns, strict=True))
    arrays = [*batch.columns, *(columns[name] for name in spec.names)]
    return pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, *spec.names])


def _columns(pieces: Sequence[Piece], keep: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns of one key, in the order of the block's rows."""
    if not pieces:
        return {}
    table = pa.Table.from_batches([piece.columns for piece in pieces]).combine_chunks()
    place = np.empty(keep.size, np.int64)
    row = np.concatenate([piece.row for piece in pieces])
    place[row] = np.arange(row.size)
    order = pa.array(place[keep])
    return {name: table.column(name).combine_chunks().take(order) for name in table.column_names}


def _some(block: Block, keep: np.ndarray) -> Block:
    position = None if block.position is None else block.position[keep]
    end = None if block.position_end is None else block.position_end[keep]
    recorded = None if block.recorded is None else block.recorded[keep]
    batch = block.batch.filter(pa.array(keep))
    return block.replace(batch=batch, position=position, position_end=end, recorded=recorded)


def _rejected(block: Block, rows: np.ndarray) -> Reject:
    place = np.arange(len(block), dtype=np.int64) if block.position is None else block.position
    end = None if block.position_end is None else block.position_end[rows]
    return Reject(LATE, place[rows], end, (), block.origin)


def roll_blocks(
    spec: Rolling,
    states: Mapping[int, State],
    blocks: Sequence[Block],
    open_: Mapping[Tag, OpenBlock] | None = None,
    before: int | None = None,
) -> RolledBlocks:
    """Compute the aggregates of blocks, all keys and shards in this process.

    Args:
        spec: of the windows.
        states: by number; those that are absent begin empty.
        blocks: in the order they came.
        open_: blocks whose rows the states hold back.
        before: as in `roll`.

    Raises:
        MissingColumn: a column is absent or of the wrong type.
        InvalidValue: a state becomes too large, or an output is called as a column is.

    >>> spec = Rolling(time="ts", aggregates=[{"key": "card", "of": "count", "windows": ["10s"]}])
    >>> block = Block(pa.record_batch({"ts": [1e9, 1e9 + 4, 1e9 + 13], "card": ["a", "a", "a"]}))
    >>> done = roll_blocks(spec, {}, [block])
    >>> done.blocks[0].batch["count_by_card_10s"].to_pylist(), len(done.open)
    ([1, 2, 2], 0)
    """
    waiting = dict(open_ or {})
    groups: list[list[Rows]] = [[] for _ in spec.keys]
    for block in blocks:
        tag = _unused(block, waiting)
        read = rows_of(spec, block, tag.block)
        waiting[tag] = OpenBlock(block, read.good, read.rejected)
        for group, rows in zip(groups, read.rows, strict=True):
            group.append(rows)
    after, found = dict(states), dict[Tag, list[Piece]]()
    for key, group in enumerate(groups):
        together = concatenated(group or [no_rows(layout_of(spec, key))])
        for i, rows in enumerate(together.shards(spec.shards)):
            shard = key * spec.shards + i
            done = roll(spec, after.get(shard) or empty(spec, shard), rows, before)
            after[shard] = done.state
            for tag, piece in pieces_of(key, done):
                found.setdefault(tag, []).append(piece)
    finished = []
    for tag, one in list(waiting.items()):
        grown = dataclasses.replace(one, pieces=(*one.pieces, *found.get(tag, ())))
        if grown.missing(spec):
            waiting[tag] = grown
        else:
            finished.append(assembled(spec, grown))
            del waiting[tag]
    return RolledBlocks(tuple(finished), waiting, after)


def _unused(block: Block, taken: Mapping[Tag, OpenBlock]) -> Tag:
    """Return a tag for a block that no open block has."""
    source, partition = ("", "") if block.origin is None else (block.origin.source, block.origin.partition)
    tag, again = Tag(source, partition, f"{block.start:020d}"), 0
    while tag in taken:
        again += 1
        tag = Tag(source, partition, f"{block.start:020d}#{again:010d}")
    return tag
