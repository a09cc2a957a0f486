"""Settings and records of topic models.

Letters: ``d`` words, ``k`` topics, ``p`` parameters, ``s`` statistics of the network (3k), ``h`` hidden layers of the
encoder, ``t`` top words.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt32
from pydantic import Field, model_validator

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.gathered import GatheredSpec
from beam_ml.core.spec import ModelSpec
from beam_ml.errors import InvalidBatch
from beam_ml.kernels.layout import Layout

__all__ = [
    "ACTIVATIONS",
    "EMBEDDING",
    "Spec",
    "State",
    "TopicModel",
    "TopicWeights",
    "Topics",
    "WeightsModel",
    "layout",
]

ACTIVATIONS = ("softplus", "sigmoid", "tanh", "relu")
"""Of the encoder's layers; models store the place in this list."""

EMBEDDING = 100
"""Length of the vectors whose products say how a topic's words differ from all words."""

_MOST_PARAMETERS = 1 << 29


def layout(n_words: int, layers: tuple[int, ...], n_topics: int) -> Layout:
    """Return the network's parameters as one vector.

    >>> layout(5, (3,), 2).size == 5 * 3 + 3 + 2 * (3 * 2 + 2) + EMBEDDING * (2 + 5)
    True
    """
    shapes: list[tuple[str, tuple[int, ...]]] = []
    wide = n_words
    for number, size in enumerate(layers):
        shapes += [(f"w{number}", (wide, size)), (f"c{number}", (size,))]
        wide = size
    for name in ("mean", "spread"):
        shapes += [(name, (wide, n_topics)), (f"{name}_bias", (n_topics,))]
    return Layout((*shapes, ("topics", (n_topics, EMBEDDING)), ("words", (EMBEDDING, n_words))))


class Spec(GatheredSpec):
    """What shapes a topic model and how it is trained. Names are SageMaker's where it has one.

    >>> spec = Spec(n_features=3072, num_topics=50)
    >>> spec.layers, spec.optimizer, spec.passes_per_refresh
    ((128,), 'adam', 2)
    """

    called: ClassVar[str] = "ntm.Spec"
    feature_rule: ClassVar[Literal["number", "category", "count"]] = "count"

    algorithm: Literal["ntm"] = "ntm"
    num_topics: Annotated[int, Field(ge=2, le=1000, description="topics, k")] = 20
    encoder_layers: Annotated[
        tuple[Annotated[int, Field(ge=1, le=10_000)], ...] | Literal["auto"],
        Field(max_length=8, description="sizes of the encoder's hidden layers; auto: one of 128"),
    ] = "auto"
    encoder_layers_activation: Annotated[
        Literal["softplus", "sigmoid", "tanh", "relu"], Field(description="of the hidden layers")
    ] = "softplus"
    mini_batch_size: Annotated[int, Field(ge=1, le=10_000, description="documents of a step")] = 32
    optimizer: Annotated[
        Literal["adam", "adadelta", "adagrad", "rmsprop", "sgd"], Field(description="what scales a gradient")
    ] = "adam"
    learning_rate: Annotated[float, Field(ge=1e-6, le=1.0, description="the highest rate of a step")] = 0.01
    warmup_steps: Annotated[int, Field(ge=0, description="steps over which the rate rises")] = 50
    decay_after_steps: Annotated[
        int, Field(ge=0, description="steps after which the rate falls by 1/√steps; 0: it stays")
    ] = 300
    weight_decay: Annotated[
        float, Field(ge=0, le=1, description="share of the parameters taken off by a step, times the rate")
    ] = 0.0
    clip_gradient: Annotated[float | None, Field(ge=1e-3, description="largest norm of a gradient; none: any")] = 50.0
    rescale_gradient: Annotated[
        float, Field(ge=1e-3, le=1, description="factor of a gradient, before it is clipped")
    ] = 1.0
    batch_norm: Annotated[bool, Field(description="what the encoder says of a batch's documents is normed")] = True
    sub_sample: Annotated[float, Field(gt=0, le=1, description="share of the documents that a pass sees")] = 1.0
    passes_per_refresh: Annotated[
        int, Field(ge=1, le=1000, description="passes over the documents gathered for a fold")
    ] = 2
    replay: Annotated[
        float,
        Field(
            ge=0, le=10,
            description="documents of the learner's own sample that a pass sees again, as a share of the new ones",
        ),
    ] = 0.25  # fmt: skip
    kl_weight: Annotated[float, Field(ge=0, le=10, description="weight of the prior of a document's topics")] = 0.05
    kl_warmup_steps: Annotated[int, Field(ge=0, description="steps over which that weight rises")] = 300
    alpha: Annotated[float, Field(gt=0, le=100, description="of the prior: the Dirichlet's parameter")] = 1.0
    apart: Annotated[
        float, Field(ge=0, le=10, description="weight of the uncertainty about the topic that a word leaves")
    ] = 0.08

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.layout.size > _MOST_PARAMETERS:
            message = (
                f"n_features {self.n_features}, encoder_layers and num_topics make {self.layout.size} parameters; at most "
                f"{_MOST_PARAMETERS} are possible"
            )
            raise ValueError(message)
        return self

    @property
    def layers(self) -> tuple[int, ...]:
        """The sizes of the encoder's hidden layers."""
        return (128,) if isinstance(self.encoder_layers, str) else self.encoder_layers

    @property
    def layout(self) -> Layout:
        """The network's parameters as one vector."""
        return layout(self.n_features, self.layers, self.num_topics)


class TopicWeights(ModelSpec):
    """A model that says how much of each topic a document is.

    >>> TopicWeights().kind
    'topic_weights'
    """

    called: ClassVar[str] = "ntm.TopicWeights"

    kind: Literal["topic_weights"] = "topic_weights"


class Topics(ModelSpec):
    """A model of what the topics are: their top words, how much there is of each, and how good they are.

    >>> Topics(top_words=10).coherence_words
    10
    """

    called: ClassVar[str] = "ntm.Topics"

    kind: Literal["topics"] = "topics"
    top_words: Annotated[
        int, Field(ge=1, le=1000, description="words listed of a topic, and those that diversity is counted in")
    ] = 25
    coherence_words: Annotated[
        int, Field(ge=2, le=100, description="words of a topic that coherence is measured on")
    ] = 10


@array_dataclass
class State:
    """The network, its optimiser, and the words of all documents so far."""

    parameters: Float32[np.ndarray, "p"]  # of the network
    first: Float32[np.ndarray, "p"]  # first moment of the optimiser
    second: Float32[np.ndarray, "p"]  # second moment of the optimiser
    mean: Float32[np.ndarray, "p"]  # of the parameters over recent steps
    statistics: Float32[np.ndarray, "s"]  # running means of μ, of its variance, and of θ
    steps: Int64[np.ndarray, ""]  # made
    skipped: Int64[np.ndarray, ""]  # left out: loss or gradient was not finite
    key: UInt32[np.ndarray, "2"]  # of the noise
    words: Float64[np.ndarray, "d"]  # Σ weight · count
    weight: Float64[np.ndarray, ""]  # Σ weight of the documents

    def __post_init__(self) -> None:
        """Refuse numbers that no training leaves."""
        if (self.words < 0).any() or self.weight < 0 or self.steps < 0 or self.skipped < 0:
            message = "ntm.State must hold counts and weights of 0 or more."
            raise InvalidBatch(message)


@array_dataclass
class WeightsModel:
    """An encoder and the words' shares by topic: documents → weights of topics."""

    layers: Int64[np.ndarray, "h"]  # sizes of the encoder's hidden layers
    activation: Int64[np.ndarray, ""]  # place in `ACTIVATIONS`
    normed: Int64[np.ndarray, ""]  # 1: μ is normed by the statistics
    parameters: Float32[np.ndarray, "p"]  # of the network
    statistics: Float32[np.ndarray, "s"]  # running means of μ, of its variance, and of θ
    share: Float64[np.ndarray, "d"]  # of a word among all words, > 0


_SAID = 10  # words of a topic that a line holds


@array_dataclass
class TopicModel(WeightsModel):
    """Topics by their words, beside what says the weights of a document's topics."""

    top: Int64[np.ndarray, "k t"]  # numbers of the topic's words, the most likely first
    lifted: Int64[np.ndarray, "k t"]  # the same by lift: how much likelier than among all words, √share their weight
    weight: Float64[np.ndarray, "k"]  # mean weight of the topic in a document
    npmi: Float64[np.ndarray, "k"]  # mean normalised pointwise mutual information of its first words
    wetc: Float64[np.ndarray, "k"]  # mean cosine of the vectors of its first words
    uniqueness: Float64[np.ndarray, "k"]  # mean of 1 / number of topics that list the word
    diversity: Float64[np.ndarray, ""]  # distinct words / all words listed
    documents: Int64[np.ndarray, ""]  # that coherence was measured on; 0: it was not, and is 0

    def words(self, vocabulary: list[str], *, by: Literal["beta", "lift"] = "beta") -> list[list[str]]:
        """Return the top words of each topic, from the words of the features in their order.

        Raises:
            InvalidBatch: there are not as many words as features; or the model lists what is no word, as of a damaged file.
        """
        if len(vocabulary) != self.share.size:
            message = f"ntm.TopicModel.words takes {self.share.size} words, one per feature; got {len(vocabulary)}."
            raise InvalidBatch(message)
        listed = self.top if by == "beta" else self.lifted
        if ((listed < 0) | (listed >= self.share.size)).any():
            message = f"ntm.TopicModel must list words by numbers of 0 to {self.share.size - 1}."
            raise InvalidBatch(message)
        return [[vocabulary[number] for number in topic] for topic in listed]

    def lines(self, names: Sequence[str]) -> list[str]:
        """Return a line per topic, the heaviest first: its weight, coherence and first words (`core.described`)."""
        words = self.words([name.rpartition(":")[2] for name in names])
        return [
            f"topic {k}, {self.weight[k]:.1%}, NPMI {self.npmi[k]:.2f}: {' '.join(words[k][:_SAID])}"
            for k in np.argsort(-self.weight, kind="stable").tolist()
        ]
