"""Rows as notebooks have them, with their raw columns → batches: frames, blocks, and lists of dicts."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from beam_ml.core.algorithm import Predictions
from beam_ml.core.batch import Batch
from beam_ml.core.frames import is_frame, table_of
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.rejects import Reject
from beam_ml.core.scoring import refuse
from beam_ml.core.spec import Spec
from beam_ml.errors import InvalidBatch, InvalidValue
from beam_ml.features.features import Features
from beam_ml.features.labels import named
from beam_ml.formats.block import Block

__all__ = ["Made", "batch_of", "made_by"]

_RAW = "frames, blocks or dicts of the columns that its features name"
_ROWS = 1 << 16
"""Rows of one batch."""


def _are_raw(rows: Any) -> bool:
    """Return whether rows have named columns: a frame, a block, or a list of dicts."""
    return isinstance(rows, Block) or is_frame(rows) or (isinstance(rows, Sequence) and _are_dicts(rows))


def _are_dicts(rows: Sequence[Any]) -> bool:
    return len(rows) > 0 and isinstance(rows[0], Mapping)


def _features(argument: str, value: Any) -> Features:
    """Return features, of a mapping of their settings, too; all their buckets are given.

    Raises:
        InvalidValue: they are none.
    """
    if isinstance(value, Features):
        return value.sized()
    if not isinstance(value, dict):
        message = f"{argument} must be Features, or a mapping of their settings; got {type(value).__name__}."
        raise InvalidValue(message)
    return Features.parse(value).sized()


def _blocks(argument: str, rows: Any) -> Iterator[Block]:
    if isinstance(rows, Block):
        yield rows
        return
    if isinstance(rows, Sequence) and _are_dicts(rows):
        try:
            rows = pa.Table.from_pylist(list(rows))
        except (pa.ArrowException, TypeError, ValueError) as error:
            message = f"{argument} must be dicts whose values are of one kind by name: {' '.join(str(error).split())}."
            raise InvalidBatch(message) from error
    if not is_frame(rows):
        message = f"{argument} must be {_RAW}; got {type(rows).__name__}."
        raise InvalidValue(message)
    table = table_of(rows)
    yield from (Block(batch) for batch in table.to_batches(max_chunksize=_ROWS) or [_empty(table)])


def _empty(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: [] for name in table.column_names}, schema=table.schema)


class Made:
    """Batches of raw rows, made at each pass over them; `rejected` counts the rows set aside by each pass that is done.

    Args:
        argument: what messages call the rows.
        features: what makes the batches.
        rows: a frame, a block or dicts, or any iterable of these.

    >>> rows = Made("rows", Features(numeric=["x"]), pa.table({"x": [1.0, None]}))
    >>> [batch.dense_x.tolist() for batch in rows], dict(rows.rejected)
    ([[[1.0]]], {'non-finite feature x': 1})
    """

    def __init__(self, argument: str, features: Features, rows: Any) -> None:
        self._argument, self.features = argument, features
        self.rejected: Counter[str] = Counter()
        self.again = _are_raw(rows) or not isinstance(rows, Iterator)
        if not _are_raw(rows) and (isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable)):
            message = f"{argument} must be {_RAW}; got {type(rows).__name__}."
            raise InvalidValue(message)
        self._rows: Iterable[Any] = [rows] if _are_raw(rows) else rows

    def __iter__(self) -> Iterator[Batch]:
        counts = Counter[str]()
        for rows in self._rows:
            for block in _blocks(self._argument, rows):
                batch, rejects = _made(self.features, block)
                for reject in (*block.rejected, *rejects):
                    counts[reject.reason] += len(reject)
                yield batch
        self.rejected.update(counts)  # a look at the first batches counts nothing


def made_by(spec: Spec, learner: Learner, features: Any, rows: Any) -> Made | None:
    """Return what makes the batches that `fit` is given as raw rows; None: they are batches already.

    Args:
        spec: to learn.
        learner: to resume from, whose features they are where none are given.
        features: `Features`, a mapping of their settings, or None.
        rows: a frame, a block or dicts, or any iterable of these.

    Raises:
        InvalidValue: the features are not those of the learner, or do not fit the spec.
    """
    if features is None and not _are_raw(rows):
        return None
    stored = None if learner.features is None else _features("fit.learner", learner.features)
    wanted = stored if features is None else _features("fit.features", features)
    assert wanted is not None  # noqa: S101 one of them is given
    if stored is None and learner.progress.rows:
        message = "fit.features must be absent with a learner that has learned from batches; got features."
        raise InvalidValue(message)
    if stored is not None and stored != wanted:
        message = (
            f"fit.features must be those that the learner has learned by, {stored.to_json()}; got {wanted.to_json()}."
        )
        raise InvalidValue(message)
    if wanted.n_features != spec.n_features:
        message = f"fit.spec.n_features must be that of the features, {wanted.n_features}; got {spec.n_features}."
        raise InvalidValue(message)
    if spec.label_target != "none" and wanted.label is None:
        message = f"fit.features.label must name the column that {spec.algorithm} learns to predict; got none."
        raise InvalidValue(message)
    return Made("fit.batches", wanted, rows)


def _made(features: Features, block: Block, with_label: bool = True) -> tuple[Batch, tuple[Reject, ...]]:
    """Return a block's batch, with the names of its features where it is dense, and the rejected rows."""
    batch, rejects = features.to_batch(block, with_label)
    return (batch.replace(names=features.names) if batch.is_dense and features.names else batch), rejects


def batch_of(model: Model, rows: Any) -> tuple[Any, Callable[[Predictions], Predictions]]:
    """Return raw rows as one batch by a model's features, other rows as they are; and what names the predicted classes.

    Raises:
        InvalidBatch: a row is rejected.
    """
    features = _features("predict.model", model.facts["features"])
    if isinstance(rows, Batch) or not _are_raw(rows):
        return rows, partial(named, features.label)
    found, start = list[Batch](), 0
    for block in _blocks("predict.rows", rows):
        batch, rejects = _made(features, block.replace(position=None, position_end=None), with_label=False)
        if rejects:
            first = min(rejects, key=lambda one: int(one.position[0]))
            raise refuse(first.reason, start + int(first.position[0]))
        found.append(batch)
        start += len(block)
    return Batch.concat(found), partial(named, features.label)
