"""Terms of features that a trained model completes."""

import uuid

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import Registry, derive, fit, quantile, target, vocabulary
from beam_ml.algorithms import algorithm_of
from beam_ml.artefact.records import encode_learner, encode_model
from beam_ml.beam.job import load_job
from beam_ml.core.model import Model
from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.formats.block import Block
from beam_ml.registry import new_round_id

ROWS = {"shop": ["b", "a", "b", "c"], "amount": [1.0, 2.0, 4.0, 400.0], "fraud": [1.0, 0.0, 1.0, 0.0]}
SPELL = Features(numeric=[{"column": "other", "transform": "spell"}, {"column": "shop", "transform": "spell"}])
CODE = Features(numeric=[{"column": "shop", "transform": "code"}], label="fraud")
AMOUNT = Features(numeric=["amount"])
JOB = """
name = "{name}"
registry = "{registry}"
features = {{ {terms}, label = "fraud" }}
spec = {{ algorithm = "linear.newton" }}
models.one = {{ kind = "classifier" }}
"""


def publish(registry, name, spec, features, models, rows=ROWS):
    block = Block(pa.record_batch({"other": ["x"] * len(rows["shop"]), **rows}))
    learner, algorithm = fit(spec, [block], features=features), algorithm_of(spec)
    facts = {"features": features.to_dict()}
    payloads = {"learner": encode_learner(algorithm, learner)}
    for key, model_spec in models.items():
        model = derive(learner, model_spec)
        stored = Model(model.spec, model.model_spec, model.arrays, {**model.facts, **facts})
        payloads[f"models/{key}"] = encode_model(algorithm, stored)
    registry.publish(
        name, payloads, parent=registry.head_number(name) or None, round_id=new_round_id(0), run_id=uuid.uuid4().hex,
        facts={**facts, "spec": spec.to_dict(), "fingerprint": spec.fingerprint, "champion": next(iter(models))},
        serve=True, reasons=(),
    )  # fmt: skip
    return {key: derive(learner, one).arrays for key, one in models.items()}


SHOPS = (vocabulary.Spec(n_features=8, text_bytes=24), SPELL, {"terms": vocabulary.Vocabulary()})
SPANS = (quantile.Spec(n_features=1), AMOUNT, {"spans": quantile.Buckets(n=4), "scale": quantile.RobustScale()})
LINES = Features(words=[{"column": name, "bytes": 12, "most": 4, "ngrams": [1, 2]} for name in ("other", "shop")])
WORDS = (
    vocabulary.Spec(n_features=LINES.n_features, text_bytes=12, words=4),
    LINES,
    {"terms": vocabulary.Vocabulary()},
)
MEANS = (target.Spec(n_features=1, buckets=16), CODE, {"means": target.Means(smoothing=1.0)})


def job(tmp_path, terms, name="fraud", registry=None):
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(name=name, registry=registry or tmp_path / "registry", terms=terms))
    return load_job(path)


def test_each_kind_of_term_gets_what_was_learned(tmp_path):
    registry = Registry(tmp_path / "elsewhere")
    publish(registry, "shops", *SHOPS)
    amounts, means = publish(registry, "amounts", *SPANS), publish(registry, "risk", *MEANS)
    learned = f'registry = "{tmp_path / "elsewhere"}"'
    found = job(
        tmp_path,
        f"""one_hot = [{{ column = "shop", unseen = "none", learned = {{ name = "shops", {learned} }} }}],
        bucketed = [{{ column = "amount", learned = {{ name = "amounts", model = "spans", {learned} }} }}],
        numeric = [
            {{ column = "amount", transform = "standardise", learned = {{ name = "amounts", model = "scale", {learned} }} }},
            {{ column = "shop", transform = "target", learned = {{ name = "risk", {learned} }} }},
        ]""".replace("\n", " "),
    ).features
    assert found.one_hot[0].vocabulary == ("b", "a", "c")
    assert found.one_hot[0].unseen == "none"
    assert found.bucketed[0].bounds == tuple(np.unique(amounts["spans"].bounds))
    assert found.numeric[0].mean == amounts["scale"].centre[0]
    assert found.numeric[0].scale == amounts["scale"].scale[0]
    assert found.numeric[1].values == tuple(means["means"].value[0])
    assert not found.to_batch(Block(pa.record_batch(ROWS)))[1]


def test_a_text_is_counted_by_the_words_that_were_learned_split_alike(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish(registry, "words", *WORDS, rows={**ROWS, "shop": ["red mill", "mill", "Red Mill", None]})
    terms = 'text = [{ column = "shop", value = "binary", learned = "words" }], sparse = false'
    found = job(tmp_path, terms).features
    (text,) = found.text
    assert (text.vocabulary, text.ngrams, text.value) == (("mill", "red", "red mill"), (1, 2), "binary")
    rows, _ = found.to_batch(Block(pa.record_batch({**ROWS, "shop": ["mill mill", "red door", "red mill", None]})))
    assert rows.dense_x.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert Features.parse(found.to_dict()) == found


def test_what_a_version_was_trained_on_stays(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish(registry, "shops", *SHOPS)
    terms = 'one_hot = [{ column = "shop", learned = "shops" }]'
    first = job(tmp_path, terms).features
    publish(registry, "shops", *SHOPS, rows={**ROWS, "shop": ["d", "d", "e", "f"]})
    assert job(tmp_path, terms).features.one_hot[0].vocabulary == ("d", "e", "f")
    facts = {"features": first.to_dict()}
    registry.publish("fraud", {"learner": b"bytes"}, parent=None, round_id=new_round_id(0), run_id="1", facts=facts)
    assert job(tmp_path, terms).features == first
    assert job(tmp_path, terms, name="afresh").features != first


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (
            'one_hot = [{ column = "shop", learned = "amounts" }]',
            "must be of vocabulary, kind 'vocabulary'; got quantile",
        ),
        ('one_hot = [{ column = "city", learned = "shops" }]', r"have learned of spell\(city\)"),
        ('text = [{ column = "shop", learned = "shops" }]', r"have learned of features.words of shop; it has of \[\]"),
        (
            'text = [{ column = "city", learned = "words" }]',
            r"of features.words of city; it has of \['other', 'shop'\]",
        ),
        ('text = [{ column = "shop", ngrams = 2, learned = "words" }]', "must be left out"),
        ('one_hot = [{ column = "shop", learned = "words" }]', r"have learned of spell\(shop\)"),
        ('one_hot = [{ column = "shop", learned = "nobody" }]', "no accepted version to serve"),
        ('one_hot = [{ column = "shop", learned = { nam = "shops" } }]', "learned.nam"),
        ('one_hot = [{ column = "shop", vocabulary = ["a"], learned = "shops" }]', "must be left out"),
        ('numeric = [{ column = "amount", learned = "amounts" }]', "must be of one_hot"),
        ('bucketed = [{ column = "amount", learned = { name = "amounts", model = "x" } }]', "has the models"),
    ],
)
def test_what_cannot_complete_a_term_is_said(tmp_path, terms, said):
    registry = Registry(tmp_path / "registry")
    publish(registry, "shops", *SHOPS)
    publish(registry, "amounts", *SPANS)
    publish(registry, "words", *WORDS)
    with pytest.raises(InvalidValue, match=said):
        job(tmp_path, terms)


def test_a_registry_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InvalidValue, match="column 'shop'"):
        job(tmp_path, 'one_hot = [{ column = "shop", learned = "shops" }]', registry=tmp_path / "nowhere")
