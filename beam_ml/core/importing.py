"""`module:attribute` as text → the attribute. Importing runs the module: only for names that the caller has given."""

import importlib
import re
from typing import Any

from beam_ml.errors import InvalidValue

__all__ = ["attribute_of", "is_path"]

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_path(text: str) -> bool:
    """Return whether a text is of the form ``module:attribute``.

    >>> is_path("my_package.outliers:RECORD"), is_path("..:x"), is_path("pca")
    (True, False, False)
    """
    return _PATH.fullmatch(text) is not None


def attribute_of(what: str, path: str) -> Any:
    """Import the module of ``module:attribute`` and return the attribute.

    Raises:
        InvalidValue: it is no such path, or the module cannot be imported, whatever its code does (a module that ends the
            process does not); the cause is the module's own error.

    >>> attribute_of("encode", "json:dumps")([1])
    '[1]'
    """
    if not is_path(path):
        message = f"{what} must name an importable 'module:attribute'; got {path!r}."
        raise InvalidValue(message)
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        said = " ".join(f"{error}".split()) or type(error).__name__
        message = f"{what} must name an importable 'module:attribute'; got {path!r} ({said})."
        raise InvalidValue(message) from error
