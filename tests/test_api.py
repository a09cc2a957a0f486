import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beam_ml import Batch, derive, fit, linear, load, merge, pca, predict, save
from beam_ml.core.arrays import close
from beam_ml.core.batch import Origin
from beam_ml.core.leaps import FAR, SET_BACK
from beam_ml.core.learner import Learner
from beam_ml.errors import CorruptArtefact, DeriveRefused, InvalidBatch, InvalidValue, MergeRefused, WrongKind

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6_000, 4))
Y = (RNG.random(6_000) < 1 / (1 + np.exp(-X[:, 0]))).astype(float)
SPEC = pca.Spec(n_features=4)


def batches(size: int = 500) -> list[Batch]:
    return [Batch.dense(X[i : i + size], label=Y[i : i + size]) for i in range(0, len(X), size)]


def test_exact_algorithms_fold_once_and_anchored_ones_at_1_2_4_thousand_rows() -> None:
    assert fit(SPEC, batches()).refresh == 1
    assert fit(linear.Newton(n_features=4), batches()).refresh == 3
    assert fit(linear.Newton(n_features=4), batches(), refresh_rows=1_000).refresh == 7
    assert fit(linear.Newton(n_features=4, loss="squared"), batches()).refresh == 1


@pytest.mark.parametrize("size", [300, 4_000, 6_000])
def test_a_fold_that_is_due_within_a_batch_does_not_wait_for_its_end(size: int) -> None:
    spec = linear.Newton(n_features=4)
    learner, pieces = fit(spec, batches(size)), fit(spec, batches(1_000))
    assert learner.refresh == pieces.refresh == 3
    assert learner.progress.rows == 6_000
    assert close(learner.state, pieces.state)
    assert fit(spec, batches(size), refresh_rows=1_000).refresh == 7


@pytest.mark.parametrize("at", [999, 1_000])
def test_a_batch_is_judged_whole_though_a_fold_is_due_within_it(at: int) -> None:
    """The fold is due behind row 999: what comes before and behind it says what that row and the next one are."""
    day_us = 86_400_000_000
    for n in (1_001, 1_500):
        times = np.where(np.arange(n) == at, 3_650 * day_us, np.arange(n))
        rows = Batch.dense(X[:n], label=Y[:n], time=times)
        progress = fit(linear.Newton(n_features=4, half_life="14d"), rows).progress
        last = at == n - 1
        assert progress.adjusted == ({SET_BACK: 1} if last else {})
        assert progress.rejected == ({} if last else {FAR: 1})
        assert progress.time_max < day_us


def test_a_fold_needs_a_row() -> None:
    with pytest.raises(InvalidValue, match=r"fit\.refresh_rows must be >= 1; got 0\."):
        fit(linear.Newton(n_features=4), batches(), refresh_rows=0)


def test_going_on_equals_one_fit() -> None:
    half = fit(SPEC, batches()[:6])
    whole = fit(SPEC, batches()[6:], learner=half)
    assert half.progress.rows == 3_000
    assert close(whole.state, fit(SPEC, batches()).state)


def test_save_and_load(tmp_path: Path) -> None:
    learner = fit(linear.Newton(n_features=4), batches())
    save(learner, tmp_path / "a.safetensors")
    again = load(tmp_path / "a.safetensors")
    assert isinstance(again, Learner)
    assert repr(again) == repr(learner)
    assert close(again.state, learner.state, rtol=0, atol=0)
    save(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    model = derive(learner, linear.Classifier())
    save(model, tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert not isinstance(loaded, Learner)
    assert np.array_equal(predict(loaded, batches()[0])["score"], predict(model, batches()[0])["score"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "m.safetensors"]


def test_load_refuses_what_it_did_not_write(tmp_path: Path) -> None:
    from beam_ml.artefact.records import encode_batch

    path = tmp_path / "x"
    path.write_bytes(b"no artefact")
    with pytest.raises(CorruptArtefact):
        load(path)
    path.write_bytes(encode_batch(batches()[0]))
    with pytest.raises(WrongKind, match="must hold a learner or a model; it holds a batch"):
        load(path)


def test_two_learners_grown_from_one_share_its_rows(tmp_path: Path) -> None:
    base = fit(SPEC, batches()[:2])
    save(base, tmp_path / "base")
    grown = [fit(SPEC, part, learner=load(tmp_path / "base")) for part in (batches()[2:4], batches()[4:6])]  # type: ignore[arg-type]
    with pytest.raises(MergeRefused, match="must not share rows"):
        merge(*grown)
    assert merge(*grown, allow_overlap=True).progress.rows == 4_000


def test_merge_of_two_fits_of_the_same_batches_counts_them_apart() -> None:
    assert merge(fit(SPEC, batches()), fit(SPEC, batches())).progress.rows == 12_000


def test_fit_refuses_rows_with_positions_it_has_seen() -> None:
    named = batches()[0].replace(origin=Origin("files", "a"), position=np.arange(500))
    learner = fit(SPEC, [named])
    with pytest.raises(MergeRefused, match="must not count rows twice; it has already scanned rows of files a"):
        fit(SPEC, [named], learner=learner)


def test_fit_refuses_rows_with_positions_given_twice() -> None:
    def named(start: int, stop: int, file: str = "a") -> Batch:
        return Batch.dense(X[start:stop], origin=Origin("files", file), position=np.arange(start, stop))

    apart = [named(50, 100), named(0, 50), named(100, 150), named(0, 150, "b")]
    assert fit(SPEC, apart).progress.rows == 300
    for again in (named(0, 1), named(149, 160), named(149, 160, "b")):
        with pytest.raises(MergeRefused, match="must not count rows twice"):
            fit(SPEC, [*apart, again])
    twice = named(0, 4).replace(position=np.array([0, 1, 2, 2]))
    with pytest.raises(MergeRefused, match="must not count rows twice"):
        fit(SPEC, [twice])


def test_refusals() -> None:
    learner = fit(SPEC, batches())
    with pytest.raises(MergeRefused, match="same spec"):
        fit(pca.Spec(n_features=4, seed=3), batches(), learner=learner)
    with pytest.raises(InvalidBatch, match="n_features is 4; got a batch of 3"):
        fit(SPEC, [Batch.dense(np.ones((1, 3)))])
    with pytest.raises(DeriveRefused, match="this learner has seen none"):
        derive(fit(SPEC, []), pca.Components(n_components=1))
    with pytest.raises(DeriveRefused, match="pca derives components; got Classifier"):
        derive(learner, linear.Classifier())


def test_rejected_rows_are_counted_by_reason() -> None:
    bad = Batch.dense([[np.nan, 0, 0, 0], [1, 2, 3, 4]], label=[0, 1])
    learner = fit(SPEC, [*batches(), bad])
    assert learner.progress.rows == 6_001
    assert learner.progress.rejected == {"non-finite feature": 1}


def test_derive_leaves_the_learner_alone() -> None:
    learner = fit(SPEC, batches())
    before = {name: np.array(getattr(learner.state, name)) for name in ("mean", "scatter")}
    derive(learner, pca.Components(n_components=2))
    assert all(np.array_equal(getattr(learner.state, name), value) for name, value in before.items())


def test_importing_the_package_loads_no_algorithm() -> None:
    """Nobody waits for the libraries of learners that he does not use; each is there when it is named."""
    program = (
        "import sys, beam_ml; heavy = {'scipy', 'numba', 'pyarrow', 'apache_beam', 'beam_ml.algorithms.linear'}; "
        "print(sorted(heavy & set(sys.modules)), beam_ml.linear.Newton.__name__, beam_ml.fm.__name__); "
        "from beam_ml import kmeans, pca, sagemaker; beam_ml.lstm"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[] Newton beam_ml.algorithms.fm\n"
    assert "module 'beam_ml' has no attribute 'lstm'" in done.stderr
