"""Metrics as records of sums over rows. Letters: ``b`` distinct scores, ``k`` classes, ``q`` quantiles.

What a record's figures are, which is its loss and how it ages is said in `beam_ml.core.figures.KINDS`, one entry per record.
"""

import numpy as np
from jaxtyping import Float64

from beam_ml.core.arrays import array_dataclass

__all__ = ["Binary", "Distortion", "Likelihood", "Mean", "Metrics", "Multiclass", "Quantiles", "Regression"]


@array_dataclass
class Binary:
    """Sums over rows with a class 0 or 1 and a score in [0, 1]. Where there are two entries, they are of class 0 and 1."""

    score: Float64[np.ndarray, "b"]  # distinct scores, or cells of them, lowest first
    positives: Float64[np.ndarray, "b"]  # Σ weight of class 1 at the score
    negatives: Float64[np.ndarray, "b"]  # Σ weight of class 0 at the score
    positives_squared: Float64[np.ndarray, "b"]  # Σ weight² of class 1 at the score
    negatives_squared: Float64[np.ndarray, "b"]  # Σ weight² of class 0 at the score
    log_loss: Float64[np.ndarray, "2"]  # Σ weight · loss, loss = −log p(label), nats
    log_loss_noise: Float64[np.ndarray, "2"]  # Σ weight² · loss
    log_loss_squared: Float64[np.ndarray, "2"]  # Σ weight² · loss²
    predicted: Float64[np.ndarray, "2"]  # Σ weight with score ≥ threshold
    predicted_squared: Float64[np.ndarray, "2"]  # Σ weight² with score ≥ threshold


@array_dataclass
class Regression:
    """Sums over rows with a real label and prediction."""

    weight: Float64[np.ndarray, ""]  # Σ weight
    squared: Float64[np.ndarray, ""]  # Σ weight · error²
    absolute: Float64[np.ndarray, ""]  # Σ weight · |error|
    label_mean: Float64[np.ndarray, ""]  # weighted mean of the labels
    label_scatter: Float64[np.ndarray, ""]  # Σ weight · (label − mean)²
    weight_squared: Float64[np.ndarray, ""]  # Σ weight²
    noise: Float64[np.ndarray, "2"]  # Σ weight² · error², Σ weight² · |error|
    noise_squared: Float64[np.ndarray, "2"]  # Σ weight² · error⁴, Σ weight² · error²


@array_dataclass
class Multiclass:
    """Sums over rows with one class of many, by class: memory grows with the classes, not with their pairs."""

    actual: Float64[np.ndarray, "k"]  # weight of rows of the class
    actual_squared: Float64[np.ndarray, "k"]  # Σ weight² of them
    predicted: Float64[np.ndarray, "k"]  # weight of rows predicted to be of it
    hits: Float64[np.ndarray, "k"]  # weight of rows of the class predicted to be of it
    hits_squared: Float64[np.ndarray, "k"]  # Σ weight² of them
    log_loss: Float64[np.ndarray, "k"]  # Σ weight · loss of the class's rows, loss = −log p(label), nats
    log_loss_noise: Float64[np.ndarray, "k"]  # Σ weight² · loss
    log_loss_squared: Float64[np.ndarray, "k"]  # Σ weight² · loss²
    in_top: Float64[np.ndarray, ""]  # Σ weight where the label is among the best scores


@array_dataclass
class Distortion:
    """Sum of squared distances between rows and what stands for them (a centre, a reconstruction)."""

    weight: Float64[np.ndarray, ""]  # Σ weight
    squared: Float64[np.ndarray, ""]  # Σ weight · distance²
    weight_squared: Float64[np.ndarray, ""]  # Σ weight²
    noise: Float64[np.ndarray, ""]  # Σ weight² · distance²
    noise_squared: Float64[np.ndarray, ""]  # Σ weight² · distance⁴


@array_dataclass
class Likelihood:
    """Sums over rows of tokens, such as documents, each row with its negative log-likelihood."""

    weight: Float64[np.ndarray, ""]  # Σ weight
    tokens: Float64[np.ndarray, ""]  # Σ weight · tokens
    nll: Float64[np.ndarray, ""]  # Σ weight · negative log-likelihood, nats
    tokens_squared: Float64[np.ndarray, ""]  # Σ weight² · tokens²
    noise: Float64[np.ndarray, ""]  # Σ weight² · tokens · nll
    noise_squared: Float64[np.ndarray, ""]  # Σ weight² · nll²


@array_dataclass
class Quantiles:
    """Sums over points with a real value and forecasts of some of its quantiles."""

    levels: Float64[np.ndarray, "q"]  # of the quantiles, in (0, 1), rising
    weight: Float64[np.ndarray, ""]  # Σ weight
    magnitude: Float64[np.ndarray, ""]  # Σ weight · |value|
    loss: Float64[np.ndarray, "q"]  # Σ weight · 2 · pinball loss, by quantile
    below: Float64[np.ndarray, "q"]  # Σ weight where the value is at or below the forecast
    magnitude_squared: Float64[np.ndarray, ""]  # Σ weight² · value²
    noise: Float64[np.ndarray, ""]  # Σ weight² · |value| · mean loss over the quantiles
    noise_squared: Float64[np.ndarray, ""]  # Σ weight² · (mean loss)²


@array_dataclass
class Mean:
    """Sums over rows with a score of their own, the lower the better."""

    weight: Float64[np.ndarray, ""]  # Σ weight
    score: Float64[np.ndarray, ""]  # Σ weight · score
    weight_squared: Float64[np.ndarray, ""]  # Σ weight²
    noise: Float64[np.ndarray, ""]  # Σ weight² · score
    noise_squared: Float64[np.ndarray, ""]  # Σ weight² · score²


Metrics = Binary | Multiclass | Regression | Distortion | Likelihood | Quantiles | Mean
