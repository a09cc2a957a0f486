"""Kill the file-rounds job at random instants: nothing is lost or counted twice, and the learner is the undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.core.arrays import close
from beam_ml.core.intervals import size
from beam_ml.core.learner import Learner
from beam_ml.registry import Registry

KILLS = int(os.environ.get("BEAM_ML_KILLS", "24"))
FILES, ROWS = 40, 3_000
DAY_US = 86_400_000_000

JOB = """
name = "crash"
registry = "{registry}"
refresh = "1d"

[source]
path = "{data}"
round_files = 1
round_rows = 2000

[features]
numeric = ["id", "x"]
time = "time"
{label}

[spec]
{spec}

[models.one]
{model}
"""

ALGORITHMS = {
    "pca": ('algorithm = "pca"', 'kind = "components"\nn_components = 1', ""),
    "linear.newton": ('algorithm = "linear.newton"\nloss = "logistic"', 'kind = "classifier"', 'label = "y"'),
}


def write_days(folder: Path) -> np.ndarray:
    """Write one file a day with distinct ids in random order; give all ids."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    ids = rng.permutation(FILES * ROWS).astype(np.float64)
    for day in range(FILES):
        mine = ids[day * ROWS : (day + 1) * ROWS]
        x = rng.normal(size=ROWS)
        columns = {
            "id": mine,
            "x": x,
            "y": (rng.random(ROWS) < 1 / (1 + np.exp(-x))).astype(np.int64),
            "time": pa.array(day * DAY_US + np.sort(rng.integers(0, DAY_US, ROWS)), type=pa.timestamp("us", tz="UTC")),
        }
        pq.write_table(pa.table(columns), folder / f"{day:03}.parquet", row_group_size=1_000)
    return ids


def job_file(folder: Path, name: str, algorithm: str, data: Path) -> tuple[Path, Path]:
    spec, model, label = ALGORITHMS[algorithm]
    registry = folder / f"registry-{name}"
    path = folder / f"{name}.toml"
    path.write_text(JOB.format(registry=registry, data=data, spec=spec, model=model, label=label))
    return path, registry


def start(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.train", str(path), "--once", "--close"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(path: Path) -> None:
    process = start(path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def newest(registry: Path) -> Learner:
    found = Registry(registry, create=False).latest("crash")
    assert found is not None
    return decode_learner(found.data, find)


def check_rows(learner: Learner, ids: np.ndarray) -> None:
    assert learner.pending == {}
    assert learner.progress.rows == learner.progress.scanned == ids.size
    assert [size(places) for places in learner.progress.covered.values()] == [ROWS] * FILES


def check_values(learner: Learner, ids: np.ndarray) -> None:
    """Distinct values: a row lost and another counted twice would shift the sums."""
    state = learner.state
    assert float(state.weight) == ids.size
    mean = float(state.origin[0] + state.mean[0])
    assert abs(mean * ids.size - ids.sum()) < 1e-3
    scatter = float(((ids - ids.mean()) ** 2).sum())
    assert abs(float(state.scatter[0, 0]) / scatter - 1) < 1e-9


def versions_rise(registry: Path) -> None:
    store = Registry(registry, create=False)
    numbers = store.versions("crash")
    assert numbers == list(range(1, len(numbers) + 1))
    manifests = [store.manifest("crash", number) for number in numbers]
    assert [m.parent for m in manifests] == [None, *numbers[:-1]]
    refreshes = [one["number"] for m in manifests for one in m.refreshes]
    assert refreshes == list(range(1, FILES + 1))


def test_killed_at_random_instants(tmp_path: Path) -> None:
    ids = write_days(tmp_path / "data")
    seed = 20_240_229
    rng = random.Random(seed)
    kills, runs, mid_work = 0, 0, 0
    undisturbed: dict[str, Learner] = {}
    for algorithm in ALGORITHMS:
        path, registry = job_file(tmp_path, f"calm-{algorithm}", algorithm, tmp_path / "data")
        finish(path)
        undisturbed[algorithm] = newest(registry)
        check_rows(undisturbed[algorithm], ids)
    check_values(undisturbed["pca"], ids)
    while kills < KILLS:
        algorithm = list(ALGORITHMS)[runs % len(ALGORITHMS)]
        path, registry = job_file(tmp_path, f"run-{runs}", algorithm, tmp_path / "data")
        runs += 1
        ended = False
        while kills < KILLS and not ended:
            process = start(path)
            before = _head(registry)
            try:
                process.wait(timeout=rng.uniform(0.5, 1.5) if before == 0 and rng.random() < 0.3 else rng.uniform(2, 6))
                assert process.stderr is not None
                assert process.returncode == 0, process.stderr.read().decode()
                ended = True
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            if process.stderr is not None:
                process.stderr.close()
            after = _head(registry)
            mid_work += not ended and after != before
            if after:
                assert newest(registry).spec.algorithm == algorithm
        if not ended:
            finish(path)
        learner = newest(registry)
        check_rows(learner, ids)
        if algorithm == "pca":
            check_values(learner, ids)
        versions_rise(registry)
        law = find(algorithm).law(learner.spec)
        assert close(learner.state, undisturbed[algorithm].state, rtol=law.rtol)
    assert mid_work >= KILLS // 4, "too few kills struck a job at work to show anything"
    print(f"{kills} kills over {runs} runs (seed {seed}), {mid_work} of them after at least one new version")


def _head(registry: Path) -> int:
    """Return the newest version's number; 0 while there is none, whether or not the folder has been made."""
    return Registry(registry, create=False).head_number("crash") if registry.exists() else 0


def test_sigterm_ends_cleanly_and_goes_on(tmp_path: Path) -> None:
    ids = write_days(tmp_path / "data")
    path, registry = job_file(tmp_path, "term", "pca", tmp_path / "data")
    process = start(path)
    until = time.monotonic() + 60
    while _head(registry) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    head = _head(registry)
    assert 2 <= head < FILES
    assert newest(registry).progress.rows < ids.size
    finish(path)
    check_rows(newest(registry), ids)
    check_values(newest(registry), ids)
