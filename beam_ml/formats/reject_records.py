"""Rejected rows as plain records, one per row, to be written as JSON lines."""

from collections.abc import Iterator
from typing import Any

from beam_ml.core.batch import Origin
from beam_ml.core.rejects import UNPLACED, Reject
from beam_ml.formats.messages import PLACES

__all__ = ["reject_records"]


def reject_records(reject: Reject) -> Iterator[dict[str, Any]]:
    """Return one plain JSON record per row: source, partition, position, reason, and the detail where there is one.

    A position in a topic is also reported as offset and row within the message.

    >>> import numpy as np
    >>> reject = Reject("late", np.array([(7 << 20) + 3]), origin=Origin("kafka://lkc-1/payments", "0"))
    >>> [(one["offset"], one["row"]) for one in reject_records(reject)]
    [(7, 3)]
    """
    origin = reject.origin or Origin("", "")
    for i, position in enumerate(reject.position.tolist()):
        place = None if position == UNPLACED else position
        one = {"source": origin.source, "partition": origin.partition, "position": place, "reason": reject.reason}
        if place is not None and origin.source.startswith("kafka://"):
            one |= dict(zip(("offset", "row"), divmod(place, PLACES), strict=True))
        yield one | {"detail": reject.detail[i]} if reject.detail else one
