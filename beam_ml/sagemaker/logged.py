"""Names that SageMaker's containers log for every algorithm: they steer the product's engine, not what is learned."""

from beam_ml.sagemaker.names import Name, anything, one_of, truth, whole

__all__ = ["with_logged"]

_SERVERS = "it placed the product's parameter servers; here partials are merged"
_ENGINE = "it steered the product's own engine"

_LOGGED: tuple[Name, ...] = (
    Name("_kvstore", one_of("auto", "local", "device", "dist_sync", "dist_async"), "auto", note=_SERVERS),
    Name("_num_kv_servers", whole(1, None, "auto"), "auto", note=_SERVERS),
    Name("_num_slices", whole(1, None), "1", note=_SERVERS),
    Name("_num_gpus", whole(0, None, "auto"), "auto", note="everything is learned on processors"),
    Name("_log_level", anything(), "info", note="the log is Python's own"),
    Name("_ftp_port", whole(1, 65_535), "8999", note=_SERVERS),
    Name("_enable_profiler", truth(), "false", note="it profiled the product's own engine"),
    Name("_disable_wait_to_read", truth(), "false", note=_ENGINE),
    Name("_use_full_symbolic", truth(), "true", note=_ENGINE),
    Name("_tuning_objective_metric", anything(), "", note="every metric is measured"),
    Name("force_dense", truth(), "true", note="whether rows are dense follows from the features"),
)


def with_logged(table: tuple[Name, ...]) -> tuple[Name, ...]:
    """Return an algorithm's names, and those logged names that are not among them."""
    own = {row.name for row in table}
    return (*table, *(row for row in _LOGGED if row.name not in own))
