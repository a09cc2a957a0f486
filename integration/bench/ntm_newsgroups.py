"""Topics of 20 Newsgroups, 50 of them: NPMI, diversity and completion perplexity beside online LDA and collapsed-Gibbs LDA.

`ntm` learns windows of 1,000 documents in order, in one streaming pass and in five; every fold makes `passes_per_refresh`
passes over its window, and replays documents of the learner's sample. Rivals run in an environment of their own:
scikit-learn's online LDA in 10 passes, tomotopy's collapsed-Gibbs LDA. Words are ranked by β. NPMI is that of the ten first
words over the training documents, diversity that of the first 25. Perplexity is per token of the second half of each test
document, by the topics of its first half. Goal: five passes reach the Gibbs sampler's NPMI with a diversity of at least 0.80
and a perplexity of at most 1,450; one pass is better than online LDA's ten on all three. Settings are the spec's defaults,
chosen on a part of the training documents. Seconds are of the processor.
Run: ``python integration/bench/ntm_newsgroups.py [seeds, default 1] [sweeps of the Gibbs sampler, default 1000]``.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_support import last_line, machine, skipped_line
from scipy.sparse import csr_matrix, save_npz

from beam_ml import Batch, derive, fit, ntm
from beam_ml.algorithms.ntm.coherence import diversity, npmi
from beam_ml.algorithms.ntm.encoder import network_of

CLAIM = "Topics of 20 Newsgroups: NPMI, diversity and completion perplexity of ntm beside online LDA and collapsed-Gibbs LDA"
DATA = Path(__file__).parents[2].parent / "shared" / "data" / "newsgroups"
RIVALS = Path(__file__).parents[1] / "ntm_rivals.py"
PINS = ("tomotopy==0.14.0", "scikit-learn==1.9.1")
TOPICS, WINDOW, PASSES = 50, 1000, 5


def documents(name: str, words: int) -> csr_matrix:
    lines = [
        [pair.split(":") for pair in line.split()] for line in (DATA / name).read_text(encoding="utf-8").splitlines()
    ]
    places = [int(word) for line in lines for word, _ in line]
    counts = [float(count) for line in lines for _, count in line]
    indptr = np.concatenate([[0], np.cumsum([len(line) for line in lines])])
    found = csr_matrix((counts, places, indptr), shape=(len(lines), words))
    found.sum_duplicates()
    return found


def figures(beta: np.ndarray, theta: np.ndarray, rows: csr_matrix, asked: csr_matrix) -> dict[str, float]:
    order = np.argsort(-beta, axis=1, kind="stable")
    entry = np.repeat(np.arange(asked.shape[0]), np.diff(asked.indptr))
    chance = np.array([theta[d] @ beta[:, w] for d, w in zip(entry, asked.indices, strict=True)])
    return {
        "perplexity": float(np.exp(-(asked.data @ np.log(np.maximum(chance, 1e-30))) / asked.data.sum())),
        "npmi": float(npmi(order[:, :10], rows, np.ones(rows.shape[0])).mean()),
        "diversity": diversity(order[:, :25]),
    }


def ours(rows: csr_matrix, halves: tuple[csr_matrix, csr_matrix], seed: int) -> dict[int, dict[str, float]]:
    spec = ntm.Spec(n_features=rows.shape[1], num_topics=TOPICS, seed=seed)
    learner, found, began = None, {}, time.process_time()
    for number in range(1, PASSES + 1):
        for at in range(0, rows.shape[0], WINDOW):
            part = rows[at : at + WINDOW]
            batch = Batch.csr(part.indptr, part.indices, part.data, rows.shape[1])
            learner = fit(spec, [batch], learner=learner)
        if number in (1, PASSES):
            network = network_of(derive(learner, ntm.TopicWeights()).arrays)
            seconds = time.process_time() - began
            found[number] = figures(network.beta(), network.theta(halves[0]), rows, halves[1]) | {"seconds": seconds}
    return found


def python() -> str:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beam_ml" / "ntm_rivals"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *PINS], check=True)
        (folder / "ready").touch()
    return str(folder / "bin" / "python")


def rival(
    name: str, rows: csr_matrix, halves: tuple[csr_matrix, csr_matrix], seed: int, passes: int
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, one)) for one in ("rows.npz", "asked.npz", "out.npz")]
        save_npz(paths[0], rows)
        save_npz(paths[1], halves[0])
        command = [python(), str(RIVALS), name, *paths, str(seed), str(TOPICS), str(passes)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        with np.load(paths[2]) as made:
            return figures(made["beta"], made["theta"], rows, halves[1]) | {"seconds": float(done.stdout.split()[-1])}


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    sweeps = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    if not DATA.is_dir():
        print(skipped_line(CLAIM, f"{DATA} is absent"))
        return
    print(machine())
    began, words = time.perf_counter(), len((DATA / "vocab.txt").read_text(encoding="utf-8").split())
    rows, halves = documents("bow_tr.txt", words), tuple(documents(f"bow_ts_h{i}.txt", words) for i in (1, 2))
    runs: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for number, one in ours(rows, halves, seed).items():
            runs.setdefault(f"ntm, {number} passes", []).append(one)
            print(f"seed {seed}, ntm, {number} passes: {one}", flush=True)
        sought = (("online", "online LDA, 10 passes", 10), ("gibbs", f"Gibbs LDA, {sweeps} sweeps", sweeps))
        for name, text, passes in sought:
            one = rival(name, rows, halves, seed, passes)
            runs.setdefault(text, []).append(one)
            print(f"seed {seed}, {text}: {one}", flush=True)
    medians = {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in runs.items()
    }
    best, peer = medians[f"ntm, {PASSES} passes"], medians[f"Gibbs LDA, {sweeps} sweeps"]
    seconds, ratio = time.perf_counter() - began, best["npmi"] / peer["npmi"]
    print(last_line(CLAIM, best["npmi"], peer["npmi"], ratio, medians, rows.shape[0], seconds, seeds=seeds))


if __name__ == "__main__":
    main()
