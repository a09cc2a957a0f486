"""`LateLabels`: which columns identify, date and label rows, and how long a row waits for its label."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from beam_ml.core.epochs import UnitOfNumbers
from beam_ml.core.spec import Duration, Settings, to_us
from beam_ml.features.labels import Label, LabelColumn
from beam_ml.features.times import EventTime, TimeColumn

__all__ = ["CORRECTION", "KNOWN_AT", "LABEL_WEIGHT", "LateLabels"]

KNOWN_AT = "known_at"
"""Column of the time when a row's label was known, timestamps of µs in UTC."""
LABEL_WEIGHT = "label_weight"
"""Column of what the row counts: 1, or −1 where a label is taken back."""
CORRECTION = "correction"
"""Column of what the row corrects: 0, nothing; −1, it takes an earlier label back; 1, it sets another in its place."""

_MOST_US = 1 << 60
"""Longest time that rows or reports wait, about 36,000 years: sums of these and any event time are int64."""

_Span = Duration | Literal[0]


class LateLabels(Settings):
    """Which columns join rows and reports of labels, and how long a row waits.

    With t a row's event time and k that of a report with its id: the report is in time where ``t ≤ k < t + maturity``, and
    corrects what the row was emitted with where ``t + maturity ≤ k < t + maturity + corrected_within``. A report with
    ``k < t ≤ k + reports_ahead`` counts as one of time t.

    >>> spec = LateLabels(id="tx", time="at", label="fraud", reported="reported_at", maturity="7d")
    >>> spec.report_id, spec.maturity_us // 86_400_000_000
    ('tx', 7)
    """

    called: ClassVar[str] = "LateLabels"

    id: Annotated[str, Field(description="column of the rows' ids: whole numbers or texts; 7 and '7' are one id")]
    time: Annotated[TimeColumn, Field(description="column of the rows' event times")]
    label: Annotated[
        LabelColumn,
        Field(description="column of the reports' labels, as `features.label` takes it; what is emitted has it, too"),
    ]
    reported: Annotated[TimeColumn, Field(description="column of the reports' event times: when the label was known")]
    maturity: Annotated[Duration, Field(description="seconds of event time that a row waits for a report")]
    id_of_report: Annotated[
        str | None, Field(description="column of the reports' ids; none: named as that of rows")
    ] = None
    lateness: Annotated[
        _Span, Field(description="seconds of event time that a row or report may arrive behind the watermark")
    ] = 0
    corrected_within: Annotated[
        _Span, Field(description="seconds after maturity within which a report still corrects; a row is held as long")
    ] = 0
    reports_ahead: Annotated[
        _Span, Field(description="seconds that a report may be dated before its row: it waits as long")
    ] = 0
    unreported: Annotated[
        float | Literal["drop"],
        Field(description="the label of a row without a report at maturity, or 'drop': it is dropped, and counted"),
    ] = 0.0
    corrections: Annotated[
        Literal["add", "pair", "count"],
        Field(
            description="what a correction emits: 'add', the row with its new label and weight 1; 'pair', before it the row "
            "with its old label and weight -1; 'count', nothing"
        ),
    ] = "add"
    most_rows: Annotated[int, Field(ge=1, le=1 << 31, description="rows that a shard holds, and as many reports")] = (
        1_000_000
    )
    most_bytes: Annotated[int, Field(ge=1 << 10, description="bytes of the columns of the rows that a shard holds")] = (
        64 << 20
    )

    @model_validator(mode="after")
    def _apart(self) -> "LateLabels":
        for name in (KNOWN_AT, LABEL_WEIGHT, CORRECTION):
            if self.label_column == name:
                message = f"label must not be a column that the join adds; got {name!r}"
                raise ValueError(message)
        return self

    @property
    def report_id(self) -> str:
        """The column of the reports' ids."""
        return self.id if self.id_of_report is None else self.id_of_report

    @property
    def label_column(self) -> str:
        """The column of the reports' labels, and of the labels emitted."""
        return self.label.column if isinstance(self.label, Label) else self.label

    @property
    def maturity_us(self) -> int:
        """How long a row waits, µs."""
        return _us(self.maturity)

    @property
    def lateness_us(self) -> int:
        """How far behind the watermark what arrives may be, µs."""
        return _us(self.lateness)

    @property
    def memory_us(self) -> int:
        """How long a row is remembered behind its maturity, µs."""
        return _us(self.corrected_within)

    @property
    def ahead_us(self) -> int:
        """How long a report waits for a row that is dated after it, µs."""
        return _us(self.reports_ahead)

    @property
    def shape(self) -> dict[str, Any]:
        """What a state is of: all but the bounds, which may be moved while rows wait."""
        return {name: value for name, value in self.to_dict().items() if name not in ("most_rows", "most_bytes")}

    def dated(self, reports: bool) -> tuple[str, UnitOfNumbers | None]:
        """Return the column of event times of rows or reports, and what its numbers count."""
        of = self.reported if reports else self.time
        return (of.column, of.unit) if isinstance(of, EventTime) else (of, None)


def _us(seconds: float) -> int:
    return min(to_us(seconds), _MOST_US)
