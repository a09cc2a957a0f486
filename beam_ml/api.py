"""The Beam-free API: `fit merge derive predict save load`, for a notebook."""

import contextlib
import dataclasses
import hashlib
import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from beam_ml.algorithms import Named, algorithm_of, finder
from beam_ml.artefact.envelope import decode
from beam_ml.artefact.records import decode_learner, decode_model, encode_learner, encode_model
from beam_ml.core import arguments, intervals
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.algorithm import LawKind, Predictions, check_batch
from beam_ml.core.batch import FIT, Batch, Origin
from beam_ml.core.champions import reached
from beam_ml.core.labels import BINARY, Labels
from beam_ml.core.learner import Learner
from beam_ml.core.limits import ABSOLUTE, Limits, Seen
from beam_ml.core.model import Model
from beam_ml.core.passes import check_passes, in_pass
from beam_ml.core.predicted import Predicted
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Plan, model_kind, refresh
from beam_ml.core.scoring import refuse, score
from beam_ml.core.spec import LONGEST_S, ModelSpec, Spec, parse_duration_s
from beam_ml.core.threads import one_thread
from beam_ml.errors import ArtefactError, DeriveRefused, InvalidValue, MergeRefused, UnreadableInput, WrongKind

__all__ = ["derive", "fit", "load", "merge", "predict", "save"]

_FIRST_FOLD_ROWS = 1_000
_NUMBERS = ("X", "indptr", "indices", "values", "label", "weight", "time")
_NO_MODELS = Plan(models={})


def fit(
    spec: Spec,
    batches: Any,
    *,
    learner: Learner | None = None,
    features: Any = None,
    refresh_rows: int = 65_536,
    passes: int = 1,
    max_leap: float | str | None = None,
    limits: Limits = ABSOLUTE,
) -> Learner:
    """Learn from batches in one pass, or for gradient learners in several.

    EXACT and SKETCH algorithms fold once, at the end; ANCHORED ones after 1,000, 2,000, 4,000 … rows and then every
    `refresh_rows`, within a batch too, so that workers always start from a fresh anchor; GATHERED ones whenever
    `gather_bytes` of their spec are full.

    Labels of two classes are 0 and 1, or two other whole numbers: the smaller becomes 0, the larger 1, and the learner says
    so (`Learner.labels`). In a list of batches all labels decide which they are, in an iterator the first ones.

    Args:
        spec: what to learn.
        batches: any iterable of batches, or one; for specs without a label also an (n, d) array, a frame or a sparse
            matrix. Rows that may not be learned from are counted as rejected, by reason. The features of frames are
            matched by name if the first batch with rows has names. With `features`, raw rows: frames, blocks, or lists of
            dicts of the columns that these name, one or any iterable of them.
        learner: an earlier learner of the same spec to resume from; it is left as it is.
        features: `Features`, or a mapping of their settings, by which batches are made of raw rows. Learner and models keep
            them: `predict` takes raw rows, too. None: those of `learner`, where the rows are raw.
        refresh_rows: largest number of rows between two folds of an ANCHORED learner.
        passes: how often to go over the batches, which must then be a list or the like. Each pass counts each row.
        max_leap: how far ahead of all others a few rows (at most 1 % of a batch) may be dated if the spec has a half-life,
            in seconds or as "7d"; those further ahead are rejected. None: the longer of a day and the half-life.
        limits: how large values may be; `Limits()` also refuses those far beyond what was seen.

    Returns:
        A new learner.

    Raises:
        InvalidBatch: a batch's width is not the spec's, or labels of two classes are neither 0 and 1 nor two whole numbers.
        InvalidValue: anything but batches; several passes over an iterator, or for an algorithm that has no use for them; no
            rows between two folds.
        MergeRefused: `learner` has another spec, or rows with positions come twice, here or in `learner`.

    >>> from beam_ml import Batch, fit, kmeans
    >>> learner = fit(kmeans.Spec(n_features=2, k_max=2), [Batch.dense([[0.0, 0.0], [1.0, 1.0]])])
    >>> learner.progress.rows
    2
    >>> import pyarrow as pa
    >>> from beam_ml.features import Features
    >>> rows = pa.table({"amount": [1.0, 4.0, None], "shop": ["a", "b", "a"]})
    >>> seen = Features(numeric=["amount"], one_hot=[{"column": "shop", "vocabulary": ["a", "b"], "unseen": "none"}])
    >>> fit(kmeans.Spec(n_features=3, k_max=2), rows, features=seen).progress.rejected
    {'non-finite feature amount': 1}
    """
    spec = arguments.spec("fit.spec", spec)
    current = learners.new(algorithm_of(spec), spec) if learner is None else arguments.learner("fit.learner", learner)
    if current.spec.fingerprint != spec.fingerprint:
        message = f"fit resumes from a learner of the same spec; got {current.spec.to_json()} for {spec.to_json()}."
        raise MergeRefused(message)
    check_passes(algorithm_of(spec), spec, passes, "fit.passes")
    if refresh_rows < 1:
        message = f"fit.refresh_rows must be >= 1; got {refresh_rows}."
        raise InvalidValue(message)
    made = None
    if features is not None or current.features is not None:
        from beam_ml.features import tables  # for those alone who have raw rows

        made = tables.made_by(spec, current, features, batches)
    given = arguments.batches(spec, batches) if made is None else made if made.again else iter(made)
    if made is not None:
        current = current.replace(features=made.features.to_dict())
    if passes > 1 and iter(given) is iter(given):
        message = f"fit.batches must be a list, or begin again at each pass; got {type(batches).__name__}."
        raise InvalidValue(message)
    with one_thread():
        begin = partial(_accumulator, max_leap=max_leap, limits=limits)
        return _fit(current, given, refresh_rows, passes, begin, Counter() if made is None else made.rejected)


def _passes_over(batches: Iterable[Batch], passes: int, lineage: Origin) -> Iterator[tuple[Batch, bool]]:
    """Return each pass's batches, their rows named; and whether fit has named them."""
    for number in range(1, passes + 1):
        named = dataclasses.replace(lineage, source=in_pass(lineage.source, number))
        numbered = 0
        for batch in batches:
            if batch.origin is None or batch.position is None:
                place = np.arange(numbered, numbered + len(batch), dtype=np.int64)
                numbered += len(batch)
                yield batch.replace(origin=named, position=place), True
            else:
                source = in_pass(batch.origin.source, number)
                yield batch.replace(origin=dataclasses.replace(batch.origin, source=source)), False


def _fit(
    learner: Learner,
    batches: Iterable[Batch],
    refresh_rows: int,
    passes: int,
    begin: Callable[[Learner], Accumulator],
    rejected: Mapping[str, int],
) -> Learner:
    spec, algorithm, current = learner.spec, algorithm_of(learner.spec), learner
    labels = Labels(spec, learner.labels or (BINARY if learner.progress.rows else None))
    if isinstance(batches, Sequence):
        labels.look(batches)
    batches, lineage = _lineage(learner, batches)
    anchored = algorithm.law(spec).kind is LawKind.ANCHORED
    due = min(_FIRST_FOLD_ROWS, refresh_rows)
    seen = dict(learners.scanned(learner).covered)
    rows, names, unnamed = 0, learner.names, learner.names is None and learner.progress.rows == 0
    accumulator = begin(current)
    for batch, new in _passes_over(batches, passes, lineage):
        if not new:
            _see(seen, batch)
        if unnamed and len(batch):
            names, unnamed = batch.names, False
        coded = labels.coded(batch.ordered(names).replace(names=names if batch.is_dense else None))
        good, begun = accumulator.admit(coded)[0], 0
        while anchored and rows + len(good) - begun >= due:
            # However rows are batched: the first window, whose rows start from nothing, is a small one.
            end = begun + due - rows
            accumulator.add_admitted(good.take(slice(begun, end)))
            current, _ = refresh(algorithm, current, None, accumulator.result(), _NO_MODELS)
            accumulator, begun = begin(current), end
            due, rows = min(due * 2, refresh_rows), 0
        while (end := begun + accumulator.room(good.take(slice(begun, None)) if begun else good)) < len(good):
            # Gathered rows fill what they may fill: they are learned from before more come.
            accumulator.add_admitted(good.take(slice(begun, end)))
            current, _ = refresh(algorithm, current, None, accumulator.result(), _NO_MODELS)
            accumulator, begun = begin(current), end
        accumulator.add_admitted(good.take(slice(begun, None)) if begun else good)
        rows += len(good) - begun
    if rejected:
        accumulator.add_progress(Progress.of_ranges(None, intervals.EMPTY, dict(rejected)))
    current, _ = refresh(algorithm, current, None, accumulator.result(), _NO_MODELS)
    return current.replace(labels=None if labels.pair == BINARY else labels.pair, names=names)


def _lineage(learner: Learner, batches: Iterable[Batch]) -> tuple[Iterable[Batch], Origin]:
    """Return the batches, and what fit calls the source of rows without one: a digest of learner and first rows, and a mark.

    By the digest, the same call draws the same sample and learns the same model; by the mark, its rows are others than
    those of any other call.
    """
    rest, early, first = iter(batches), [], None
    for batch in rest:
        early.append(batch)
        if len(batch):
            first = batch
            break
    digest = hashlib.blake2b(digest_size=16)
    scanned = learners.scanned(learner)
    digest.update(f"{learner.spec.fingerprint} {learner.refresh} {scanned.scanned} {scanned.weight!r}".encode())
    for origin, ranges in sorted(scanned.covered.items(), key=lambda item: item[0].drawn_as):
        digest.update(f" {origin.drawn_as} {ranges.tolist()}".encode())
    for name in _NUMBERS if first is not None else ():
        value = getattr(first, name)
        if value is not None:
            digest.update(f" {name} {value.dtype} {value.shape} ".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    # What can be gone through once only goes on behind its first batches.
    again = itertools.chain(early, rest) if rest is batches else batches
    return again, Origin(FIT, f"{digest.hexdigest()}#{uuid.uuid4().hex}")


def _accumulator(current: Learner, max_leap: float | str | None, limits: Limits) -> Accumulator:
    algorithm, spec = algorithm_of(current.spec), current.spec
    anchor, leap_s = algorithm.anchor(spec, current.state), parse_duration_s(max_leap)
    if leap_s is not None and not (isinstance(leap_s, float | int) and 0 < leap_s <= LONGEST_S):
        message = f"fit.max_leap must be a duration > 0, such as '7d', or None; got {max_leap!r}."
        raise InvalidValue(message)
    newest = learners.scanned(current).time_max
    seen = None if limits.deviations == "any" else Seen.of(current.sample.estimate(spec), len(current.names or ()))
    return Accumulator(
        algorithm, spec, current.version, anchor, max_leap=leap_s, newest=newest, limits=limits, seen=seen
    )


def _see(seen: dict[Origin, np.ndarray], batch: Batch) -> None:
    """Add a batch's positions to those scanned so far; refuse one that is there already."""
    fresh = Progress.of(batch)
    for origin, ranges in fresh.covered.items():
        before = seen.get(origin, intervals.EMPTY)
        seen[origin] = intervals.union(before, ranges)
        if fresh.repeated or intervals.size(seen[origin]) < intervals.size(before) + intervals.size(ranges):
            message = (
                f"fit must not count rows twice; it has already scanned rows of {origin.source} {origin.partition}."
            )
            raise MergeRefused(message)


def merge(a: Learner, b: Learner, *, allow_overlap: bool = False) -> Learner:
    """Add two learners of one spec: another day's, another region's.

    Raises:
        MergeRefused: other specs, a law that forbids it, or rows that both have seen (unless `allow_overlap`).

    >>> from beam_ml import Batch, fit, merge, pca
    >>> spec = pca.Spec(n_features=2)
    >>> merge(fit(spec, [Batch.dense([[0.0, 1.0]])]), fit(spec, [Batch.dense([[1.0, 0.0]])])).progress.rows
    2
    """
    for name, one in (("merge.a", a), ("merge.b", b)):
        arguments.learner(name, one)
    with one_thread():
        return learners.merge(algorithm_of(a.spec), a, b, allow_overlap=allow_overlap)


def derive(learner: Learner, model_spec: ModelSpec | type[ModelSpec] | str) -> Model:
    """Derive a model, with no pass over the data; the learner stays as it is.

    Args:
        learner: that has seen rows.
        model_spec: what to derive; a kind (`"classifier"`) or a class stands for its defaults.

    Raises:
        DeriveRefused: a model spec of another algorithm, or a learner that has seen no rows.

    >>> from beam_ml import Batch, derive, fit, kmeans
    >>> rows = Batch.dense([[0.0], [1.0], [9.0], [10.0]])
    >>> learner = fit(kmeans.Spec(n_features=1, k_max=4), [rows])
    >>> [len(derive(learner, kmeans.Clusters(k=k)).arrays.centres) for k in (1, 2, 4)]
    [1, 2, 4]
    """
    algorithm = algorithm_of(arguments.learner("derive.learner", learner).spec)
    model_spec = arguments.model_spec(algorithm, model_spec)
    kind = model_kind(algorithm, model_spec)
    if learner.progress.rows == 0:
        message = f"{algorithm.name} derives a model from at least one row; this learner has seen none."
        raise DeriveRefused(message)
    with one_thread():
        arrays = kind.derive(learner.spec, model_spec, learner.state, learner.sample.ranked(learner.spec))
        found = reached(algorithm, learner, model_spec, arrays)
    progress = learner.progress
    facts: dict[str, Any] = {
        "refresh": learner.refresh,
        "rows": progress.rows,
        "trained_through": progress.time_max,
        **found,
    }
    for name, value in (("labels", learner.labels), ("names", learner.names)):
        if value is not None:
            facts[name] = list(value)
    if learner.features is not None:
        facts["features"] = dict(learner.features)
    return Model(learner.spec, model_spec, arrays, facts)


def predict(model: Model, rows: Any, *, interval: float | None = None) -> Predicted:
    """Predict rows: named arrays, one entry per row, under SageMaker's field names; `Predicted.to_pandas` makes a frame.

    Args:
        model: that `derive` has returned.
        rows: a batch, an (n, d) array, a frame (whose columns are matched by name) or a sparse matrix. For a model that was
            learned by `features`: a batch, an array, a sparse matrix, or raw rows as `fit` takes them (one frame, block or
            list of dicts).
        interval: the level of bounds of the score, between 0 and 1, for models derived with errors
            (`linear.ClassifierWithErrors`): adds ``lower`` and ``upper``, and the ``standard_error`` of the linear score.

    Raises:
        InvalidValue: an interval that is no such level, or of a model whose errors are not known.
        InvalidBatch: another width or other names than the model's, or a row that cannot be predicted: with a NaN, say.

    >>> from beam_ml import Batch, derive, fit, linear, predict
    >>> rows = Batch.dense([[0.0], [1.0], [2.0]], label=[1.0, 3.0, 5.0])
    >>> model = derive(fit(linear.Newton(n_features=1, loss="squared"), [rows]), linear.Regressor())
    >>> predict(model, Batch.dense([[10.0]]))["score"].round(6).tolist()
    [21.0]
    """
    arguments.model("predict.model", model, list(algorithm_of(model.spec).models) if isinstance(model, Learner) else ())
    kind = arguments.bounded(model_kind(algorithm_of(model.spec), model.model_spec), "predict.interval", interval)
    named: Callable[[Predictions], Predictions] = Predicted
    if model.facts.get("features") is not None:
        from beam_ml.features import tables  # for those alone who have raw rows

        rows, named = tables.batch_of(model, rows)
    batch = Batch.of(rows)
    check_batch(model.spec, batch)
    batch = batch.ordered(model.names)
    predictions, _, unusable = score(kind, model.arrays, batch)
    for reason, places in unusable.items():
        raise refuse(reason, int(places[0]))
    return Predicted(named(predictions))


def save(value: Learner | Model, path: str | Path) -> None:
    """Write a learner or model as one safetensors file; the file is whole or not there.

    >>> from beam_ml import Batch, fit, load, pca, save
    >>> save(fit(pca.Spec(n_features=2), [Batch.dense([[0.0, 1.0], [2.0, 3.0]])]), "monday.safetensors")
    >>> load("monday.safetensors").progress.rows
    2
    """
    if not isinstance(value, Learner):
        arguments.model("save.value", value)
    algorithm = algorithm_of(value.spec)
    data = encode_learner(algorithm, value) if isinstance(value, Learner) else encode_model(algorithm, value)
    target = Path(path)
    staged = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        staged.write_bytes(data)
        staged.replace(target)
    except OSError as error:
        message = f"save.path must be a file in a folder that can be written to; got {path}: {error.strerror}."
        raise InvalidValue(message) from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)


def load(path: str | Path, algorithms: Named = ()) -> Learner | Model:
    """Read what `save` wrote.

    Args:
        path: of the file.
        algorithms: algorithms outside this package that may be read, as ``module:attribute`` or as their records; the
            file cannot name others, since importing a module runs it.

    Raises:
        UnreadableInput: the file is not there, or may not be read.
        ArtefactError: the file is damaged, of an unknown version, or neither a learner nor a model.
        MissingAlgorithm: it is of an algorithm that is neither built in nor named.

    >>> from beam_ml import Batch, derive, fit, load, pca, predict, save
    >>> rows = Batch.dense([[0.0, 1.0], [2.0, 3.0]])
    >>> save(derive(fit(pca.Spec(n_features=2), [rows]), pca.Components(n_components=1)), "model.safetensors")
    >>> predict(load("model.safetensors"), rows)["projection"].shape
    (2, 1)
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}."
        raise UnreadableInput(message) from error
    find = finder(algorithms)
    try:
        kind = decode(data).kind
        if kind == "learner":
            return decode_learner(data, find)
        if kind == "model":
            return decode_model(data, find)
    except ArtefactError as error:
        message = f"{path}: {error}"
        raise type(error)(message) from error
    message = f"{path} must hold a learner or a model; it holds a {kind}."
    raise WrongKind(message)
