"""Laws of models: derive leaves the state alone; a prediction belongs to its row."""

import numpy as np

from beam_ml.core import metrics
from beam_ml.core.arrays import close
from beam_ml.testing.subject import Scenario, Subject, difference, digest, require, sample_of

__all__ = ["derive_pure", "predictions"]


def derive_pure(subject: Subject) -> None:
    """Derive, predict and measure leave state, sample, model and batch alone; any number of models can be derived."""

    def check(case: Scenario) -> None:
        state = subject.fold(case.state, subject.accumulate(case.batches, case.anchor), case.batches)
        sample = sample_of(case.batches)
        before = digest(state, sample)
        models = subject.models(state, sample)
        require(digest(state, sample) == before, "derive changed the state or the sample")
        for kind, _, model in models:
            for batch in case.batches:
                held = digest(model, batch)
                kind.predict(model, batch)
                kind.measure(model, batch)
                require(digest(model, batch) == held, "predict or measure changed the model or the batch")
        require(digest(state, sample) == before, "predict or measure changed the state")

    subject.examine(subject.scenarios(count=2), check)


def predictions(subject: Subject) -> None:
    """Each row has one finite entry under each name, whatever batch it comes in; measures of parts add up."""
    rtol = max(subject.law.rtol, 1e-9)

    def check(case: Scenario) -> None:
        state = subject.fold(case.state, subject.accumulate(case.batches, case.anchor), case.batches)
        rows = case.rows
        for kind, _, model in subject.models(state, sample_of(case.batches)):
            whole = kind.predict(model, rows)
            parts = [kind.predict(model, batch) for batch in case.batches]
            for name, values in whole.items():
                require(values.shape[:1] == (len(rows),), f"{name} has shape {values.shape} for {len(rows)} rows")
                require(bool(np.isfinite(values).all()), f"{name} is not finite")
                joined = np.concatenate([part[name] for part in parts])
                span = float(np.max(np.abs(values))) if values.size else 0.0
                alike = np.allclose(joined, values, rtol=rtol, atol=rtol * span + 1e-9)
                require(alike, f"{name} of a row depends on its batch")
            total = kind.measure(model, rows)
            added = kind.measure(model, case.world.batch(subject.spec, 0))
            for batch in case.batches:
                added = metrics.merge(added, kind.measure(model, batch))
            require(
                close(added, total, rtol=1e-6, atol=1e-6),
                f"measures of parts do not add up: {difference(added, total)}",
            )

    subject.examine(subject.scenarios(count=3), check)
