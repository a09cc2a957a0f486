"""What somebody may have meant who wrote a name that is not there."""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(given: object, known: Iterable[object]) -> str:
    """Return the question that ends a sentence about an unknown name; empty where nothing is near.

    >>> did_you_mean("in order", ["auto", "in_order", "together"])
    " Did you mean 'in_order'?"
    >>> did_you_mean("x", ["auto"])
    ''
    """
    near = difflib.get_close_matches(str(given), [str(one) for one in known], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
