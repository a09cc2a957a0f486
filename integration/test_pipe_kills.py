"""Kill the trainer of a pipe between any two steps: each row counts once, and the learner is the undisturbed one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.core.arrays import close
from beam_ml.core.intervals import size
from beam_ml.core.learner import Learner
from beam_ml.registry import Registry

ROWS = 60_000
TRAINER = str(Path(__file__).with_name("dying_trainer.py"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
JOB = """
name = "{name}"
registry = "{registry}"

[source]
{source}
format = "csv"
round_rows = 12000

[features]
numeric = ["x", "z"]

[spec]
algorithm = "pca"

[models.one]
kind = "components"
n_components = 1
"""


def trained(folder: Path, name: str, source: str, kills: int) -> tuple[Learner, int]:
    """Train until a run ends by itself; return the learner, and how many runs were killed before."""
    job = folder / f"{name}.toml"
    job.write_text(JOB.format(name=name, registry=folder / "registry", source=source))
    fifo, died = folder / "train_0", 0
    while True:
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        with subprocess.Popen(["sh", "-c", f"cat {folder}/rows.csv > {fifo}"], stderr=subprocess.DEVNULL) as writer:
            number, when = (9 + died * 3, ("before", "after")[died % 2]) if died < kills else (10**9, "before")
            command = [sys.executable, TRAINER, str(number), when, str(job)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
            writer.kill()
        if done.returncode != -9:
            assert done.returncode == 0, done.stdout + done.stderr
            return decode_learner(Registry(str(folder / "registry")).read(name), find), died
        died += 1


def test_killed_between_any_two_steps(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).normal(size=(ROWS, 2))
    np.savetxt(tmp_path / "rows.csv", rows, "%.17g", ",", header="x,z", comments="")
    whole, _ = trained(tmp_path, "calm", f'path = "{tmp_path}/rows.csv"', 0)
    pipe = f'pipe = "{tmp_path}/train"\nspool = "{tmp_path}/spool"'
    found, died = trained(tmp_path, "killed", pipe, 8)
    assert died >= 5
    assert found.progress.rows == whole.progress.rows == ROWS
    ((_, places),) = found.progress.covered.items()
    assert size(places) == (tmp_path / "rows.csv").stat().st_size - len("x,z\n")
    assert close(found.state, whole.state, 1e-9)
    assert not list((tmp_path / "spool").rglob("train*"))
