"""The PCA hyperparameters: `pca.Spec` and `pca.Components`."""

from beam_ml.algorithms import pca
from beam_ml.sagemaker.names import Given, Name, one_of, truth, whole

__all__ = ["TABLE", "build"]

_MOST = 100_000

TABLE: tuple[Name, ...] = (
    Name("feature_dim", whole(1, 100_000_000), None, to="Spec.n_features"),
    Name("num_components", whole(1, _MOST), None, to="Components.n_components, and Spec.sketch_rows"),
    Name(
        "mini_batch_size", whole(1, None), "500", note="moments and sketches add up the same for any cut into batches"
    ),
    Name(
        "algorithm_mode", one_of("regular", "randomized"), "regular", to="Spec.mode; regular: exact, randomized: sketch"
    ),
    Name(
        "extra_components",
        whole(-1, _MOST),
        "-1",
        to="Spec.sketch_rows: num_components more than this; -1: the larger of 10 and num_components",
        when=(("algorithm_mode", ("randomized",)),),
    ),
    Name("subtract_mean", truth(), "true", to="Components.center"),
    Name("epochs", whole(1, None), "1", note="one pass is all that the moments need"),
    Name("force_dense", truth(), "true", note="rows are always dense here"),
    Name(
        "_kvstore",
        one_of("auto", "local", "device", "dist_sync", "dist_async"),
        "dist_sync",
        note="it placed the product's parameter servers; here partials are merged",
    ),
)


def build(given: Given) -> tuple[pca.Spec, pca.Components]:
    """Build the spec and the model spec from what was read.

    Raises:
        InvalidValue: more components than features, or too many sketch rows.
    """
    n_features, wanted = given["feature_dim"], given["num_components"]
    given.require(wanted <= n_features, "num_components", f"must be <= feature_dim, {n_features}")
    model = pca.Components(n_components=wanted, center=given["subtract_mean"])
    if given["algorithm_mode"] == "regular":
        return pca.Spec(n_features=n_features), model
    rows = pca.randomized_rows(wanted, given["extra_components"])
    given.require(rows <= _MOST, "extra_components", f"must leave a sketch of at most {_MOST} rows with num_components")
    return pca.Spec(n_features=n_features, mode="sketch", sketch_rows=rows), model
