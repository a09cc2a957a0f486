"""The demo: simulate card transactions and reports of fraud, score and learn them day by day. No service needed."""

import shutil
import time
from pathlib import Path

import click
from rich.table import Table

from beam_ml.beam.job import Job, load_job
from beam_ml.beam.rounds import Mode, Round, train
from beam_ml.cli.console import Command, Screen, as_json, styled
from beam_ml.cli.jobs import find_job
from beam_ml.cli.report import JsonRounds, RoundTable
from beam_ml.cli.served import CARDS, served
from beam_ml.cli.simulate import simulate_days, write_days, write_reports
from beam_ml.errors import InvalidValue
from beam_ml.registry import Registry

__all__ = ["main"]

_JOB = "jobs/fraud.toml"
_FOLDERS = ("data", "reports", "registry", "predictions")
_MARK = ".beam_ml_demo"


@click.command(cls=Command)
@click.option("--folder", default="demo", show_default=True, help="Where data and registry go; recreated.")
@click.option("--days", default=45, type=click.IntRange(min=1), show_default=True, help="Days to simulate.")
@click.option(
    "--customers", default=5_000, type=click.IntRange(min=1), show_default=True, help="Customers to simulate."
)
@click.option(
    "--terminals", default=2_000, type=click.IntRange(min=1), show_default=True, help="Terminals to simulate."
)
@click.option("--seed", default=0, type=click.IntRange(min=0), show_default=True, help="Of the simulation.")
@as_json
def main(folder: str, days: int, customers: int, terminals: int, seed: int, json: bool) -> None:
    """Simulate card transactions, then learn day after day: evaluate, learn, derive, gate, publish."""
    console = Screen(stderr=json)
    root = Path(folder)
    _recreate(root)
    _run(console, root, days, customers, terminals, seed, json)


def _recreate(root: Path) -> None:
    """Empty the demo's folder, if it is the demo's: it carries a mark."""
    mark = root / _MARK
    if root.exists() and not mark.exists() and any(root.iterdir()):
        message = f"--folder must be new, empty, or made by an earlier demo; {root} holds other files."
        raise InvalidValue(message)
    for name in _FOLDERS:
        shutil.rmtree(root / name, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _run(console: Screen, root: Path, days: int, customers: int, terminals: int, seed: int, json: bool) -> None:
    data, reports, registry = root / "data", root / "reports", root / "registry"
    begun = time.monotonic()
    with console.waiting(f"Simulating {days} days of card transactions …"):
        files = list(write_days(str(data), days, customers, terminals, seed))
        write_reports(str(reports), simulate_days(days, customers, terminals, seed), seed)
    size = sum(Path(file).stat().st_size for file in files)
    seconds = time.monotonic() - begun
    console.say(f"Simulated {len(files)} days into {data} ({size / 1e6:.1f} MB) in {seconds:.1f} s.")
    console.print(
        "Each transaction gets rolling features of its card and terminal, and is scored by the version served then. Whether "
        "it was fraud is reported within a week: it is learned then. Each line is one refresh.\n"
    )
    places = {"source.path": data, "labels.source.path": reports, "registry": registry}
    places["predictions.path"] = root / "predictions"
    job = load_job(find_job(_JOB), **{name: str(path) for name, path in places.items()})
    store = Registry(job.registry)
    table = JsonRounds(job, store) if json else RoundTable(console, job, store)
    begun = time.monotonic()
    last: Round | None = None
    rounds = train(job, store, Mode("once", close=True))
    with console.waiting("Training …") as status:
        for one in rounds:
            table.show(one)
            status.update(styled(f"Training … v{one.manifest.number} published in {one.seconds:.2f} s", ""))
            last = one
    table.end(time.monotonic() - begun)
    if last is not None:
        _closing(console, job, last, data)


def _closing(console: Screen, job: Job, last: Round, data: Path) -> None:
    """Print how good the scores were when they were made, and what to try next."""
    assert job.predictions is not None  # noqa: S101
    assert job.predictions.path is not None  # noqa: S101
    found = served(Path(job.predictions.path), data)
    if found is not None:
        table = Table("of scores made as transactions came, mean of days", "model", "by chance")
        table.add_row("AUC (higher is better)", f"{found.auc:.4f}", "0.5000")
        table.add_row("average precision (higher)", f"{found.average_precision:.4f}", f"{found.fraud:.4f}")
        table.add_row(f"card precision@{CARDS} (higher)", f"{found.card_precision:.4f}", f"{found.cards:.4f}")
        console.print(table)
    program = "beam-ml" if shutil.which("beam-ml") else ".venv/bin/beam-ml"  # as `make demo` has it
    where, name = job.registry, job.name
    console.say(f"Registry: {Path(where).resolve()}\nNext:")
    for command in (
        f"registry ls {where} {name}",
        f"registry diff {where} {name} v2 v{last.manifest.number}",
        f"registry serve {where} {name} v{max(1, last.manifest.number - 1)}    # roll back",
        f'derive {where} {name} --model \'{{"kind": "classifier", "l2": 0.1}}\' --out {name}-l2',
    ):
        console.say(f"  {program} {command}")
