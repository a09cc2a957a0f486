"""Neural topic models: a network reads a document's counts of words and says its mixture of topics; law GATHERED.

The state is the network, its optimiser, and exact counts of all words so far. A fold trains on the documents gathered
(module `learning`; the loss is `beam_ml.kernels.ntm.network`), which needs the extra `neural`; deriving and predicting do
not. Test-then-train measures document completion: each half of a document's tokens by what the other half says of its
topics, in nats and as perplexity.

Features are counts, one per word; words outside the vocabulary are no features, and a document of such words alone weighs
but teaches nothing. `TopicWeights` says how much of each topic a document is, `Topics` what the topics are.
"""

from beam_ml.algorithms.ntm.coherence import read_vectors, wetc
from beam_ml.algorithms.ntm.learning import fold, init, law, scale, weight
from beam_ml.algorithms.ntm.models import derive_topics, derive_weights, measure, predict
from beam_ml.algorithms.ntm.spec import Spec, State, TopicModel, Topics, TopicWeights, WeightsModel
from beam_ml.core import gathered
from beam_ml.core.algorithm import Algorithm, ModelKind
from beam_ml.core.gathered import Gathered

__all__ = ["NTM", "Spec", "State", "TopicModel", "TopicWeights", "Topics", "WeightsModel", "read_vectors", "wetc"]

NTM = Algorithm(
    name="ntm",
    version=1,
    spec=Spec,
    state=State,
    partial=Gathered,
    law=law,
    init=init,
    empty=gathered.empty,
    accumulate=gathered.accumulate,
    merge=gathered.merge,
    fold=fold,
    scale=scale,
    weight=weight,
    grow=gathered.grow,
    looks_back=True,
    models={
        "topic_weights": ModelKind(TopicWeights, WeightsModel, derive_weights, predict, measure),
        "topics": ModelKind(Topics, TopicModel, derive_topics, predict, measure),
    },
)
"""Neural topic models, law GATHERED.

>>> NTM.spec is Spec
True
"""
