"""Laws over drawn cases hold at other widths than the one of the spec under test, or they say at which they do not."""

import dataclasses
from typing import Any

import pytest
from toy_mean import TOY_MEAN, MeanSpec

from beam_ml import kmeans, pca
from beam_ml.errors import InvalidValue
from beam_ml.testing import laws_for
from beam_ml.testing.faults_given import half_at, needs_places


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("law", ["conservation", "half-life"])
def test_what_fails_at_one_width_alone_is_noticed(width: int, law: str) -> None:
    def scale(spec: Any, summary: Any, factor: float) -> Any:
        return TOY_MEAN.scale(spec, summary, factor if spec.n_features != width else factor**2)

    broken = dataclasses.replace(TOY_MEAN, accumulate=half_at(width)(TOY_MEAN), scale=scale)
    laws = dict(laws_for(broken, MeanSpec(n_features=4), examples=6, shrink=False))
    with pytest.raises(AssertionError, match=rf"breaks the law '{law}' at n_features = {width}: "):
        laws[law]()


@pytest.mark.parametrize("law", ["commutative", "zero weight", "growth"])
def test_rows_without_names_are_among_those_drawn(law: str) -> None:
    broken = dataclasses.replace(TOY_MEAN, accumulate=needs_places(TOY_MEAN), grow=None)
    laws = dict(laws_for(broken, MeanSpec(n_features=4), shrink=False))
    with pytest.raises(AssertionError, match=rf"breaks the law '{law}' at n_features = 2: "):
        laws[law]()


class _Pairs(MeanSpec):
    """Features come in pairs."""

    def model_post_init(self, context: Any) -> None:
        if self.n_features % 2:
            message = f"_Pairs.n_features must be even; got {self.n_features}."
            raise InvalidValue(message)


def test_a_width_that_the_spec_refuses_is_left_out() -> None:
    def merge(spec: Any, a: Any, b: Any) -> Any:
        assert spec.n_features in (2, 4)
        return TOY_MEAN.merge(spec, a, b)

    pairs = dataclasses.replace(TOY_MEAN, spec=_Pairs, merge=merge)
    laws = dict(laws_for(pairs, _Pairs(n_features=4), examples=4))
    for name in ("identity", "commutative", "any width"):
        laws[name]()


def test_a_model_that_a_narrow_width_cannot_give_breaks_no_law() -> None:
    """Three components of one feature are refused, and nobody asked for one feature."""
    laws = dict(laws_for(pca.PCA, pca.Spec(n_features=4), [pca.Components(n_components=3)], examples=4))
    for name in ("predictions", "stability", "determinism"):
        laws[name]()
    narrow = dict(laws_for(pca.PCA, pca.Spec(n_features=1), [pca.Components(n_components=3)], examples=4))
    with pytest.raises(AssertionError, match=r"breaks the law 'predictions': .*Components is refused"):
        narrow["predictions"]()


def test_laws_that_draw_nothing_are_checked_once() -> None:
    widths = []

    def accumulate(spec: Any, partial: Any, batch: Any, anchor: Any) -> Any:
        widths.append(spec.n_features)
        return kmeans.KMEANS.accumulate(spec, partial, batch, anchor)

    broken = dataclasses.replace(kmeans.KMEANS, accumulate=accumulate)
    laws = dict(laws_for(broken, kmeans.Spec(n_features=4, k_max=3), [kmeans.Clusters(k=2)], examples=4))
    laws["copies"]()
    assert set(widths) == {4}
    laws["commutative"]()
    assert set(widths) == {1, 2, 3, 4, 5}
