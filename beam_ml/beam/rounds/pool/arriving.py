"""Rows of a round while processes still send them: which windows are probably whole, and when senders must wait."""

import threading

from beam_ml.beam.wire.elements import Slice

__all__ = ["AHEAD_BYTES", "Arriving"]

AHEAD_BYTES = 64 << 20
"""Bytes of rows that senders may be ahead of a trainer that learns: more of them would take its cores from it too early."""

_NEVER = -(2**63)


class Arriving:
    """Slices by window end, as several senders send them.

    A window is taken to be whole once every sender has gone on to rows that much later. That is a guess, which `broken`
    says was wrong; as soon as a sender goes back in time, no more guesses are made.

    Args:
        senders: how many there are.
        size_us: length of a window.
        slack_us: how much later than its end a window's last row may come.
        guessing: whether windows are handed out before all rows are there.
    """

    def __init__(self, senders: int, size_us: int, slack_us: int, guessing: bool = True) -> None:
        self._changed = threading.Condition()
        self._by_sender: list[dict[int, list[Slice]]] = [{} for _ in range(senders)]
        self._newest, self._running = [_NEVER] * senders, [True] * senders
        self._behind_us, self.in_order, self.broken = size_us + slack_us, guessing, False
        self._taken: set[int] = set()
        self._bytes, self._learning = 0, False

    def add(self, sender: int, end: int, piece: Slice) -> None:
        """Add a slice; waits while the trainer learns and there is much ahead of it."""
        with self._changed:
            while self._learning and self._bytes > AHEAD_BYTES and self.in_order:
                self._changed.wait()
            if end in self._taken:
                self.in_order, self.broken = False, True
            elif end < self._newest[sender]:
                self.in_order = False
            self._newest[sender] = max(end, self._newest[sender])
            self._by_sender[sender].setdefault(end, []).append(piece)
            self._bytes += piece.rows.nbytes
            self._changed.notify_all()

    def finish(self, sender: int) -> None:
        """Note that a sender has sent all of its rows, or sends no more."""
        with self._changed:
            self._running[sender] = False
            self._changed.notify_all()

    def drop(self, sender: int) -> None:
        """Forget what a sender has sent: it is read again by another."""
        with self._changed:
            self._by_sender[sender] = {}
            self._running[sender], self._newest[sender] = True, _NEVER
            self.in_order, self.broken = False, self.broken or bool(self._taken)
            self._changed.notify_all()

    def take(self, least: int) -> dict[int, list[Slice]] | None:
        """Wait for windows that are probably whole, and return those not returned before; None: no guess is made any more.

        Args:
            least: the first windows to be returned must reach up to this end.
        """
        with self._changed:
            self._learning = False
            self._changed.notify_all()
            while self.in_order and any(self._running):
                found = self._whole(least)
                if found:
                    self._taken |= found.keys()
                    self._bytes -= sum(one.rows.nbytes for slices in found.values() for one in slices)
                    self._learning = True
                    return found
                self._changed.wait()
            return None

    def _whole(self, least: int) -> dict[int, list[Slice]]:
        through = min(one for one, going in zip(self._newest, self._running, strict=True) if going) - self._behind_us
        if through < least:
            return {}
        return {end: slices for end, slices in self.rows().items() if end <= through and end not in self._taken}

    def let_go(self) -> None:
        """Let senders send on, whether anybody learns or not."""
        with self._changed:
            self.in_order = False
            self._changed.notify_all()

    def rows(self) -> dict[int, list[Slice]]:
        """Return what is there, by window end."""
        found = dict[int, list[Slice]]()
        for mine in self._by_sender:
            for end, slices in mine.items():
                found.setdefault(end, []).extend(slices)
        return found
