"""`Pool`: clients that outlive the steps that use them, one user at a time."""

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Pool"]


class Pool:
    """Clients kept open between uses, by key.

    `acquire` hands a client to one user until that user returns it with `release`; a second user of the same key gets
    another client, so users neither wait nor share. After an error a client is closed instead (`drop`), since its state
    is unknown. The user says which of the key's idle clients suits best. Clients idle for `idle_s` are closed by a thread
    that lives while there is something to close; all are closed at exit. At most `most` are kept idle; the one idle for
    the longest is closed first.

    Args:
        close: closes a client; its errors are ignored.
        idle_s: seconds that a client is kept without a user.
        most: idle clients kept, over all keys.

    >>> pool = Pool(close=lambda client: print("closed", client), idle_s=60.0)
    >>> with pool.borrowed("key", lambda: "a client") as client:
    ...     print(client)
    a client
    >>> pool.acquire("key", lambda: "another") == client  # it was kept
    True
    """

    def __init__(self, close: Callable[[Any], None], idle_s: float = 60.0, most: int = 64) -> None:
        self._close, self._idle_s, self._most = close, idle_s, most
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Any, Any]] = []  # (since, key, client), the longest idle first
        self._sweeper: threading.Timer | None = None
        atexit.register(self.clear)

    def acquire(self, key: Any, make: Callable[[], Any], suits: Callable[[Any], bool] | None = None) -> Any:
        """Return an idle client of the key, the one that suits if there is one, else any; else make one."""
        with self._lock:
            mine = [i for i, (_, other, _) in enumerate(self._idle) if other == key]
            best = [i for i in mine if suits is not None and suits(self._idle[i][2])]
            if mine:
                return self._idle.pop((best or mine)[-1])[2]
        return make()

    def release(self, key: Any, client: Any) -> None:
        """Return a working client to the pool."""
        with self._lock:
            self._idle.append((time.monotonic(), key, client))
            gone = [self._idle.pop(0) for _ in range(len(self._idle) - self._most)]
            self._watch()
        self._shut(gone)

    def drop(self, client: Any) -> None:
        """Close a client that failed."""
        self._shut([(0.0, None, client)])

    @contextlib.contextmanager
    def borrowed(self, key: Any, make: Callable[[], Any], suits: Callable[[Any], bool] | None = None) -> Iterator[Any]:
        """Acquire a client for a block of code; whatever ends it early, a generator's close too, closes the client."""
        client = self.acquire(key, make, suits)
        try:
            yield client
        except BaseException:
            self.drop(client)
            raise
        self.release(key, client)

    def clear(self) -> None:
        """Close all idle clients."""
        with self._lock:
            gone, self._idle = self._idle, []
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
        self._shut(gone)

    def __len__(self) -> int:
        return len(self._idle)

    def _watch(self) -> None:
        if self._sweeper is None and self._idle:
            wait_s = max(0.01, self._idle[0][0] + self._idle_s - time.monotonic())
            self._sweeper = threading.Timer(wait_s, self._sweep)
            self._sweeper.daemon = True
            self._sweeper.start()

    def _sweep(self) -> None:
        before = time.monotonic() - self._idle_s
        with self._lock:
            gone = [one for one in self._idle if one[0] <= before]
            self._idle = [one for one in self._idle if one[0] > before]
            self._sweeper = None
            self._watch()
        self._shut(gone)

    def _shut(self, gone: list[tuple[float, Any, Any]]) -> None:
        for _, _, client in gone:
            with contextlib.suppress(Exception):
                self._close(client)
