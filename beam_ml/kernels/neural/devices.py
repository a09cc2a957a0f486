"""The devices of this host: a batch is cut by rows among all of them, parameters are on each."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ["on_all", "rows_apart"]


def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("rows",))


def on_all(tree: Any) -> Any:
    """Return arrays as they are on every device of this host; where there is one, the next call takes them there."""
    if len(jax.local_devices()) == 1:
        return tree
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def rows_apart(batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return arrays cut along their first axis among the devices, as many rows on each; on all where it does not divide.

    >>> rows_apart({"counts": np.zeros((4, 2))})["counts"].shape
    (4, 2)
    """
    number = len(jax.local_devices())
    if number == 1:
        return dict(batch)
    mesh = _mesh()

    def placed(array: np.ndarray) -> Any:
        divides = array.ndim > 0 and array.shape[0] % number == 0
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec("rows") if divides else PartitionSpec()))

    return {name: placed(array) for name, array in batch.items()}
