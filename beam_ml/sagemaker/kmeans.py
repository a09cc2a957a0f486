"""The k-means hyperparameters: `kmeans.Spec` and `kmeans.Clusters`."""

from beam_ml.algorithms import kmeans
from beam_ml.sagemaker.names import Given, Name, anything, metric_list, one_of, real, truth, whole

__all__ = ["TABLE", "build"]

_NO_BATCHES = "rows enter a coreset one by one, which is the same for any split into batches"
_SERVERS = "it placed the product's parameter servers; here partials are merged"
_COUNT = whole(1, None)

TABLE: tuple[Name, ...] = (
    Name("feature_dim", whole(1, 100_000_000), None, to="Spec.n_features"),
    Name("k", whole(1, 100_000), None, to="Spec.k_max and Clusters.k"),
    Name("mini_batch_size", _COUNT, "5000", note=_NO_BATCHES),
    Name("epochs", _COUNT, "1", note="a coreset takes in every row once, and further passes would add nothing new"),
    Name(
        "init_method",
        one_of("random", "kmeans++"),
        "random",
        note="the first centres are the first distinct rows, until the coreset is full",
    ),
    Name("extra_center_factor", whole(2, 1000, "auto"), "auto", to="Spec.extra_center_factor; auto: 20"),
    Name(
        "half_life_time_size",
        whole(0, None),
        "0",
        refused="forgetting depends on event time here, not on rows; set kmeans.Spec.half_life instead",
        harmless=("0",),
    ),
    Name("local_lloyd_init_method", one_of("random", "kmeans++"), "kmeans++", to="Clusters.init"),
    Name("local_lloyd_max_iter", whole(1, 100_000), "300", to="Clusters.max_iter"),
    Name("local_lloyd_tol", real(0, 1), "0.0001", to="Clusters.tol"),
    Name("local_lloyd_num_trials", whole(1, 1000, "auto"), "auto", to="Clusters.restarts; auto: 10"),
    Name("eval_metrics", metric_list("msd", "ssd"), '["msd"]', note="mean and sum of squares are always measured"),
    Name("_kvstore", one_of("auto", "local", "device", "dist_sync", "dist_async"), "auto", note=_SERVERS),
    Name("_num_kv_servers", whole(1, None, "auto"), "1", note=_SERVERS),
    Name("_num_slices", _COUNT, "1", note=_SERVERS),
    Name("force_dense", truth(), "true", note="rows are always dense here"),
    Name("_tuning_objective_metric", anything(), "", note="every metric is measured"),
    Name("_enable_profiler", truth(), "false", note="it profiled the product's own engine"),
    Name("_disable_wait_to_read", truth(), "false", note="it steered the product's own engine"),
)


def build(given: Given) -> tuple[kmeans.Spec, kmeans.Clusters]:
    """Build the spec and the model spec from what was read."""
    factor, trials = given["extra_center_factor"], given["local_lloyd_num_trials"]
    spec = kmeans.Spec(
        n_features=given["feature_dim"],
        k_max=given["k"],
        **({} if factor == "auto" else {"extra_center_factor": factor}),
    )
    model = kmeans.Clusters(
        k=given["k"],
        init=given["local_lloyd_init_method"],
        max_iter=given["local_lloyd_max_iter"],
        tol=given["local_lloyd_tol"],
        restarts=10 if trials == "auto" else trials,
    )
    return spec, model
