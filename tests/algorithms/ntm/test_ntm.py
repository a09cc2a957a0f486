"""Topic models: the network against finite differences and against numpy, documents of every kind, resuming, topics found."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from beam_ml import Batch, derive, fit, kernels, load, ntm, predict, save
from beam_ml.algorithms.ntm import coherence
from beam_ml.algorithms.ntm.encoder import halves, network_of
from beam_ml.algorithms.ntm.learning import log_shares, network_settings, stepping
from beam_ml.core import gathered, metrics
from beam_ml.core.arrays import identical
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

SPEC = ntm.Spec(n_features=12, num_topics=3, encoder_layers=(6,), mini_batch_size=16, seed=5)
TINY = ntm.Spec(n_features=3, num_topics=2, encoder_layers=(2,))
THEMES = np.repeat(np.eye(3), 4, axis=1) * 0.25


def documents(n=240, seed=0, words=20):
    """Documents of one theme each, of three that share no word."""
    rng = np.random.default_rng(seed)
    theme = rng.integers(0, 3, n)
    counts = np.stack([rng.multinomial(words, THEMES[t]) for t in theme]).astype(float)
    return Batch.dense(counts), theme


def gather(spec, batch):
    return gathered.accumulate(spec, gathered.empty(spec), batch)


def network(spec, **changes):
    settings = {
        "layout": spec.layout, "activation": spec.encoder_layers_activation, "batch_norm": True, "kl_weight": 0.5,
        "alpha": 0.7, "apart": 0.3, "rescale": 1.0,
    }  # fmt: skip
    return kernels.ntm.Network(**{**settings, **changes})


def given(counts, weight=None, words=3):
    return {
        "counts": np.asarray(counts, np.float32),
        "weight": np.ones(len(counts), np.float32) if weight is None else np.asarray(weight, np.float32),
        "shares": log_shares(np.arange(1.0, words + 1.0)).astype(np.float32),
        "warmth": np.float32(1.0),
    }


@pytest.mark.parametrize("batch_norm", [True, False])
def test_gradients_are_those_of_finite_differences(batch_norm):
    net, state = network(TINY, batch_norm=batch_norm), ntm.NTM.init(TINY)
    batch = given([[3, 1, 0], [0, 2, 5], [1, 1, 1]], [1.0, 0.5, 2.0])
    key = np.array([0, 7], np.uint32)
    rng = np.random.default_rng(0)

    def value(parameters):
        return kernels.ntm.loss(net, parameters, state.statistics, batch, key)[0]

    both = jax.jit(jax.value_and_grad(value))
    at = state.parameters
    _, gradient = both(at)
    for _ in range(4):
        way = rng.normal(size=at.size).astype(np.float32)
        way *= 3e-2 / np.sqrt(float(way @ way))
        change = (float(both(at + way)[0]) - float(both(at - way)[0])) / 2.0
        assert change == pytest.approx(float(gradient @ way), rel=0.03, abs=2e-4)


def test_rows_that_only_fill_up_change_nothing():
    net, state, key = network(TINY), ntm.NTM.init(TINY), np.array([0, 7], np.uint32)
    value = jax.jit(jax.value_and_grad(lambda p, b: kernels.ntm.loss(net, p, state.statistics, b, key), has_aux=True))
    rows = [[3, 1, 0], [0, 2, 5], [0, 0, 0], [0, 0, 0]]
    other = [[3, 1, 0], [0, 2, 5], [9, 9, 9], [1, 0, 7]]
    weight = [1.0, 1.0, 0.0, 0.0]
    (found, statistics), gradient = value(state.parameters, given(rows, weight))
    (same, also), slope = value(state.parameters, given(other, weight))
    assert float(found) == float(same)
    assert np.array_equal(statistics, also)
    assert np.allclose(gradient, slope, atol=1e-6)
    (_, after), _ = value(state.parameters, given(rows, [0.0] * 4))
    assert np.array_equal(after, state.statistics)


def test_numpy_serves_what_jax_has_learned():
    rows, _ = documents(32)
    model = derive(fit(SPEC, [rows]), ntm.TopicWeights()).arrays
    net = network_of(model)
    arrays = {name: one.astype(np.float32) for name, one in net.arrays.items()}
    encode = jax.jit(lambda counts: kernels.ntm.encoded(network(SPEC), arrays, counts))
    mean, log_variance = encode(np.asarray(rows.dense_x, np.float32))
    sure = dataclasses.replace(
        net, arrays={**net.arrays, "spread": net.arrays["spread"] * 0, "spread_bias": np.full(3, -8.0)}
    )
    z = (np.asarray(mean) - net.centre) / net.scale
    theta = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert np.allclose(sure.theta(csr_matrix(rows.dense_x)), theta, atol=2e-3)
    assert np.isfinite(np.asarray(log_variance)).all()


def test_themes_are_found():
    rows, _ = documents()
    learner = fit(SPEC.model_copy(update={"passes_per_refresh": 20}), [rows])
    topics = derive(learner, ntm.Topics(top_words=4, coherence_words=4)).arrays
    assert sorted(sorted(one) for one in topics.top.tolist()) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert topics.diversity == 1.0
    assert topics.uniqueness.tolist() == [1.0, 1.0, 1.0]
    assert topics.npmi.min() > 0.5
    assert topics.wetc.min() > 0.5
    assert topics.weight == pytest.approx(np.full(3, 1 / 3), abs=0.12)
    held, truth = documents(60, seed=1)
    found = predict(derive(learner, ntm.TopicWeights()), held)
    assert found["topic_weights"].sum(axis=1) == pytest.approx(1.0)
    pairs = {(int(a), int(b)) for a, b in zip(found["topic"], truth, strict=True)}
    assert len(pairs) == 3
    measured = metrics.compute(ntm.NTM.models["topics"].measure(topics, held))
    assert measured["perplexity"] < 6.0  # 12 words without topics; the 4 of a theme are as likely as each other
    vocabulary = list("abcdefghijkl")
    assert sorted(map("".join, map(sorted, topics.words(vocabulary)))) == ["abcd", "efgh", "ijkl"]
    assert topics.words(vocabulary, by="lift")[0][0] in vocabulary
    with pytest.raises(InvalidBatch, match="takes 12 words, one per feature; got 2"):
        topics.words(["a", "b"])


def test_stored_and_loaded_between_folds_training_goes_on_to_the_bit(tmp_path):
    first, second = documents(64)[0], documents(64, seed=1)[0]
    spec = SPEC.model_copy(update={"gather_bytes": 1 << 14})
    learner = fit(spec, [first])
    save(learner, tmp_path / "learner")
    straight = fit(spec, [second], learner=learner)
    resumed = fit(spec, [second], learner=load(tmp_path / "learner"))
    assert identical(straight.state, resumed.state)
    assert int(straight.state.steps) > int(learner.state.steps) > 0
    assert not identical(straight.state, learner.state)


def test_nothing_is_compiled_after_the_first_fold():
    rows, _ = documents(64)
    state = ntm.NTM.fold(SPEC, ntm.NTM.init(SPEC), gather(SPEC, rows), None)
    step = kernels.ntm.compiled(network_settings(SPEC), stepping(SPEC))
    before = step._cache_size()
    for n in (1, 7, 40, 64):
        few = rows.take(slice(0, n))
        state = ntm.NTM.fold(SPEC, state, gather(SPEC, few), None, few)
    assert step._cache_size() == before <= 2  # one for arrays of numpy, one for those of the step before


def test_documents_without_words_weigh_and_teach_nothing():
    rows, _ = documents(32)
    empty = Batch.dense(np.zeros((8, 12)))
    state = ntm.NTM.fold(SPEC, ntm.NTM.init(SPEC), gather(SPEC, rows), None)
    after = ntm.NTM.fold(SPEC, state, gather(SPEC, empty), None)
    assert float(after.weight) == 40.0
    assert after.parameters.tobytes() == state.parameters.tobytes()
    assert np.array_equal(after.words, state.words)
    model = derive(fit(SPEC, [empty]), ntm.TopicWeights()).arrays
    assert np.isfinite(ntm.NTM.models["topic_weights"].predict(model, empty)["topic_weights"]).all()
    measured = ntm.NTM.models["topic_weights"].measure(model, empty)
    assert float(measured.nll) == float(measured.tokens) == 0.0


def test_negative_counts_are_rejected():
    rows = np.ones((8, 12))
    rows[3, 2] = -1.0
    learner = fit(SPEC, [Batch.dense(rows)])
    assert learner.progress.rows == 7
    assert sum(learner.progress.rejected.values()) == 1
    with pytest.raises(FloatingPointError, match="counts below 0"):
        ntm.NTM.fold(SPEC, ntm.NTM.init(SPEC), gather(SPEC, Batch.dense(rows)), None)


def test_dense_and_sparse_documents_are_the_same():
    rows, _ = documents(32)
    sparse = csr_matrix(rows.dense_x)
    same = Batch.csr(sparse.indptr, sparse.indices, sparse.data, 12)
    first, second = (ntm.NTM.fold(SPEC, ntm.NTM.init(SPEC), gather(SPEC, one), None) for one in (rows, same))
    assert identical(first, second)


def test_what_is_no_longer_in_the_stream_is_seen_again():
    spec = SPEC.model_copy(update={"replay": 1.0})
    old, new = documents(48)[0], Batch.dense(documents(48, seed=1)[0].dense_x * (np.arange(12) < 4))
    state = ntm.NTM.fold(spec, ntm.NTM.init(spec), gather(spec, old), None)
    alone = ntm.NTM.fold(spec, state, gather(spec, new), None)
    replayed = ntm.NTM.fold(spec, state, gather(spec, new), None, old)
    assert int(replayed.steps) > int(alone.steps)
    none = SPEC.model_copy(update={"replay": 0.0})
    assert identical(ntm.NTM.fold(none, state, gather(none, new), None, old), alone)


def test_the_shares_of_words_follow_the_counts_at_once():
    rows = Batch.dense([[8.0] + [0.0] * 10 + [2.0]])
    model = derive(fit(SPEC, [rows]), ntm.TopicWeights()).arrays
    assert model.share[0] == pytest.approx(8.5 / 16.0)
    assert model.share.sum() == pytest.approx(1.0)


def test_halves_share_every_token():
    rng = np.random.default_rng(0)
    counts = csr_matrix(np.where(rng.random((20, 7)) < 0.6, np.round(rng.gamma(1.0, 3.0, (20, 7)), 1), 0.0))
    first, second = halves(counts)
    assert np.allclose((first + second).toarray(), counts.toarray())
    total = np.asarray(counts.sum(axis=1)).ravel()
    assert np.abs(np.asarray(first.sum(axis=1)).ravel() - total / 2.0).max() <= 0.5 + 1e-9
    assert min(first.data.min(), second.data.min()) >= 0.0


def test_vectors_of_words_from_a_file(tmp_path):
    (tmp_path / "glove.txt").write_text("ship 1 0\nboat 2 0\nmoon 0 1\nother 5 5\n")
    found = ntm.read_vectors(tmp_path / "glove.txt", ["ship", "boat", "moon", "sun"])
    assert sorted(found) == [0, 1, 2]
    assert ntm.wetc(np.array([[0, 1], [0, 2], [0, 3]]), found).tolist() == [1.0, 0.0, 0.0]


def test_coherence_is_weighted_as_documents_are():
    top = np.array([[0, 1]])
    counts = csr_matrix([[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    copies = counts[[0, 0, 0, 1, 2]]
    assert coherence.npmi(top, counts, np.array([3.0, 1.0, 1.0])) == pytest.approx(
        coherence.npmi(top, copies, np.ones(5))
    )


def test_refused():
    with pytest.raises(DeriveRefused, match="got none yet"):
        ntm.NTM.models["topics"].derive(SPEC, ntm.Topics(), ntm.NTM.init(SPEC), None)
    with pytest.raises(InvalidValue, match=r"n_features 100000000.*at most"):
        ntm.Spec(n_features=100_000_000)
    model = derive(fit(SPEC, [documents(16)[0]]), ntm.TopicWeights()).arrays
    with pytest.raises(InvalidBatch, match="takes 12 features; got a batch of 2"):
        ntm.NTM.models["topic_weights"].predict(model, Batch.dense([[1.0, 2.0]]))
    with pytest.raises(InvalidBatch, match="do not make a network"):
        network_of(dataclasses.replace(model, parameters=model.parameters[:-1]))
    with pytest.raises(InvalidBatch, match="do not make a network"):
        network_of(dataclasses.replace(model, share=np.full(12, np.inf)))


@pytest.mark.parametrize("name", ["top", "lifted"])
@pytest.mark.parametrize("moved", [-1, 12])
def test_a_topic_that_lists_what_is_no_word_is_refused(name, moved):
    topics = derive(fit(SPEC, [documents(16)[0]]), ntm.Topics(top_words=4)).arrays
    forged = dataclasses.replace(topics, **{name: np.full_like(topics.top, moved)})
    with pytest.raises(InvalidBatch, match="must list words by numbers of 0 to 11"):
        forged.words(list("abcdefghijkl"), by="beta" if name == "top" else "lift")
