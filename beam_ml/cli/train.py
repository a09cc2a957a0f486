"""Train continuously from a job file: ``beam-ml train jobs/fraud_replay.toml --once --close [Beam options]``."""

import time

import click

from beam_ml.beam.engine import refuse_unknown
from beam_ml.beam.job import Job, load_job
from beam_ml.beam.job.looking import Looked
from beam_ml.beam.rounds import Mode, train
from beam_ml.beam.rounds.sizing import looked_at, sized
from beam_ml.cli.checking import checked, lines
from beam_ml.cli.console import Command, Screen, as_json, own_options, print_json
from beam_ml.cli.jobs import find_job
from beam_ml.cli.layout import laid_out
from beam_ml.cli.report import JsonRounds, RoundTable
from beam_ml.cli.sizes import sizes_said
from beam_ml.cli.stopping import hear_stop
from beam_ml.errors import RegistryError
from beam_ml.registry import Registry

__all__ = ["main"]


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("job_file")
@click.option("--once", "mode", flag_value="once", default=True, help="Take what is there now, then end.")
@click.option("--follow", "mode", flag_value="follow", help="Run until stopped; new files are picked up whole, once.")
@click.option(
    "--close",
    is_flag=True,
    help="With --once: fold the windows still open at the end, too; what comes for them later is late.",
)
@click.option("--source", help="File, folder or pattern to read, - for stdin; replaces the job's source.path.")
@click.option("--brokers", help="Kafka brokers, host:port by commas; replaces the job's source.brokers.")
@click.option("--registry", "registry_url", help="Folder or URL of the registry; replaces the job's.")
@click.option("--name", help="Name to publish under; replaces the job's.")
@click.option("--passes", type=int, help="How often the files are read; replaces the job's.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Cores that the in-process runner uses; default: all that it may. Workers of other runners: BEAM_ML_THREADS.",
)
@click.option(
    "--check", is_flag=True, help="Only look: read the first rows, say what would be used and how large the state gets."
)
@as_json
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED)
def main(
    job_file: str,
    mode: str,
    close: bool,
    source: str | None,
    brokers: str | None,
    registry_url: str | None,
    name: str | None,
    passes: int | None,
    threads: int | None,
    check: bool,
    json: bool,
    beam_options: tuple[str, ...],
) -> None:
    """Train the job in rounds; interrupt or kill it at any instant and start it again."""
    refuse_unknown(beam_options, own_options())
    given = {"source.path": source, "source.brokers": brokers, "registry": registry_url, "name": name}
    job = load_job(find_job(job_file), **given, passes=passes)
    if check:
        _look(job, json)
        return
    registry = Registry(job.registry)
    looked = sized(job, registry)  # where brokers do not answer, an interrupt ends the wait
    job = looked.job
    stopping = hear_stop("finishing this round, then ending.")
    for sentence in sizes_said(looked, registry):
        Screen(stderr=json).say(sentence)
    table = JsonRounds(job, registry) if json else RoundTable(Screen(), job, registry)
    begun = time.monotonic()
    how = Mode("follow" if mode == "follow" else "once", close)
    for one in train(job, registry, how, list(beam_options), stopping, threads):
        table.show(one)
    table.end(time.monotonic() - begun)


def _sized_already(job: Job) -> Looked:
    """Return the job as a run would take it, without making a registry that is not there."""
    try:
        return sized(job, Registry(job.registry, create=False))
    except RegistryError:
        return looked_at(job)


def _look(job: Job, json: bool) -> None:
    found = checked(_sized_already(job))
    if json:
        print_json(found)
    else:
        Screen().table(laid_out(["setting", "value"], lines(found)))
