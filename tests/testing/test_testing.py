"""The library of laws itself: what it draws, what it says, and that its own instruments work."""

import dataclasses

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subjects import SUBJECTS
from toy_mean import TOY_MEAN, MeanSpec, MeanState
from toy_sample import TOY_SAMPLE, SampleSpec
from toy_sgd import TOY_SGD, SgdSpec

from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import identical, to_arrays
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidValue
from beam_ml.testing import ARRAYS, LAWS, Codec, check_algorithm, laws_for
from beam_ml.testing.change import LABELLED
from beam_ml.testing.strategies import World, splits, worlds
from beam_ml.testing.subject import Subject, arrays_of, difference, digest

BY_NAME = {subject.name: subject for subject in SUBJECTS}


def law_names(subject):
    return {name for name, _ in laws_for(*subject.arguments)}


def test_one_call_checks_an_algorithm():
    check_algorithm(TOY_MEAN, MeanSpec(n_features=1), examples=3)


def test_a_broken_law_is_named_with_the_equation_and_a_small_counterexample():
    forgetful = dataclasses.replace(
        TOY_MEAN, merge=lambda spec, a, b: TOY_MEAN.scale(spec, TOY_MEAN.merge(spec, a, b), 0.5)
    )
    with pytest.raises(
        AssertionError, match=r"^toy_mean:TOY_MEAN breaks the law 'identity': .*merge\(empty, p\) = p"
    ) as caught:
        check_algorithm(forgetful, MeanSpec(n_features=1))
    assert any("1 rows of float64" in note for note in caught.value.__cause__.__notes__)


def test_an_algorithm_that_crashes_breaks_the_law_it_crashes_in():
    def merge(spec, a, b):
        return a.nothing

    with pytest.raises(AssertionError, match=r"breaks the law 'identity': AttributeError: .*'nothing'"):
        check_algorithm(dataclasses.replace(TOY_MEAN, merge=merge), MeanSpec(n_features=1))


def declared(subject):
    names = law_names(subject)
    assert ("removal" in names) is (subject.algorithm.remove is not None)
    return names - {"removal"}


def test_the_laws_follow_from_what_the_algorithm_declares():
    additive = {"homomorphism", "half-life", "integer weight", "full precision"}
    sketch = {"state is partial", "sketch bound", "copies", "forgotten"}
    gathered = {"order-free", "capacity", "thinned rows", "learns", "hashed"}
    special = additive | sketch | gathered | LABELLED | {"guarantee", "anchors", "shards", "merged regions"}
    special |= {"removal"}
    common = set(LAWS) - special
    merges = common | {"merged regions"}
    labelled = merges | LABELLED
    assert declared(BY_NAME["pca"]) == merges | additive | {"state is partial"}
    assert declared(BY_NAME["kmeans"]) == merges | sketch
    assert declared(BY_NAME["pca_sketch"]) == merges | sketch | {"guarantee"}
    assert declared(BY_NAME["squared"]) == labelled | additive | {"state is partial"}
    assert declared(BY_NAME["logistic"]) == labelled | additive | {"anchors"}
    assert declared(BY_NAME["toy_sgd"]) == labelled | {"anchors"}
    assert declared(BY_NAME["adagrad"]) == labelled | {"anchors", "shards"}
    assert declared(BY_NAME["fm"]) == labelled | {"anchors", "shards"}
    assert declared(BY_NAME["toy_sample"]) == common | gathered
    assert all(law.__doc__ for law in LAWS.values())


def test_a_kind_of_model_without_defaults_needs_a_model_spec():
    case = BY_NAME["pca"]
    with pytest.raises(AssertionError, match=r"pca\.Components\.n_components must be given"):
        check_algorithm(case.algorithm, case.spec, examples=2)


def test_a_refused_model_of_a_state_with_rows_breaks_a_law():
    case = BY_NAME["pca"]
    wide = case.models[0].model_copy(update={"n_components": 99})
    with pytest.raises(AssertionError, match="Components is refused although the state has rows"):
        check_algorithm(case.algorithm, case.spec, [wide])


def test_the_given_codec_is_the_one_checked():
    def lossy(kind, data):
        value = ARRAYS.decode(kind, data)
        return kind(**{name: array.astype(np.float32).astype(np.float64) for name, array in to_arrays(value).items()})

    laws = dict(laws_for(TOY_MEAN, MeanSpec(n_features=2), codec=Codec(ARRAYS.encode, lossy)))
    for name in ("codec", "resume"):
        with pytest.raises(AssertionError, match=f"breaks the law '{name}'"):
            laws[name]()


def test_unstable_bytes_break_the_codec_law():
    calls = iter(range(10**6))
    padded = Codec(
        lambda value: ARRAYS.encode(value) + bytes([next(calls) % 256]),
        lambda kind, data: ARRAYS.decode(kind, data[:-1]),
    )
    laws = dict(laws_for(TOY_MEAN, MeanSpec(n_features=2), codec=padded))
    with pytest.raises(AssertionError, match="has other bytes when stored again"):
        laws["codec"]()


def test_strided_arrays_and_scalars_survive_the_default_codec():
    strided = MeanState(weight=np.array(2.5), mean=np.arange(6.0)[::2])
    assert identical(ARRAYS.decode(MeanState, ARRAYS.encode(strided)), strided)
    assert ARRAYS.encode(strided) == ARRAYS.encode(MeanState(weight=np.array(2.5), mean=np.array([0.0, 2.0, 4.0])))


def test_a_real_kernel_that_specialises_on_the_batch_is_noticed():
    @numba.njit
    def total(values):
        return values.size

    def accumulate(spec, partial, batch, anchor):
        total(np.zeros((1,) * (1 + len(batch) % 3)))  # another number of axes is another compilation
        return TOY_MEAN.accumulate(spec, partial, batch, anchor)

    def steady(spec, partial, batch, anchor):
        total(batch.dense_x)
        return TOY_MEAN.accumulate(spec, partial, batch, anchor)

    spec = MeanSpec(n_features=2)
    dict(laws_for(dataclasses.replace(TOY_MEAN, accumulate=steady), spec))["no recompilation"]()
    careless = dataclasses.replace(TOY_MEAN, accumulate=accumulate)
    with pytest.raises(AssertionError, match=r"a second, ragged batch compiled .*total"):
        dict(laws_for(careless, spec))["no recompilation"]()


def test_scenarios_reach_what_streams_bring():
    seen = set()

    def look(case):
        seen.add("warm" if case.anchor is not None else "cold")
        seen.add(f"offset {case.world.offset:g}")
        seen.add(case.world.form)
        seen.add(f"{len(case.batches)} batches")
        for batch in case.batches:
            seen.add(str(batch.dense_x.dtype))
            seen.add("no rows" if len(batch) == 0 else "one row" if len(batch) == 1 else "rows")
            seen.add("large" if len(batch) >= 100 else "small")
            if batch.weight is None:
                seen.add("unweighted")
            elif len(batch):
                seen.add(
                    "all zero" if not batch.weight.any() else "some zero" if not batch.weight.all() else "weighted"
                )

    subject = Subject(TOY_SGD, SgdSpec(n_features=2), (), examples=200)
    subject.examine(subject.scenarios(), look)
    assert seen >= {
        "warm", "cold", "offset 0", "offset 1", "offset 1000", "offset 1e+08", "normal", "integers", "duplicates",
        "constant columns", "0 batches", "1 batches", "4 batches", "float32", "float64", "no rows", "one row", "rows",
        "large", "small", "unweighted", "all zero", "some zero", "weighted",
    }  # fmt: skip


def test_even_few_examples_meet_anchors_empties_weights_and_offsets():
    seen = set()

    def look(case):
        seen.add("warm" if case.anchor is not None else "cold")
        seen.add("far" if case.world.offset >= 1e8 else "near")
        seen.update("empty" if len(batch) == 0 else "filled" for batch in case.batches)
        seen.update("zeros" for batch in case.batches if len(batch) and not batch.weights.all())

    subject = Subject(TOY_SGD, SgdSpec(n_features=2), (), examples=20)
    subject.examine(subject.scenarios(count=2), look)
    assert seen == {"warm", "cold", "far", "near", "empty", "filled", "zeros"}


def test_a_world_repeats_itself_and_knows_the_label():
    world, spec = World(seed=1, offset=5.0), SgdSpec(n_features=3)
    one, again, other = world.batch(spec, 9, 4), world.batch(spec, 9, 4), world.batch(spec, 9, 5)
    assert digest(one) == digest(again) != digest(other)
    assert one.label is not None
    assert World().batch(MeanSpec(n_features=3), 9).label is None

    class Classes(MeanSpec):
        label_rule = "class"

        @property
        def n_label_classes(self):
            return 3

    assert set(World().batch(Classes(n_features=3), 500).label) == {0.0, 1.0, 2.0}


def test_constant_columns_and_duplicates_are_what_they_say():
    spec = MeanSpec(n_features=4)
    constant = World(form="constant columns", offset=10.0).batch(spec, 50).dense_x
    assert (np.ptp(constant, axis=0) == 0).tolist() == [True, False, True, False]
    repeated = World(form="duplicates").batch(spec, 150).dense_x
    assert len(np.unique(repeated, axis=0)) < 60
    assert len(np.unique(World(form="one row").batch(spec, 20).dense_x, axis=0)) == 1


def test_a_sparse_world_gives_csr_rows():
    batch = World(sparse=True).batch(MeanSpec(n_features=6), 40)
    assert not batch.is_dense
    assert 0 < batch.values.size < 240
    assert (batch.values != 0).all()


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.data())
def test_splits_join_to_the_whole(data):
    whole = data.draw(worlds()).batch(SgdSpec(n_features=2), 20)
    pieces = data.draw(splits(whole))
    assert digest(Batch.concat(pieces)) == digest(whole)


def test_digest_sees_value_shape_dtype_and_name():
    a = {"x": np.zeros(2), "y": np.ones((1, 2))}
    others = [
        {**a, "x": np.array([0.0, -0.0])},
        {**a, "y": np.ones((2, 1))},
        {**a, "x": np.zeros(2, int)},
        {"z": a["x"], "y": a["y"]},
    ]
    assert len({digest(a), *map(digest, others)}) == 5
    assert digest(None) == digest()
    assert [name for name, _ in arrays_of(Batch.dense(np.ones((1, 1)), weight=[1]))] == ["X", "weight"]


def test_the_difference_names_the_field_that_broke_the_tolerance():
    def state(weight, *mean):
        return MeanState(weight=np.array(weight), mean=np.array(mean))

    assert (
        difference(state(1.0, 2.0), state(1.0 + 1e-15, 3.0), 1e-9)
        == "mean differs by 1 where the largest magnitude is 2"
    )
    assert difference(state(1.0, 2.0), state(1.0, 2.0, 2.0)) == "mean has shape (1,) and (2,)"
    assert difference(state(1.0, 0.0), state(1.0, -0.0)) == "nothing but signs of zero"
    assert difference(state(1.0, np.nan), state(1.0, 0.0), 1.0).startswith("mean differs by nan")
    assert difference(state(1.0, 2.0), TOY_SGD.init(SgdSpec(n_features=1))) == "MeanState is not SgdState"
    sample = TOY_SAMPLE.init(SampleSpec(n_features=1))
    assert difference(sample, sample) == "nothing but signs of zero"


def test_subjects_are_records_of_the_contract():
    assert all(isinstance(subject.algorithm, Algorithm) for subject in SUBJECTS)
    with pytest.raises(InvalidValue):
        MeanSpec(n_features=0)


def test_sparse_rows_reach_the_algorithm():
    case = BY_NAME["pca"]
    with pytest.raises(AssertionError, match=r"InvalidBatch: This algorithm takes dense features; got a CSR batch\."):
        check_algorithm(*case.arguments, sparse=True)


def test_a_jitted_function_with_a_growing_cache_is_noticed():
    class Jitted:
        """Counts what it has compiled as jax does."""

        def __init__(self):
            self.shapes = set()

        def __call__(self, x):
            self.shapes.add(x.shape)
            return x

        def _cache_size(self):
            return len(self.shapes)

    jitted = Jitted()

    def accumulate(spec, partial, batch, anchor):
        jitted(batch.dense_x)
        return TOY_MEAN.accumulate(spec, partial, batch, anchor)

    careless = dataclasses.replace(TOY_MEAN, accumulate=accumulate)
    with pytest.raises(AssertionError, match=r"a second, ragged batch compiled .*jitted"):
        dict(laws_for(careless, MeanSpec(n_features=2)))["no recompilation"]()


def test_an_anchored_algorithm_that_never_gives_an_anchor_is_noticed():
    def never(spec, state):
        return None

    with pytest.raises(AssertionError, match="a state that has seen 6000 rows has an anchor"):
        check_algorithm(dataclasses.replace(TOY_SGD, anchor=never), SgdSpec(n_features=1))
