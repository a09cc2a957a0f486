"""`Model`: what `derive` returns: the arrays of one algorithm's model with the specs it came from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from beam_ml.core.coefficients import Coefficients, coefficients_of
from beam_ml.core.labels import Pair, rule
from beam_ml.core.spec import ModelSpec, Spec

__all__ = ["Model"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Small and immutable; any number come from one learner.

    Attributes:
        spec: of the learner it was derived from; names the algorithm.
        model_spec: what was chosen at derive.
        arrays: the algorithm's model record.
        facts: plain JSON values about it: refresh number, rows, trained through, the features that make its
            batches, the two numbers that stood for the classes 0 and 1 (`labels`) if they were others, and the `names` of
            the features.

    >>> from beam_ml import Batch, derive, fit, pca
    >>> learner = fit(pca.Spec(n_features=2), [Batch.dense([[1.0, 2.0], [3.0, 4.0]])])
    >>> model = derive(learner, pca.Components(n_components=1))
    >>> model, model.model_spec.n_components, model.facts["rows"]
    (Model(pca, components), 1, 2)
    """

    spec: Spec
    model_spec: ModelSpec
    arrays: Any
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the features, in their order; None: unknown."""
        names = self.facts.get("names")
        return None if names is None else tuple(names)

    @property
    def labels(self) -> Pair | None:
        """The two numbers that stood for the classes 0 and 1 in the rows learned from; None: 0 and 1 themselves."""
        written = self.facts.get("labels")
        return None if written is None else (written[0], written[1])

    @property
    def coefficients(self) -> Coefficients:
        """The coefficients and the intercept of a linear model, in the units of the features, by name.

        A model derived with errors, such as `linear.RegressorWithErrors`, has their standard errors besides.

        Raises:
            InvalidValue: the model is not linear.

        >>> from beam_ml import Batch, derive, fit, linear
        >>> rows = Batch.dense([[0.0], [1.0], [2.0]], label=[1.0, 3.0, 5.0])
        >>> model = derive(fit(linear.Newton(n_features=1, loss="squared"), rows), "regressor")
        >>> round(model.coefficients["x0"], 6)
        2.0
        """
        return coefficients_of(self.arrays, self.names, f"{self.spec.algorithm} {self.model_spec.kind}")

    def __repr__(self) -> str:
        coded = f", {rule(self.labels)}" if self.labels else ""
        return f"Model({self.spec.algorithm}, {self.model_spec.kind}{coded})"
