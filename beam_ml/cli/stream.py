"""Train without end as one unbounded pipeline: ``beam-ml stream jobs/fraud_stream.toml [Beam options]``.

Beam's options name an engine that streams, such as ``--runner=PrismRunner --prism_location=PROGRAM``, or
``--runner=PortableRunner --job_endpoint=HOST:PORT --environment_type=LOOPBACK --checkpointing_interval=3000`` (Flink).
"""

import time
from collections.abc import Callable
from typing import Any

import click

from beam_ml.beam.engine import refuse_unknown
from beam_ml.beam.job import Job, load_job
from beam_ml.beam.job.looking import Looked
from beam_ml.beam.stream import close_windows, run_stream
from beam_ml.beam.stream.savepoint import savepoint
from beam_ml.cli.console import Command, Screen, as_json, own_options, print_json
from beam_ml.cli.jobs import find_job
from beam_ml.cli.sizes import sizes_said
from beam_ml.cli.standing import standing_of
from beam_ml.cli.stopping import hear_stop
from beam_ml.errors import BeamMLError, CorruptArtefact, InvalidValue, UnsupportedVersion
from beam_ml.registry import Registry

__all__ = ["main"]


class _Watch:
    """Prints each version once it is there; `stopping` returns whether the run is to end."""

    def __init__(
        self, console: Screen, job: Job, registry: Registry, stopping: Callable[[], bool], json: bool = False
    ) -> None:
        self._console, self._job, self._registry, self._stopping = console, job, registry, stopping
        self._json = json
        self._shown = registry.head_number(job.name)
        self._trouble = ""

    def ask(self) -> bool:
        """Show what is new. What cannot be read is said once, and ends no training."""
        try:
            for number in range(self._shown + 1, self._registry.head_number(self._job.name) + 1):
                self._show(number)
                self._shown, self._trouble = number, ""
        except BeamMLError as error:
            if str(error) != self._trouble:
                self._console.say(f"Versions cannot be shown just now: {error}")
            self._trouble = str(error)
        return self._stopping()

    def _show(self, number: int) -> None:
        try:
            one = self._registry.manifest(self._job.name, number)
        except (CorruptArtefact, UnsupportedVersion) as error:
            self._console.say(f"v{number}: {error}")
            return
        ends = [refresh["window_end"] for refresh in one.refreshes]
        lag = time.time() - ends[-1] / 1e6 if ends else None
        gate, rows = standing_of(self._registry, self._job.name).of(one), one.progress["rows"]
        rejected = sum(one.progress["rejected"].values())
        if self._json:
            counts = {"windows": len(ends), "rows": rows, "rejected": rejected}
            print_json({"version": number, "gate": gate, "lag_s": lag} | counts)
            return
        after = "" if lag is None else f", {lag:.1f} s after its window's end"
        self._console.say(f"v{number}: {len(ends)} windows, {rows:,} rows, {rejected:,} rejected, {gate}{after}")


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("job_file")
@click.option("--brokers", help="Kafka brokers, host:port by commas; replaces the job's source.brokers.")
@click.option("--registry", "registry_url", help="Folder or URL of the registry; replaces the job's.")
@click.option("--name", help="Name to publish under; replaces the job's.")
@click.option(
    "--shards", default=1, type=click.IntRange(min=1), show_default=True, help="Steps that share the work of merging."
)
@click.option(
    "--splits",
    default=1,
    type=click.IntRange(min=1),
    show_default=True,
    help="Steps that each read a share of the partitions.",
)
@click.option(
    "--anchor-ttl",
    default=10.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="s between two looks of a worker for a newer anchor.",
)
@click.option(
    "--release-every",
    default=None,
    type=click.FloatRange(min=0.001),
    help="s of event time whose raw rows are released together, a part of the job's refresh.  [default: 1]",
)
@click.option(
    "--savepoint", "folder", help="URL of a folder: on SIGTERM keep the state there (Flink; needs --flink-rest)."
)
@click.option("--flink-rest", "rest", help="URL of Flink's REST interface.")
@click.option(
    "--close-windows",
    "close",
    is_flag=True,
    help="On SIGTERM fold the open windows; what comes for them later is late.",
)
@as_json
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED)
def main(
    job_file: str,
    brokers: str | None,
    registry_url: str | None,
    name: str | None,
    shards: int,
    splits: int,
    anchor_ttl: float,
    release_every: float | None,
    folder: str | None,
    rest: str | None,
    close: bool,
    json: bool,
    beam_options: tuple[str, ...],
) -> None:
    """Train the job until it is stopped: SIGTERM or SIGINT cancels the pipeline, or takes a savepoint.

    Windows that are open then stay open, and are not lost: nothing drains them unless --close-windows says so.
    """
    console = Screen(stderr=json)
    refuse_unknown(beam_options, own_options())
    _check_end(folder, rest, close)
    job = load_job(find_job(job_file), **{"source.brokers": brokers, "registry": registry_url, "name": name})
    registry = Registry(job.registry)
    if close and job.prepares:
        message = (
            "--close-windows must not be given with rolling, labels or predictions: the rows that wait for their labels "
            "have windows that no end closes."
        )
        raise InvalidValue(message)

    def say_sizes(looked: Looked) -> None:
        for sentence in sizes_said(looked, registry):
            console.say(sentence)

    watch = _Watch(console, job, registry, hear_stop("ending the pipeline."), json)

    def keep_state() -> None:
        console.say(f"The state is kept in {savepoint(rest or '', folder or '')}.")

    on_stop = keep_state if folder else None
    settings: dict[str, Any] = {"n_shards": shards, "splits": splits, "anchor_ttl": anchor_ttl, "on_sized": say_sizes}
    settings |= {} if release_every is None else {"release_every": release_every}
    runner = run_stream(job, registry, list(beam_options), watch.ask, on_stop, **settings)
    if close:
        close_windows(job, registry)
    watch.ask()
    left = "its open windows are folded" if close else "open windows are read again by the next start"
    console.say(f"Ended on {runner}; {left}.")


def _check_end(folder: str | None, rest: str | None, close: bool) -> None:
    if (folder is None) != (rest is None):
        message = "--savepoint and --flink-rest must be given together: Flink is asked for the savepoint."
        raise InvalidValue(message)
    if close and folder is not None:
        message = (
            "--close-windows must not be given with --savepoint: the windows it folds would be open in the savepoint."
        )
        raise InvalidValue(message)
