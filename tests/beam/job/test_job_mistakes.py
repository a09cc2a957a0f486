"""Mistakes in a job are refused when it is loaded: one sentence with field, rule, value, and what may have been meant."""

from typing import Any

import pytest

from beam_ml.beam.job import Job
from beam_ml.errors import InvalidValue

DURATION = r"must be a duration such as '90s', '15m', '6h' or '14d' \(units: ms, s, m, h, d, w\)"

MATRIX = {"matrix": {"width": 3}, "label": "y"}
VOCABULARY = {"spec": {"algorithm": "vocabulary"}, "models": {"m": {"kind": "vocabulary"}}}
KAFKA = {"kind": "kafka", "brokers": "localhost:9092", "topic": "t"}
MATRICES = "must be one that holds lists of numbers in one column with features.matrix, of"


def job(**changes: Any) -> Job:
    whole: dict[str, Any] = {
        "name": "n",
        "registry": "r",
        "features": {"numeric": ["a"], "label": "y", "time": "t"},
        "spec": {"algorithm": "linear.newton"},
        "models": {"m": {"kind": "classifier"}},
    }
    return Job.parse({**whole, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": {"numeric": ["a"]}}, r"job.features.label must name the column that linear.newton learns to predict \(label = \"COLUMN\"\); got none."),
        ({"features": {"hashed": ["a"], "label": "y"}}, r"job.features.hashed must be left out with linear.newton, which learns from numbers alone; got \['a'\] \(linear.adagrad and fm take categories; one_hot makes few of them numbers\)."),
        ({"features": {"hashed": ["a"]}, "spec": {"algorithm": "pca"}, "models": {}}, "job.features.hashed must be left out with pca"),
        ({"spec": {"algorithm": "deepar", "time_freq": "H", "context_length": 24, "prediction_length": 24}, "models": {"m": {"kind": "forecast"}}}, r"job.spec.algorithm must learn from columns; got 'deepar', whose rows are series \(beam_ml.fit takes them\)."),
        ({"features": {"words": ["a"], "label": "y"}}, r"job.features.words must be left out with linear.newton, which does not learn which words there are; got \['a'\] \(features.text counts them\)."),
        ({"features": {"words": ["a"], "numeric": ["b"]}, **VOCABULARY}, r"job.features must name nothing beside words = \['a'\], all of which are counted alike."),
        ({"features": {"words": ["a", {"column": "b", "most": 7}]}, **VOCABULARY}, r"job.features.words must have the same bytes and most each; got \[\(24, 7\), \(24, 1024\)\]."),
        ({"refresh": "1 day"}, rf"job.refresh {DURATION} or be 'round'; got '1 day'. Did you mean '1d'\?"),
        ({"refresh": "rond"}, rf"job.refresh {DURATION} or be 'round'; got 'rond'. Did you mean 'round'\?"),
        ({"refresh": -1}, "job.refresh must be > 0 or be 'round'; got -1."),
        ({"refresh": 1e308}, r"job.refresh must be a duration of at most 9e\+12 s or be 'round'; got 1e\+308."),
        ({"refresh": "999999999999d"}, r"job.refresh must be a duration of at most 9e\+12 s or be 'round'; got '999999999999d'."),
        ({"spec": {"algorithm": "linear.newton", "half_life": "2 Weeks"}}, rf"linear.Newton.half_life {DURATION}; got '2 Weeks'. Did you mean '2w'\?"),
        ({"source": {"allowed_lateness": "5 minutes"}}, rf"source.allowed_lateness {DURATION} or be 0; got '5 minutes'. Did you mean '5m'\?"),
        ({"source": {"poll": "soon"}}, rf"source.poll {DURATION}; got 'soon'."),
        ({"source": {"kind": "kafk"}}, r"source.kind must be 'files', 'pipe' or 'kafka'; got 'kafk'. Did you mean 'kafka'\?"),
        ({"source": {"pth": "x"}}, r"source.pth must not be given: there is no such field; got 'x'. Did you mean 'path'\?"),
        ({"refesh": "1d"}, r"job.refesh must not be given: there is no such field; got '1d'. Did you mean 'refresh'\?"),
        ({"order": "inorder"}, r"job.order must be one of 'auto', 'in_order' or 'together'; got 'inorder'. Did you mean 'in_order'\?"),
        ({"spec": {"algorithm": "linear.newtn"}}, r"got 'linear.newtn'. Did you mean 'linear.newton'\?"),
        ({"models": {"m": {"kind": "classifer"}}}, r"got 'classifer'. Did you mean 'classifier'\?"),
        ({"source": 3}, "job.source must be a table of settings; got 3."),
        ({"models": {"m": 3}}, "job.models.m must be a table of settings; got 3."),
        ({"gate": "auc >= 0.8"}, "job.gate must be a list; got 'auc >= 0.8'."),
        ({"features": MATRIX, "source": KAFKA}, rf"job.source.format {MATRICES} \['avro', 'recordio', 'libsvm', 'image'\], 'csv' with options.header = false and options.width, or 'json' with options.form = 'dense' or 'sparse'; got 'json'."),
        ({"features": MATRIX, "source": {"format": "csv"}}, rf"job.source.format {MATRICES} \['parquet', 'avro', 'recordio', 'libsvm', 'image'\], 'csv' with options.header = false and options.width, or 'json' with options.form = 'dense' or 'sparse'; got 'csv'."),
        ({"retention": {"keep": "x"}}, "retention.keep must be a whole number; got 'x'."),
    ],
    ids=str,
)  # fmt: skip
def test_a_mistake_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=f"{sentence}$" if sentence.endswith((".", "?")) else sentence) as caught:
        job(**changes)
    assert "function" not in str(caught.value)
    assert " at 0x" not in str(caught.value)


@pytest.mark.parametrize(("text", "seconds"), [("1d", 86_400.0), ("90", 90.0), (" 1.5 h ", 5_400.0), (30, 30.0)])
def test_durations_that_are_meant_are_taken(text: object, seconds: float) -> None:
    assert job(refresh=text).refresh == seconds


@pytest.mark.parametrize("algorithm", ["linear.adagrad", "fm"])
def test_categories_are_taken_by_algorithms_of_sparse_rows(algorithm: str) -> None:
    assert job(features={"hashed": ["a"], "label": "y"}, spec={"algorithm": algorithm}).features.hashed


BY_POSITION = {"format": "csv", "options": {"header": False, "width": 3}}


@pytest.mark.parametrize(
    "source",
    [{}, {"format": "avro"}, {"format": "libsvm"}, KAFKA | {"format": "recordio"}, BY_POSITION, KAFKA | BY_POSITION],
)
def test_a_matrix_is_taken_from_formats_that_hold_one(source: dict[str, Any]) -> None:
    assert job(features=MATRIX, source=source).features.matrix is not None


def test_options_of_messages_are_looked_at_for_a_matrix() -> None:
    with pytest.raises(InvalidValue, match=r"csv\.Options\.width must be >= 1; got 0\.$"):
        job(features=MATRIX, source=KAFKA | {"format": "csv", "options": {"header": False, "width": 0}})


def test_a_name_that_no_store_has_a_place_for_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^job\.name must have at most 200 characters; got 'n+"):
        job(name="n" * 201)
    assert job(name="n" * 200).name == "n" * 200


def test_a_label_among_the_features_is_refused() -> None:
    wrong = {"numeric": ["a", "y"], "label": "y"}
    with pytest.raises(
        InvalidValue, match=r"label must not be a column of the features .*; got 'y' .*numeric = \['a'\]"
    ):
        job(features=wrong)
