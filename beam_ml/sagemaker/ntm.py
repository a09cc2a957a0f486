"""The neural topic model's hyperparameters: `ntm.Spec` and `ntm.TopicWeights`.

What is not given is this library's: its network, optimiser and rate belong together, and SageMaker's to another network.
"""

from beam_ml.algorithms import ntm
from beam_ml.sagemaker.names import Given, Name, Values, one_of, real, truth, whole

__all__ = ["TABLE", "build"]

_AUTO = "auto"
_NO_END = "a stream has no end to stop before; what is served is chosen by documents before they are learned from"


def _layers() -> Values:
    """Sizes of layers with commas between them, or auto."""

    def parse(text: str) -> str | tuple[int, ...] | None:
        if text == _AUTO:
            return text
        parts = [part.strip() for part in text.split(",")]
        good = all(part.isdecimal() and 1 <= int(part) <= 10_000 for part in parts) and len(parts) <= 8
        return tuple(map(int, parts)) if good else None

    return Values("up to 8 whole numbers in [1, 10000] with commas between them or auto", parse)


TABLE: tuple[Name, ...] = (
    Name("feature_dim", whole(1, 1_000_000), None, to="Spec.n_features"),
    Name("num_topics", whole(2, 1000), None, to="Spec.num_topics"),
    Name("encoder_layers", _layers(), _AUTO, to="Spec.encoder_layers; auto: one layer of 128"),
    Name(
        "encoder_layers_activation",
        one_of("sigmoid", "tanh", "relu"),
        "sigmoid",
        to="Spec.encoder_layers_activation; not given: softplus",
    ),
    Name("epochs", whole(1, 1000), "50", to="Spec.passes_per_refresh; not given: its default"),
    Name("mini_batch_size", whole(1, 10_000), "256", to="Spec.mini_batch_size; not given: 32"),
    Name(
        "optimizer",
        one_of("sgd", "adam", "adagrad", "adadelta", "rmsprop"),
        "adadelta",
        to="Spec.optimizer; not given: adam",
    ),
    Name("learning_rate", real(1e-6, 1), "0.001", to="Spec.learning_rate; not given: its default, of adam"),
    Name("weight_decay", real(0, 1), "0.0", to="Spec.weight_decay"),
    Name("clip_gradient", real(1e-3, None, "Infinity"), "Infinity", to="Spec.clip_gradient; not given: 50"),
    Name("rescale_gradient", real(1e-3, 1), "1.0", to="Spec.rescale_gradient"),
    Name("batch_norm", truth(), "false", to="Spec.batch_norm; not given: true"),
    Name("sub_sample", real(0, 1, open_low=True), "1.0", to="Spec.sub_sample"),
    Name("num_patience_epochs", whole(1, None), "3", note=_NO_END),
    Name("tolerance", real(1e-6, 0.1), "0.001", note=_NO_END),
)


def build(given: Given) -> tuple[ntm.Spec, ntm.TopicWeights]:
    """Build the spec and the model spec from what was read."""
    named = (
        "encoder_layers", "encoder_layers_activation", "mini_batch_size", "optimizer", "learning_rate", "weight_decay",
        "clip_gradient", "rescale_gradient", "batch_norm", "sub_sample",
    )  # fmt: skip
    told = {name: given[name] for name in named if name in given.named}
    if "epochs" in given.named:
        told["passes_per_refresh"] = given["epochs"]
    if told.get("clip_gradient") == "Infinity":
        told["clip_gradient"] = None
    if told.get("optimizer") == "adadelta" and "learning_rate" not in told:
        told["learning_rate"] = 1.0  # its steps have the size of parameters by themselves
    return ntm.Spec(n_features=given["feature_dim"], num_topics=given["num_topics"], **told), ntm.TopicWeights()
