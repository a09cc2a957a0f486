"""Every law of an algorithm as a test that anybody can run: one call checks them all.

>>> from beam_ml.algorithms import pca
>>> check_algorithm(pca.PCA, pca.Spec(n_features=2), models=[pca.Components(n_components=1)], examples=3)

Which laws apply follows from what the algorithm declares (`Algorithm.law`); there is no list of exceptions.
An algorithm that cannot keep a law declares a weaker one. Laws over drawn cases are checked at 1, 2, 3 and 5 features
besides those of the spec, at two of them without origin and position.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from beam_ml.core.algorithm import Algorithm, Law, LawKind
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.core.threads import one_thread
from beam_ml.testing import (
    algebra,
    bounds,
    change,
    forgetting,
    gathering,
    given,
    growth,
    guarantee,
    hygiene,
    quality,
    removal,
    repeats,
    serving,
)
from beam_ml.testing.codec import ARRAYS, Codec
from beam_ml.testing.strategies import Rows
from beam_ml.testing.subject import Subject, additive

__all__ = ["LAWS", "applies", "check_algorithm", "laws_for"]

Check = Callable[[Subject], None]

LAWS: Mapping[str, Check] = MappingProxyType(
    {
        "identity": algebra.identity,
        "commutative": algebra.commutative,
        "associative": algebra.associative,
        "conservation": algebra.conservation,
        "homomorphism": algebra.homomorphism,
        "state is partial": algebra.state_is_partial,
        "sketch bound": algebra.sketch_bound,
        "guarantee": guarantee.guarantee,
        "bounded": bounds.bounded,
        "copies": bounds.copies,
        "forgotten": bounds.forgotten,
        "order-free": gathering.order_free,
        "capacity": gathering.capacity,
        "thinned rows": gathering.thinned,
        "learns": gathering.learns,
        "anchors": algebra.anchors,
        "shards": quality.shards,
        "decay": forgetting.decay,
        "half-life": forgetting.half_life,
        "zero weight": forgetting.zero_weight,
        "integer weight": forgetting.integer_weight,
        "any width": given.widths,
        "nameless rows": given.nameless,
        "full precision": given.precise,
        "hashed": given.hashed,
        "purity": hygiene.purity,
        "ownership": hygiene.ownership,
        "growth": growth.growth,
        "removal": removal.removal,
        "determinism": hygiene.determinism,
        "stability": hygiene.stability,
        "codec": hygiene.codec,
        "resume": hygiene.resume,
        "fingerprint": hygiene.fingerprint,
        "ships small": hygiene.ships_small,
        "no recompilation": hygiene.recompilation,
        "derive is pure": serving.derive_pure,
        "predictions": serving.predictions,
        "measures weigh": given.weighed,
        "same rows, same model": repeats.same_model,
        **change.FOLLOWS,
    }
)
"""Name → law; a law's docstring states it."""

_ONLY_FOR: Mapping[str, Callable[[Law], bool]] = MappingProxyType(
    {
        "homomorphism": additive,
        "half-life": additive,
        "integer weight": additive,
        "state is partial": lambda law: law.kind in (LawKind.EXACT, LawKind.SKETCH),
        "sketch bound": lambda law: law.kind is LawKind.SKETCH,
        "guarantee": lambda law: law.kind is LawKind.SKETCH and law.guarantee is not None,
        "copies": lambda law: law.kind is LawKind.SKETCH,
        "forgotten": lambda law: law.kind is LawKind.SKETCH,
        "full precision": additive,
        "hashed": lambda law: law.kind is LawKind.GATHERED,
        "order-free": lambda law: law.kind is LawKind.GATHERED,
        "capacity": lambda law: law.kind is LawKind.GATHERED,
        "thinned rows": lambda law: law.kind is LawKind.GATHERED,
        "learns": lambda law: law.kind is LawKind.GATHERED,
        "anchors": lambda law: law.kind is LawKind.ANCHORED,
        "shards": lambda law: law.kind is LawKind.ANCHORED and law.bound > 0.0,
        "merged regions": lambda law: law.kind is not LawKind.GATHERED,
    }
)


def applies(name: str, algorithm: Algorithm, spec: Spec) -> bool:
    """Return whether what an algorithm declares for a spec includes this law."""
    if name in change.LABELLED and spec.label_target == "none":
        return False
    if name in change.OF_NUMBERS and spec.feature_rule == "category":
        return False
    if name == "removal" and algorithm.remove is None:
        return False
    return name not in _ONLY_FOR or _ONLY_FOR[name](algorithm.law(spec))


def laws_for(
    algorithm: Algorithm,
    spec: Spec,
    models: Iterable[ModelSpec] = (),
    *,
    codec: Codec | Callable[[Spec], Codec] = ARRAYS,
    examples: int = 20,
    sparse: bool = False,
    rows: Rows | None = None,
    shrink: bool = True,
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Return the laws that an algorithm declares, each as a function to call: parametrise a test with them.

    Args:
        algorithm: the record.
        spec: one spec; small sizes keep the run short.
        models: model specs to derive; none: each kind of model with its defaults.
        codec: how records become bytes; a function of the spec where bytes say whose they are.
        examples: cases drawn for each law; the same ones every time.
        sparse: feed CSR batches instead of dense ones.
        rows: makes of rows as the laws draw them, numbers side by side, those that the algorithm takes.
        shrink: look for the smallest counterexample of a broken law.

    Yields:
        Name and a function that raises AssertionError, naming the law, if it does not hold.

    >>> from beam_ml.testing.examples.outliers import OUTLIERS, Spec
    >>> laws = dict(laws_for(OUTLIERS, Spec(n_features=2), examples=2))
    >>> laws["commutative"]()
    >>> "anchors" in laws  # this algorithm has none
    False
    """
    subject = Subject(algorithm, spec, tuple(models), codec, examples, sparse, rows, shrink)
    others = tuple(subject.at_other_widths())
    for name, check in LAWS.items():
        if applies(name, subject.algorithm, subject.spec):
            yield name, _named(name, check, subject, others)


def _named(name: str, check: Check, subject: Subject, others: Sequence[Subject]) -> Callable[[], None]:
    def law() -> None:
        before = len(subject.drawn)
        _checked(name, check, subject, "")
        for other in others if len(subject.drawn) > before else ():
            _checked(name, check, other, f" at n_features = {other.spec.n_features}")

    law.__doc__ = check.__doc__
    return law


def _checked(name: str, check: Check, subject: Subject, where: str) -> None:
    try:
        with one_thread():  # small cases: threads would wait for each other far longer than they compute
            check(subject)
    except Exception as error:
        message = f"{subject.algorithm.name} breaks the law {name!r}{where}: {type(error).__name__}: {error}"
        raise AssertionError(message) from error


def check_algorithm(
    algorithm: Algorithm,
    spec: Spec,
    models: Iterable[ModelSpec] = (),
    *,
    codec: Codec | Callable[[Spec], Codec] = ARRAYS,
    examples: int = 20,
    sparse: bool = False,
    rows: Rows | None = None,
    shrink: bool = True,
) -> None:
    """Check every law that an algorithm declares; the arguments are those of `laws_for`.

    Raises:
        AssertionError: a law does not hold; the message names it.

    >>> from beam_ml.testing.examples.outliers import OUTLIERS, Spec
    >>> import dataclasses
    >>> careless = dataclasses.replace(OUTLIERS, merge=lambda spec, a, b: a)  # drops b
    >>> check_algorithm(careless, Spec(n_features=2))
    Traceback (most recent call last):
    AssertionError: ...OUTLIERS breaks the law 'identity': ...
    """
    for _, law in laws_for(
        algorithm, spec, models, codec=codec, examples=examples, sparse=sparse, rows=rows, shrink=shrink
    ):
        law()
