"""Which runner runs a pipeline, what it cannot do, and what its errors mean.

The local default is pinned to the in-process `FnApiRunner`: plain DirectRunner looks for a Prism binary on the network,
and falls back to a runner that reads an unbounded source forever without emitting anything.

Threads: where this process is the engine, it uses the cores that it has (`core.threads`): it reads ahead, and learns beside
that; large rounds are shared with other processes (`rounds.pool`). Other engines run a worker per core, so there each worker
uses one thread, unless the variable BEAM_ML_THREADS of its environment says otherwise. BLAS keeps to one thread, and no
numba kernel starts threads of its own.
"""

import contextlib
import io
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.pvalue import PCollection
from apache_beam.runners.runner import PipelineResult, PipelineRunner
from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.testing.test_stream import TestStream

from beam_ml import errors
from beam_ml.beam.steps import applied
from beam_ml.beam.wire import coders
from beam_ml.core.meant import did_you_mean
from beam_ml.errors import BeamMLError, EngineRefused, InvalidValue

__all__ = [
    "DEFAULT_RUNNER",
    "Ran",
    "error_of",
    "is_local",
    "known_errors",
    "new_pipeline",
    "ran_on",
    "refuse_streaming",
    "refuse_unbounded",
    "refuse_unknown",
    "run",
    "runs_here",
    "streaming_options",
]

DEFAULT_RUNNER = "FnApiRunner"

_SAMPLED_MS = 5
"""How often this process, as a worker, looks at which step it is in. Beam's 200 ms hold up the end of each long bundle: it
waits for the thread that looks, which sleeps that long."""
_FLUSH = "finish_bundle_before_checkpointing"
_WHOLE = "prism_disable_sdf_split"
_NEVER_EMITS = ("FnApiRunner", "SwitchingDirectRunner", "DirectRunner", "BundleBasedDirectRunner")
_OURS = re.compile(r"^beam_ml\.errors\.(\w+): (.*)$", re.MULTILINE)
_WHERE = re.compile(r" \[while running '[^']*'\]$")

_log = logging.getLogger(__name__)


class Ran(NamedTuple):
    """A finished run.

    Attributes:
        runner: the one that ran, which the name `DirectRunner` does not say.
        result: Beam's: state and metrics.
    """

    runner: str
    result: PipelineResult


class _Options(PipelineOptions):
    """Options that parse each kind once: building and running a pipeline asks for views over two hundred times.

    Views share their values, so one that is kept sees what another has set.
    """

    def view_as(self, cls: type[Any]) -> Any:
        """Return the view of a kind, always the same one."""
        views: dict[type[Any], Any] = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


def new_pipeline(options: Sequence[str] = ()) -> Pipeline:
    """Return a pipeline on the runner that the options name, else on the in-process one.

    Args:
        options: Beam's command line options.

    >>> new_pipeline().runner.__class__.__name__
    'FnApiRunner'
    """
    parsed = _Options(list(options))
    standard = parsed.view_as(StandardOptions)
    if standard.runner is None:
        standard.runner = DEFAULT_RUNNER
    try:
        pipeline = Pipeline(options=parsed)
    except (AttributeError, ImportError, ValueError) as error:
        message = f"--runner must be one that Beam knows and that is installed; got {standard.runner}: {error}."
        raise InvalidValue(message) from error
    coders.install(pipeline)
    return pipeline


def is_local(pipeline: Pipeline) -> bool:
    """Return whether one of Beam's runners in Python runs a pipeline; `DirectRunner` may hand it on to Prism.

    >>> is_local(new_pipeline()), is_local(new_pipeline(["--runner=PrismRunner"]))
    (True, False)
    """
    return type(pipeline.runner).__name__ in _NEVER_EMITS


def runs_here(options: Sequence[str]) -> bool:
    """Return whether pipelines with these options run in this very process, on one worker.

    >>> runs_here([]), runs_here(["--runner=FlinkRunner"]), runs_here(["--direct_num_workers=4"])
    (True, False, False)
    """
    parsed = PipelineOptions(list(options))
    direct = parsed.view_as(DirectOptions)
    alone = direct.direct_num_workers == 1 and direct.direct_running_mode == "in_memory"
    return alone and parsed.view_as(StandardOptions).runner in (None, DEFAULT_RUNNER)


def streaming_options(options: Sequence[str]) -> list[str]:
    """Return a stream's options: those given, that it streams, and what keeps Flink and Prism from losing rows.

    Flink holds back the output of a bundle that a checkpoint has ended, until the step's next bundle, and lets time pass
    meanwhile: the rows come late, and what comes once only, such as the source itself, may never come (BEAM-6733,
    BEAM-10558). Told to finish bundles before checkpoints, it holds nothing back; other runners do not know the option.

    Prism cuts a slow bundle in two and gives the rest to another, though both hold rows of one key: the step then begins
    twice from the same state, and what the one adds to it is lost. Told to cut none, it keeps them whole.

    Args:
        options: Beam's command line options.

    Raises:
        EngineRefused: they tell Flink not to.

    >>> streaming_options(["--runner=PrismRunner"])
    ['--runner=PrismRunner', '--streaming', '--experiments=prism_disable_sdf_split']
    """
    parsed = PipelineOptions(list(options))
    standard, given = parsed.view_as(StandardOptions), [*options]
    if not standard.streaming:
        given.append("--streaming")
    known = parsed.view_as(DebugOptions).experiments or []
    if standard.runner in ("PrismRunner", "PortableRunner") and _WHOLE not in known:
        given.append(f"--experiments={_WHOLE}")
    flush = parsed.get_all_options(retain_unknown_options=True).get(_FLUSH)
    if standard.runner not in ("FlinkRunner", "PortableRunner"):
        return given
    if str(flush).lower() == "false":
        message = f"--{_FLUSH} must be true: without it Flink makes rows late in a stream; got {flush}."
        raise EngineRefused(message)
    return given if flush is not None else [*given, f"--{_FLUSH}"]


def refuse_unknown(options: Sequence[str], own: Sequence[str] = ()) -> None:
    """Refuse what Beam does not know: a mistyped option would be dropped without a word.

    Where a job server is named, it may have options of its own, which only it knows.

    Args:
        options: those of a command line that the command itself does not know.
        own: the names of the command's own options, which a mistyped one may mean.

    Raises:
        InvalidValue: see above.
    """
    given, said = PipelineOptions(list(options)), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            known = given.get_all_options()
    except SystemExit as error:  # argparse ends the process, after two hundred lines of usage
        message = (
            f"options must be Beam's; got {' '.join(options)}: {said.getvalue().rpartition('error: ')[2].strip()}."
        )
        raise InvalidValue(message) from error
    unknown = [name for name in given.get_all_options(retain_unknown_options=True) if name not in known]
    served = given.view_as(PortableOptions).job_endpoint is not None
    if (unknown and not served) or any(not one.startswith("-") for one in options[:1]):
        what = f"--{unknown[0]}" if unknown else options[0]
        message = f"options must be this command's (see --help) or Beam's; got {what}.{did_you_mean(what, own)}"
        raise InvalidValue(message)


def run(pipeline: Pipeline) -> Ran:
    """Run to the end; say which runner did.

    Raises:
        EngineRefused: the pipeline reads an unbounded source on a runner that would never emit anything.
        BeamMLError: as a worker raised it; Beam itself wraps it in a RuntimeError that holds its text.

    >>> import apache_beam as beam
    >>> pipeline = new_pipeline()
    >>> _ = pipeline | beam.Create([1, 2]) | beam.CombineGlobally(sum) | beam.Map(print)
    >>> run(pipeline).runner
    3
    'FnApiRunner'
    """
    for one in applied(pipeline):
        for pcoll in one.outputs.values():
            if isinstance(pcoll, PCollection):
                refuse_unbounded(pcoll)
    StateSampler.__init__.__defaults__ = (_SAMPLED_MS,)
    with known_errors():
        result = pipeline.run()
        result.wait_until_finish()
    runner = ran_on(pipeline.runner, result)
    _log.info("The pipeline ran on %s.", runner)
    return Ran(runner, result)


def ran_on(runner: PipelineRunner, result: PipelineResult) -> str:
    """Return the name of the runner that produced a result: DirectRunner hands on to one of three."""
    module = type(result).__module__
    if module.startswith("apache_beam.runners.portability.fn_api_runner"):
        return "FnApiRunner"
    if module.startswith("apache_beam.runners.direct"):
        return "BundleBasedDirectRunner"
    name = type(runner).__name__
    return "PrismRunner" if name == "SwitchingDirectRunner" else name


def refuse_unbounded(pcoll: PCollection) -> None:
    """Refuse an unbounded PCollection on a local runner, unless a TestStream drives it.

    Raises:
        EngineRefused: see above.
    """
    name = type(pcoll.pipeline.runner).__name__
    if pcoll.is_bounded or name not in _NEVER_EMITS or any(isinstance(t, TestStream) for t in _sources(pcoll)):
        return
    shown = "DirectRunner" if name == "SwitchingDirectRunner" else name
    message = (
        f"{shown} never emits from an unbounded source; got {pcoll.producer.full_label}: run in rounds "
        "(beam_ml.beam.rounds, any runner), or on --runner=PrismRunner or --runner=FlinkRunner."
    )
    raise EngineRefused(message)


def refuse_streaming(pcoll: PCollection) -> None:
    """Refuse an unbounded PCollection on any runner: a fold in order needs the end of its input.

    Raises:
        EngineRefused: see above.
    """
    refuse_unbounded(pcoll)
    if not pcoll.is_bounded:
        message = (
            f"Merging and folding need a bounded input; got the unbounded {pcoll.producer.full_label}: train in rounds "
            "(beam_ml.beam.rounds), which read a source slice by slice, or as a stream (beam_ml.beam.stream)."
        )
        raise EngineRefused(message)


def _sources(pcoll: PCollection) -> Iterator[object]:
    """Return the transforms that a PCollection comes from."""
    seen, open_ = set(), [pcoll]
    while open_:
        producer = open_.pop().producer
        while producer is not None and producer not in seen:
            seen.add(producer)
            yield producer.transform
            open_ += [one for one in producer.inputs if isinstance(one, PCollection)]
            producer = producer.parent


@contextlib.contextmanager
def known_errors() -> Iterator[None]:
    """Raise the beam_ml error that Beam's own is about, where there is one."""
    try:
        yield
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        raise known from error


def _known(error: BaseException) -> BeamMLError | None:
    """Return the beam_ml error within Beam's, without Beam's addition of the step."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, BeamMLError):
            return type(chain)(_WHERE.sub("", str(chain)))
        chain = chain.__cause__ or chain.__context__
    found = _OURS.findall(str(error))
    if not found:
        return None
    name, text = found[-1]
    return _named(name, text)


def _named(name: str, text: str) -> BeamMLError | None:
    kind = getattr(errors, name, None)
    return kind(_WHERE.sub("", text)) if isinstance(kind, type) and issubclass(kind, BeamMLError) else None


def error_of(name: str, text: str, traceback: str, read: str = "") -> Exception:
    """Return the error that another process of this trainer has raised, by its name.

    One that is not ours becomes a RuntimeError of one sentence; the traceback of that process is its note.

    Args:
        name: of its class.
        text: what it says.
        traceback: of the process.
        read: files and places that were read there.

    >>> error_of("InputChanged", "a.csv must not change.", "")
    InputChanged('a.csv must not change.')
    >>> error_of("ZeroDivisionError", "division by zero", "", "a.csv from 0 to 900")
    RuntimeError('A process that learned of a.csv from 0 to 900 ended its part with ZeroDivisionError: division by zero.')
    """
    known = _named(name, text)
    if known is not None:
        return known
    said = " ".join(text.split()).rstrip(".")
    error = RuntimeError(
        f"A process that learned of {read or 'a part'} ended its part with {name}: {said or 'no reason'}."
    )
    error.add_note(traceback)
    return error
