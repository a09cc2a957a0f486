"""What a person sees while a job trains: one line per refresh, and the totals."""

import datetime
from collections import Counter

from rich.table import Table

from beam_ml.beam.job import Job
from beam_ml.beam.rounds import Round
from beam_ml.cli.console import Screen, styled
from beam_ml.core.refresh import FOLD_REASONS, Refresh
from beam_ml.errors import TrainingFailed

__all__ = ["RoundTable", "day", "headline"]

_SHOWN = ("auc", "average_precision", "log_loss", "rmse", "msd")
_SHORT = {"average_precision": "AP", "auc": "AUC", "log_loss": "log loss", "rmse": "RMSE", "msd": "mean sq. dist."}


def day(window_end_us: int | None) -> str:
    """Say which window: the minute it ends, or `round`."""
    if window_end_us is None:
        return "round"
    ends = datetime.datetime.fromtimestamp(window_end_us / 1e6, datetime.UTC)
    last = ends - datetime.timedelta(microseconds=1)
    whole_days = (ends.hour, ends.minute, ends.second) == (0, 0, 0)
    return f"{last:%Y-%m-%d}" if whole_days else f"{ends:%Y-%m-%d %H:%M:%S}"


def headline(one: Refresh) -> dict[str, float]:
    """Return the metrics worth a column: the champion's, or the first candidate's, on the window before it was learned."""
    name = one.champion if one.champion in one.measured else next(iter(one.measured), None)
    found = one.measured.get(name, {}) if name is not None else {}
    return {metric: found[metric] for metric in _SHOWN if metric in found}


class RoundTable:
    """Prints refreshes as they come, under one header, with columns that keep their place."""

    def __init__(self, console: Screen, job: Job) -> None:
        self._console, self._job = console, job
        self._columns: list[str] = []
        self._rows = self._learned = self._refreshes = self._open = 0
        self._any, self._pass = False, 1
        self._rejected: Counter[str] = Counter()
        self._sums: dict[str, list[float]] = {}

    def show(self, one: Round) -> None:
        """Print the refreshes of one round."""
        self._rows += one.progress.rows
        self._rejected.update(one.progress.rejected)
        self._any, self._open = True, one.open_windows
        if one.passes is not None and one.passes.number != self._pass:
            self._pass = one.passes.number
            self._console.say(styled(f"pass {self._pass} of {one.passes.of}", "bold"))
        for i, (refresh, seconds) in enumerate(one.refreshes, start=1):
            self._refreshes += 1
            # Those of reading are in the round's progress; these come to light at the fold.
            self._rejected.update({why: refresh.progress.rejected.get(why, 0) for why in FOLD_REASONS})
            self._learned += refresh.progress.rows
            self._line(one, refresh, seconds, last=i == len(one.refreshes))
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
        verdict = (
            (styled("served", "green"),)
            if refresh.verdict.accepted
            else (styled("refused", "yellow"), f": {refresh.verdict.reasons[0]}")
        )
        start = f"v{one.manifest.number:<5} {day(refresh.window_end):19} {refresh.progress.rows:>9,}"
        self._console.say(f"{start} {' '.join(cells)} {seconds:8.3f} s  ", *verdict)

    def _header(self) -> None:
        names = " ".join(f"{_SHORT[m]:>10.10}" for m in self._columns)
        self._console.say(styled(f"{'version':6} {'window':19} {'rows':>9} {names} {'refresh':>10}  gate", "bold"))

    def end(self, seconds: float) -> None:
        """Print the totals.

        Raises:
            TrainingFailed: there were rows, and all of them were rejected.
        """
        if not self._any:
            self._console.say(f"Nothing new to read in {self._job.source.where}.")
            return
        table = Table(show_header=False, box=None)
        table.add_row("rows read", f"{self._rows:,}")
        for reason, rows in sorted((+self._rejected).items()):
            table.add_row(f"rows rejected: {reason}", f"{rows:,}")
        if self._open:
            table.add_row("windows still open", f"{self._open:,} (--close folds them)")
        table.add_row("refreshes", f"{self._refreshes:,}")
        table.add_row("rows/s, the whole run", f"{self._rows / max(seconds, 1e-9):,.0f}")
        for metric, values in self._sums.items():
            table.add_row(f"{_SHORT[metric]} on the next window, average", f"{sum(values) / len(values):.4f}")
        table.add_row("registry", f"{self._job.registry}/{self._job.name}")
        self._console.print(table)
        rejected = self._rejected.total()
        if rejected and (self._rows == 0 or self._learned == self._open == 0):
            reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in self._rejected.most_common() if rows)
            message = f"All {rejected:,} rows were rejected ({reasons}); nothing was learned."
            raise TrainingFailed(message)
