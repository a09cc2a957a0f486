r"""Likelihoods of a step: what the network's outputs mean, how likely a value is, and how to draw one.

``z`` is the change over one season in units of its mean size, ``y`` the value itself, ``unit`` the mean magnitude of its
series, of shares their mean.

============================  ==========================================================================
student-T                     z = μ + σ t_ν,          σ = softplus(b) + 10⁻³,  ν = 2 + softplus(c)
gaussian                      z = μ + σ n,            σ = softplus(b) + 10⁻³
deterministic-L1              z = μ, of the loss \\|z − μ\\|
negative-binomial             y of mean μ = unit · softplus(a) and variance μ + α μ²,  α = softplus(b) + 10⁻⁴
beta                          y of mean μ = sigmoid(a + logit(unit)), a Beta(μ κ, (1 − μ) κ),  κ = 2 + softplus(b) · 100
============================  ==========================================================================

Student's t is drawn without rejection (Bailey, "Polar generation of random variates with the t-distribution", 1994): of u, v
uniform, ``√(ν (u^(−2/ν) − 1)) cos 2πv``. Letters: any shapes that broadcast; outputs have a last axis of 3.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, gammaln

__all__ = ["OF_VALUES", "draw", "nll"]

OF_VALUES = frozenset({"negative-binomial", "beta"})
"""The likelihoods of a value itself, not of its change over a season."""

_LEAST = 1e-6  # what a share may be near 0 and 1: the density of a Beta is infinite there


def nll(likelihood: str, outputs: Any, value: Any, unit: Any) -> Any:
    """Return the negative log-likelihood, nats, of z, or of y for the likelihoods of values.

    Args:
        likelihood: its name.
        outputs: (…, 3) of the network.
        value: (…) z or y.
        unit: (…) the series' mean magnitude, or its mean share.

    >>> round(float(nll("gaussian", jnp.array([0.0, 0.5403, 0.0]), 0.0, 1.0)), 3)
    0.919
    """
    a, b, c = outputs[..., 0], outputs[..., 1], outputs[..., 2]
    if likelihood == "deterministic-L1":
        return jnp.abs(value - a)
    if likelihood == "negative-binomial":
        return _nll_counts(unit * jax.nn.softplus(a) + 1e-9, 1.0 / (jax.nn.softplus(b) + 1e-4), value)
    if likelihood == "beta":
        p, q = _beta(a, b, unit)
        y = jnp.clip(value, _LEAST, 1.0 - _LEAST)
        return betaln(p, q) - (p - 1.0) * jnp.log(y) - (q - 1.0) * jnp.log1p(-y)
    sigma = jax.nn.softplus(b) + 1e-3
    off = (value - a) / sigma
    if likelihood == "gaussian":
        return 0.5 * off * off + jnp.log(sigma) + 0.5 * jnp.log(2.0 * jnp.pi)
    df = 2.0 + jax.nn.softplus(c)
    constant = gammaln(df / 2.0) - gammaln((df + 1.0) / 2.0) + 0.5 * jnp.log(df * jnp.pi)
    return constant + jnp.log(sigma) + 0.5 * (df + 1.0) * jnp.log1p(off * off / df)


def draw(likelihood: str, outputs: Any, uniforms: Any, key: Any, unit: Any) -> Any:
    """Return one z, or y, per entry.

    Args:
        likelihood: its name.
        outputs: (…, 3) of the network.
        uniforms: (…, 2) in [0, 1).
        key: for the likelihoods that need more than two uniforms.
        unit: (…) the series' mean magnitude, or its mean share.
    """
    a, b, c = outputs[..., 0], outputs[..., 1], outputs[..., 2]
    if likelihood == "deterministic-L1":
        return a
    if likelihood == "negative-binomial":
        mean, size = unit * jax.nn.softplus(a) + 1e-9, 1.0 / (jax.nn.softplus(b) + 1e-4)
        of_gamma, of_poisson = jax.random.split(key)
        rates = jax.random.gamma(of_gamma, size) * mean / size
        return jax.random.poisson(of_poisson, jnp.minimum(rates, 1e9)).astype(jnp.float32)
    if likelihood == "beta":
        return jax.random.beta(key, *_beta(a, b, unit))
    sigma = jax.nn.softplus(b) + 1e-3
    u, turn = 1.0 - uniforms[..., 0], jnp.cos(2.0 * jnp.pi * uniforms[..., 1])
    if likelihood == "gaussian":
        return a + sigma * jnp.sqrt(-2.0 * jnp.log(u)) * turn
    df = 2.0 + jax.nn.softplus(c)
    return a + sigma * jnp.sqrt(df * jnp.expm1(-2.0 / df * jnp.log(u))) * turn


def _beta(a: Any, b: Any, unit: Any) -> tuple[Any, Any]:
    mean, size = (
        jnp.clip(jax.nn.sigmoid(a + jnp.log(unit) - jnp.log1p(-unit)), 1e-4, 1.0 - 1e-4),
        2.0 + 100.0 * jax.nn.softplus(b),
    )
    return mean * size, (1.0 - mean) * size


def _nll_counts(mean: Any, size: Any, value: Any) -> Any:
    """Return that of counts of a mean μ and ``size`` r = 1/α: −log of Γ(y + r) / (Γ(r) y!) · (r/(r+μ))^r · (μ/(r+μ))^y."""
    return (
        gammaln(size) + gammaln(value + 1.0) - gammaln(value + size)
        + size * jnp.log1p(mean / size) + value * (jnp.log(size + mean) - jnp.log(mean))
    )  # fmt: skip
