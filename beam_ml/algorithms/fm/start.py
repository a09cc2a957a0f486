"""Where the parameters of `fm.Spec` start: drawn for each entry from (seed, row, column), so any worker draws the same.

Nothing is kept for rows that no data has touched; a worker draws those it meets. Letters: ``r`` parameter rows (features,
the bias is row n_features), ``m`` columns (linear weight, then factors).
"""

import numpy as np
from scipy.special import ndtri

from beam_ml.algorithms.fm.spec import Group, Spec
from beam_ml.core.mixing import GOLDEN, mix64

__all__ = ["starts"]

_CHUNK = 1 << 16


def starts(spec: Spec, rows: np.ndarray) -> np.ndarray:
    """Return the first parameters (r, m) of some rows; the bias's are its value and zeros.

    >>> spec = Spec(n_features=10, n_factors=2)
    >>> bool((starts(spec, np.array([7])) == starts(spec, np.arange(11))[7]).all())
    True
    """
    out = np.empty((rows.size, spec.columns))
    for begin in range(0, rows.size, _CHUNK):
        some = rows[begin : begin + _CHUNK]
        uniform = _uniforms(spec, some)
        part = out[begin : begin + _CHUNK]
        part[:, :1] = _drawn(spec, "linear", uniform[:, :1]) if spec.use_linear else 0.0
        part[:, 1:] = _drawn(spec, "factors", uniform[:, 1:])
        bias = some == spec.n_features
        if bias.any():
            part[bias] = 0.0
            part[bias, 0] = _drawn(spec, "bias", uniform[bias, 0]) if spec.use_bias else 0.0
    return out


def _uniforms(spec: Spec, rows: np.ndarray) -> np.ndarray:
    """Return one number in (0, 1) for each entry: splitmix64 (Steele, Lea and Flood 2014) of seed and place."""
    place = rows.astype(np.uint64)[:, None] * np.uint64(spec.columns) + np.arange(spec.columns, dtype=np.uint64)
    mixed = mix64(place * GOLDEN + mix64(np.array([spec.seed], dtype=np.uint64) + GOLDEN))
    # 52 bits: with 53 the largest rounds up to 1, where the normal quantile is infinite.
    return ((mixed >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _drawn(spec: Spec, group: Group, uniform: np.ndarray) -> np.ndarray:
    method = getattr(spec, f"{group}_init_method")
    if method == "normal":
        return np.asarray(ndtri(uniform) * getattr(spec, f"{group}_init_sigma"))
    if method == "uniform":
        return (2.0 * uniform - 1.0) * getattr(spec, f"{group}_init_scale")
    return np.full_like(uniform, getattr(spec, f"{group}_init_value"))
