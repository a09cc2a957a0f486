"""What networks share: the vector of parameters, steps of every optimiser, what is not finite, rates, means, devices."""

import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from beam_ml.errors import MissingExtra
from beam_ml.kernels.neural import Layout, Stepping, fresh, learned, rate, rows_apart, starting, stepper, to_arrays

LAYOUT = Layout((("weight", (2, 3)), ("bias", (3,)), ("none", (0, 4))))


def squared(parameters, statistics, batch, key):
    return ((parameters - batch) ** 2).sum(), statistics + 1.0


def run(stepping, batches, start=None):
    step = stepper(squared, stepping)
    training = fresh(stepping, np.zeros(2), seed=3, statistics=np.zeros(1)) if start is None else start
    for batch in batches:
        training, _ = step(training, np.asarray(batch, np.float32))
    return to_arrays(training)


def test_a_vector_and_its_arrays():
    vector = np.arange(LAYOUT.size, dtype=np.float32)
    arrays = LAYOUT.arrays(vector)
    assert {name: one.shape for name, one in arrays.items()} == {"weight": (2, 3), "bias": (3,), "none": (0, 4)}
    assert np.array_equal(LAYOUT.vector(arrays), vector)
    held = LAYOUT.arrays(jax.numpy.asarray(vector))
    assert all(np.array_equal(held[name], one) for name, one in arrays.items())


PEERS = {
    "adam": optax.scale_by_adam(),
    "adadelta": optax.scale_by_adadelta(),
    "adagrad": optax.scale_by_rss(0.0),
    "rmsprop": optax.scale_by_rms(),
    "sgd": optax.identity(),
}


@pytest.mark.parametrize("name", sorted(PEERS))
def test_steps_are_those_of_the_optimiser(name):
    batches = [[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0]]
    stepping = Stepping(optimizer=name, learning_rate=0.1, weight_decay=0.01)
    found = run(stepping, batches)
    peer, parameters = PEERS[name], np.zeros(2, np.float32)
    state = peer.init(parameters)
    for batch in batches:
        update, state = peer.update(2.0 * (parameters - np.asarray(batch, np.float32)), state)
        parameters = parameters - 0.1 * (np.asarray(update) + 0.01 * parameters)
    assert np.allclose(found.parameters, parameters, rtol=1e-5)
    assert int(found.steps) == 3
    assert found.statistics.tolist() == [3.0]


def test_stopping_between_steps_changes_no_bit():
    stepping, batches = Stepping(learning_rate=0.1, averaging=2.0, clip=1.0), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    for name, one in run(stepping, batches[1:], run(stepping, batches[:1]))._asdict().items():
        assert one.tobytes() == getattr(run(stepping, batches), name).tobytes(), name


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 1.0], [3e38, 1.0]])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_what_is_not_finite_is_skipped_and_counted(bad, clip):
    stepping = Stepping(learning_rate=0.1, averaging=2.0, clip=clip)
    found, without = run(stepping, [[1.0, 2.0], bad]), run(stepping, [[1.0, 2.0]])
    assert (int(found.steps), int(found.skipped)) == (1, 1)
    for name in ("parameters", "first", "second", "mean", "statistics"):
        assert getattr(found, name).tobytes() == getattr(without, name).tobytes()
    assert found.key.tobytes() != without.key.tobytes()


def test_gradients_are_clipped_to_a_norm():
    stepping = Stepping(optimizer="sgd", learning_rate=1.0, clip=5.0)
    assert np.allclose(run(stepping, [[30.0, 40.0]]).parameters, [3.0, 4.0])


def test_rates_rise_and_fall_without_an_end():
    stepping = Stepping(learning_rate=2.0, warmup=4, decay_after=100)
    assert np.allclose([rate(stepping, t) for t in (0, 1, 3, 99, 399)], [0.5, 1.0, 2.0, 2.0, 1.0])


def test_the_mean_counts_recent_parameters_more():
    stepping = Stepping(optimizer="sgd", learning_rate=0.5, averaging=1.0)
    found = run(stepping, [[1.0, 1.0], [3.0, 3.0]])
    assert np.allclose(found.parameters, 3.0)
    assert np.allclose(learned(found), 1.0 + (2.0 / 3.0) * 2.0)
    assert np.allclose(learned(run(stepping._replace(averaging=0.0), [[1.0, 1.0]])), 1.0)


def test_rows_are_shared_among_devices():
    script = """
import jax, numpy as np
from beam_ml.kernels.neural import Stepping, fresh, rows_apart, stepper, to_arrays, to_device
assert len(jax.devices()) == 2
batch = rows_apart({"x": np.arange(4.0, dtype=np.float32), "odd": np.zeros(3, np.float32)})
assert [one.data.shape for one in batch["x"].addressable_shards] == [(2,), (2,)]
assert [one.data.shape for one in batch["odd"].addressable_shards] == [(3,), (3,)]
step = jax.jit(stepper(lambda p, s, b, key: (((p - b["x"]) ** 2).sum(), s), Stepping("sgd", 0.1)))
after, loss = step(to_device(fresh(Stepping(), np.zeros(1), 0)), batch)
assert float(loss) == 14.0 and np.allclose(to_arrays(after).parameters, 1.2)
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_everything_else_imports_and_a_network_says_what_to_install():
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib", "optax"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import beam_ml
from beam_ml.algorithms import ALGORITHMS, find
for name in ALGORITHMS:
    find(name)
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(starting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtra, match=r"need jax and optax, of the extra 'neural': pip install 'beam_ml\[neural\]'"
    ):
        starting.start.__wrapped__()


def test_the_cache_is_beside_that_of_numba(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    assert starting.cache_folder() == tmp_path / "kept" / "jax"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert starting.cache_folder() is None


def test_as_many_threads_as_asked_for():
    script = """
import os
from pathlib import Path
from beam_ml.kernels import neural
neural.begin(threads=3)
names = [one.read_text().strip() for one in Path("/proc/self/task").glob("*/comm")]
assert names.count("tf_XLAEigen") == 3, names
assert "NPROC" not in os.environ
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


FITS = {
    "ntm": "fit(ntm.Spec(n_features=3, num_topics=2, encoder_layers=(2,)), [Batch.dense(np.ones((4, 3)))])",
    "deepar": """
spec = deepar.Spec(time_freq="5H", context_length=2, prediction_length=1, max_length=9, num_cells=2, passes_per_refresh=1)
fit(spec, SeriesBatch.of_records(spec.layout, [{"start": "2026-01-01", "target": [1.0, 2.0, 1.0]}]).to_batch())
""",
}


@pytest.mark.parametrize("asked", [None, "3"])
@pytest.mark.parametrize("name", sorted(FITS))
def test_networks_use_the_threads_of_the_worker_whatever_cores_there_are(name, asked):
    script = f"""
from pathlib import Path
import numpy as np
from beam_ml import Batch, fit
from beam_ml.algorithms import deepar, ntm
from beam_ml.core.series import SeriesBatch
{FITS[name]}
names = [one.read_text().strip() for one in Path("/proc/self/task").glob("*/comm")]
assert names.count("tf_XLAEigen") == {asked or 1}, names
"""
    environment = {name: value for name, value in os.environ.items() if name != "BEAM_ML_THREADS"}
    environment |= {"BEAM_ML_THREADS": asked} if asked else {}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_one_device_holds_all_rows():
    assert rows_apart({"x": np.zeros((3, 2))})["x"].shape == (3, 2)
