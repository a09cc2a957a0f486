import numpy as np
import pytest

from beam_ml.algorithms import pca
from beam_ml.core.admit import admit
from beam_ml.core.batch import Batch
from beam_ml.core.limits import Limits
from beam_ml.core.spec import Spec
from beam_ml.errors import InvalidBatch

UNLABELLED = pca.Spec(n_features=2)


class Two(Spec):
    algorithm: str = "two"
    label_rule = "class"

    @property
    def n_label_classes(self) -> int:
        return 2


class Five(Two):
    @property
    def n_label_classes(self) -> int:
        return 5


class Real(Spec):
    algorithm: str = "real"
    label_rule = "real"


def reasons(rejected: dict[str, np.ndarray]) -> dict[str, list[int]]:
    return {reason: rows.tolist() for reason, rows in rejected.items()}


def test_good_rows_pass_untouched() -> None:
    batch = Batch.dense([[1.0, 2.0]])
    good, rejected, _ = admit(UNLABELLED, batch)
    assert good is batch
    assert rejected == {}


def test_non_finite_features_dense_and_sparse() -> None:
    good, rejected, _ = admit(UNLABELLED, Batch.dense([[1.0, np.nan], [1.0, 1.0], [np.inf, 0.0], [-np.inf, np.inf]]))
    assert reasons(rejected) == {"non-finite feature": [0, 2, 3]}
    assert good.dense_x.tolist() == [[1.0, 1.0]]
    sparse = Batch.csr([0, 1, 1, 3], [0, 0, 1], [np.nan, 1.0, np.inf], 2)
    assert reasons(admit(UNLABELLED, sparse)[1]) == {"non-finite feature": [0, 2]}


def test_finite_values_whose_squares_overflow_pass_where_they_may_be_large() -> None:
    batch = Batch.dense(np.array([[1e30, -1e30], [1.0, 1.0]], dtype=np.float32))
    assert admit(UNLABELLED, batch)[1] == {}
    assert admit(UNLABELLED, Batch.dense([[1e30, -1e30], [1.0, 1.0]]))[1] == {}


def test_large_values_are_rejected_by_column() -> None:
    batch = Batch.dense([[1.7e308, 0.0], [1.0, -1.001e30], [1.0, 1.0], [1e200, 1e31], [np.nan, 1e300]])
    good, rejected, _ = admit(UNLABELLED, batch, names=["amount"])
    assert reasons(rejected) == {
        "non-finite feature": [4],
        "feature amount beyond 1e+30": [0, 3],
        "feature 1 beyond 1e+30": [1],
    }
    assert good.dense_x.tolist() == [[1.0, 1.0]]
    sparse = Batch.csr([0, 1, 1, 3], [0, 0, 1], [1.0, 5.0, -1e40], 2)
    assert reasons(admit(UNLABELLED, sparse)[1]) == {"feature 1 beyond 1e+30": [2]}
    assert reasons(admit(UNLABELLED, sparse, Limits(feature=4.0))[1]) == {"feature 0 beyond 4": [2]}


def test_large_labels_are_rejected_where_labels_are_numbers() -> None:
    batch = Batch.dense(np.zeros((3, 1)), label=[1e308, -1e31, 1e30])
    assert reasons(admit(Real(n_features=1), batch)[1]) == {"label beyond 1e+30": [0, 1]}


def test_weights_too_small_for_their_digits_are_rejected() -> None:
    batch = Batch.dense(np.zeros((4, 2)), weight=[5e-324, 9e-101, 1.01e-100, 0.0])
    assert reasons(admit(UNLABELLED, batch)[1]) == {"weight below 1e-100": [0, 1]}


@pytest.mark.parametrize(
    ("spec", "label", "expected"),
    [
        (Two(n_features=1), [0, 1, 2, np.nan, 0.5, -1], {"missing label": [3], "label outside {0, 1}": [2, 4, 5]}),
        (Five(n_features=1), [0, 4, 5, np.nan, 0.5, -1], {"missing label": [3], "label outside 0 … 4": [2, 4, 5]}),
        (Real(n_features=1), [0, 1, np.inf, np.nan, 0.5, -1], {"missing label": [3], "label is infinite": [2]}),
    ],
)
def test_labels(spec: Spec, label: list[float], expected: dict[str, list[int]]) -> None:
    assert reasons(admit(spec, Batch.dense(np.zeros((6, 1)), label=label))[1]) == expected


def test_a_batch_without_labels_where_they_are_needed() -> None:
    assert reasons(admit(Two(n_features=1), Batch.dense(np.zeros((2, 1))))[1]) == {"missing label": [0, 1]}


def test_weights() -> None:
    batch = Batch.dense(np.zeros((4, 2)), weight=[0.0, -1.0, np.nan, np.inf])
    good, rejected, _ = admit(UNLABELLED, batch)
    assert reasons(rejected) == {"weight not in [0, inf)": [1, 2, 3]}
    assert len(good) == 1


def test_a_weight_beside_which_others_vanish_is_refused() -> None:
    batch = Batch.dense(np.zeros((5, 2)), weight=[1e9, 1.001e9, 1e16, 1e300, 0.0])
    good, rejected, _ = admit(UNLABELLED, batch)
    assert reasons(rejected) == {"weight above 1e+09": [1, 2, 3]}
    assert good.weights.tolist() == [1e9, 0.0]
    both = Batch.dense(np.zeros((3, 2)), weight=[np.inf, 1e300, 2.0])
    assert reasons(admit(UNLABELLED, both)[1]) == {"weight not in [0, inf)": [0], "weight above 1e+09": [1]}


def test_a_row_with_several_faults_counts_once() -> None:
    batch = Batch.dense([[np.nan, 0.0]], weight=[-1.0])
    assert reasons(admit(UNLABELLED, batch)[1]) == {"non-finite feature": [0]}


def test_width() -> None:
    with pytest.raises(InvalidBatch, match="n_features is 2; got a batch of 3"):
        admit(UNLABELLED, Batch.dense(np.zeros((1, 3))))
