"""The loop of raw rows, killed anywhere: each row is scored and learned once, and what is kept is as if nothing had been."""

import datetime
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from beam_ml.beam.job import Job, load_job
from beam_ml.beam.rounds.prepare.kept import PAYLOAD
from beam_ml.cli.simulate import simulate_days, write_days, write_reports
from beam_ml.registry import Registry

KILLS = int(os.environ.get("BEAM_ML_LOOP_KILLS", "12"))
DAYS, CUSTOMERS, TERMINALS = 16, 60, 40
JOB = Path(__file__).parents[1] / "pipelines" / "jobs" / "fraud.toml"
GATE = next(line for line in JOB.read_text().splitlines() if line.startswith("gate = "))
TRAINER = str(Path(__file__).with_name("dying_trainer.py"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
"""Another process imports what this one can."""


def _job_file(root: Path, name: str) -> Path:
    """Write the job over the data of all runs, with a registry and predictions of its own."""
    text = JOB.read_text()
    for was, now in (
        ('registry = "registry"', f'registry = "{root / name / "registry"}"'),
        ('path = "transactions"', f'path = "{root / "transactions"}"'),
        ('path = "reports"', f'path = "{root / "reports"}"'),
        ('path = "predictions"', f'path = "{root / name / "predictions"}"'),
        ("keep = 20", "keep = 1000"),
        (GATE, 'gate = ["rows >= 300"]'),
    ):
        assert text.count(was) == 1, was
        text = text.replace(was, now)
    (root / name).mkdir()
    path = root / name / "fraud.toml"
    path.write_text(text)
    return path


def _predictions(root: Path, name: str) -> pa.Table:
    files = sorted((root / name / "predictions").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(one) for one in files]).sort_by("TRANSACTION_ID")


def _head(job: Job) -> int:
    return Registry(job.registry, create=False).head_number(job.name) if Path(job.registry).exists() else 0


def test_killed_at_random_instants(tmp_path: Path) -> None:
    """What a round prepares depends on the version before alone, so that a killed run prepares the same again."""
    seed = 20_261_130
    rng = random.Random(seed)
    start = datetime.date(2024, 1, 1)
    list(write_days(str(tmp_path / "transactions"), DAYS, CUSTOMERS, TERMINALS, 1, start))
    write_reports(str(tmp_path / "reports"), simulate_days(DAYS, CUSTOMERS, TERMINALS, 1, start), 1)
    calm = _job_file(tmp_path, "calm")
    command = [sys.executable, "-m", "pipelines.train"]
    begun = time.monotonic()
    subprocess.run([*command, str(calm), "--once", "--close"], check=True, env=ENVIRONMENT, timeout=120)
    lasted_s = time.monotonic() - begun

    struck = _job_file(tmp_path, "struck")
    kills = at_work = 0
    ended = False
    while not ended:
        before = _head(load_job(struck))
        if kills == KILLS:
            which, patience = [*command, str(struck)], 120.0
        elif rng.random() < 0.8:  # at an operation of the registry: most of them belong to a publish
            number, when = str(rng.randrange(20, 70)), rng.choice(["before", "after"])
            which, patience = [sys.executable, TRAINER, number, when, str(struck)], 120.0
        else:
            which, patience = [*command, str(struck)], rng.uniform(0.3, 0.7) * lasted_s
        process = subprocess.Popen([*which, "--once", "--close"], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            at_work += _head(load_job(struck)) != before
        else:
            assert process.returncode == 0
            ended = True
    assert at_work >= 3, "too few kills struck a job at work to show anything"

    jobs = [load_job(path) for path in (calm, struck)]
    heads = [Registry(job.registry, create=False).head(job.name) for job in jobs]
    states = [
        Registry(job.registry, create=False).read(job.name, one.number, PAYLOAD)
        for job, one in zip(jobs, heads, strict=True)
    ]
    assert states[0] == states[1]
    assert heads[0].extra[PAYLOAD] == heads[1].extra[PAYLOAD]
    expected, found = _predictions(tmp_path, "calm"), _predictions(tmp_path, "struck")
    ids = found["TRANSACTION_ID"].to_pylist()
    assert len(ids) == len(set(ids)) == heads[1].extra[PAYLOAD]["predictions"]["scored"] > 0
    assert found.drop_columns(["model_version"]).equals(expected.drop_columns(["model_version"]))
    print(f"{kills} kills (seed {seed}), {at_work} of them after at least one new version; {len(ids):,} predictions")
