"""What is shipped in the place of objects: a learner is the one that was meant, or none; sizes at their bounds."""

import dataclasses
import logging
from pathlib import Path

import pytest

from beam_ml import Batch, fit, kmeans, linear, pca
from beam_ml.algorithms import algorithm_of, find
from beam_ml.artefact.records import encode_learner
from beam_ml.beam.wire.references import REFUSE_BYTES, WARN_BYTES, AnchorRef, check_size, learner_of, plan_json, plan_of
from beam_ml.core.gate import Gate
from beam_ml.core.refresh import Plan
from beam_ml.errors import InvalidValue, MergeRefused, RegistryError, VersionNotFound
from beam_ml.registry import Registry

SPEC = pca.Spec(n_features=1)


def published(where: Path) -> list[AnchorRef]:
    """Publish learners of one, two and three rows."""
    registry, found, parent = Registry(where), [], None
    for n in (1, 2, 3):
        learner = fit(SPEC, [Batch.dense([[float(i)] for i in range(n)])])
        payloads = {"learner": encode_learner(algorithm_of(SPEC), learner)}
        made = registry.publish("shape", payloads, parent=parent, round_id=f"{n}-a")
        parent = made.number
        found.append(AnchorRef(str(where), "shape", made.number, made.files["learner"].sha256))
    return found


def test_a_learner_is_that_of_the_version_and_of_the_digest(tmp_path: Path) -> None:
    references = published(tmp_path)
    for n, one in enumerate(references, start=1):
        assert learner_of(one, SPEC).progress.rows == n
        assert learner_of(dataclasses.replace(one, digest=""), SPEC).progress.rows == n
    other = dataclasses.replace(references[0], digest=references[1].digest)
    with pytest.raises(VersionNotFound, match=r"shape v1 must be the learner of digest .*; the registry was recreated"):
        learner_of(other, SPEC)
    with pytest.raises(VersionNotFound):
        learner_of(dataclasses.replace(references[0], version=4), SPEC)
    with pytest.raises(MergeRefused, match="resumes from a learner of its own spec"):
        learner_of(references[0], pca.Spec(n_features=1, half_life="1d"))


def test_sizes_are_warned_of_above_one_bound_and_refused_above_another(caplog: pytest.LogCaptureFixture) -> None:
    spec = kmeans.Spec(n_features=3, k_max=7)
    with caplog.at_level(logging.WARNING):
        check_size(spec, WARN_BYTES)
        assert not caplog.records
        check_size(spec, WARN_BYTES + 1)
        check_size(spec, REFUSE_BYTES)
        check_size(spec, 2 * WARN_BYTES, 2 * WARN_BYTES)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    for size, bound in ((REFUSE_BYTES + 1, None), (2 * WARN_BYTES + 1, 2 * WARN_BYTES)):
        with pytest.raises(InvalidValue, match=r"with k_max 7, n_features 3: lower k_max\."):
            check_size(spec, size, bound)


def test_a_plan_travels_with_all_its_models_and_rules() -> None:
    models = {"plain": linear.Classifier(), "bent": linear.Classifier(l2=0.5, threshold="f_beta(2)")}
    plan = Plan(models, Gate(("auc >= 0.8", "log_loss not worse than 5 % over the last 4 refreshes")))
    assert plan_of(find("linear.newton"), plan_json(plan)) == plan


def test_looking_for_a_learner_makes_no_registry(tmp_path: Path) -> None:
    with pytest.raises((RegistryError, VersionNotFound)):
        learner_of(AnchorRef(str(tmp_path / "mistyped"), "shape", 1), SPEC)
    assert not (tmp_path / "mistyped").exists()
