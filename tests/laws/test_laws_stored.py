"""The laws of storage, through the artefacts that the library really writes."""

import dataclasses
from functools import partial

import pytest
from subjects import EXAMPLES, SUBJECTS

from beam_ml.algorithms import find
from beam_ml.artefact.records import (
    decode_accumulation,
    decode_learner,
    decode_model,
    encode_accumulation,
    encode_learner,
    encode_model,
)
from beam_ml.core import accumulation, learner
from beam_ml.core.accumulation import Part
from beam_ml.core.decay import AsOf
from beam_ml.core.model import Model
from beam_ml.core.progress import Progress
from beam_ml.testing import ARRAYS, Codec
from beam_ml.testing.laws import laws_for


def artefacts(subject, spec):
    """States as learners, partials as accumulations, models as models; anchors travel inside learners."""
    algorithm = subject.algorithm
    model_specs = {algorithm.models[m.kind].model: m for m in subject.models} or {
        kind.model: kind.spec() for kind in algorithm.models.values()
    }

    def encode(value):
        if type(value) is algorithm.state:
            return encode_learner(algorithm, learner.new(algorithm, spec).replace(dated=AsOf(value)))
        if type(value) is algorithm.partial:
            part = Part(AsOf(value), Progress())
            held = dataclasses.replace(accumulation.empty(spec), parts={accumulation.COLD: part})
            return encode_accumulation(algorithm, spec, held)
        if type(value) in model_specs:
            return encode_model(algorithm, Model(spec, model_specs[type(value)], value))
        return ARRAYS.encode(value)

    def decode(kind, data):
        if kind is algorithm.state:
            return decode_learner(data, find).state
        if kind is algorithm.partial:
            return decode_accumulation(data, find)[1].parts[accumulation.COLD].dated.summary
        if kind in model_specs:
            return decode_model(data, find).arrays
        return ARRAYS.decode(kind, data)

    return Codec(encode, decode)


@pytest.mark.parametrize("name", ["codec", "resume"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=[subject.name for subject in SUBJECTS])
def test_law_holds_through_artefacts(subject, name):
    dict(laws_for(*subject.arguments, codec=partial(artefacts, subject), examples=EXAMPLES, rows=subject.rows))[name]()
