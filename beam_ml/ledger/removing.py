"""Removing what must not have been learned: the other windows are merged again, and the next version is that learner."""

import dataclasses
import uuid
from collections.abc import Sequence

from beam_ml.artefact.records import encode_learner, encode_model
from beam_ml.core import decay
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.algorithm import LawKind
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.threads import one_thread
from beam_ml.errors import InvalidValue, RemoveRefused
from beam_ml.ledger.book import covering, merged, refusal, without
from beam_ml.ledger.ledger import Ledger, Time, shown, time_of
from beam_ml.ledger.rows import REASON, Taken, digest_of, taken
from beam_ml.registry import Manifest, Window, new_round_id

__all__ = ["Removed", "removed"]

_CARRIED = ("learner", "models/")


@dataclasses.dataclass(frozen=True, slots=True)
class Removed:
    """The version that never saw some rows.

    Attributes:
        manifest: of it.
        rows: how many were learned before and are not now.
        windows: that held them.
    """

    manifest: Manifest
    rows: int
    windows: int


def removed(
    ledger: Ledger, windows: Sequence[Time] = (), sources: Sequence[str] = (), rows: Batch | None = None
) -> Removed:
    """Publish the version after the newest, whose learner equals one that never saw some rows, within the law.

    The state and the sample are those of all other rows, merged. Where the ledger does not reach back to the first row,
    an exact state has the rows' sums taken off instead. They count as rejected from then on, for the reason
    "removed", and are not read again; measures that earlier refreshes took stay as they were. Open windows are not touched.

    Args:
        ledger: as of the newest version.
        windows: a time in each window to remove.
        sources: files, or partitions of a topic, whose windows are removed; they must hold rows of nothing else.
        rows: to remove from their windows, as they were learned, features with names in any order; None: whole windows
            alone.

    Raises:
        InvalidValue: nothing is given, rows are given beside windows, there is no such window, or the rows were removed
            before.
        InvalidBatch: the rows' features have other names than those learned.
        RemoveRefused: the windows hold rows of other sources too, are kept merged with others only, or the rows cannot be
            taken out; nothing has changed.
        HeadMoved: another version was published meanwhile.
    """
    reason = refusal(ledger.algorithm, ledger.spec)
    if reason is not None:
        message = f"What is removed must add; {reason}."
        raise RemoveRefused(message)
    if rows is not None and (windows or sources):
        message = "Rows are removed by themselves: remove windows and sources in a version of their own."
        raise InvalidValue(message)
    rows = None if rows is None else rows.ordered(ledger.learner.names)
    digest = None if rows is None else digest_of(rows)
    if digest in ledger.index.removed:
        message = f"These {len(rows or ()):,} rows have been removed from {ledger.name} before."
        raise InvalidValue(message)
    if rows is None:
        gone = _chosen(ledger, windows, sources)
        found = Taken(gone, {}, [ledger.accumulation(one) for one in gone])
    else:
        found = taken(ledger, rows)
    kept = without(
        ledger.name, ledger.algorithm, ledger.spec, ledger.index, found.windows, ledger.accumulation, found.left, digest
    )
    learner = _rest(ledger, found)
    manifest = ledger.manifest
    n_rows = sum(one.progress.rows for one in found.parts)
    lineage = {
        "windows": [[shown(one.start), shown(one.end)] for one in found.windows],
        "rows": n_rows,
        "sources": list(sources),
    } | ({} if digest is None else {"digest": digest})
    facts = {"features": manifest.extra.get("features")}
    models = ledger.models(learner, facts)
    payloads = {"learner": encode_learner(ledger.algorithm, learner)}
    payloads |= {f"models/{key}": encode_model(ledger.algorithm, model) for key, model in models.items()}
    payloads |= {
        what: ledger.registry.read(ledger.name, manifest.number, what)
        for what in manifest.files
        if not what.startswith(_CARRIED)
    }
    made = ledger.registry.publish(
        ledger.name,
        payloads,
        parent=manifest.number,
        round_id=new_round_id(manifest.number),
        run_id=uuid.uuid4().hex,
        epoch=manifest.epoch + 1,
        facts={
            **manifest.extra,
            "spec": manifest.spec,
            "fingerprint": manifest.fingerprint,
            "progress": learner.progress.summary(),
            "champion": manifest.champion,
            "next": manifest.next,
            REASON: lineage,
        },
        serve=manifest.verdict.accepted,
        reasons=manifest.verdict.reasons,
        ledger=kept,
    )
    return Removed(made, n_rows, sum(one.windows for one in found.windows))


def _chosen(ledger: Ledger, windows: Sequence[Time], sources: Sequence[str]) -> list[Window]:
    """Return the files to leave out: single windows, or merged ones of which no smaller piece is kept."""
    if not windows and not sources:
        message = "What is removed must be named: windows by a time in them, or sources."
        raise InvalidValue(message)
    entries = ledger.index.windows
    found: dict[str, Window] = {}
    for value in windows:
        time = time_of("window", value)
        around = sorted((one for one in entries if one.start <= time < one.end), key=lambda one: one.end - one.start)
        if not around or (around[0].windows > 1 and _in_pieces(entries, around[0])):
            message = (
                f"The ledger of {ledger.name} has no window at {shown(time)}: it was not learned, or removed before."
            )
            raise InvalidValue(message)
        least = around[0]
        if least.windows > 1:
            message = (
                f"The window at {shown(time)} is kept only merged with others, from {shown(least.start)} to "
                f"{shown(least.end)}: it can no longer be taken out."
            )
            raise RemoveRefused(message)
        found[least.file.path] = least
    single = [one for one in entries if one.windows == 1] if sources else []
    held = [(one, {origin.partition for origin in ledger.accumulation(one).progress.covered}) for one in single]
    for source in sources:
        mine = [(one, names) for one, names in held if source in names]
        if not mine:
            message = (
                f"No window of the ledger of {ledger.name} holds rows of {source}: not learned, or removed before."
            )
            raise InvalidValue(message)
        for one, names in mine:
            others = sorted(names - set(sources))
            if others:
                message = (
                    f"Rows of {source} lie in the window from {shown(one.start)} with those of {others[0]}, which would be "
                    "removed with them: name both, or remove the window."
                )
                raise RemoveRefused(message)
            found[one.file.path] = one
    return sorted(found.values(), key=lambda one: one.start)


def _in_pieces(entries: Sequence[Window], span: Window) -> bool:
    """Return whether all windows of a longer span are kept by themselves too: what is not among them is in none."""
    inside = [one for one in entries if one != span and span.start <= one.start and one.end <= span.end]
    return sum(one.windows for one in covering(inside, span.start, span.end)) == span.windows


def _rest(ledger: Ledger, found: Taken) -> Learner:
    """Return the newest learner without some windows, or without some rows of them."""
    learner, entries, parts = ledger.learner, ledger.index.windows, found.parts
    progress = learner.progress
    for part in parts:
        for one in part.parts.values():
            progress = progress.unlearned(one.progress, REASON)
    whole = covering(entries, entries[0].start, max(one.end for one in entries))
    rest = ledger.composed([*map(ledger.accumulation, _untouched(entries, found.windows)), *found.left.values()])
    learned = sum(one.rows for one in whole)
    dated = rest.dated
    if learned != learner.progress.rows:
        dated = _subtracted(ledger, parts, learned)
    # Weights stay relative to the time that the learner is as of.
    dated = decay.advance(ledger.algorithm, ledger.spec, dated, learner.dated.time)
    return learner.replace(dated=dated, progress=progress, sample=rest.sample)


def _untouched(entries: Sequence[Window], gone: Sequence[Window]) -> list[Window]:
    kept = [one for one in entries if not any(one.start < other.end and other.start < one.end for other in gone)]
    return covering(kept, kept[0].start, max(one.end for one in kept)) if kept else []


def _subtracted(ledger: Ledger, parts: Sequence[Accumulation], learned: int) -> decay.AsOf:
    """Return an exact state with the sums of some windows taken off."""
    algorithm, spec, learner = ledger.algorithm, ledger.spec, ledger.learner
    if algorithm.remove is None or algorithm.law(spec).kind is not LawKind.EXACT:
        message = (
            f"The ledger of {ledger.name} holds {learned:,} of the {learner.progress.rows:,} rows learned: what is left "
            f"cannot be merged again, and a state of {algorithm.name} has no exact sums to take a window off."
        )
        raise RemoveRefused(message)
    with one_thread():
        (part,) = merged(algorithm, spec, parts, 2).parts.values()
        aged = decay.advance(algorithm, spec, part.dated, learner.dated.time)
        return decay.AsOf(algorithm.remove(spec, learner.state, aged.summary), learner.dated.time)
