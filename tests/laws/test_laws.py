"""Every law × every algorithm, those of the package and those defined outside it."""

import pytest
from subjects import EXAMPLES, SUBJECTS

from beam_ml.algorithms import ALGORITHMS
from beam_ml.testing.laws import laws_for


def cases():
    for subject in SUBJECTS:
        for name, law in laws_for(*subject.arguments, examples=EXAMPLES, rows=subject.rows):
            yield pytest.param(law, id=f"{subject.name}-{name.replace(' ', '_')}")


@pytest.mark.parametrize("law", list(cases()))
def test_law_holds(law):
    law()


def test_no_algorithm_of_the_package_is_left_out():
    assert {subject.algorithm.name for subject in SUBJECTS} >= set(ALGORITHMS)
