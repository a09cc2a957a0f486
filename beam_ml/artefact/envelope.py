"""The envelope: named arrays and JSON facts as one safetensors file that any language opens.

The header's metadata has one key, `beam_ml`: canonical JSON of ``{digest, format, kind, library, meta}``. The digest
is the SHA-256 of that JSON (without itself), of every array's name, dtype and shape, and of its bytes, so that a bit
flipped anywhere is noticed: safetensors itself has no checksum. Equal content written by one library version yields
equal bytes.
"""

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from beam_ml.artefact.format import DTYPES, FORMAT, KEY, NAMES, Envelope
from beam_ml.artefact.migrations import migrate
from beam_ml.core.spec import canonical_json
from beam_ml.errors import CorruptArtefact, InvalidValue, UnsupportedVersion, WrongKind

__all__ = ["Envelope", "decode", "encode", "library_version"]


_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000


@functools.cache
def library_version() -> str:
    """Return the installed version of beam_ml, or ``"0"`` where it is imported without being installed."""
    try:
        return importlib.metadata.version("beam_ml")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _plain(name: str, array: np.ndarray) -> np.ndarray:
    """Return the array C-contiguous and little-endian, of a dtype the format has."""
    if not isinstance(name, str) or not name or name == "__metadata__":
        message = f"artefact array names must be non-empty text other than '__metadata__'; got {name!r}."
        raise InvalidValue(message)
    given = np.asarray(array)
    dtype = given.dtype.newbyteorder("<")
    if dtype not in NAMES:
        allowed = ", ".join(str(one) for one in NAMES)
        message = f"artefact array {name} must have one of the dtypes {allowed}; got {given.dtype}."
        raise InvalidValue(message)
    return np.asarray(given, dtype=dtype, order="C")


def _digest(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the facts and of the arrays, in order of name."""
    names = sorted(arrays)
    table = [[name, NAMES[arrays[name].dtype], list(arrays[name].shape)] for name in names]
    digest = hashlib.sha256(canonical_json([header, table]).encode())
    for name in names:
        digest.update(arrays[name].reshape(-1).view(np.uint8).data if arrays[name].size else b"")
    return digest.hexdigest()


def encode(kind: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return one safetensors file.

    Args:
        kind: what the arrays are; `decode` can insist on it.
        meta: JSON facts; plain values, finite numbers; keys become text.
        arrays: name → array of float64/32, int64/32/16/8, uint64/32/16/8 or bool; any memory order.

    Returns:
        The bytes; equal for equal content and one library version.

    Raises:
        InvalidValue: meta is not JSON, or an array has another dtype (object, complex, text).

    >>> data = encode("model", {"k": 2}, {"centers": np.eye(2)})
    >>> decode(data, "model").meta["k"]
    2
    """
    plain = {name: _plain(name, array) for name, array in arrays.items()}
    header = {"format": FORMAT, "kind": kind, "library": library_version(), "meta": dict(meta)}
    try:
        header = json.loads(canonical_json(header))  # keys become text before they are sorted for good
    except (TypeError, ValueError, RecursionError) as error:
        message = f"artefact meta must be JSON with finite numbers; {error}."
        raise InvalidValue(message) from error
    signed = canonical_json({**header, "digest": _digest(header, plain)})
    return safetensors.numpy.save(plain, metadata={KEY: signed})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; refuse a key given twice, which readers resolve differently."""
    made = dict(pairs)
    if len(made) != len(pairs):
        message = "a key is given twice"
        raise ValueError(message)
    return made


def _refuse_constant(text: str) -> None:
    message = f"{text} is not JSON"
    raise ValueError(message)


def _parse_json(text: str | bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object strictly: no duplicate keys, no NaN."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        message = f"The artefact's {what} is not JSON: {error}."
        raise CorruptArtefact(message) from error
    if not isinstance(value, dict):
        message = f"The artefact's {what} must be a JSON object; got {type(value).__name__}."
        raise CorruptArtefact(message)
    return value


def _parse_header(data: bytes) -> dict[str, Any]:
    """Return the safetensors header, whose length the file's first eight bytes state."""
    stated = int.from_bytes(data[:_LENGTH_BYTES], "little")
    held = len(data) - _LENGTH_BYTES
    if held < 0 or stated > held or stated > _MAX_HEADER_BYTES:
        message = f"The artefact is cut short or is no safetensors file: {len(data)} bytes, header of {stated} bytes."
        raise CorruptArtefact(message)
    return _parse_json(data[_LENGTH_BYTES : _LENGTH_BYTES + stated], "safetensors header")


def _read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays, each checked against the closed table of dtypes."""
    try:
        views = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except Exception as error:
        message = f"The artefact is not a whole safetensors file: {error}."
        raise CorruptArtefact(message) from error
    arrays = {}
    for name, view in views:
        dtype = DTYPES.get(view["dtype"])
        if dtype is None:
            message = f"The artefact's array {name} has the dtype {view['dtype']}, which beam_ml does not write."
            raise CorruptArtefact(message)
        try:
            array = np.frombuffer(view["data"], dtype=dtype).reshape(view["shape"])
        except (ValueError, OverflowError) as error:
            message = f"The artefact's array {name} does not fill its shape {view['shape']}."
            raise CorruptArtefact(message) from error
        if dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
            message = f"The artefact's array {name} holds truth values other than 0 and 1."
            raise CorruptArtefact(message)
        array.flags.writeable = False
        arrays[name] = array
    return arrays


def decode(data: bytes, kind: str | None = None) -> Envelope:
    """Read what `encode` wrote, whatever the bytes.

    Args:
        data: the file's bytes.
        kind: the kind it must be; None: any.

    Returns:
        The envelope, brought up to the current format.

    Raises:
        CorruptArtefact: not a whole, undamaged artefact.
        UnsupportedVersion: of a format this library does not know.
        WrongKind: a good artefact of another kind.
    """
    data = bytes(data)
    metadata = _parse_header(data).get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        message = f"The safetensors file has no metadata key {KEY!r}: beam_ml did not write it."
        raise CorruptArtefact(message)
    header = _parse_json(text, "beam_ml metadata")
    version = header.get("format")
    if not isinstance(version, int) or isinstance(version, bool):
        message = f"The artefact's format must be a whole number; got {version!r}."
        raise CorruptArtefact(message)
    if not 1 <= version <= FORMAT:
        library = header.get("library")
        message = f"Artefacts of format 1 to {FORMAT} can be read; got {version}, written by beam_ml {library}."
        raise UnsupportedVersion(message)
    found = _verified(header, _read_arrays(data))
    found = migrate(version, found)
    if kind is not None and found.kind != kind:
        message = f"The artefact must be a {kind}; got a {found.kind}."
        raise WrongKind(message)
    return found


def _verified(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Envelope:
    """Compare the digest; return the envelope."""
    digest = header.pop("digest", None)
    try:
        whole = digest == _digest(header, arrays)
    except ValueError as error:
        message = f"The artefact's facts are not JSON with finite numbers: {error}."
        raise CorruptArtefact(message) from error
    if not whole:
        message = "The artefact's bytes do not match their digest: it is damaged."
        raise CorruptArtefact(message)
    kind, meta, library = header.get("kind"), header.get("meta"), header.get("library")
    if not (isinstance(kind, str) and isinstance(meta, dict) and isinstance(library, str)):
        message = "The artefact's facts must name kind, meta and library."
        raise CorruptArtefact(message)
    return Envelope(kind, meta, arrays, library)
