"""Rows of words, as `Features.words` makes them: in spans of 1 + s features, how often a word comes and what spells it.

Letters: ``n`` rows, ``d`` features, ``s`` numbers of a word, ``t`` words of all rows.
"""

from typing import NamedTuple

import numpy as np

from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.core.batch import Batch

__all__ = ["Spans", "spans_of", "strange"]

_LARGEST = 2.0**48
"""Numbers that spell are below it."""


class Spans(NamedTuple):
    """The words of n rows, row by row.

    Attributes:
        row: (t,) each word's row.
        span: (t,) the number of its span within the row.
        times: (t,) how often it comes there.
        term: (t, s) what spells it.
    """

    row: np.ndarray
    span: np.ndarray
    times: np.ndarray
    term: np.ndarray


def spans_of(batch: Batch, s: int) -> Spans:
    """Return the words of n rows, dense or sparse; spans that are 0 are none.

    >>> found = spans_of(Batch.dense([[2.0, 7.0, 0.0, 0.0], [0.0, 0.0, 1.0, 9.0]]), 1)
    >>> found.row.tolist(), found.span.tolist(), found.times.tolist(), found.term.ravel().tolist()
    ([0, 1], [0, 1], [2.0, 1.0], [7.0, 9.0])
    """
    indptr, indices, values = canonical(batch)
    row = np.repeat(np.arange(len(batch)), np.diff(indptr))
    span, within = np.divmod(indices, 1 + s)
    begins = np.ones(row.size, bool)
    begins[1:] = (row[1:] != row[:-1]) | (span[1:] != span[:-1])
    numbers = np.zeros((int(begins.sum()), 1 + s))
    numbers[np.cumsum(begins) - 1, within] = values
    return Spans(row[begins], span[begins].astype(np.int64), numbers[:, 0], numbers[:, 1:])


def strange(batch: Batch, s: int) -> np.ndarray:
    """Return the mask (n,) of rows with a span that is no word: its count is not positive, or a number spells nothing.

    >>> strange(Batch.dense([[2.0, 7.0], [0.0, 7.0], [1.0, 0.5]]), 1).tolist()
    [False, True, True]
    """
    found = spans_of(batch, s)
    spells = (found.term >= 0.0) & (found.term < _LARGEST) & (found.term == np.floor(found.term))
    bad = np.zeros(len(batch), bool)
    bad[found.row[~(spells.all(axis=1) & (found.times > 0.0))]] = True
    return bad
