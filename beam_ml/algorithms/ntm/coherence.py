"""How good topics are, by their first words: coherence, uniqueness, diversity.

Automated coherence prefers topics that people do not always (Hoyle et al. 2021): read several figures, and the words.
Letters: ``k`` topics, ``t`` words of a topic, ``u`` distinct words of all topics, ``n`` documents.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

__all__ = ["diversity", "npmi", "read_vectors", "uniqueness", "vectors", "wetc"]

_DIMENSIONS = 50


def _together(words: np.ndarray, documents: csr_matrix, weight: np.ndarray) -> np.ndarray:
    """Return the share of the documents that hold both of two words (u, u); on the diagonal, one word."""
    total = float(weight.sum())
    if total <= 0.0:
        return np.zeros((words.size, words.size))
    there = documents[:, words].copy()
    there.data = (there.data > 0).astype(np.float64)
    found: np.ndarray = np.asarray((there.T @ there.multiply(weight[:, None])).todense()) / total
    return found


def npmi(top: np.ndarray, documents: csr_matrix, weight: np.ndarray) -> np.ndarray:
    """Return the mean normalised pointwise mutual information of the pairs of each topic's words (k,).

    ``npmi(a, b) = log(p(a, b) / (p(a) p(b))) / −log p(a, b)``, with shares of documents; −1 where no document holds both.

    >>> two = csr_matrix([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    >>> npmi(np.array([[0, 1], [2, 3]]), two, np.ones(4)).tolist()
    [1.0, -1.0]
    """
    words, place = np.unique(top, return_inverse=True)
    both = _together(words, documents, weight)
    alone = np.diag(both)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(both / np.outer(alone, alone)) / -np.log(both)
    found = np.where(both <= 0.0, -1.0, np.where(both >= 1.0, 1.0, found))
    return _of_pairs(found, place.reshape(top.shape))


def _of_pairs(value: np.ndarray, place: np.ndarray) -> np.ndarray:
    t = place.shape[1]
    if t < 2:
        return np.zeros(len(place))
    first, second = np.triu_indices(t, 1)
    means: np.ndarray = value[place[:, first], place[:, second]].mean(axis=1)
    return means


def vectors(top: np.ndarray, documents: csr_matrix, weight: np.ndarray) -> dict[int, np.ndarray]:
    """Return vectors of words from the corpus's own documents: positive pointwise mutual information, by its main axes.

    The context of a word are the other topics' words. Levy, Goldberg and Dagan (2015).
    """
    words = np.unique(top)
    both = _together(words, documents, weight)
    alone = np.diag(both)
    with np.errstate(divide="ignore", invalid="ignore"):
        mutual = np.log(both / np.outer(alone, alone))
    positive = np.where(both > 0.0, np.maximum(mutual, 0.0), 0.0)
    value, axes = np.linalg.eigh(positive)
    kept = np.argsort(-np.abs(value), kind="stable")[:_DIMENSIONS]
    found = axes[:, kept] * np.sqrt(np.abs(value[kept]))
    return dict(zip(words.tolist(), found, strict=True))


def read_vectors(path: str | Path, vocabulary: list[str]) -> dict[int, np.ndarray]:
    """Return vectors of words from a text file such as GloVe's: a word and its numbers on each line.

    Args:
        path: of the file.
        vocabulary: the words of the features, in their order; others are passed over.
    """
    number, found = {word: i for i, word in enumerate(vocabulary)}, dict[int, np.ndarray]()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            word, _, rest = line.rstrip().partition(" ")
            if word in number and rest:
                found[number[word]] = np.array(rest.split(), dtype=np.float64)
    return found


def wetc(top: np.ndarray, vectors: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return the mean cosine of the pairs of each topic's words (k,): word embedding topic coherence (Ding et al. 2018).

    Words without a vector have one of zeros, whose cosine with any is 0.

    >>> wetc(np.array([[0, 1], [0, 2]]), {0: np.array([1.0, 0.0]), 1: np.array([2.0, 0.0])}).tolist()
    [1.0, 0.0]
    """
    words, place = np.unique(top, return_inverse=True)
    size = next((one.size for one in vectors.values()), 1)
    rows = np.stack([vectors.get(int(word), np.zeros(size)) for word in words])
    norm = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    rows = rows / np.where(norm > 0.0, norm, 1.0)
    return _of_pairs(rows @ rows.T, place.reshape(top.shape))


def uniqueness(top: np.ndarray) -> np.ndarray:
    """Return the mean over each topic's words of 1 / the number of topics that list the word (k,): 1/k … 1.

    >>> uniqueness(np.array([[0, 1], [0, 2]])).tolist()
    [0.75, 0.75]
    """
    words, place = np.unique(top, return_inverse=True)
    listed = np.bincount(place.ravel(), minlength=words.size)
    means: np.ndarray = (1.0 / listed[place.reshape(top.shape)]).mean(axis=1)
    return means


def diversity(top: np.ndarray) -> float:
    """Return the distinct words of all topics over all words listed.

    >>> diversity(np.array([[0, 1], [0, 2]]))
    0.75
    """
    return float(np.unique(top).size / top.size)
