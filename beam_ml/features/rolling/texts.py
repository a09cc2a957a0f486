"""`Texts`: how categories are spelled that are kept as codes. Letters: ``u`` different codes."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.errors import CorruptArtefact
from beam_ml.features.columns import column, is_text
from beam_ml.features.hashing import codes_of

__all__ = ["Texts"]

_WHOLE = re.compile(r"-?0*[0-9]{1,20}")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Code → text.

    Attributes:
        codes: (u,) uint64, rising.
        texts: (u,) of UTF-8 texts.
    """

    codes: np.ndarray
    texts: pa.LargeStringArray

    @staticmethod
    def empty() -> "Texts":
        """Return those of no codes."""
        return Texts(np.zeros(0, np.uint64), pa.array([], pa.large_string()))

    @staticmethod
    def of(batch: pa.RecordBatch, name: str, field: str) -> "Texts":
        """Return the texts of a column's values; whole numbers are spelled as such, however they are written.

        >>> Texts.of(pa.record_batch({"c": ["b", "007", None, "b"]}), "c", "field").texts.to_pylist()
        ['7', 'b']
        """
        values = pc.unique(column(batch, name, field, "a whole number or text").drop_null())
        codes, refused = codes_of(pa.record_batch({name: values}), name, field)
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.uint8())
        if pa.types.is_floating(values.type):  # whole ones only: the others are rejected
            reals = values.to_numpy(zero_copy_only=False)
            broken = np.isnan(reals) if refused is None else np.isnan(reals) | refused
            codes, values = codes[~broken], pa.array(reals[~broken].astype(np.int64))
        if is_text(values.type):
            given = [text.decode("utf-8", "replace") for text in values.cast(pa.large_binary()).to_pylist()]
            spelled = [str(int(text)) if _WHOLE.fullmatch(text) else text for text in given]
        else:
            spelled = [str(int(number)) for number in values.to_pylist()]
        return _sorted(codes, pa.array(spelled, pa.large_string()))

    @staticmethod
    def merged(several: Sequence["Texts"]) -> "Texts":
        """Return all texts of several; there is at least one."""
        full = [one for one in several if one.codes.size]
        if len(full) <= 1:
            return full[0] if full else several[0]
        return _sorted(np.concatenate([one.codes for one in full]), pa.concat_arrays([one.texts for one in full]))

    def only(self, codes: np.ndarray) -> "Texts":
        """Return those of some codes."""
        kept = np.isin(self.codes, codes)
        return self if kept.all() else Texts(self.codes[kept], self.texts.filter(pa.array(kept)))

    def spell(self, codes: np.ndarray, missing: np.ndarray) -> pa.Array:
        """Return the text of each code, (n,); null where it is missing or unknown."""
        at = np.searchsorted(self.codes, codes)
        known = ~missing & (at < self.codes.size)
        known[known] = self.codes[at[known]] == codes[known]
        return self.texts.cast(pa.string()).take(pa.array(np.where(known, at, 0), mask=~known))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return plain arrays."""
        texts = [text.encode() for text in self.texts.to_pylist()]
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        return {"codes": self.codes, "utf8": np.frombuffer(b"".join(texts), np.uint8), "ends": ends}

    @staticmethod
    def from_arrays(codes: np.ndarray, utf8: np.ndarray, ends: np.ndarray) -> "Texts":
        """Read what `to_arrays` returned.

        Raises:
            CorruptArtefact: the arrays are not that.
        """
        bounds = np.concatenate([[0], ends])
        if codes.size != ends.size or (np.diff(bounds) < 0).any() or bounds[-1] != utf8.size:
            message = "The rolling state's texts do not fit their codes."
            raise CorruptArtefact(message)
        if codes.size > 1 and not (codes[1:] > codes[:-1]).all():
            message = "The rolling state's codes of texts must rise."
            raise CorruptArtefact(message)
        data = utf8.tobytes()
        try:
            texts = [data[begin:end].decode() for begin, end in itertools.pairwise(bounds)]
        except UnicodeDecodeError as error:
            message = f"The rolling state's texts are no UTF-8: {error}."
            raise CorruptArtefact(message) from error
        return Texts(codes, pa.array(texts, pa.large_string()))

    @property
    def nbytes(self) -> int:
        """The bytes held."""
        return int(self.codes.nbytes) + int(self.texts.nbytes)


def _sorted(codes: np.ndarray, texts: pa.LargeStringArray) -> Texts:
    unique, first = np.unique(codes, return_index=True)
    return Texts(unique, texts.take(pa.array(first)))
