"""Simulated card transactions, day by day: customers, terminals near them, and three kinds of fraud.

A customer has a home, a usual amount and a usual number of payments per day, and pays at the terminals within a radius of
home. Fraud comes in three scenarios, numbered as in TX_FRAUD_SCENARIO (0: genuine):

1. an amount above a threshold that genuine customers hardly ever reach;
2. a terminal is compromised for weeks: whatever is paid there is fraud, and looks like any other payment;
3. a card is stolen for two weeks: some of its payments are the thief's, with inflated amounts, late hours among them.

Letters: ``c`` customers, ``t`` terminals, ``n`` payments of one day. Everything is drawn from the seed.
"""

import dataclasses
import datetime
import os
from collections.abc import Iterable, Iterator

import click
import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from beam_ml.cli.console import Command
from beam_ml.formats import parquet

__all__ = ["REPORTS", "SCHEMA", "report_days", "simulate_days", "write_days", "write_reports"]

SCHEMA = pa.schema(
    [
        ("TRANSACTION_ID", pa.int64()),
        ("TX_DATETIME", pa.timestamp("us", tz="UTC")),
        ("CUSTOMER_ID", pa.int32()),
        ("TERMINAL_ID", pa.int32()),
        ("TX_AMOUNT", pa.float64()),
        ("TX_FRAUD", pa.int32()),
        ("TX_FRAUD_SCENARIO", pa.int32()),
    ]
)
"""Columns of a day's table."""

REPORTS = pa.schema(
    [("TRANSACTION_ID", pa.int64()), ("REPORTED_AT", pa.timestamp("us", tz="UTC")), ("TX_FRAUD", pa.int32())]
)
"""Columns of a day's reports of fraud."""

_DAY_US = 86_400_000_000
_SIDE = 100.0
_RADIUS = 5.0
_AMOUNT_SHAPE = 5.0  # of the gamma distribution around a customer's usual amount
_AMOUNT_LIMIT = 220.0
_COMPROMISED_DAYS = (14, 28)
_COMPROMISES_PER_TERMINAL_DAY = 1.6e-4
_STOLEN_DAYS = 14
_THEFTS_PER_CUSTOMER_DAY = 1.1e-3
_THIEF_SHARE = 1 / 3
_INFLATION = (2.0, 6.0)
_THIEF_AT_NIGHT = 0.25
_REPORTED_AFTER_DAYS = (0.2, 6.9)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _World:
    """Who pays where.

    Attributes:
        amount: (c,) mean amount of a payment.
        payments: (c,) mean number of payments a day.
        near: terminals near the customers, one customer's after the other's.
        near_from, near_n: (c,) each customer's part of `near`.
    """

    amount: np.ndarray
    payments: np.ndarray
    near: np.ndarray
    near_from: np.ndarray
    near_n: np.ndarray


def _world(rng: np.random.Generator, n_customers: int, n_terminals: int) -> _World:
    homes = rng.uniform(0, _SIDE, (n_customers, 2))
    terminals = cKDTree(rng.uniform(0, _SIDE, (n_terminals, 2)))
    near = terminals.query_ball_point(homes, _RADIUS, return_sorted=True)
    closest = terminals.query(homes)[1]
    lists = [np.asarray(found or [only], dtype=np.int32) for found, only in zip(near, closest, strict=True)]
    near_n = np.array([one.size for one in lists], dtype=np.int64)
    amount = rng.uniform(5, 100, n_customers)
    payments = rng.uniform(0, 4, n_customers)
    return _World(amount, payments, np.concatenate(lists), np.cumsum(near_n) - near_n, near_n)


def _begin(rng: np.random.Generator, until: np.ndarray, day: int, rate: float, days: tuple[int, int]) -> None:
    """Let compromises or thefts begin today: note the day on which each ends."""
    hit = np.flatnonzero(rng.random(until.size) < rate)
    ends = day + rng.integers(days[0], days[1] + 1, hit.size)
    until[hit] = np.maximum(until[hit], ends)


def _clock_us(rng: np.random.Generator, thief: np.ndarray) -> np.ndarray:
    """Draw times of day: around 13 h; some of a thief's at any hour of the night."""
    hour = rng.normal(13.0, 4.5, thief.size) % 24.0
    at_night = thief & (rng.random(thief.size) < _THIEF_AT_NIGHT)
    hour[at_night] = rng.uniform(0.0, 6.0, int(at_night.sum()))
    times: np.ndarray = (hour * 3.6e9).astype(np.int64) % _DAY_US
    return times


def _day(rng: np.random.Generator, world: _World, compromised: np.ndarray, stolen: np.ndarray) -> dict[str, np.ndarray]:
    """Draw one day's payments, in order of time; TX_DATETIME counts µs from midnight.

    Args:
        rng: the day's.
        world: who pays where.
        compromised: (t,) bool.
        stolen: (c,) bool.
    """
    customer = np.repeat(np.arange(world.payments.size, dtype=np.int32), rng.poisson(world.payments))
    n = customer.size
    pick = (rng.random(n) * world.near_n[customer]).astype(np.int64)
    terminal = world.near[world.near_from[customer] + pick]
    amount = rng.gamma(_AMOUNT_SHAPE, world.amount[customer] / _AMOUNT_SHAPE)
    thief = stolen[customer] & (rng.random(n) < _THIEF_SHARE)
    amount = np.where(thief, amount * rng.uniform(*_INFLATION, n), amount).round(2)
    scenario = np.where(amount > _AMOUNT_LIMIT, 1, 0)
    scenario[compromised[terminal]] = 2
    scenario[thief] = 3
    time = _clock_us(rng, thief)
    order = np.argsort(time, kind="stable")
    return {
        "TX_DATETIME": time[order],
        "CUSTOMER_ID": customer[order],
        "TERMINAL_ID": terminal[order],
        "TX_AMOUNT": amount[order],
        "TX_FRAUD": (scenario[order] > 0).astype(np.int32),
        "TX_FRAUD_SCENARIO": scenario[order].astype(np.int32),
    }


def simulate_days(
    n_days: int,
    n_customers: int = 5_000,
    n_terminals: int = 10_000,
    seed: int = 0,
    start: datetime.date = datetime.date(2024, 1, 1),
) -> Iterator[tuple[datetime.date, pa.Table]]:
    """Return the payments of one day after the other.

    Compromises and thefts have been going on for long when the first day begins, so fraud is as frequent then as later.
    The first days of a longer run are those of a shorter one.

    Args:
        n_days: days.
        n_customers: c; each pays twice a day on average.
        n_terminals: t.
        seed: equal seeds yield equal payments.
        start: the first day.

    Yields:
        The day and its table, in order of time, of the columns SCHEMA; TRANSACTION_ID runs on.

    >>> day, table = next(simulate_days(1, n_customers=100, n_terminals=50))
    >>> str(day), table.column_names[4], table.num_rows > 100
    ('2024-01-01', 'TX_AMOUNT', True)
    """
    world = _world(np.random.default_rng((seed, 0)), n_customers, n_terminals)
    compromised, stolen = np.zeros(n_terminals, dtype=np.int64), np.zeros(n_customers, dtype=np.int64)
    midnight = (start - datetime.date(1970, 1, 1)).days * _DAY_US
    warm_up, n_before = max(_COMPROMISED_DAYS[1], _STOLEN_DAYS), 0
    for day in range(warm_up + n_days):
        rng = np.random.default_rng((seed, 1 + day))
        _begin(rng, compromised, day, _COMPROMISES_PER_TERMINAL_DAY, _COMPROMISED_DAYS)
        _begin(rng, stolen, day, _THEFTS_PER_CUSTOMER_DAY, (_STOLEN_DAYS, _STOLEN_DAYS))
        if day < warm_up:
            continue
        columns = _day(rng, world, compromised > day, stolen > day)
        n = columns["TX_AMOUNT"].size
        columns["TX_DATETIME"] = columns["TX_DATETIME"] + midnight + (day - warm_up) * _DAY_US
        columns["TRANSACTION_ID"] = np.arange(n_before, n_before + n, dtype=np.int64)
        n_before += n
        table = pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
        yield start + datetime.timedelta(days=day - warm_up), table


def write_days(
    directory: str,
    n_days: int,
    n_customers: int = 5_000,
    n_terminals: int = 10_000,
    seed: int = 0,
    start: datetime.date = datetime.date(2024, 1, 1),
) -> Iterator[str]:
    """Write each day's payments as ``YYYY-MM-DD.parquet``, whole or not at all, and yield its path once it is there.

    Args:
        directory: made if need be.
        n_days: days.
        n_customers: each pays twice a day on average.
        n_terminals: places to pay at.
        seed: equal seeds yield equal payments.
        start: the first day.
    """
    os.makedirs(directory, exist_ok=True)
    for day, table in simulate_days(n_days, n_customers, n_terminals, seed, start):
        path = os.path.join(directory, f"{day.isoformat()}.parquet")
        parquet.write(path, table.to_batches())
        yield path


def report_days(days: Iterable[tuple[datetime.date, pa.Table]], seed: int = 0) -> list[tuple[datetime.date, pa.Table]]:
    """Return the reports of fraud: each fraudulent payment is reported 0.2 to 6.9 days after it was made.

    Args:
        days: as `simulate_days` yields them.
        seed: equal seeds yield equal reports.

    Returns:
        Each day with its reports, in order of time, of the columns REPORTS; days without one are left out.

    >>> (first, table), *_ = report_days(simulate_days(3, n_customers=200, n_terminals=50))
    >>> str(first), table.column_names, table.num_rows > 0
    ('2024-01-04', ['TRANSACTION_ID', 'REPORTED_AT', 'TX_FRAUD'], True)
    """
    ids, times = [], []
    for number, (_, table) in enumerate(days):
        fraud = np.flatnonzero(table["TX_FRAUD"].to_numpy())
        rng = np.random.default_rng((seed, number, 1))
        after_us = (rng.uniform(*_REPORTED_AFTER_DAYS, fraud.size) * _DAY_US).astype(np.int64)
        ids.append(table["TRANSACTION_ID"].to_numpy()[fraud])
        times.append(table["TX_DATETIME"].cast(pa.int64()).to_numpy()[fraud] + after_us)
    every, at = (np.concatenate(one) if one else np.zeros(0, np.int64) for one in (ids, times))
    order = np.argsort(at, kind="stable")
    every, at = every[order], at[order]
    day = at // _DAY_US
    found = []
    for one in np.unique(day):
        mine = day == one
        columns = [every[mine], at[mine], np.ones(int(mine.sum()))]
        arrays = [pa.array(values).cast(field.type) for values, field in zip(columns, REPORTS, strict=True)]
        date = datetime.date(1970, 1, 1) + datetime.timedelta(days=int(one))
        found.append((date, pa.table(arrays, schema=REPORTS)))
    return found


def write_reports(directory: str, days: Iterable[tuple[datetime.date, pa.Table]], seed: int = 0) -> list[str]:
    """Write each day's reports of fraud as ``YYYY-MM-DD.parquet``; return the paths.

    Args:
        directory: made if need be.
        days: as `simulate_days` yields them.
        seed: equal seeds yield equal reports.
    """
    os.makedirs(directory, exist_ok=True)
    paths = []
    for day, table in report_days(days, seed):
        paths.append(os.path.join(directory, f"{day.isoformat()}.parquet"))
        parquet.write(paths[-1], table.to_batches())
    return paths


@click.command(cls=Command)
@click.argument("directory", type=click.Path(file_okay=False))
@click.option("--days", default=60, type=click.IntRange(min=1), show_default=True, help="Number of days.")
@click.option(
    "--customers",
    default=5_000,
    type=click.IntRange(min=1),
    show_default=True,
    help="Number of customers; each pays twice a day.",
)
@click.option("--terminals", default=10_000, type=click.IntRange(min=1), show_default=True, help="Number of terminals.")
@click.option(
    "--seed", default=0, type=click.IntRange(min=0), show_default=True, help="Equal seeds yield equal payments."
)
@click.option(
    "--start", default="2024-01-01", type=click.DateTime(["%Y-%m-%d"]), show_default=True, help="The first day."
)
@click.option(
    "--reports", type=click.Path(file_okay=False), help="Folder for reports of fraud, one Parquet file per day."
)
def main(
    directory: str, days: int, customers: int, terminals: int, seed: int, start: datetime.datetime, reports: str | None
) -> None:
    """Simulate card transactions into DIRECTORY, one Parquet file per day."""
    for path in write_days(directory, days, customers, terminals, seed, start.date()):
        click.echo(path)
    if reports is not None:
        for path in write_reports(reports, simulate_days(days, customers, terminals, seed, start.date()), seed):
            click.echo(path)
