"""Terms of a job's features that a trained model completes: read once, from then on as the job's first version has them.

Instead of the numbers, a term names what has learned them::

    one_hot = [{ column = "shop", learned = { name = "shops" } }]

They are then part of the features that are stored with every version: what the other learner learns later changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from beam_ml.core.model import Model
from beam_ml.core.spec import Settings
from beam_ml.errors import BeamMLError, InvalidValue, RegistryError
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry

__all__ = ["KEY", "Learned", "completed"]

KEY = "learned"
_PLACES = ("numeric", "one_hot", "bucketed", "text")


class Learned(Settings):
    """The model that completes a term: one that is served, trained on a column of that name.

    >>> Learned(name="shops").registry is None
    True
    """

    called: ClassVar[str] = "learned"

    name: Annotated[str, Field(description="of the learner in the registry")]
    registry: Annotated[str | None, Field(description="folder or URL; none: that of the job")] = None
    model: Annotated[str | None, Field(description="which of its models; none: its champion")] = None


def completed(value: dict[str, Any]) -> dict[str, Any]:
    """Return a job's settings as read from TOML, with the numbers in place of each `learned`.

    Raises:
        InvalidValue: there is no such model, or it has learned something else, or another column.
    """
    features = value.get("features")
    if not isinstance(features, dict):
        return value
    asked = {
        place: terms for place in _PLACES if isinstance(terms := features.get(place), list) and any(map(_asks, terms))
    }
    if not asked:
        return value
    stored = _stored(value)
    whole = {
        place: [_completed(place, one, value, stored) if _asks(one) else one for one in terms]
        for place, terms in asked.items()
    }
    return {**value, "features": {**features, **whole}}


def _asks(term: Any) -> bool:
    return isinstance(term, dict) and KEY in term


def _stored(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the features of the job's newest readable version; none before the first."""
    try:
        found = Registry(str(value.get("registry")), create=False).latest(str(value.get("name")))
    except RegistryError:  # not there yet; whoever opens it next says what else is wrong
        return {}
    return {} if found is None else found.manifest.extra.get("features") or {}


def _completed(place: str, term: dict[str, Any], job: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: one for name, one in term.items() if name != KEY}
    where = f"features.{place}.{KEY}"
    known = _KINDS.get((place, own.get("transform")))
    if known is None:
        kinds = ", ".join(f"{place} with transform = {how!r}" if how else place for place, how in _KINDS)
        message = f"{where} must be of {kinds}; got {own}."
        raise InvalidValue(message)
    given = Learned.parse({"name": term[KEY]} if isinstance(term[KEY], str) else term[KEY])
    column, settings = str(own.get("column")), known[2]
    if clash := [name for name in settings if name in own]:
        message = f"{where} completes the term, so that {clash} must be left out; got {own}."
        raise InvalidValue(message)
    for before in stored.get(place, ()):
        same = before.get("column") == column and before.get("transform") == own.get("transform")
        if same and before.get(settings[0]) is not None:
            return {**own, **{name: before[name] for name in settings if name in before}}
    try:
        found = Predictor(given.registry or str(job.get("registry")), given.name, given.model)
        term = _of(found, known, column)
    except BeamMLError as error:
        message = f"{where} of the column {column!r}: {error}"
        raise InvalidValue(message) from error
    return {**own, **{name: term[name] for name in settings if name in term}}


_Known = tuple[str, str, tuple[str, ...], str, Callable[[Any, Any, int], dict[str, Any]]]
_KINDS: Mapping[tuple[str, str | None], _Known] = {
    ("one_hot", None): ("vocabulary", "vocabulary", ("vocabulary",), "spell", lambda m, c, i: m.one_hot(c, i)),
    ("text", None): (
        "vocabulary", "vocabulary", ("vocabulary", "ngrams", "lower"), "words",
        lambda m, words, i: m.text(words.to_dict(), i),
    ),
    ("bucketed", None): ("quantile", "buckets", ("bounds",), "", lambda m, c, i: m.bucketed(c, i)),
    ("numeric", "standardise"): (
        "quantile", "robust_scale", ("mean", "scale"), "", lambda m, c, i: m.standardise(c, i),
    ),
    ("numeric", "target"): ("target", "means", ("values",), "code", lambda m, c, i: m.target(c, i)),
}  # fmt: skip
"""Place and transform → algorithm and kind of model; the settings that it completes; how its columns are read; the term."""


def _of(found: Predictor, known: _Known, column: str) -> dict[str, Any]:
    algorithm, kind, _, read, term = known
    model: Model = found.model
    if (model.spec.algorithm, model.model_spec.kind) != (algorithm, kind):
        message = (
            f"The model must be of {algorithm}, kind {kind!r}; got {model.spec.algorithm}, kind "
            f"{model.model_spec.kind!r}."
        )
        raise InvalidValue(message)
    if read == "words":
        words = () if found.features is None else found.features.words
        for number, one in enumerate(words):
            if one.column == column:
                return term(model.arrays, one, number)
        message = (
            f"The model must have learned of features.words of {column}; it has of {[one.column for one in words]}."
        )
        raise InvalidValue(message)
    names = () if found.features is None else found.features.names
    spelled = getattr(model.spec, "text_bytes", None) is not None
    wanted = f"{read}({column})" if read == "code" or spelled else column
    if wanted not in names:
        message = f"The model must have learned of {wanted}; it has of {list(names)}."
        raise InvalidValue(message)
    return term(model.arrays, column, names.index(wanted) // (model.spec.numbers if spelled else 1))  # type: ignore[attr-defined]
