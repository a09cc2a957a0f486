"""The places of a job's columns of categories are chosen once, before its first version."""

import json
from pathlib import Path
from typing import Any

import pytest

from beam_ml import formats
from beam_ml.beam.job import Job
from beam_ml.beam.rounds import train
from beam_ml.beam.rounds.sizing import sized
from beam_ml.beam.stream.start import begin
from beam_ml.errors import InvalidValue
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry
from tests.beam.job.test_looking import job, places, rows


@pytest.fixture
def here(tmp_path: Path) -> Path:
    formats.write(str(tmp_path / "a.csv"), [rows(0, 600, each=6)])
    return tmp_path


def trained(one: Job) -> Registry:
    registry = Registry(one.registry)
    assert [round.progress.rows for round in train(one, registry)]
    return registry


def test_they_are_chosen_before_the_first_version_and_stay(here: Path) -> None:
    """A second file has ten times as many shops: the places are those of the first version."""
    one = job(here)
    registry = trained(one)
    first = registry.manifest("j", registry.head_number("j"))
    assert [term["buckets"] for term in first.extra["features"]["hashed"]] == [8_192, 1_024]
    assert first.spec["n_features"] == 9_216
    formats.write(str(here / "b.csv"), [rows(600, 2_000)])
    trained(one)
    then = registry.manifest("j", registry.head_number("j"))
    assert then.number > first.number
    assert then.progress["rows"] == 2_000
    assert then.extra["features"] == first.extra["features"]
    assert then.fingerprint == first.fingerprint
    assert places(sized(one, registry).job) == {"shop": 8_192, "colour": 1_024}
    predictor = Predictor(registry, "j")
    assert predictor.features == sized(one, registry).job.features
    assert predictor.model.spec.n_features == predictor.features.n_features
    assert len(predictor.predict(rows(0, 7))["score"]) == 7
    assert begin(one, registry)[1].spec.n_features == 9_216


def test_the_same_files_learn_the_same_model(here: Path) -> None:
    found = []
    for which in ("x", "y"):
        registry = trained(job(here, registry=str(here / which)))
        found.append({what: file.sha256 for what, file in registry.manifest("j", 1).files.items()})
    assert found[0] == found[1]


def test_a_registry_of_other_buckets_is_this_jobs_where_it_gives_none(here: Path) -> None:
    """So are versions from before jobs chose: they state 65,536."""
    large = [{"column": "shop", "buckets": 65_536}, {"column": "colour", "buckets": 65_536}]
    registry = trained(job(here, large))
    assert places(sized(job(here), registry).job) == {"shop": 65_536, "colour": 65_536}
    formats.write(str(here / "b.csv"), [rows(600, 700)])
    trained(job(here))
    assert registry.head_number("j") == 2
    with pytest.raises(InvalidValue, match=r"^job\.(spec|features) must be th"):
        trained(job(here, [{"column": "shop", "buckets": 100}, "colour"]))


def test_what_is_stored_for_unused_places_is_nothing(here: Path) -> None:
    """Sixty-four times as many places, and the same bytes but for their numbers."""
    sizes: dict[int, dict[str, Any]] = {}
    for buckets in (1 << 13, 1 << 19):
        hashed = [{"column": "shop", "buckets": buckets}, {"column": "colour", "buckets": buckets}]
        registry = trained(job(here, hashed, registry=str(here / f"r{buckets}")))
        sizes[buckets] = {what: file.bytes for what, file in registry.manifest("j", 1).files.items()}
    for what in ("learner", "models/m"):
        assert sizes[1 << 19][what] == pytest.approx(sizes[1 << 13][what], rel=0.05)
    assert sizes[1 << 19]["models/m"] < 8_000


def test_a_column_that_outgrows_its_places_is_counted_and_named(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Places were chosen where two shops were seen; then there are 700."""
    formats.write(str(here / "a.csv"), [rows(0, 600, each=300)])
    one = job(here, name="outgrown")
    registry = trained(one)
    assert registry.manifest("outgrown", 1).extra["places_used"] == {"shop": 2, "colour": 3}
    assert not caplog.records
    formats.write(str(here / "b.csv"), [rows(600, 1_300)])
    trained(one)
    used = registry.manifest("outgrown", registry.head_number("outgrown")).extra["places_used"]
    assert 450 < used["shop"] < 550
    warned = [record.getMessage() for record in caplog.records if "places of column" in record.getMessage()]
    share = round(100 * used["shop"] / 1_024)
    assert warned == [
        f"outgrown: {used['shop']} of the 1,024 places of column shop are used, so that about {share} % of its values share one "
        "(buckets = … under another job name gives it more)."
    ]


def test_the_features_of_a_manifest_are_plain_json(here: Path) -> None:
    features = trained(job(here)).manifest("j", 1).extra["features"]
    assert json.loads(json.dumps(features)) == features
