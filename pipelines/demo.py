"""The demo: simulate card transactions day by day, and train a fraud model continuously over them. No service needed."""

import shutil
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from beam_ml.beam.job import Job, load_job
from beam_ml.beam.rounds import Mode, Round, train
from beam_ml.errors import BeamMLError, InvalidValue
from beam_ml.registry import Registry
from pipelines.report import RoundTable
from pipelines.simulate import write_days

__all__ = ["main"]

_JOB = Path(__file__).parent / "jobs" / "fraud_demo.toml"
_FOLDERS = ("data", "registry")
_MARK = ".beam_ml_demo"


@click.command()
@click.option("--folder", default="demo", show_default=True, help="Where data and registry go; recreated.")
@click.option("--days", default=45, show_default=True, help="Days to simulate.")
@click.option("--customers", default=5_000, show_default=True, help="Customers to simulate.")
@click.option("--terminals", default=2_000, show_default=True, help="Terminals to simulate.")
@click.option("--seed", default=0, show_default=True, help="Of the simulation.")
def main(folder: str, days: int, customers: int, terminals: int, seed: int) -> None:
    """Simulate card transactions, then learn day after day: evaluate, learn, derive, gate, publish."""
    console = Console()
    root = Path(folder)
    try:
        _recreate(root)
        _run(console, root, days, customers, terminals, seed)
    except BeamMLError as error:
        console.print(f"[bold red]{type(error).__name__}[/]: {error}", highlight=False, soft_wrap=True)
        sys.exit(1)


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


def _run(console: Console, root: Path, days: int, customers: int, terminals: int, seed: int) -> None:
    data, registry = root / "data", root / "registry"
    begun = time.monotonic()
    with console.status(f"Simulating {days} days of card transactions …"):
        files = list(write_days(str(data), days, customers, terminals, seed))
    size = sum(Path(file).stat().st_size for file in files)
    seconds = time.monotonic() - begun
    console.print(f"Simulated {len(files)} days into {data} ({size / 1e6:.1f} MB) in {seconds:.1f} s.", highlight=False)
    console.print(
        "Each line is one refresh: the models of the day before are measured on the new day's transactions, "
        "which are learned from only then.\n",
        highlight=False,
    )
    job = load_job(_JOB, **{"source.path": str(data), "registry": str(registry)})
    table = RoundTable(console, job)
    begun = time.monotonic()
    last: Round | None = None
    rounds = train(job, Registry(job.registry), Mode("once", close=True))
    with console.status("Training …") as status:
        for one in rounds:
            table.show(one)
            status.update(f"Training … v{one.manifest.number} published in {one.seconds:.2f} s")
            last = one
    table.end(time.monotonic() - begun)
    if last is not None:
        _closing(console, job, last)


def _closing(console: Console, job: Job, last: Round) -> None:
    """Print the best model's figures beside the prior's, and what to try next."""
    refresh = last.refreshes[-1][0]
    values = refresh.progressive.get(refresh.champion or "", {})
    table = Table(
        "on days not yet learned from, the last two weeks weighing most", f"model {refresh.champion!r}", "prior"
    )
    rows = (
        ("AUC (higher is better)", values.get("auc"), 0.5),
        ("average precision (higher)", values.get("average_precision"), values.get("base_rate")),
        ("log loss (lower)", values.get("log_loss"), values.get("prior_log_loss")),
    )
    for name, ours, prior in rows:
        if ours is not None and prior is not None:
            table.add_row(name, f"{ours:.4f}", f"{prior:.4f}")
    console.print(table)
    where, name = job.registry, job.name
    console.print(f"Registry: {Path(where).resolve()}\nNext:", highlight=False)
    for command in (
        f"beam-ml registry ls {where} {name}",
        f"beam-ml registry diff {where} {name} v2 v{last.manifest.number}",
        f"beam-ml registry serve {where} {name} v{max(1, last.manifest.number - 1)}    # roll back",
        f'beam-ml derive {where} {name} --model \'{{"kind": "classifier", "l2": 0.1}}\' --out {name}-l2',
    ):
        console.print(f"  .venv/bin/{command}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
