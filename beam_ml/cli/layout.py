"""Tables as lines of text: one line per row, whatever the width, so that people and pipes can read them."""

from collections.abc import Sequence

__all__ = ["laid_out"]

_GAP = "  "
_LEAST = 24
"""Characters kept for the last column before others are left out."""


def laid_out(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> list[str]:
    """Return the lines of a table, the header first.

    Args:
        header: names of the columns.
        rows: their texts.
        width: of a line at most; None: any. The last column is cut with "…" where it does not fit.
        right: columns set to the right, numbers for instance.
        spare: columns that are left out where the width does not suffice, the first of them first.

    >>> laid_out(["name", "rows"], [["a", "10"], ["bc", "7"]], right=["rows"])
    ['name  rows', 'a       10', 'bc       7']
    >>> laid_out(["name", "rows", "why"], [["a", "10", "a long text"]], width=16, spare=["rows"])
    ['name  why', 'a     a long te…']
    """
    kept = list(range(len(header)))
    sizes = [max(len(row[i]) for row in (header, *rows)) for i in kept]
    for name in spare:
        last = min(sizes[kept[-1]], _LEAST)
        if width is None or sum(sizes[i] + len(_GAP) for i in kept[:-1]) + last <= width:
            break
        kept = [i for i in kept if header[i] != name]
    return [_line([row[i] for i in kept], [sizes[i] for i in kept], [header[i] in right for i in kept], width)
            for row in (header, *rows)]  # fmt: skip


def _line(cells: Sequence[str], sizes: Sequence[int], right: Sequence[bool], width: int | None) -> str:
    *first, last = (
        cell.rjust(size) if at_right else cell.ljust(size)
        for cell, size, at_right in zip(cells, sizes, right, strict=True)
    )
    line = _GAP.join([*first, last]).rstrip()
    return line if width is None or len(line) <= width else line[: max(width - 1, 0)] + "…"
