"""What is printed while a job trains: for people a line per refresh and the totals, for programs a JSON object per round."""

import dataclasses
import datetime
from collections import Counter
from typing import Any

from rich.table import Table
from rich.text import Text

from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Round
from beam_ml.cli.console import Screen, print_json, styled
from beam_ml.cli.standing import gate_of
from beam_ml.core.described import Described
from beam_ml.core.refresh import FOLD_REASONS, Refresh
from beam_ml.errors import TrainingFailed
from beam_ml.features import Features
from beam_ml.registry import Registry

__all__ = ["JsonRounds", "RoundTable", "day", "headline"]

_SHOWN = ("auc", "average_precision", "log_loss", "rmse", "msd", "perplexity", "mean_wql")
_SHORT = {"average_precision": "AP", "auc": "AUC", "log_loss": "log loss", "rmse": "RMSE", "msd": "mean sq. dist."}


def day(window_end_us: int | None) -> str:
    """Say which window: the minute it ends, or `round`."""
    if window_end_us is None:
        return "round"
    try:
        ends = datetime.datetime.fromtimestamp(window_end_us / 1e6, datetime.UTC)
    except (OverflowError, ValueError, OSError):  # a year that calendars do not have
        return f"{window_end_us} µs"
    last = ends - datetime.timedelta(microseconds=1)
    whole_days = (ends.hour, ends.minute, ends.second) == (0, 0, 0)
    return f"{last:%Y-%m-%d}" if whole_days else f"{ends:%Y-%m-%d %H:%M:%S}"


def headline(one: Refresh) -> dict[str, float]:
    """Return the metrics worth a column: the champion's, or the first candidate's, on the window before it was learned."""
    name = one.champion if one.champion in one.measured else next(iter(one.measured), None)
    found = one.measured.get(name, {}) if name is not None else {}
    return {metric: found[metric] for metric in _SHOWN if metric in found}


@dataclasses.dataclass(slots=True)
class _Totals:
    """What all rounds of a run add up to."""

    rounds: int = 0
    rows: int = 0
    learned: int = 0
    refreshes: int = 0
    open_windows: int = 0
    rejected: Counter[str] = dataclasses.field(default_factory=Counter)
    adjusted: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, one: Round) -> None:
        """Add a round."""
        self.rounds += 1
        self.rows += one.progress.rows
        self.rejected.update(one.progress.rejected)
        self.adjusted.update(one.progress.adjusted)
        self.open_windows = one.open_windows
        self.refreshes += len(one.refreshes)
        for refresh, _ in one.refreshes:
            # Those of reading are in the round's progress; these come to light at the fold.
            self.rejected.update({why: refresh.progress.rejected.get(why, 0) for why in FOLD_REASONS})
            self.learned += refresh.progress.rows

    def refuse_nothing_learned(self) -> None:
        """Raise TrainingFailed where there were rows, and all of them were rejected."""
        rejected = self.rejected.total()
        if rejected and (self.rows == 0 or self.learned == self.open_windows == 0):
            reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in self.rejected.most_common() if rows)
            message = f"All {rejected:,} rows were rejected ({reasons}); nothing was learned."
            raise TrainingFailed(message)


class RoundTable:
    """Prints refreshes as they come, under one header, with columns that keep their place."""

    def __init__(self, console: Screen, job: Job, registry: Registry) -> None:
        self._console, self._job, self._registry = console, job, registry
        self._columns: list[str] = []
        self._totals, self._pass = _Totals(), 1
        self._sums: dict[str, list[float]] = {}

    def show(self, one: Round) -> None:
        """Print the refreshes of one round."""
        self._totals.add(one)
        if one.passes is not None and one.passes.number != self._pass:
            self._pass = one.passes.number
            self._console.say(styled(f"pass {self._pass} of {one.passes.of}", "bold"))
        for i, (refresh, seconds) in enumerate(one.refreshes, start=1):
            self._line(one, refresh, seconds, last=i == len(one.refreshes))
            self._described(refresh)
        if not one.refreshes:
            self._console.say(
                f"v{one.manifest.number:<5} {one.progress.rows:,} rows read, no window closed yet; {one.open_windows} open"
            )
        if one.passes is not None and one.passes.stopped:
            self._console.say(styled(one.passes.stopped, "yellow"))

    def _line(self, one: Round, refresh: Refresh, seconds: float, *, last: bool) -> None:
        values = headline(refresh)
        for metric, value in values.items():
            self._sums.setdefault(metric, []).append(value)
        if values and not self._columns:
            self._columns = list(values)
            self._header()
        cells = [f"{values[m]:10.4f}" if m in values else " " * 10 for m in self._columns]
        gate = gate_of(self._registry, one.manifest) if last else _superseded(refresh)
        start = f"v{one.manifest.number:<5} {day(refresh.window_end):19} {refresh.progress.rows:>9,}"
        self._console.say(f"{start} {' '.join(cells)} {seconds:8.3f} s  ", gate)

    def _described(self, refresh: Refresh) -> None:
        for model in refresh.models.values():
            if isinstance(model, Described):
                for line in model.lines(_names(self._job.features)):
                    self._console.say(f"       {line}")

    def _header(self) -> None:
        names = " ".join(f"{_SHORT.get(m, m):>10.10}" for m in self._columns)
        self._console.say(styled(f"{'version':6} {'window':19} {'rows':>9} {names} {'refresh':>10}  gate", "bold"))

    def end(self, seconds: float) -> None:
        """Print the totals.

        Raises:
            TrainingFailed: there were rows, and all of them were rejected.
        """
        totals = self._totals
        if not totals.rounds:
            self._console.say(f"Nothing new to read in {self._job.source.where}.")
            return
        table = Table(show_header=False, box=None)
        table.add_row("rows read", f"{totals.rows:,}")
        for reason, rows in sorted((+totals.rejected).items()):
            table.add_row(f"rows rejected: {reason}", f"{rows:,}")
        for what, rows in sorted(totals.adjusted.items()):
            table.add_row(f"rows adjusted: {what}", f"{rows:,}")
        if totals.open_windows:
            table.add_row("windows still open", f"{totals.open_windows:,} (--close folds them)")
        table.add_row("refreshes", f"{totals.refreshes:,}")
        table.add_row("rows/s, the whole run", f"{totals.rows / max(seconds, 1e-9):,.0f}")
        for metric, values in self._sums.items():
            table.add_row(
                f"{_SHORT.get(metric, metric)} on the next window, average", f"{sum(values) / len(values):.4f}"
            )
        table.add_row("registry", f"{self._job.registry}/{self._job.name}")
        self._console.print(table)
        totals.refuse_nothing_learned()


def _names(features: Features) -> tuple[str, ...]:
    """Return the names of all features in order, of sparse ones too."""
    behind = (name for field in features.fields for name in field.term.names) if features.is_sparse else ()
    return (*features.names, *behind)


def _superseded(refresh: Refresh) -> Text:
    """Return what became of a window whose models a later window of the same version has replaced."""
    if refresh.verdict.accepted:
        return styled("accepted, superseded", "green")
    return styled(f"refused: {'; '.join(refresh.verdict.reasons)}", "yellow")


class JsonRounds:
    """Prints one JSON object per round, and one of the totals."""

    def __init__(self, job: Job, registry: Registry) -> None:
        self._job, self._registry = job, registry
        self._totals = _Totals()

    def show(self, one: Round) -> None:
        """Print one round: its version, what the registry makes of it, and its refreshes."""
        self._totals.add(one)
        print_json(
            {
                "version": one.manifest.number,
                "gate": gate_of(self._registry, one.manifest).plain,
                "rows": one.progress.rows,
                "rejected": dict(one.progress.rejected),
                "adjusted": dict(one.progress.adjusted),
                "open_windows": one.open_windows,
                "seconds": one.seconds,
                "refreshes": [_refresh(refresh, seconds) for refresh, seconds in one.refreshes],
            }
        )

    def end(self, seconds: float) -> None:
        """Print the totals.

        Raises:
            TrainingFailed: there were rows, and all of them were rejected.
        """
        found = self._totals
        totals = {
            "rounds": found.rounds,
            "rows": found.rows,
            "refreshes": found.refreshes,
            "open_windows": found.open_windows,
            "rejected": dict(+found.rejected),
            "adjusted": dict(found.adjusted),
            "seconds": seconds,
        }
        print_json({"name": self._job.name, "registry": self._job.registry, "totals": totals})
        found.refuse_nothing_learned()


def _refresh(refresh: Refresh, seconds: float) -> dict[str, Any]:
    return {
        "window_end_us": refresh.window_end,
        "rows": refresh.progress.rows,
        "rejected": {why: refresh.progress.rejected.get(why, 0) for why in FOLD_REASONS},
        "metrics": headline(refresh),
        "accepted": refresh.verdict.accepted,
        "reasons": list(refresh.verdict.reasons),
        "seconds": seconds,
    }
