"""Learned features everywhere: a notebook, a pipeline's combiner, `Train`, a job of TOML and its commands."""

import dataclasses
import json
from collections import Counter

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from beam_ml import Registry, derive, distinct, fit, load, merge, predict, quantile, save, target, vocabulary
from beam_ml.algorithms import algorithm_of, find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam import Train, TrainFn
from beam_ml.beam.wire import coders
from beam_ml.cli import main
from beam_ml.core.arrays import close, identical
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.features import Features
from beam_ml.formats.block import Block
from tests.beam.support import RUNNERS, Seen, batches, create, ran
from tests.lines import write_lines


@dataclasses.dataclass(frozen=True)
class Case:
    spec: Spec
    model: ModelSpec
    label: bool = False


CASES = {
    "distinct": Case(distinct.Spec(n_features=3), distinct.Count()),
    "quantile": Case(quantile.Spec(n_features=3), quantile.Buckets(n=4)),
    "target": Case(target.Spec(n_features=3, buckets=64), target.Means(), label=True),
    "vocabulary": Case(vocabulary.Spec(n_features=3), vocabulary.Vocabulary(size=50)),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def rows(case, n=200, **options):
    return batches(n, label=case.label, **options)


@cases
def test_in_a_notebook(case, tmp_path):
    north, south = (fit(case.spec, rows(case, seed=seed, source=str(seed))) for seed in (1, 2))
    both = merge(north, south)
    assert both.progress.rows == 400
    assert identical(both.state, merge(south, north).state)
    model = derive(both, case.model)
    for name, value in (("learner", both), ("model", model)):
        save(value, tmp_path / name)
    read = load(tmp_path / "learner")
    assert identical(read.state, both.state)
    assert identical(derive(read, case.model).arrays, model.arrays)
    found, again = predict(model, rows(case)[0]), predict(load(tmp_path / "model"), rows(case)[0])
    assert found
    for name, values in found.items():
        assert len(values) == len(rows(case)[0])
        np.testing.assert_array_equal(values, again[name])


@cases
def test_by_the_combiner_and_by_train(case, tmp_path):
    expected = fit(case.spec, rows(case))
    pipeline = beam.Pipeline(runner=RUNNERS["FnApiRunner"]())
    combined, refreshes = Seen(tmp_path / "c", coders.LearnerCoder()), Seen(tmp_path / "r", coders.RefreshCoder())
    folded = Seen(tmp_path / "f", coders.LearnerCoder())
    source = create(pipeline, rows(case))
    source | beam.CombineGlobally(TrainFn(case.spec)).without_defaults() | combined.sink("C")
    out = source | Train(case.spec, {"one": case.model}, refresh="1m")
    out.refreshes | refreshes.sink("R")
    out.learner | folded.sink("L")
    ran(pipeline)
    assert close(combined.one().state, expected.state, rtol=1e-9)
    assert len(refreshes.values()) == 4
    assert close(folded.one().state, expected.state, rtol=1e-9)
    assert folded.one().progress.rows == 200


def written(case, tmp_path):
    together = rows(case, 200, size=200)[0]
    table = {f"x{j}": together.dense_x[:, j] for j in range(3)} | {"at": pa.array(together.time, pa.timestamp("us"))}
    if case.label:
        table["y"] = together.label
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(table), tmp_path / "data" / "rows.parquet")
    spec = case.spec.to_dict()
    lines = [
        'name = "learned"',
        f'registry = "{tmp_path / "registry"}"',
        'refresh = "1m"',
        f'source = {{ path = "{tmp_path / "data"}" }}',
        'features = { numeric = ["x0", "x1", "x2"], time = "at"' + (', label = "y" }' if case.label else " }"),
        f'spec = {{ algorithm = "{spec["algorithm"]}" }}',
        f'models.one = {{ kind = "{case.model.kind}" }}',
    ]
    (tmp_path / "job.toml").write_text("\n".join(lines))
    return tmp_path / "job.toml"


def run(*arguments):
    result = CliRunner().invoke(main, [str(one) for one in arguments], env={"COLUMNS": "250"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@cases
def test_by_a_job_and_from_the_command_line(case, tmp_path):
    run("train", written(case, tmp_path), "--once", "--close")
    registry = Registry(tmp_path / "registry")
    learner = decode_learner(registry.latest("learned").data, find)
    assert learner.progress.rows == 200
    assert close(learner.state, fit(algorithm_of(case.spec).spec(n_features=3), rows(case)).state, rtol=1e-9)
    setting = json.dumps(case.model.to_dict())
    run("derive", tmp_path / "registry", "learned", "--model", setting, "--out", tmp_path / "m.safetensors")
    assert identical(load(tmp_path / "m.safetensors").arrays, derive(learner, case.model).arrays)


TEXTS = [f"shop {int(rank)}" for rank in np.random.default_rng(3).zipf(1.6, 2_000).clip(max=400)]
TEXTS[::100], TEXTS[1::50] = [None] * 20, ["a name of more than twelve bytes"] * 40


def job_of_texts(tmp_path, *lines):
    (tmp_path / "data").mkdir()
    at = pa.array(np.arange(len(TEXTS)) * 1_000_000, pa.timestamp("us"))
    pq.write_table(pa.table({"shop": TEXTS, "at": at}), tmp_path / "data" / "rows.parquet")
    common = ['name = "texts"', f'registry = "{tmp_path / "registry"}"', 'refresh = "1m"']
    source = f'source = {{ path = "{tmp_path / "data"}" }}'
    (tmp_path / "job.toml").write_text("\n".join([*common, source, *lines]))
    run("train", tmp_path / "job.toml", "--once", "--close")
    learner = decode_learner(Registry(tmp_path / "registry").latest("texts").data, find)
    assert learner.progress.rows == len(TEXTS)
    return learner


def test_a_job_learns_the_vocabulary_of_texts(tmp_path):
    learner = job_of_texts(
        tmp_path,
        'features = { numeric = [{ column = "shop", transform = "spell", bytes = 12 }], time = "at" }',
        'spec = { algorithm = "vocabulary", text_bytes = 12 }',
        'models.one = { kind = "vocabulary", size = 50 }',
    )
    setting = json.dumps(vocabulary.Vocabulary(size=50).to_dict())
    run("derive", tmp_path / "registry", "texts", "--model", setting, "--out", tmp_path / "m.safetensors")
    model = load(tmp_path / "m.safetensors").arrays
    counts = Counter("" if text is None else text for text in TEXTS if text is None or len(text) <= 12)
    expected = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:50]
    assert list(zip(model.terms(), model.count.tolist(), strict=True)) == expected
    assert identical(derive(learner, vocabulary.Vocabulary(size=50)).arrays, model)
    known = Features(one_hot=[model.one_hot("shop")]).to_batch(Block(pa.record_batch({"shop": TEXTS})))[0].dense_x
    assert known.sum(axis=0)[:50].tolist() == [count for _, count in expected]


LINES = [" ".join(f"w{j}" for j in np.random.default_rng(i).zipf(1.5, i % 7).clip(max=200)) for i in range(600)]


def test_a_job_learns_the_words_of_texts_and_another_counts_them(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lines.csv").write_text(
        "line,y\n" + "".join(f'"{line}",{i % 2}\n' for i, line in enumerate(LINES))
    )
    common = f'registry = "{tmp_path / "registry"}"\nsource = {{ path = "{tmp_path / "data"}" }}\n'
    (tmp_path / "words.toml").write_text(
        f'name = "words"\n{common}features = {{ words = ["line"] }}\nspec = {{ algorithm = "vocabulary" }}\n'
        'models.top = { kind = "vocabulary", size = 20 }\n'
    )
    run("train", tmp_path / "words.toml", "--once")
    counts = Counter(word for line in LINES for word in line.split())
    top = [word for word, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:20]]
    (tmp_path / "lines.toml").write_text(
        f'name = "lines"\n{common}features = {{ text = [{{ column = "line", learned = "words" }}], label = "y" }}\n'
        'spec = { algorithm = "linear.adagrad" }\nmodels.one = { kind = "classifier" }\n'
    )
    run("train", tmp_path / "lines.toml", "--once")
    learner = decode_learner(Registry(tmp_path / "registry").latest("lines").data, find)
    assert learner.progress.rows == len(LINES)
    assert learner.spec.n_features == 20
    assert tuple(
        Registry(tmp_path / "registry").latest("lines").manifest.extra["features"]["text"][0]["vocabulary"]
    ) == tuple(top)


def test_the_shipped_jobs_learn_words_and_then_topics_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = write_lines(tmp_path / "data" / "lines", 300)
    run("train", "jobs/words.toml", "--once")
    said = run("train", "jobs/topics.toml", "--once")
    topics = [line.strip() for line in said.splitlines() if line.strip().startswith("topic ")]
    known = Registry("registry").latest("topics").manifest.extra["features"]["text"][0]["vocabulary"]
    assert len(topics) == 20
    assert all(set(line.rpartition(": ")[2].split()) <= set(known) for line in topics)
    assert decode_learner(Registry("registry").latest("topics").data, find).progress.rows == lines


def test_a_job_counts_distinct_texts(tmp_path):
    learner = job_of_texts(
        tmp_path,
        'features = { numeric = [{ column = "shop", transform = "code" }], time = "at" }',
        'spec = { algorithm = "distinct" }',
        'models.one = { kind = "count" }',
    )
    model, exact = derive(learner, distinct.Count()).arrays, len(set(TEXTS))
    assert exact > 100
    assert abs(model.count[0] - exact) <= 4 * model.standard_error * exact
