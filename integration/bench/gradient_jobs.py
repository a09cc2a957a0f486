"""Whole jobs of linear.AdaGrad and fm over a backlog of files, against a goal, beside Vowpal Wabbit and xlearn.

The goal: at least 80,000 rows a second on two cores. The jobs are ``pipelines/jobs/fraud_adagrad.toml``, with the default 16
packed variants, and ``fraud_fm.toml``, over Parquet files of 30 days each (card transactions; without them simulated ones):
decode, features, accumulate, fold, derive, gate, publish, in rounds of 100,000 and of 500,000 rows, whose windows of a day
are learned in order. Each runs in a process of its own. Its start-up (from the process's creation to the first round's
begin) is told apart; scoring for this bench is not counted. A few rows are learned beforehand, so that kernels are compiled.

Quality beside time: every day's rows, all of them, are scored by the model after the day before, which has not learned
from them; all but the first day's are then measured together. Besides, the model as it stands after about 80 % of the
rows is measured, frozen, on the days that are left.

Peers read the same rows, columns and hashed indices as text; writing it is not counted. Vowpal Wabbit (defaults, logistic
loss): one pass with its own progressive predictions, each by all rows before it, so without our delay of a day; again at
our delay (predict a day, then learn it); and frozen after the 80 %. xlearn (linear and fm, one thread, its defaults but
the number of epochs and our number of factors) has no progressive mode: it is measured on the last days only, after one
epoch and after its ten. Processes of each without rows tell its start-up. Processor seconds stand beside wall seconds: on
a busy machine they are the steadier.

Peers are no dependencies: ``pip install vowpalwabbit xlearn numpy`` into an environment of the bench's own (xlearn needs
cmake and a compiler) and name its interpreter; one that is not there is reported as absent.
Run: ``python integration/bench/gradient_jobs.py [transactions.parquet] [--peers PYTHON] [--quick]``.
"""

import argparse
import itertools
import json
import logging
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from bench_support import Clock, fastest, has, last_line, machine, spent
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from beam_ml import Batch
from beam_ml.beam.job import Job
from beam_ml.beam.job.looking import look
from beam_ml.beam.rounds import Mode, train
from beam_ml.core.refresh import model_kind
from beam_ml.core.threads import one_thread
from beam_ml.features import Features
from beam_ml.formats import parquet
from beam_ml.formats.block import Block
from beam_ml.registry import Registry
from pipelines.simulate import write_days

CLAIM = "from a backlog of files, whole jobs of linear.AdaGrad (16 variants) and fm learn at least 80,000 rows a second"
GOAL = 80_000
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "fraud" / "transactions.parquet"
JOBS = {"linear.adagrad": "fraud_adagrad.toml", "fm": "fraud_fm.toml"}
ROUND_ROWS = (100_000, 500_000)
DAYS, QUICK_DAYS, WARM_DAYS = 122, 15, 2
DAYS_PER_FILE = 30
GROUP_ROWS = 10_000  # rounds are cut at groups: they have the rows that are asked for
FROZEN_SHARE = 0.8
_DAY_US = 86_400_000_000

VW = """
import sys
import vowpalwabbit
options, out, *files = sys.argv[1:]
learner = vowpalwabbit.Workspace(options)
with open(out, "w") as scores:
    for file in files:
        lines = open(file).read().splitlines()
        scores.writelines(f"{learner.predict(line)}\\n" for line in lines)
        for line in lines:
            learner.learn(line)
learner.finish()
"""
"""Predicts a file, then learns it, and so on: what a trainer per day does."""

XLEARN = """
import os, sys
os.environ.setdefault("USER", "bench")
import xlearn
kind, k, epochs, train, test, model, out = sys.argv[1:]
learner = getattr(xlearn, f"create_{kind}")()
learner.setQuiet()
if train:
    learner.setTrain(train)
    learner.disableEarlyStop()
    settings = {"task": "binary", "epoch": int(epochs), "nthread": 1}
    learner.fit({**settings, "k": int(k)} if kind == "fm" else settings, model)
if test:
    learner.setSigmoid()
    learner.setTest(test)
    learner.predict(model, out)
"""


def job_of(name: str, source: Path, registry: Path, round_rows: int) -> Job:
    """Build the shipped job over other files; of linear.AdaGrad, the rates and penalties are the defaults."""
    given = tomllib.loads((ROOT / "pipelines" / "jobs" / JOBS[name]).read_text(encoding="utf-8"))
    for setting in ("learning_rates", "l1", "l2", "halve_at") if name == "linear.adagrad" else ():
        given["spec"].pop(setting, None)
    given["source"] |= {"path": str(source), "round_rows": round_rows}
    return look(Job.parse({**given, "registry": str(registry)})).job  # peers hash to the same places


def day_files(path: Path, folder: Path, days: int) -> list[Path]:
    """Write one Parquet file per day; the real transactions where they are, else simulated ones."""
    if not path.exists():
        return [Path(file) for file in write_days(str(folder), days)]
    table = pq.read_table(path).sort_by("TX_DATETIME")
    day = table["TX_DATETIME"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy() // _DAY_US
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(day)) + 1, [day.size]])
    found = []
    for begin, end in itertools.islice(itertools.pairwise(bounds), days):
        found.append(folder / f"{np.datetime64(int(day[begin]), 'D')}.parquet")
        pq.write_table(table.slice(begin, end - begin), found[-1])
    return found


def backlog(files: Sequence[Path], folder: Path) -> Path:
    """Write the days as the files that the jobs read."""
    folder.mkdir()
    for i in range(0, len(files), DAYS_PER_FILE):
        table = pa.concat_tables(pq.read_table(file) for file in files[i : i + DAYS_PER_FILE]).combine_chunks()
        parquet.write(str(folder / files[i].name), table.to_batches(), row_group_rows=GROUP_ROWS)
    return folder


def rows_of(file: Path, features: Features) -> Batch:
    """Read a day as a worker does."""
    table = pq.read_table(file, columns=features.columns()).combine_chunks()
    return features.to_batch(Block(table.to_batches()[0]))[0]


def frozen_from(files: Sequence[Path]) -> int:
    """Return the number of the first file of those behind about `FROZEN_SHARE` of the rows."""
    ends = np.cumsum([pq.read_metadata(file).num_rows for file in files])
    return 1 + int(np.argmin(np.abs(ends[:-1] - FROZEN_SHARE * ends[-1])))


def quality(label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Measure scores; none is nearer to 0 or 1 than 1e-7, what text of single precision holds."""
    return {
        "ap": float(average_precision_score(label, score)),
        "auc": float(roc_auc_score(label, score)),
        "log_loss": float(log_loss(label, np.clip(score, 1e-7, 1 - 1e-7))),
    }


class Scoring:
    """Scores each day by the model after the day before, and the last days by the one from before them."""

    def __init__(self, job: Job, files: Sequence[Path]) -> None:
        self._job, self._files = job, {file.stem: file for file in files}
        self._last = [file.stem for file in files[frozen_from(files) :]]
        self._model: Any = None
        self._frozen: Any = None
        self.days: list[tuple[np.ndarray, np.ndarray]] = []

    def after(self, window_end: int | None, models: dict[str, Any]) -> None:
        """Score the window that a fold has just learned, by what was there before; keep what is there now."""
        assert window_end is not None
        day = str(np.datetime64(window_end // _DAY_US - 1, "D"))
        if self._model is not None:
            self.days.append(self._scored(day, self._model))
        self._frozen = self._model if day == self._last[0] else self._frozen
        self._model = next(iter(models.values()))

    def result(self) -> dict[str, Any]:
        """Return the quality of all days but the first, the mean of them, and that of the last days by a frozen model."""
        if self._frozen is None:  # it learned a few days only
            return {}
        last = [self._scored(day, self._frozen) for day in self._last]
        by_day = [quality(*day) for day in self.days if day[0].any()]
        return {
            "progressive": quality(*map(np.concatenate, zip(*self.days, strict=True))),
            "mean_of_days": {key: float(np.mean([one[key] for one in by_day])) for key in by_day[0]},
            "frozen": quality(*map(np.concatenate, zip(*last, strict=True))),
        }

    def _scored(self, day: str, model: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = rows_of(self._files[day], self._job.features)
        kind = model_kind(self._job.algorithm(), next(iter(self._job.plan().models.values())))
        with one_thread():
            score = kind.predict(model, rows)["score"]
        assert rows.label is not None
        return rows.label > 0.5, score


def child(name: str, source: Path, days: Path, registry: Path, round_rows: int) -> None:
    """Run one job, as `pipelines.train --close` does, and print its figures as JSON."""
    logging.disable(logging.WARNING)
    files = sorted(days.iterdir())
    job = job_of(name, source, registry, round_rows)
    scoring, clock, rows, rounds = Scoring(job, files), Clock(), 0, 0
    startup = Clock(time.time() - psutil.Process().create_time(), time.process_time())
    work = train(job, Registry(str(registry)), Mode("once", close=True))
    while True:
        with clock.running():
            one = next(work, None)
        if one is None:
            break
        rows, rounds = rows + one.progress.rows, rounds + 1
        for refresh, _ in one.refreshes:
            scoring.after(refresh.window_end, dict(refresh.models))
    found = {
        "rows": rows, "rounds": rounds, "wall_s": clock.wall, "cpu_s": clock.cpu,
        "startup_wall_s": startup.wall, "startup_cpu_s": startup.cpu,
    }  # fmt: skip
    print(json.dumps(found | scoring.result()))


def our_job(name: str, source: Path, days: Path, registry: Path, round_rows: int) -> dict[str, Any]:
    """Run one of our jobs in a process of its own."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = ["env", f"PYTHONPATH={path}", sys.executable, __file__]
    _, out = spent([*command, "--child", name, str(source), str(days), str(registry), str(round_rows)])
    if out is None:
        message = f"the job {name} must run to its end"
        raise SystemExit(message)
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found | {
        "rows_per_s": found["rows"] / found["wall_s"],
        "rows_per_s_with_startup": found["rows"] / (found["wall_s"] + found["startup_wall_s"]),
        "rows_per_cpu_s": found["rows"] / found["cpu_s"],
    }


def write_text(
    files: Sequence[Path], features: Features, folder: Path, line: Callable[[bool, Sequence[str]], str]
) -> tuple[list[Path], np.ndarray]:
    """Write each day's rows as text, a line per row of label and ``index:value`` entries; give the labels too."""
    written, labels = [], []
    for file in files:
        rows = rows_of(file, features)
        assert rows.indptr is not None
        assert rows.indices is not None
        assert rows.values is not None
        assert rows.label is not None
        entries = [f"{i}:{v:.7g}" for i, v in zip(rows.indices.tolist(), rows.values.tolist(), strict=True)]
        bounds = rows.indptr.tolist()
        label = rows.label > 0.5
        text = "".join(
            line(one, entries[begin:end]) for one, (begin, end) in zip(label, itertools.pairwise(bounds), strict=True)
        )
        written.append(folder / f"{file.stem}.txt")
        written[-1].write_text(text, encoding="ascii")
        labels.append(label)
    return written, np.concatenate(labels)


def joined(files: Sequence[Path], into: Path) -> Path:
    """Write files one behind the other."""
    with into.open("wb") as out:
        for file in files:
            out.write(file.read_bytes())
    return into


def row_figures(rows: int, whole: Clock, startup: Clock) -> dict[str, float]:
    """Return rows per second of a whole process, with and without what it takes without rows."""
    return {
        "wall_s": whole.wall - startup.wall, "cpu_s": whole.cpu - startup.cpu, "startup_wall_s": startup.wall,
        "rows_per_s": rows / max(whole.wall - startup.wall, 1e-3), "rows_per_s_with_startup": rows / whole.wall,
        "rows_per_cpu_s": rows / max(whole.cpu - startup.cpu, 1e-3),
    }  # fmt: skip


def vowpal_wabbit(python: str, files: Sequence[Path], features: Features, folder: Path) -> dict[str, Any]:
    """Run Vowpal Wabbit over all rows, at our delay, and up to the last days."""
    days, label = write_text(files, features, folder, lambda y, row: f"{'1' if y else '-1'} | {' '.join(row)}\n")
    sizes = [pq.read_metadata(file).num_rows for file in files]
    cut, first = frozen_from(files), sizes[0]
    whole, train, test = folder / "all.vw", folder / "train.vw", folder / "test.vw"
    joined(days, whole), joined(days[:cut], train), joined(days[cut:], test)
    scores, model, empty = (str(folder / name) for name in ("scores", "model", "empty"))
    Path(empty).write_text("", encoding="ascii")
    options = ["--loss_function", "logistic", "--link", "logistic", "--quiet"]
    vw = [python, "-m", "vowpalwabbit", *options]
    startup = fastest([*vw, "-d", empty])
    found: dict[str, Any] = {"rows": len(label)}
    took, ok = spent([*vw, "-d", str(whole), "-p", scores])
    if ok is not None:
        found |= row_figures(len(label), took, startup)
        found["progressive"] = quality(label[first:], np.loadtxt(scores)[first:])
    _, ok = spent([python, "-c", VW, " ".join(options), scores, *map(str, days)])
    if ok is not None:
        found["progressive_by_day"] = quality(label[first:], np.loadtxt(scores)[first:])
    _, ok = spent([*vw, "-d", str(train), "-f", model])
    if ok is not None and spent([*vw, "-d", str(test), "-t", "-i", model, "-p", scores])[1] is not None:
        found["frozen"] = quality(label[-sum(sizes[cut:]) :], np.loadtxt(scores))
    return found


def xlearn(python: str, files: Sequence[Path], features: Features, folder: Path, factors: int) -> dict[str, Any]:
    """Run xlearn up to the last days, and measure it on them."""
    days, label = write_text(files, features, folder, lambda y, row: f"{int(y)} {' '.join(row)}\n")
    cut = frozen_from(files)
    train, test = joined(days[:cut], folder / "train.svm"), joined(days[cut:], folder / "test.svm")
    held_out = sum(pq.read_metadata(file).num_rows for file in files[cut:])
    rows, model, out = len(label) - held_out, str(folder / "model"), str(folder / "out")
    found: dict[str, Any] = {}
    for kind in ("linear", "fm"):
        startup = fastest([python, "-c", XLEARN, kind, str(factors), "1", "", "", "", ""])
        for epochs in (1, 10):
            for cached in folder.glob("*.bin"):
                cached.unlink()  # of the run before: reading counts
            command = [python, "-c", XLEARN, kind, str(factors), str(epochs)]
            took, ok = spent([*command, str(train), "", model, ""])
            if ok is not None and spent([*command, "", str(test), model, out])[1] is not None:
                found[f"{kind}, {epochs} epoch{'s' if epochs > 1 else ''}"] = {
                    "rows": rows, **row_figures(rows, took, startup), "frozen": quality(label[-held_out:], np.loadtxt(out))
                }  # fmt: skip
    return found


def shown(name: str, one: dict[str, Any]) -> str:
    """Write one line of the table."""

    def of(key: str) -> str:
        value = one.get(key)
        return " " * 22 if value is None else f"  {value['ap']:.3f} {value['auc']:.3f} {value['log_loss']:.4f}"

    speed = " " * 50
    if "rows_per_s" in one:
        speed = (
            f"{one['rows_per_s_with_startup']:10,.0f} {one['rows_per_s']:10,.0f} {one['rows_per_cpu_s']:10,.0f} "
            f"{one['wall_s']:7.1f} {one['cpu_s']:7.1f}  "
        )
    return f"{name:32s}{speed}{of('progressive')}  {of('frozen')}"


def main() -> None:
    """Run all, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", nargs="?", type=Path, default=DATA)
    parser.add_argument("--peers", default=sys.executable, help="interpreter that has vowpalwabbit and xlearn")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DAYS} days of {DAYS}")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, given, days, registry, round_rows = options.child
        child(name, Path(given), Path(days), Path(registry), int(round_rows))
        return
    began = time.perf_counter()
    print(machine())
    with tempfile.TemporaryDirectory() as where:
        root = Path(where)
        for part in ("days", "vw", "xlearn"):
            (root / part).mkdir()
        files = day_files(options.path, root / "days", QUICK_DAYS if options.quick else DAYS)
        source, few = backlog(files, root / "backlog"), backlog(files[:WARM_DAYS], root / "few")
        fm = job_of("fm", source, root, 1)
        features, factors = fm.features, int(fm.spec["n_factors"])
        rows = sum(pq.read_metadata(file).num_rows for file in files)
        print(f"{rows:,} {'real' if options.path.exists() else 'simulated'} transactions of {len(files)} days")
        print(
            f"frozen: on the last {len(files) - frozen_from(files)} days. Whole: start-up included; job: without\n"
            f"{'':32s}{'rows/s':>10} {'rows/s':>10} {'rows per':>10} {'wall s':>7} {'cpu s':>7}    progressive           "
            f"  frozen\n{'':32s}{'whole':>10} {'job':>10} {'cpu s':>10} {'':7} {'':7}    {'AP    AUC   log loss':20s}    "
            "AP    AUC   log loss",
            flush=True,
        )
        found: dict[str, Any] = {}
        for name in JOBS:
            our_job(name, few, root / "days", root / f"warm-{name}", ROUND_ROWS[0])
            for round_rows in ROUND_ROWS:
                title = f"{name}, rounds of {round_rows:,}"
                found[title] = our_job(name, source, root / "days", root / title, round_rows)
                print(shown(title, found[title]), flush=True)
        peers: dict[str, Any] = {}
        if has(options.peers, "vowpalwabbit"):
            peers["Vowpal Wabbit"] = one = vowpal_wabbit(options.peers, files, features, root / "vw")
            print(shown("Vowpal Wabbit, one pass", one))
            print(shown("Vowpal Wabbit, at a day's delay", {"progressive": one.get("progressive_by_day")}), flush=True)
        else:
            print("Vowpal Wabbit: absent (pip install vowpalwabbit, --peers)")
        if has(options.peers, "xlearn"):
            for title, one in xlearn(options.peers, files, features, root / "xlearn", factors).items():
                peers[f"xlearn {title}"] = one
                print(shown(f"xlearn {title}", one), flush=True)
        else:
            print("xlearn: absent (pip install xlearn, --peers)")
    ours = min(max(v["rows_per_s"] for k, v in found.items() if k.startswith(f"{name},")) for name in JOBS)
    peer = peers.get("Vowpal Wabbit", {}).get("rows_per_s")
    print(
        last_line(
            CLAIM, ours, peer, None if peer is None else ours / peer, {"ours": found, "peers": peers}, rows,
            time.perf_counter() - began, goal=GOAL,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
