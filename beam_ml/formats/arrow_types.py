"""Arrow types by name, as settings spell them."""

import pyarrow as pa

__all__ = ["named"]


def named(name: str) -> pa.DataType:
    """Return the Arrow type of a name such as ``float64`` or ``timestamp[us, tz=UTC]``.

    Raises:
        ValueError: there is no type of this name.

    >>> named("timestamp[us, tz=UTC]")
    TimestampType(timestamp[us, tz=UTC])
    """
    base, comma, zone = name.partition(", tz=")
    try:
        if comma and base.startswith("timestamp["):
            return pa.timestamp(base.removeprefix("timestamp["), tz=zone.removesuffix("]"))
        return pa.type_for_alias(name)
    except ValueError as error:
        message = f"must name Arrow types, such as 'float64' or 'timestamp[us, tz=UTC]', not {name!r}"
        raise ValueError(message) from error
