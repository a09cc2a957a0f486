"""Time zones: what clocks on the wall show, by the changes that `zoneinfo` knows from 1900 to 2201. Letters: ``n`` times."""

import functools
import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from beam_ml.core.meant import did_you_mean

__all__ = ["Zone", "local_us"]

_FROM, _THROUGH = -2_208_988_800, 7_289_654_400  # seconds since the epoch: 1900 to 2201
_STEP = 86_400
"""Seconds between two looks for a change."""


def _known(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        message = f"must be a time zone such as 'Europe/Paris'{_meant(name)}"
        raise ValueError(message) from None
    return name


def _meant(name: str) -> str:
    found = did_you_mean(name, zoneinfo.available_timezones()).strip().rstrip("?")
    return f" ({found[:1].lower()}{found[1:]}?)" if found else ""


Zone = Annotated[str, AfterValidator(_known)]
"""The name of a time zone."""


def local_us(us: np.ndarray, zone: str | None) -> np.ndarray:
    """Return µs since the epoch as the clocks of a zone show them, (n,) int64, of times in µs, (n,) int64.

    Each time has one reading, also in the hour that is there twice when summer time ends.

    >>> noon = 1_719_835_200_000_000  # 2024-07-01 12:00 UTC
    >>> ((local_us(np.array([noon]), "Europe/Paris") - noon) // 3_600_000_000).tolist()
    [2]
    """
    if zone is None:
        return us
    changes, offsets = _changes(zone)
    if not changes.size:
        return us + offsets[0]
    shifted: np.ndarray = us + offsets[np.searchsorted(changes, us, side="right")]
    return shifted


@functools.lru_cache(maxsize=64)
def _changes(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return when the offset from UTC changes, (k,) µs, and the offset before, between and after, (k + 1,) µs."""
    zone = zoneinfo.ZoneInfo(name)
    changes, offsets = list[int](), [_offset(zone, _FROM)]
    for end in range(_FROM + _STEP, _THROUGH + _STEP, _STEP):
        if _offset(zone, end) != offsets[-1]:
            low, high = end - _STEP, end
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == offsets[-1] else (low, middle)
            changes.append(high)
            offsets.append(_offset(zone, high))
    return np.array(changes, dtype=np.int64) * 10**6, np.array(offsets, dtype=np.int64) * 10**6


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _offset(zone: tzinfo, at: int) -> int:
    found = (_EPOCH + timedelta(seconds=at)).astimezone(zone).utcoffset()
    assert found is not None  # noqa: S101 a zone has one at all times
    return int(found.total_seconds())
