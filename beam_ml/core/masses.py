"""Weights that add up to the bit: in whole multiples of fixed units, whatever the order of addition.

A weight lies in an `octave`, the power of 256 at or below it: weights in [256^e, 256^(e+1)) count in units of
256^e · 2⁻²⁰, so that at most 5e-7 of one is lost; 33 million of the largest, or 8 billion of the smallest, add up exactly
in float64. With a half-life it also lies in an `era`, the number of the half-life that its time lies in; within an era it
counts as of the era's beginning. 128 eras are kept, since older ones weigh nothing beside the newest. Letters: ``n`` rows,
``m`` masses.
"""

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.spec import Spec

__all__ = ["half_life_us", "in_units", "masses_of", "summed"]

_ERAS = 128
_BITS = 20


def half_life_us(half_life_s: float) -> int:
    """Return a half-life in whole µs, at least one."""
    return max(1, round(half_life_s * 1e6))


def in_units(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (n,) > 0 as whole multiples of the units of their octaves, and the octaves (n,).

    >>> in_units(np.array([1.0, 300.0]))[1].tolist()
    [0, 1]
    """
    octave = np.floor_divide(np.frexp(weights)[1] - 1, 8).astype(np.int64)
    return _whole(weights, octave), octave


def _whole(weights: np.ndarray, octave: np.ndarray) -> np.ndarray:
    unit = np.ldexp(1.0, 8 * octave - _BITS)
    return np.round(weights / unit) * unit


def masses_of(spec: Spec, batch: Batch, octave: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return era, octave and mass (m,) of rows whose weights are in units."""
    era, now = np.zeros(len(batch), np.int64), batch.weights
    if spec.half_life is not None and batch.time is not None:
        half_us = half_life_us(spec.half_life)
        era, rest = np.divmod(batch.time, half_us)
        now = _whole(now * np.exp2(rest / half_us), octave)  # less than twice as much: as of the era's beginning
    return summed(era, octave, now)


def summed(era: np.ndarray, octave: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up masses of one era and octave; drop eras that weigh nothing beside the newest."""
    place = np.lexsort((octave, era))
    era, octave, mass = era[place], octave[place], mass[place]
    first = np.ones(era.size, dtype=bool)
    first[1:] = (era[1:] != era[:-1]) | (octave[1:] != octave[:-1])
    total = np.add.reduceat(mass, np.flatnonzero(first)) if era.size else mass
    era, octave = era[first], octave[first]
    recent = era > era[-1] - _ERAS if era.size else first
    return era[recent], octave[recent], total[recent]
