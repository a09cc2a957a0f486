"""Lines of CSV → rows of the types that they fit, and the lines that fit none."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.formats import lines
from beam_ml.formats.csv.layout import Layout, parsed, words_of
from beam_ml.formats.csv.types import Types, blamed, spelled

__all__ = ["Part", "nothing", "sound_part"]

_MALFORMED = "malformed line"
_UNPARSEABLE = "unparseable value"


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Some lines, parsed: the good rows, their line numbers, and refused lines with reason and words."""

    rows: pa.Table
    lines: np.ndarray
    refused: list[tuple[int, str, str]]


def _whole(data: Any, n: int, first: int, layout: Layout, types: Types) -> Part | None:
    """Parse n lines at once; None where the parser sees other rows than the lines."""
    rows, bad = parsed(data, layout, list(types), types)
    if rows.num_rows + len(bad) != n:
        return None
    numbers = np.delete(np.arange(n), bad) + first
    return Part(rows, numbers, [(first + i, _MALFORMED, "wrong number of fields") for i in bad])


def _piecewise(data: Any, start: np.ndarray, stop: np.ndarray, first: int, layout: Layout, types: Types) -> Part:
    """Parse lines, halving where that fails, down to the single lines that are to be refused."""
    n = start.size
    reason, words = _MALFORMED, "more than one row"
    try:
        part = _whole(data[int(start[0]) : int(stop[-1])], n, first, layout, types)
        if part is not None:
            return part
    except pa.ArrowInvalid as error:
        words = words_of(error)
        reason = _MALFORMED if words.startswith("CSV parse error") else _UNPARSEABLE
    if n == 1:
        return Part(pa.schema(types).empty_table(), np.empty(0, dtype=np.int64), [(first, reason, words)])
    half = n // 2
    a = _piecewise(data, start[:half], stop[:half], first, layout, types)
    b = _piecewise(data, start[half:], stop[half:], first + half, layout, types)
    return Part(pa.concat_tables([a.rows, b.rows]), np.concatenate([a.lines, b.lines]), a.refused + b.refused)


def _part(data: Any, start: np.ndarray, stop: np.ndarray, layout: Layout) -> Part:
    """Parse lines with the strictest types that each column's values fit; lines that fit none are refused one by one."""
    types, text = layout.strict, data[int(start[0]) : int(stop[-1])]
    hopeless: set[str] = set()
    part = None
    while len(hopeless) < len(types):
        try:
            part = _whole(text, start.size, 0, layout, {name: types[name] for name in types if name not in hopeless})
            break
        except pa.ArrowInvalid as error:
            name = blamed(error, layout.names)
            if name is None:
                break
            later = layout.later(name, types[name])
            if later:
                types[name] = later[0]
            else:
                hopeless.add(name)  # other columns are looked at without it
                if not any(layout.later(other, types[other]) for other in types if other not in hopeless):
                    break
    if part is None or hopeless:
        part = _piecewise(data, start, stop, 0, layout, types)
    return dataclasses.replace(part, rows=spelled(part.rows, layout.types))


def sound_part(data: Any, start: np.ndarray, stop: np.ndarray, spoilt: np.ndarray, layout: Layout) -> Part:
    """Parse all lines but damaged ones, which are refused unseen: the parser would take later lines for theirs."""
    if spoilt.any():
        refused = [(int(i), _MALFORMED, "an unclosed quote") for i in np.flatnonzero(spoilt)]
        return _without(data, start, stop, refused, layout)
    if not lines.is_text(data[int(start[0]) : int(stop[-1])]):
        bad = _malformed(data[int(start[0]) : int(stop[-1])], start.size, layout)
        if bad:
            return _without(data, start, stop, [(i, _MALFORMED, "wrong number of fields") for i in bad], layout)
    return _part(data, start, stop, layout)


def _without(
    data: Any, start: np.ndarray, stop: np.ndarray, refused: list[tuple[int, str, str]], layout: Layout
) -> Part:
    """Parse all lines but those refused already."""
    sound = np.setdiff1d(np.arange(start.size), [i for i, _, _ in refused])
    if sound.size == 0:
        return dataclasses.replace(nothing(layout), refused=refused)
    text = b"".join(data[int(a) : int(b)] for a, b in zip(start[sound], stop[sound], strict=True))
    ends = np.cumsum((stop - start)[sound])
    part = sound_part(memoryview(text), np.concatenate([[0], ends[:-1]]), ends, np.zeros(sound.size, bool), layout)
    more = [(int(sound[i]), reason, words) for i, reason, words in part.refused]
    return Part(part.rows, sound[part.lines], sorted(refused + more))


def _malformed(data: Any, n: int, layout: Layout) -> list[int]:
    """Return the lines with too few or too many fields of a text that is not UTF-8, which pyarrow cannot show."""
    shown = np.frombuffer(data, np.uint8).copy()
    shown[shown > 127] = ord("?")
    first = layout.names[0]
    try:
        rows, bad = parsed(shown.tobytes(), layout, [first], {first: pa.string()})
    except pa.ArrowInvalid:
        return []
    return bad if rows.num_rows + len(bad) == n else []


def nothing(layout: Layout) -> Part:
    """Return no rows of the strictest types."""
    return Part(pa.schema(layout.strict).empty_table(), np.empty(0, dtype=np.int64), [])
