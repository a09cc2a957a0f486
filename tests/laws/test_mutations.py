"""Each law can fail: a deliberately broken algorithm is caught by it."""

import pytest
from subjects import EXAMPLES, SUBJECTS

from beam_ml.testing.change import FOLLOWS
from beam_ml.testing.laws import LAWS, laws_for
from beam_ml.testing.mutations import MUTATIONS, mutations_for


def cases():
    for subject in SUBJECTS:
        for mutation in mutations_for(subject.algorithm, subject.spec):
            name = f"{subject.name}-{mutation.law}-{mutation.text}".replace(" ", "_")
            yield pytest.param(subject, mutation, id=name)


@pytest.mark.parametrize(("subject", "mutation"), list(cases()))
def test_the_law_notices(subject, mutation):
    broken = mutation.mutate(subject.algorithm)
    spec = broken.spec.parse(subject.spec.to_dict())
    laws = dict(laws_for(broken, spec, subject.models, examples=EXAMPLES, rows=subject.rows, shrink=False))
    with pytest.raises(AssertionError, match=f"breaks the law '{mutation.law}'") as caught:
        laws[mutation.law]()
    assert not isinstance(caught.value.__cause__, Warning | AttributeError | NameError)  # caught, not crashed
    assert mutation.law not in FOLLOWS or isinstance(caught.value.__cause__, AssertionError)


def test_every_law_has_a_mutation_that_some_subject_undergoes():
    undergone = {m.law for subject in SUBJECTS for m in mutations_for(subject.algorithm, subject.spec)}
    assert {m.law for m in MUTATIONS} == set(LAWS)
    assert undergone == set(LAWS)
