"""`Ledger`: what a version's windows were learned from → a learner of any range of time, without the data."""

import dataclasses
import datetime
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from beam_ml.algorithms import Named, finder
from beam_ml.artefact.records import decode_accumulation, decode_learner, decode_model
from beam_ml.core import decay
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.convert import times_us
from beam_ml.core.decay import AsOf
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.refresh import model_kind
from beam_ml.core.sample import MAX_ROWS
from beam_ml.core.spec import Spec
from beam_ml.core.threads import one_thread
from beam_ml.errors import ArtefactError, CorruptArtefact, InvalidBatch, InvalidValue, VersionNotFound, WrongKind
from beam_ml.ledger.book import covering, merged, refusal
from beam_ml.registry import Manifest, Registry, Window, read_index, read_window

__all__ = ["Composed", "Ledger", "Time", "learner_of", "shown", "time_of"]

_EPOCH = datetime.datetime(1970, 1, 1)
_MODELS = "models/"
_log = logging.getLogger(__name__)
Time = Any
"""A `datetime`, `datetime64`, text such as ``2018-05-01``, or whole µs since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class Composed:
    """A learner of a range of time.

    Attributes:
        learner: as if it had learned from the range's windows alone.
        start, end: of the first and the last window in the range, µs.
        windows: how many there are; `files` is how many were merged.
        left_out: why windows are missing that are damaged, where that was allowed.
    """

    learner: Learner
    start: int
    end: int
    windows: int
    files: int
    left_out: tuple[str, ...] = ()


class Ledger:
    """The windows that a version of a name was learned from.

    Args:
        registry: where.
        name: of the learner.
        version: as of which; None: the newest.
        algorithms: outside this package that it may be of.

    Raises:
        VersionNotFound: no such version, or it has no ledger.
        CorruptArtefact: the index is damaged.

    >>> import tempfile, pyarrow as pa
    >>> from beam_ml import Ledger, Registry, formats
    >>> from beam_ml.beam.job import Job
    >>> from beam_ml.beam.rounds import Mode, train
    >>> folder, hours = tempfile.mkdtemp(), range(96)  # four days
    >>> time = pa.array([hour * 3_600_000_000 for hour in hours], pa.timestamp("us"))
    >>> rows = pa.record_batch({"x": [float(hour // 24) for hour in hours], "t": time})
    >>> formats.write(f"{folder}/a.parquet", [rows], "parquet")
    >>> settings = {"name": "shape", "registry": f"{folder}/registry", "refresh": "1d", "ledger": {}}
    >>> settings |= {"source": {"path": f"{folder}/a.parquet"}, "features": {"numeric": ["x"], "time": "t"}}
    >>> settings |= {"spec": {"algorithm": "pca"}, "models": {"first": {"kind": "components", "n_components": 1}}}
    >>> job = Job.parse(settings)
    >>> registry = Registry(job.registry)
    >>> _ = list(train(job, registry, Mode(close=True)))
    >>> Ledger(registry, "shape").compose("1970-01-02", "1970-01-04").learner
    Learner(pca, refresh 1, 48 rows)
    """

    def __init__(self, registry: Registry, name: str, version: int | None = None, algorithms: Named = ()) -> None:
        number = registry.head_number(name) if version is None else version
        self.registry, self.name = registry, name
        self.manifest: Manifest = registry.manifest(name, number)
        self.index = read_index(registry.objects, self.manifest)
        self._find = finder(algorithms)
        self.learner: Learner = decode_learner(registry.read(name, number), self._find)
        self.spec: Spec = self.learner.spec
        self.algorithm: Algorithm = self._find(self.spec.algorithm)
        if self.index.fingerprint != self.spec.fingerprint:
            message = f"The ledger of {name} version {number} is of another spec than its learner: it was copied there."
            raise WrongKind(message)

    def __repr__(self) -> str:
        windows = self.index.windows
        if not windows:
            return f"Ledger({self.name!r}, no windows)"
        span = f"{shown(windows[0].start)} to {shown(max(one.end for one in windows))}"
        return f"Ledger({self.name!r}, {len(windows)} files of {self.index.bytes:,} bytes, {span})"

    def compose(self, start: Time = None, end: Time = None, *, without_damaged: bool = False) -> Composed:
        """Return the learner of all windows between two times: their sums added up, whatever came before or after.

        Exact algorithms are what a fit of the range's rows is, to rounding; sketches keep their bound; Newton's windows are
        each linearised at its own refresh's anchor.

        Args:
            start: of the range; None: of the ledger.
            end: of the range, not in it; None: of the ledger.
            without_damaged: leave out windows whose files are damaged or gone, and say so in the result.

        Raises:
            InvalidValue: the range holds no window, or cuts one; the sentence names the nearest bounds.
            CorruptArtefact, VersionNotFound: a file is damaged or gone.
        """
        reason = refusal(self.algorithm, self.spec)
        if reason is not None:
            message = f"A ledger composes what adds; {reason}."
            raise InvalidValue(message)
        low, high = self._range(start, end)
        parts: list[Accumulation] = []
        read: list[Window] = []
        left_out: list[str] = []
        for window in covering(self.index.windows, low, high):
            try:
                parts.append(self.accumulation(window))
                read.append(window)
            except (ArtefactError, VersionNotFound) as error:
                if not without_damaged:
                    raise
                left_out.append(str(error))
                _log.warning("Left out: %s", error)
        if not parts:
            message = f"The ledger of {self.name} has no readable window from {shown(low)} to {shown(high)}."
            raise CorruptArtefact(message)
        learner = self.composed(parts)
        learner = learner.replace(folded_through=read[-1].end)
        windows = sum(one.windows for one in read)
        return Composed(learner, read[0].start, read[-1].end, windows, len(read), tuple(left_out))

    def accumulation(self, window: Window) -> Accumulation:
        """Return what a file of the ledger holds.

        Raises:
            CorruptArtefact, VersionNotFound: it is damaged or gone.
            WrongKind: it is of another spec.
        """
        spec, value = decode_accumulation(read_window(self.registry.objects, window), self._find)
        if spec.fingerprint != self.spec.fingerprint:
            message = f"{window.file.path} is of another spec than the learner of {self.name}."
            raise WrongKind(message)
        return value

    def composed(self, parts: Sequence[Accumulation]) -> Learner:
        """Return the learner of some of the ledger's accumulations: their sums as one partial, folded into a first state."""
        return learner_of(self.algorithm, self.spec, parts)

    def models(self, learner: Learner, facts: Mapping[str, Any]) -> dict[str, Model]:
        """Return the models that the version has, derived from another learner.

        Args:
            learner: of the ledger's spec.
            facts: what each says of itself besides.
        """
        found: dict[str, Model] = {}
        for what in sorted(self.manifest.files):
            if what.startswith(_MODELS):
                data = self.registry.read(self.name, self.manifest.number, what)
                spec = decode_model(data, self._find).model_spec
                sample = learner.sample.ranked(learner.spec)
                arrays = model_kind(self.algorithm, spec).derive(learner.spec, spec, learner.state, sample)
                known = {"rows": learner.progress.rows, "trained_through": learner.progress.time_max}
                found[what.removeprefix(_MODELS)] = Model(learner.spec, spec, arrays, {**known, **facts})
        return found

    def _range(self, start: Time, end: Time) -> tuple[int, int]:
        windows = self.index.windows
        if not windows:
            message = f"The ledger of {self.name} holds no window yet."
            raise InvalidValue(message)
        first, last = windows[0].start, max(one.end for one in windows)
        low = first if start is None else time_of("start", start)
        high = last if end is None else time_of("end", end)
        if low >= high:
            message = f"The range must end after it starts; got {shown(low)} to {shown(high)}."
            raise InvalidValue(message)
        cut = self._cut(low, high)
        if cut is not None:
            time, window = cut
            what = "a window" if window.windows == 1 else f"{window.windows} windows that are kept merged"
            message = (
                f"The range cuts {what} at {shown(time)}: the nearest bounds are {shown(window.start)} and "
                f"{shown(window.end)}."
            )
            raise InvalidValue(message)
        chosen, since = covering(windows, low, high), self.index.since
        # What is older than that is there only in spans that reach across it.
        if since is not None and low < since and (low < first or not chosen or chosen[0].start >= since):
            message = (
                f"The range must start at {shown(since)} or later: the ledger of {self.name} does not reach further back; "
                f"got {shown(low)}."
            )
            raise InvalidValue(message)
        if not chosen:
            message = (
                f"The ledger of {self.name} has no window from {shown(low)} to {shown(high)}; it reaches from "
                f"{shown(first)} to {shown(last)}."
            )
            raise InvalidValue(message)
        return low, high

    def _cut(self, low: int, high: int) -> tuple[int, Window] | None:
        """Return a bound that lies within a file that is not kept in smaller pieces, and the file."""
        windows = self.index.windows
        for time in (low, high):
            across = [one for one in windows if one.start < time < one.end]
            if across:
                least = min(across, key=lambda one: one.end - one.start)
                inside = [one for one in windows if least.start <= one.start and one.end <= least.end and one != least]
                if not inside:
                    return time, least
        return None


def learner_of(algorithm: Algorithm, spec: Spec, parts: Sequence[Accumulation]) -> Learner:
    """Return the learner of some accumulations alone: their sums as one partial, folded into a first state."""
    with one_thread():
        total = merged(algorithm, spec, parts, MAX_ROWS)
        dated = decay.empty(algorithm, spec)
        for part in total.parts.values():  # one, or none
            dated = part.dated
        state = algorithm.fold(spec, algorithm.init(spec), dated.summary, None)
    return Learner(spec, AsOf(state, dated.time), total.progress, total.sample, refresh=1, names=total.names)


def time_of(name: str, value: Time) -> int:
    """Return a time in µs since the epoch; one without a zone is UTC."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        return int(times_us("time", [value], "us")[0])
    except (ValueError, InvalidBatch) as error:
        message = f"{name} must be a time such as 2018-05-01 or 2018-05-01T12:00; got {value!r}."
        raise InvalidValue(message) from error


def shown(time_us: int) -> str:
    """Return a time as a person writes it, UTC.

    >>> shown(1_525_132_800_000_000), shown(1_525_132_800_500_000)
    ('2018-05-01T00:00:00', '2018-05-01T00:00:00.500000')
    """
    return (_EPOCH + datetime.timedelta(microseconds=time_us)).isoformat()
