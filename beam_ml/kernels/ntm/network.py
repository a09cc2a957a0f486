"""The loss of a topic model on a batch of documents, as JAX differentiates it.

A document's counts x are thinned at random to x' = ⌊x / 2 + u⌋. The encoder sees x', and the mixture it draws must explain
the other half: what is learned is to predict words that were not seen, not to copy. With μ, log σ² of the encoder,
``z = μ + σ ε``, ``θ = softmax(z)``, ``β = softmax(A R + b)`` with b the log of the words' own shares:

    loss = Σ_d w_d [ −Σ_v 2 (x − x')_dv log(θ_d β)_v + κ KL(N(μ_d, σ_d²) ‖ N(0, v)) ] / rows
           + λ · tokens · Σ_v p(v) H(topic | v)

``v = (1 − 1/k) / α`` is Laplace's approximation of the prior Dirichlet(α). The last term, with
``p(topic | v) ∝ β_v``, is the uncertainty about the topic that a word leaves: it keeps topics apart.

References: Miao, Yu and Blunsom (2016); Srivastava and Sutton (2017); Dieng, Ruiz and Blei (2020); Wu et al. (2023).

Letters: ``n`` rows, ``d`` words, ``k`` topics, ``e`` of the embedding, ``h`` of a hidden layer.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from beam_ml.kernels.layout import Layout

__all__ = ["Network", "encoded", "loss"]

_TINY = 1e-12
_KEPT = 0.05  # of the running means, what one batch brings
_ACTIVATIONS = {"softplus": jax.nn.softplus, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}


class Network(NamedTuple):
    """What the loss is built from; hashable.

    Attributes:
        layout: of the parameters: ``w0``, ``c0``, … of the hidden layers, ``mean``, ``mean_bias``, ``spread``,
            ``spread_bias``, ``topics`` (k, e) and ``words`` (e, d).
        activation: of the hidden layers.
        batch_norm: μ is normed over the batch.
        kl_weight: κ after the warm-up.
        alpha: α of the prior.
        apart: λ.
        rescale: factor of the gradient.
    """

    layout: Layout
    activation: str
    batch_norm: bool
    kl_weight: float
    alpha: float
    apart: float
    rescale: float


def loss(network: Network, parameters: Any, statistics: Any, batch: Any, key: Any) -> tuple[Any, Any]:
    """Return the loss of a batch, and the running means of μ, of its variance and of θ (3k,) after it.

    Args:
        network: see there.
        parameters: (p,).
        statistics: (3k,).
        batch: ``counts`` (n, d), ``weight`` (n,), 0 for rows that only fill up; ``shares`` (d,), the log of the words'
            shares; ``warmth`` (), what κ is multiplied by.
        key: of the noise.
    """
    arrays = network.layout.arrays(parameters)
    x, weight = batch["counts"], batch["weight"]
    total = jnp.maximum(weight.sum(), _TINY)
    for_thinning, for_noise = jax.random.split(key)
    thinned = jnp.floor(x / 2.0 + jax.random.uniform(for_thinning, x.shape))
    mean, log_variance = encoded(network, arrays, thinned)
    k = mean.shape[1]
    centre, spread = statistics[:k], statistics[k : 2 * k]
    if network.batch_norm:
        now = (weight @ mean) / total
        variance = (weight @ (mean - now) ** 2) / total
        mean = (mean - now) / jnp.sqrt(variance + 1e-4)
        centre, spread = centre + _KEPT * (now - centre), spread + _KEPT * (variance - spread)
    z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(for_noise, mean.shape)
    theta = jax.nn.softmax(z, axis=1)
    log_beta = jax.nn.log_softmax(arrays["topics"] @ arrays["words"] + batch["shares"], axis=1)
    explained = jnp.sum(2.0 * (x - thinned) * jnp.log(theta @ jnp.exp(log_beta) + _TINY), axis=1)
    prior = (1.0 - 1.0 / k) / network.alpha
    divergence = 0.5 * jnp.sum((jnp.exp(log_variance) + mean**2) / prior - 1.0 - log_variance + jnp.log(prior), axis=1)
    value = jnp.sum(weight * (network.kl_weight * batch["warmth"] * divergence - explained)) / x.shape[0]
    if network.apart > 0.0:
        log_topic = jax.nn.log_softmax(log_beta, axis=0)
        entropy = -jnp.sum(jnp.exp(log_topic) * log_topic, axis=0)
        tokens = jnp.sum(weight * x.sum(axis=1)) / x.shape[0]
        value = value + network.apart * tokens * jnp.sum(jnp.exp(batch["shares"]) * entropy)
    used = statistics[2 * k :] + _KEPT * ((weight @ theta) / total - statistics[2 * k :])
    after = jnp.concatenate([centre, spread, used])
    return network.rescale * value, jax.lax.stop_gradient(jnp.where(weight.sum() > 0.0, after, statistics))


def encoded(network: Network, arrays: dict[str, Any], counts: Any) -> tuple[Any, Any]:
    """Return μ and log σ² (n, k) of counts (n, d)."""
    x = jnp.log1p(counts)
    x = 4.0 * x / jnp.maximum(jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True)), _TINY)
    layer = 0
    while f"w{layer}" in arrays:
        x = _ACTIVATIONS[network.activation](x @ arrays[f"w{layer}"] + arrays[f"c{layer}"])
        layer += 1
    log_variance = jnp.clip(x @ arrays["spread"] + arrays["spread_bias"], -8.0, 4.0)
    return x @ arrays["mean"] + arrays["mean_bias"], log_variance
