from pathlib import Path
from typing import Any

import pytest

from beam_ml.beam.job import FileSource, Job, KafkaSource, load_job
from beam_ml.errors import InvalidValue, UnreadableInput
from beam_ml.formats.csv import Options
from beam_ml.formats.messages import decoder
from beam_ml.formats.table import Roles
from tests.lines import learn_words

GOOD: dict[str, Any] = {
    "name": "fraud",
    "registry": "r",
    "refresh": "1d",
    "features": {"numeric": ["a", "b"], "label": "y", "time": "t"},
    "spec": {"algorithm": "linear.newton", "half_life": "14d"},
    "models": {"plain": {"kind": "classifier"}},
    "gate": ["auc >= 0.5"],
}


def test_a_good_job() -> None:
    job = Job.parse(GOOD)
    assert job.algorithm_spec().n_features == 2
    assert job.algorithm_spec().half_life == 14 * 86400
    assert job.windows().size_us == 86_400_000_000
    assert list(job.plan().models) == ["plain"]
    assert Job.parse(job.to_dict()) == job


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"spec": {"algorithm": "linear.neuton"}}, r"algorithm must be one of .*got 'linear.neuton'"),
        ({"spec": {"algorithm": "linear.newton", "los": "x"}}, r"los must not be given"),
        ({"spec": {}}, r"spec.algorithm must be given as text; got None"),
        ({"models": {"m": {"kind": "clusters"}}}, r"model.kind must be one of .*got 'clusters'"),
        ({"gate": ["auc"]}, r"gate must be rules like"),
        (
            {"gate": ["rmse of the window < 3"]},
            r"gate must be about metrics .*\(accuracy, auc, .*; got 'rmse of the window < 3'",
        ),
        ({"name": "a/b"}, r"job.name must"),
        ({"refresh": "soon"}, r"job.refresh"),
        ({"refresh": 0}, r"job.refresh"),
        ({"source": {"round_rows": 0}}, r"source.round_rows must be >= 1; got 0"),
        (
            {"source": {"format": "xml"}},
            r"source.format must be one of .*, or 'module:attribute' of one's own; got 'xml'",
        ),
        ({"source": {"options": {"delimiter": ";"}}}, r"source.format must be given where options are; got \{'delim"),
        ({"source": {"format": "csv", "options": {"delimeter": ";"}}}, r"csv.Options.delimeter must not be given"),
        ({"source": {"format": "avro", "options": {"x": 1}}}, r"options must be left out with avro files, which have"),
        ({"features": {"numeric": ["a"], "label": "y"}}, r"features.time must be given where spec.half_life is"),
        ({"retention": {"keep": 0}}, r"retention.keep must be >= 1; got 0"),
        ({"colour": "red"}, r"job.colour must not be given: there is no such field"),
    ],
)
def test_a_bad_job_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        Job.parse({**GOOD, **change})


def test_windows_by_time_need_a_time() -> None:
    bad = {**GOOD, "spec": {"algorithm": "linear.newton"}, "features": {"numeric": ["a"], "label": "y"}}
    with pytest.raises(InvalidValue, match=r"features\.time must be given where refresh is a duration"):
        Job.parse(bad)
    assert Job.parse({**bad, "refresh": "round"}).windows().size_us is None


def test_files(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match="must be readable TOML"):
        load_job(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_text("name = [")
    with pytest.raises(UnreadableInput, match="must be readable TOML"):
        load_job(path)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "pipelines/jobs").glob("*.toml")), ids=lambda p: p.name
)
def test_shipped_jobs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if path.stem == "topics":
        learn_words()
    field = "brokers" if "kafka" in path.name or "stream" in path.name else "path"
    job = load_job(path, **{f"source.{field}": "x", "registry": None, "name": "other"})
    assert getattr(job.source, field) == "x"
    assert job.name == "other"


@pytest.mark.parametrize("wrong", ["card", 5])
def test_categories_that_are_no_list_are_left_to_the_format_to_refuse(wrong: object) -> None:
    source = KafkaSource(kind="kafka", brokers="b:1", topic="t", format="json", options={"categories": wrong})
    with pytest.raises(InvalidValue, match=r"json\.Options\.categories must be a list"):
        decoder("json", source.with_roles(Roles(("shop",))).options)


def test_hashed_columns_are_categories_of_the_format() -> None:
    hashed = {"numeric": ["a"], "hashed": ["card", "shop"], "label": "y"}
    spec = {"algorithm": "linear.adagrad"}
    base = {
        **GOOD,
        "gate": [],
        "features": hashed,
        "spec": spec,
        "refresh": "round",
        "models": {"m": {"kind": "classifier"}},
    }
    csv = {"path": "x", "format": "csv", "options": {"delimiter": ";", "categories": ["card"]}}
    job = Job.parse({**base, "source": csv})
    assert isinstance(job.source, FileSource)
    assert job.source.format_options() == Options(delimiter=";", categories=("card", "shop"))
    assert Job.parse(job.to_dict()) == job
    for source in ({"path": "x"}, {"path": "x", "format": "parquet"}):
        job = Job.parse({**base, "source": source})
        assert isinstance(job.source, FileSource)
        assert (job.source.categories, job.source.format_options()) == (("card", "shop"), None)
        assert Job.parse(job.to_dict()) == job
    for format, known in (("json", ["card", "shop"]), ("avro", None)):
        topic = Job.parse(
            {**base, "source": {"kind": "kafka", "brokers": "b:1", "topic": "t", "format": format}}
        ).source
        assert isinstance(topic, KafkaSource)
        assert topic.options.get("categories") == known


def test_a_label_of_listed_values_is_known_to_the_format() -> None:
    label = {"column": "status", "positive": ["fraud"], "negative": "others"}
    base = {**GOOD, "features": {**GOOD["features"], "label": label}}
    text = {"path": "x", "format": "csv", "options": {"delimiter": ";"}}
    job = Job.parse({**base, "source": text})
    assert isinstance(job.source, FileSource)
    assert job.source.format_options() == Options(delimiter=";", labels=("status",))
    assert Job.parse(job.to_dict()) == job
    for format, known in (("json", None), ("csv", ["status"]), ("avro", None)):
        topic = {"kind": "kafka", "brokers": "b:1", "topic": "t", "format": format}
        source = Job.parse({**base, "source": topic}).source
        assert isinstance(source, KafkaSource)
        assert source.options.get("labels") == known


def test_two_classes_are_not_listed_for_more() -> None:
    label = {"column": "y", "positive": ["a"], "negative": ["b"]}
    spec = {"algorithm": "linear.adagrad", "task": "multiclass", "n_classes": 3}
    wrong = {**GOOD, "gate": [], "features": {**GOOD["features"], "label": label}, "spec": spec}
    with pytest.raises(
        InvalidValue,
        match=r"features\.label must list classes, or be a column of class numbers, where spec\.n_classes is",
    ):
        Job.parse({**wrong, "models": {"m": {"kind": "variant"}}})


@pytest.mark.parametrize(
    ("features", "spec", "sparse"),
    [
        ({"hashed": ["a"], "label": "y"}, {}, True),
        ({"hashed": ["a"], "label": "y"}, {"sparse": False}, False),
        ({"numeric": ["a"], "label": "y"}, {}, False),
    ],
)
def test_rows_of_hashed_columns_are_sparse_unless_the_job_says_no(
    features: dict[str, Any], spec: dict[str, Any], sparse: bool
) -> None:
    changes = {"features": features, "spec": {"algorithm": "linear.adagrad", **spec}, "refresh": "round", "gate": []}
    assert Job.parse(GOOD | changes | {"models": {}}).algorithm_spec().sparse is sparse
