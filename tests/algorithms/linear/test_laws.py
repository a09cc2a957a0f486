"""`linear.Newton` as an algebra: identity, order, splits, conservation, forgetting, at an anchor and cold."""

from functools import reduce

import numpy as np
import pytest
from scipy.special import expit

from beam_ml.algorithms.linear import NEWTON, Anchor, Newton, Partial
from beam_ml.core.arrays import close, identical, to_arrays
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidBatch

D = 4


def rows(n: int, seed: int, offset: float = 0.0, weighted: bool = False) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, D)) * [1.0, 0.2, 30.0, 2.0]
    y = (rng.random(n) < expit(x[:, 0] - 0.05 * x[:, 2] - 1.0)).astype(np.float64)
    return Batch.dense(x + offset, label=y, weight=rng.exponential(size=n) if weighted else None)


def anchor(offset: float = 0.0, shift: float = 0.0) -> Anchor:
    return Anchor(np.array([0.8, 0.1, -0.04, 0.05]) + shift, np.asarray(-0.9), np.full(D, offset))


def grown(spec: Newton, batch: Batch, at: Anchor | None = None) -> Partial:
    return NEWTON.accumulate(spec, NEWTON.empty(spec), batch, at)


SPECS = [
    Newton(n_features=D),
    Newton(n_features=D, positive_weight=3.5),
    Newton(n_features=D, positive_weight="balanced"),
    Newton(n_features=D, loss="squared"),
]
ANCHORS = [None, anchor()]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.loss}-{s.positive_weight}")
@pytest.mark.parametrize("at", ANCHORS, ids=["cold", "anchored"])
class TestMonoid:
    def test_empty_is_the_identity(self, spec: Newton, at: Anchor | None) -> None:
        a, none = grown(spec, rows(50, 1, weighted=True), at), NEWTON.empty(spec)
        assert identical(NEWTON.merge(spec, a, none), a)
        assert identical(NEWTON.merge(spec, none, a), a)
        assert identical(NEWTON.merge(spec, none, none), none)
        assert identical(grown(spec, rows(0, 1), at), none)

    def test_order_does_not_matter(self, spec: Newton, at: Anchor | None) -> None:
        parts = [grown(spec, rows(n, n, weighted=True), at) for n in (1, 40, 7, 300, 2)]
        forward = reduce(lambda a, b: NEWTON.merge(spec, a, b), parts)
        backward = reduce(lambda a, b: NEWTON.merge(spec, a, b), parts[::-1])
        nested = NEWTON.merge(spec, NEWTON.merge(spec, parts[0], parts[3]), reduce(
            lambda a, b: NEWTON.merge(spec, a, b), [parts[4], parts[2], parts[1]]
        ))  # fmt: skip
        assert close(forward, backward, rtol=1e-12)
        assert close(forward, nested, rtol=1e-12)

    def test_splits_do_not_matter(self, spec: Newton, at: Anchor | None) -> None:
        whole = rows(500, 3, weighted=True)
        once = grown(spec, whole, at)
        stepwise = NEWTON.empty(spec)
        for part in np.split(np.arange(500), [1, 2, 90, 300]):
            stepwise = NEWTON.accumulate(spec, stepwise, whole.take(part), at)
        merged = reduce(
            lambda a, b: NEWTON.merge(spec, a, b),
            (grown(spec, whole.take(p), at) for p in np.array_split(range(500), 37)),
        )
        assert close(once, stepwise, rtol=1e-11)
        assert close(once, merged, rtol=1e-11)

    def test_weight_is_conserved_and_nothing_is_mutated(self, spec: Newton, at: Anchor | None) -> None:
        batches = [rows(n, n, weighted=True) for n in (1, 30, 400)]
        total = sum(float(b.weights.sum()) for b in batches)
        a, b = grown(spec, batches[0], at), NEWTON.accumulate(spec, grown(spec, batches[1], at), batches[2], at)
        before = [array.tobytes() for one in (a, b) for array in to_arrays(one).values()]
        merged = NEWTON.merge(spec, a, b)
        folded = NEWTON.fold(spec, NEWTON.init(spec), merged, None)
        assert NEWTON.weight(merged) == pytest.approx(total, rel=1e-13)
        assert NEWTON.weight(folded) == pytest.approx(total, rel=1e-13)
        NEWTON.scale(spec, a, 0.5)
        assert before == [array.tobytes() for one in (a, b) for array in to_arrays(one).values()]

    def test_keeps_no_reference_to_the_batch(self, spec: Newton, at: Anchor | None) -> None:
        batch = rows(20, 5, weighted=True)
        partial = grown(spec, batch, at)
        kept = {name: array.copy() for name, array in to_arrays(partial).items()}
        batch.X[:], batch.label[:], batch.weight[:] = 7.0, 1.0, 9.0
        assert all(np.array_equal(array, kept[name]) for name, array in to_arrays(partial).items())

    def test_forgetting_is_a_weight(self, spec: Newton, at: Anchor | None) -> None:
        batch = rows(200, 6, weighted=True)
        scaled = NEWTON.scale(spec, grown(spec, batch, at), 0.25)
        lighter = grown(spec, batch.replace(weight=batch.weights * 0.25), at)
        assert close(scaled, lighter, rtol=1e-12)
        assert close(
            NEWTON.scale(spec, NEWTON.scale(spec, scaled, 0.5), 0.5), NEWTON.scale(spec, scaled, 0.25), rtol=1e-13
        )
        assert identical(NEWTON.scale(spec, scaled, 0.0), NEWTON.empty(spec))
        assert identical(NEWTON.scale(spec, scaled, 1.0), scaled)

    def test_rows_of_weight_zero_leave_no_trace(self, spec: Newton, at: Anchor | None) -> None:
        batch = rows(60, 7)
        weight = np.where(np.arange(60) % 3 == 0, 0.0, 1.0)
        assert close(grown(spec, batch.replace(weight=weight), at), grown(spec, batch.take(weight > 0), at), rtol=1e-13)
        assert identical(grown(spec, batch.replace(weight=np.zeros(60)), at), NEWTON.empty(spec))

    def test_width_is_checked(self, spec: Newton, at: Anchor | None) -> None:
        with pytest.raises(InvalidBatch, match="n_features is 4; got a batch of 3"):
            grown(spec, Batch.dense(np.zeros((2, 3)), label=np.zeros(2)), at)

    def test_float32_rows_are_summed_in_float64(self, spec: Newton, at: Anchor | None) -> None:
        batch = rows(300, 8)
        single = batch.replace(X=batch.X.astype(np.float32))
        exact = batch.replace(X=single.X.astype(np.float64))
        assert close(grown(spec, single, at), grown(spec, exact, at), rtol=1e-13)

    def test_read_only_rows_are_fine(self, spec: Newton, at: Anchor | None) -> None:
        batch = rows(30, 9)
        batch.X.flags.writeable = False
        assert NEWTON.weight(grown(spec, batch, at)) == 30.0


def test_37_shards_and_mixed_anchors_equal_one_solve_at_offset_1e8() -> None:
    spec, n = Newton(n_features=D), 6000
    batch = rows(n, 11, offset=1e8)
    anchors = [anchor(1e8, shift) for shift in (0.0, 0.03, -0.02)]
    z = batch.X - 1e8
    rng = np.random.default_rng(0)
    pick = rng.integers(0, 3, n)
    parts, gram, pull = [], np.zeros((D + 1, D + 1)), np.zeros(D + 1)
    for k, at in enumerate(anchors):
        mine = np.flatnonzero(pick == k)
        parts += [grown(spec, batch.take(p), at) for p in np.array_split(mine, (37, 5, 1)[k])]
        columns = np.column_stack([z[mine], np.ones(mine.size)])
        eta = z[mine] @ at.coefficients + float(at.intercept)
        mu = expit(eta)
        w = mu * (1 - mu)
        gram += (columns * w[:, None]).T @ columns
        pull += columns.T @ (w * eta + batch.label[mine] - mu)
    rng.shuffle(parts)
    state = reduce(lambda a, b: NEWTON.fold(spec, a, b, None), parts, NEWTON.init(spec))
    found = NEWTON.anchor(spec, state)
    wanted = np.linalg.solve(gram, pull)
    assert found.coefficients == pytest.approx(wanted[:D], rel=1e-9)
    at_offset = float(found.intercept) + float((1e8 - found.origin) @ found.coefficients)
    assert at_offset == pytest.approx(wanted[D], rel=1e-7)


def test_the_sums_are_those_of_the_definition() -> None:
    spec, batch, at = Newton(n_features=D, positive_weight=2.0), rows(3000, 12, weighted=True), anchor()
    partial = grown(spec, batch, at)
    origin = batch.X[np.lexsort(batch.X.T[::-1])[0]]
    s = batch.weights * np.where(batch.label == 1, 2.0, 1.0)
    eta = batch.X @ at.coefficients + float(at.intercept)
    mu = expit(eta)
    w = s * mu * (1 - mu)
    r = w * eta + s * (batch.label - mu)
    mean = (w @ (batch.X - origin)) / w.sum()
    z = batch.X - origin - mean
    assert np.array_equal(partial.origin, origin)
    assert partial.information[0] == pytest.approx(w.sum(), rel=1e-12)
    assert partial.mean[0] == pytest.approx(mean, rel=1e-12)
    assert partial.scatter[0] == pytest.approx((z * w[:, None]).T @ z, rel=1e-10, abs=1e-9)
    assert partial.response[0] == pytest.approx(r.sum(), rel=1e-11)
    assert partial.cross[0] == pytest.approx(z.T @ r, rel=1e-10, abs=1e-9)
    plain = batch.weights
    mean = plain @ batch.X / plain.sum()
    assert partial.mass.tolist() == pytest.approx([plain[batch.label == 0].sum(), plain[batch.label == 1].sum()])
    assert partial.origin + partial.feature_mean == pytest.approx(mean, rel=1e-10)
    assert partial.feature_scatter == pytest.approx(plain @ (batch.X - mean) ** 2, rel=1e-10)


def test_pending_rows_are_all_there_in_one_order() -> None:
    spec = Newton(n_features=2)
    x = np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 3.0], [0.0, 1.0]])
    batch = Batch.dense(x, label=[1.0, 1.0, 0.0, 1.0], weight=[3.0, 1.0, 1.0, 2.0])
    forward = grown(spec, batch)
    backward = grown(spec, batch.take(np.arange(4)[::-1]))
    assert close(forward, backward, rtol=0, atol=0)
    twin = forward.pending_label == 1.0
    assert forward.pending_weight[twin].tolist() == [1.0, 2.0, 3.0]


def test_saturated_rows_keep_some_information() -> None:
    spec = Newton(n_features=1)
    at = Anchor(np.array([1.0]), np.asarray(0.0), np.zeros(1))
    partial = grown(spec, Batch.dense([[800.0], [-900.0]], label=[1, 0]), at)
    assert partial.information[0] > 0
    assert all(np.isfinite(array).all() for array in to_arrays(partial).values() if array.dtype.kind == "f")
