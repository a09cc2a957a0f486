"""States as bytes: whole or a typed error, whatever the bytes hold."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from beam_ml.artefact.envelope import decode, encode
from beam_ml.errors import ArtefactError, CorruptArtefact, InvalidValue, WrongKind
from beam_ml.features.rolling import Rolling, empty, from_bytes, roll_blocks, to_bytes
from tests.features.rolling.support import block, every, rows, spec

SPEC = spec(
    every(known="label_time") + [{**one, "name": f"tile_{i}"} for i, one in enumerate(every(kind="sawtooth"))],
    lateness="20s",
    shards=1,
)


@pytest.fixture(scope="module")
def data() -> bytes:
    state = roll_blocks(SPEC, {}, [block(rows(1, 300, span_s=800))]).states[0]
    assert len(state.waiting) > 0
    assert state.texts.codes.size == 4
    return to_bytes(SPEC, state)


def test_bytes_come_back_as_they_were(data: bytes) -> None:
    state = from_bytes(SPEC, data)
    assert to_bytes(SPEC, state) == data
    assert state.newest > state.before > 0
    assert from_bytes(SPEC, to_bytes(SPEC, empty(SPEC, 0))).nbytes == 0


def test_damaged_bytes_are_a_typed_error(data: bytes) -> None:
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 200):
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(ArtefactError):
            from_bytes(SPEC, bytes(broken))
    for length in rng.integers(0, len(data), 50):
        with pytest.raises(CorruptArtefact):
            from_bytes(SPEC, data[:length])


def changed(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    def forge(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = np.ascontiguousarray(change(arrays[name].copy()))

    return forge


def facts(**more: Any) -> Callable[[dict[str, Any], dict[str, np.ndarray]], None]:
    return lambda meta, arrays: meta.update(more)


def twice(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    arrays |= {name: arrays[name] * 0 for name in ("part/1/key", "part/1/tile")}


FORGED: dict[str, tuple[Callable[[dict[str, Any], dict[str, np.ndarray]], None], str]] = {
    "of no shard": (facts(shard=7), "must be one of 1"),
    "a shard in text": (facts(shard="0"), "shard must be a whole number"),
    "a negative count": (facts(late=-1), "no negative count"),
    "a clock too large": (facts(before=2**70), "before must be a whole number of 64 bits"),
    "tags of no text": (facts(tags=[[1, 2, 3]]), "tags must be lists of three texts"),
    "tags that are missing": (facts(tags=[]), "tags that there are"),
    "keys out of order": (changed("part/0/key", lambda a: a[::-1]), "part 0 must be sorted"),
    "a lane too short": (changed("part/0/number/0", lambda a: a[:-1]), "arrays of one length"),
    "a lane of another type": (changed("part/0/number/0", lambda a: a.astype(np.float32)), "must have float64"),
    "tiles twice": (twice, "part 1 must be sorted"),
    "registers too few": (changed("part/1/cell/10", lambda a: a[:, :7]), "must have uint8"),
    "lanes too few": (changed("waiting/numbers", lambda a: a[:0]), "lanes of waiting/numbers"),
    "a row of another length": (changed("waiting/row", lambda a: a[:-1]), "must have one length"),
    "texts too short": (changed("texts/ends", lambda a: a + 1), "texts do not fit"),
    "texts of no UTF-8": (changed("texts/utf8", lambda a: a * 0 + 0xFF), "no UTF-8"),
    "codes of texts that fall": (changed("texts/codes", lambda a: a[::-1]), "codes of texts must rise"),
    "an array too many": (lambda meta, arrays: arrays.update(more=np.zeros(1)), "arrays that none has"),
    "an array too few": (lambda meta, arrays: arrays.pop("part/0/dated"), "got none"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_whole_bytes_of_no_state_are_a_typed_error(data: bytes, name: str) -> None:
    forge, message = FORGED[name]
    found = decode(data)
    meta, arrays = dict(found.meta), dict(found.arrays)
    forge(meta, arrays)
    with pytest.raises(CorruptArtefact, match=message):
        from_bytes(SPEC, encode("rolling", meta, arrays))


def test_a_state_of_other_settings_is_refused(data: bytes) -> None:
    other = Rolling.parse(SPEC.to_dict() | {"lateness": 21})
    with pytest.raises(WrongKind, match="of other settings"):
        from_bytes(other, data)
    with pytest.raises(WrongKind):
        from_bytes(SPEC, encode("model", {}, {}))
    larger = Rolling.parse(SPEC.to_dict() | {"max_state_bytes": 1 << 30})
    assert from_bytes(larger, data).shard == 0


def test_there_are_as_many_states_as_shards_of_keys() -> None:
    with pytest.raises(InvalidValue, match=r"^Rolling has the states 0 to 0; got 1\.$"):
        empty(SPEC, 1)
