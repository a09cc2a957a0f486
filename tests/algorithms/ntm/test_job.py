"""A job over lines of text on Beam, in rounds: words counted by a vocabulary, topics learned, published and served."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_ml import Registry
from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Mode, train
from beam_ml.cli.console import Screen
from beam_ml.cli.report import RoundTable
from beam_ml.core.arrays import identical
from beam_ml.formats.block import Block
from beam_ml.predictor import Predictor

DAY_US = 86_400_000_000
THEMES = (["ship", "sail", "boat", "deck"], ["moon", "star", "orbit", "comet"])
VOCABULARY = sorted(THEMES[0] + THEMES[1])
JOB = {
    "name": "topics",
    "refresh": "1d",
    "features": {"text": [{"column": "line", "vocabulary": VOCABULARY}], "time": "time"},
    "spec": {
        "algorithm": "ntm", "num_topics": 2, "encoder_layers": [8], "mini_batch_size": 16,
        "passes_per_refresh": 20, "half_life": "30d",
    },
    "models": {"weights": {"kind": "topic_weights"}, "topics": {"kind": "topics", "top_words": 4}},
}  # fmt: skip


def table(day, n=60):
    rng = np.random.default_rng(day)
    lines = [" ".join(rng.choice(THEMES[i % 2], 8)) + " unlisted" for i in range(n)]
    time = day * DAY_US + np.arange(n) * 1_000_000
    return pa.table({"line": lines, "time": pa.array(time, pa.timestamp("us", tz="UTC"))})


def trained(folder, tables, **changes):
    (folder / "data").mkdir(parents=True)
    for day, one in enumerate(tables):
        pq.write_table(one, folder / "data" / f"{day}.parquet")
    source = {"path": str(folder / "data"), **changes}
    job = Job.parse({**JOB, "registry": str(folder / "registry"), "source": source})
    registry = Registry(job.registry)
    rounds = list(train(job, registry, Mode("once", close=True)))
    return registry, rounds


def test_lines_become_topics_in_rounds(tmp_path, capsys):
    tables = [table(day) for day in range(3)]
    registry, rounds = trained(tmp_path / "one", tables)
    found = registry.latest("topics")
    learner = decode_learner(found.data, find)
    assert learner.progress.rows == 180
    assert float(learner.state.words.sum()) < 8 * 180  # older documents weigh less
    refreshes = [one for each in rounds for one, _ in each.refreshes]
    measured = refreshes[-1].measured["weights"]
    assert measured["perplexity"] < 8.0  # of 8 words, before they were learned
    model = Predictor(registry, "topics", model="topics")
    listed = model.model.arrays.words(VOCABULARY)
    assert sorted(map(sorted, listed)) == sorted(map(sorted, THEMES))
    job = Job.parse({**JOB, "registry": str(tmp_path), "source": {"path": str(tmp_path)}})
    RoundTable(Screen(), job, registry).show(rounds[-1])
    said = [line for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith("topic ")]
    assert sorted(sorted(line.rpartition(": ")[2].split()) for line in said) == sorted(map(sorted, THEMES))
    asked = pa.record_batch({"line": ["ship ship deck", "moon comet orbit"]})
    found = model.predict(Block(asked))
    assert len(set(found["topic"].tolist())) == 2


def test_rounds_of_one_file_or_all_learn_the_same_to_the_bit(tmp_path):
    tables = [table(day, 20) for day in range(2)]
    states = []
    for rounds in (1, 100):
        folder = tmp_path / "same"
        registry, _ = trained(folder, tables, round_files=rounds)
        states.append(decode_learner(registry.latest("topics").data, find).state)
        folder.rename(tmp_path / f"done{rounds}")  # which documents are drawn when depends on where they came from
    assert int(states[0].steps) > 0
    assert identical(*states)
