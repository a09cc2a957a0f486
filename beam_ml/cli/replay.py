"""Files into a Kafka topic at N× real time, in order of event time: ``beam-ml replay transactions.parquet ...``.

All files are checked before anything is sent; then each row is sent when it is due. An interrupted replay cannot resume.
"""

import dataclasses
import datetime
import itertools
import json as json_text
from collections.abc import Iterator, Sequence
from typing import get_args

import click
from rich.status import Status
from rich.text import Text

from beam_ml.beam.kafka import Connection, topics
from beam_ml.beam.kafka.replay import Replay, Sent, replay_to
from beam_ml.cli.console import Command, Screen, as_json, print_json, styled
from beam_ml.cli.event_order import Input, Rows, Survey, read, stamp, survey
from beam_ml.cli.inputs import as_mapping
from beam_ml.cli.stopping import hear_stop
from beam_ml.core.epochs import UnitOfNumbers
from beam_ml.errors import InvalidValue, MissingColumn, NoInput

__all__ = ["main"]


def _time_us(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{option} must be a date or time such as 2018-04-01 or 2018-04-01T12:00:00; got {text!r}."
        raise InvalidValue(message) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(microseconds=1)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        return float(text)
    except ValueError as error:
        message = f"--speed must be a number greater than 0, or 'max'; got {text!r}."
        raise InvalidValue(message) from error


def _client(pairs: Sequence[str]) -> dict[str, str | int | float | bool]:
    """Read ``name=value`` options: numbers and booleans as such, all else as text."""
    found: dict[str, str | int | float | bool] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            message = f"--client must be name=value; got {pair!r}."
            raise InvalidValue(message)
        try:
            value = json_text.loads(text)
        except ValueError:
            value = text
        found[name] = value if isinstance(value, (bool, int, float)) else text
    return found


class _Teller:
    """Reports progress: one line that is overwritten on a terminal, else one in ten seconds."""

    def __init__(self, console: Screen, found: Survey) -> None:
        self._console, self._found, self._said_s = console, found, 0.0
        self._status: Status | None = console.waiting("…") if console.is_terminal else None

    def __enter__(self) -> "_Teller":
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, sent: Sent) -> None:
        line = self.line(sent)
        if self._status:
            self._status.update(line)
        elif sent.seconds - self._said_s >= 10.0:
            self._said_s = sent.seconds
            self._console.say(line)

    def line(self, sent: Sent) -> Text:
        """Say it in one line."""
        rate = sent.rows / sent.seconds if sent.seconds else 0.0
        at = "" if sent.last_us is None else f", event time {stamp(sent.last_us)}"
        behind = styled(f", behind by {sent.behind_s:.1f} s", "bold yellow") if sent.behind_s >= 1.0 else ""
        share = sent.rows / max(self._found.rows, 1)
        return Text.assemble(f"{sent.rows:,} rows acknowledged ({share:.0%}), {rate:,.0f} rows/s{at}", behind)


def _tell_found(console: Screen, found: Survey, given: Input, how: Replay) -> None:
    for n, what in ((found.undated, f"without {given.time}"), *((n, reason) for reason, n in found.malformed.items())):
        if n:
            console.say(f"{n:,} rows left out: {what}")
    if found.first_us is None or found.last_us is None:
        message = f"{given.source} must hold rows within the bounds; it has none."
        raise NoInput(message)
    order = "" if found.in_order else f", brought into order within {given.sort_rows:,} rows"
    takes = ""
    if how.speed is not None:
        takes = f"; at {how.speed:g}× it takes {(found.last_us - found.first_us) / 1e6 / how.speed:,.1f} s"
    console.say(f"{found.rows:,} rows of {stamp(found.first_us)} to {stamp(found.last_us)}{order}{takes}")


def _tell_end(console: Screen, sent: Sent, how: Replay, first_us: int) -> None:
    rate = sent.rows / sent.seconds if sent.seconds else 0.0
    console.say(
        f"{'' if sent.whole else 'stopped: '}{sent.rows:,} rows in {sent.messages:,} messages acknowledged in "
        f"{sent.seconds:,.1f} s ({rate:,.0f} rows/s)"
    )
    if how.speed is not None and sent.last_us is not None and sent.seconds > 0 and sent.worst_behind_s >= 1.0:
        real = (sent.last_us - first_us) / 1e6 / sent.seconds
        console.say(
            f"it fell behind by up to {sent.worst_behind_s:,.1f} s and ended {sent.behind_s:,.1f} s behind: {real:,.4g}× "
            f"on the whole, not {how.speed:g}×"
        )
    if not sent.whole and sent.last_us is not None:
        console.say(f"the last row sent is of {stamp(sent.last_us)}")


@click.command(cls=Command)
@click.argument("source")
@click.option("--brokers", required=True, help="host:port, several by commas.")
@click.option("--topic", required=True, help="Where to; it must exist, or be made by --make-topic.")
@click.option(
    "--make-topic", type=click.IntRange(min=1), help="Make the topic with so many partitions, if there is none."
)
@click.option("--time", required=True, help="Column of event times: timestamps, or numbers since the epoch.")
@click.option(
    "--time-unit", type=click.Choice(get_args(UnitOfNumbers)),
    help="What event times that are numbers count since 1970; else recognised by their size.",
)  # fmt: skip
@click.option(
    "--speed", default="1", show_default=True,
    help="Seconds of event time in one second: 86400 replays a day in a second; 'max': as fast as the brokers take it.",
)  # fmt: skip
@click.option("--key", help="Column whose value becomes the messages' key.")
@click.option(
    "--rows-per-message",
    default=1,
    show_default=True,
    help="Rows of one message; it is due with its last row.",
)
@click.option("--format", default="json", show_default=True, help="Of the messages: json, avro, csv.")
@click.option("--options", default="{}", help="The message format's options, as JSON.")
@click.option(
    "--partitions-by", type=click.Choice(["key", "round-robin"]),
    help="key: by the key's hash, so that equal keys share a partition; it is the default where there is a key.",
)  # fmt: skip
@click.option("--from", "begin", help="First event time sent, such as 2018-04-01 or 2018-04-01T12:00:00 (UTC).")
@click.option("--until", "end", help="Event time at which it ends; rows of this time are not sent.")
@click.option(
    "--record-time", type=click.Choice(["now", "event"]), default="now", show_default=True,
    help="What messages are dated. With 'event', brokers remove historic messages at once, or soon: they lie behind the "
    "topic's retention.ms (a week unless set otherwise); set it to -1 for such a topic before.",
)  # fmt: skip
@click.option("--columns", help="Columns to send, by commas; the event time always is. All when not given.")
@click.option("--file-format", help="Of the files: parquet, csv, json, avro, or one's own; else by their names.")
@click.option("--file-options", default="{}", help="The file format's options, as JSON.")
@click.option(
    "--sort-rows", default=1_000_000, show_default=True, help="Rows held in memory to bring files into order."
)
@click.option(
    "--client", multiple=True, help="name=value of kafka-python, several; '$NAME' is taken from the environment."
)
@as_json
def main(
    source: str,
    brokers: str,
    topic: str,
    make_topic: int | None,
    time: str,
    time_unit: UnitOfNumbers | None,
    speed: str,
    key: str | None,
    rows_per_message: int,
    format: str,
    options: str,
    partitions_by: str | None,
    begin: str | None,
    end: str | None,
    record_time: str,
    columns: str | None,
    file_format: str | None,
    file_options: str,
    sort_rows: int,
    client: tuple[str, ...],
    json: bool,
) -> None:
    """Send the rows of SOURCE (a file, folder or pattern) to a Kafka topic in order of event time, at N× real time.

    The first row is sent at once, each other one when its time comes. When the brokers or this machine do not keep up,
    rows go out late, as fast as can be, until the schedule is caught up with, and it says so. At the end it tells
    exactly how many rows the brokers have acknowledged. Nothing is resumed: stopped and started again it sends from the
    beginning, or from --from; rows with the very time at which it stopped may then be sent twice or not at all.
    """
    console = Screen(stderr=json)
    spread = partitions_by or ("key" if key else "round-robin")
    how = Replay(rows_per_message, _speed(speed), key, spread, record_time)  # type: ignore[arg-type]
    wanted = None if columns is None else tuple(columns.split(","))
    given = Input(
        source, time, file_format, as_mapping("--file-options", file_options), wanted,
        _time_us("--from", begin), _time_us("--until", end), _positive("--sort-rows", sort_rows), time_unit,
    )  # fmt: skip
    found = survey(given)
    _tell_found(console, found, given, how)
    assert found.first_us is not None  # noqa: S101 or it was refused
    rows = _checked(read(given, found), how.key, source)
    stopping = hear_stop("sending no more, waiting for what is under way.")
    if make_topic is not None:
        topics.make_topic(Connection(brokers, _client(client)), topic, make_topic)
    with _Teller(console, found) as tell:
        sent = replay_to(
            brokers, topic, _client(client), rows, how,
            format, as_mapping("--options", options), tell, stopping,
        )  # fmt: skip
    _tell_end(console, sent, how, found.first_us)
    if json:
        print_json(dataclasses.asdict(sent) | {"left_out": {**found.malformed, f"without {time}": found.undated}})


def _checked(rows: Iterator[Rows], key: str | None, source: str) -> Iterator[Rows]:
    """Read the first rows before any broker is asked: columns that are not there are found here.

    Raises:
        MissingColumn: the key, or one of the columns to send, is not there.
    """
    first = next(rows)
    names = first[0].schema.names
    if key is not None and key not in names:
        message = f"{source} must have the column of --key, {key!r}; got {names}."
        raise MissingColumn(message)
    return itertools.chain([first], rows)


def _positive(option: str, value: int) -> int:
    if value < 1:
        message = f"{option} must be >= 1; got {value}."
        raise InvalidValue(message)
    return value
