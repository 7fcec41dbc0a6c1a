"""Who may wait inside of a call, and how long (R8): one reader of a worker, 100 ms, while none of the others has work.

Waiting is a deferral otherwise. DirectRunner ignores the delay of one, and would ask an idle source ten thousand times a second.
The readers of a transform share a `Patience`, and so do all transforms of a sync group: one that waits would keep another from
reading.
"""

import threading
import weakref
from collections.abc import Hashable

from beam_unified.clock import Clock

_LONGEST_WAIT_MS = 100
_RECENTLY_S = 1.0  # who was not heard of for longer is taken to have no work, and to wait no more


class Patience:
    """Which readers of a worker have work, and which one waits for all. Thread safe."""

    def __init__(self, clock: Clock) -> None:
        """Nobody has work."""
        self._clock = clock
        self._lock = threading.Lock()
        self._last_work: dict[Hashable, float] = {}
        self._waiter: Hashable | None = None
        self._waited_at = 0.0

    def had_work(self, reader: Hashable, *, had_work: bool) -> None:
        """Notes how a call ended."""
        with self._lock:
            if had_work:
                self._last_work[reader] = self._clock.monotonic()
            else:
                self._last_work.pop(reader, None)

    def of(self, reader: Hashable) -> int:
        """How long, in milliseconds, a call that finds nothing may wait: 0 unless this worker is idle altogether.

        One reader waits for all, the same one each time round, or the last of a hundred would be asked once in ten
        seconds. When it is not heard of for a second (it has work, it is done, it moved), the next that asks takes over.
        """
        now = self._clock.monotonic()
        with self._lock:
            others_busy = any(now - at < _RECENTLY_S for other, at in self._last_work.items() if other != reader)
            others_wait = self._waiter not in {None, reader} and now - self._waited_at < _RECENTLY_S
            if others_busy or others_wait:
                return 0
            self._waiter, self._waited_at = reader, now
            return _LONGEST_WAIT_MS

    def wait(self, reader: Hashable) -> None:
        """Waits as long as it may: for a call that is not allowed to ask a store, which would do the waiting."""
        if milliseconds := self.of(reader):
            self._clock.wait(milliseconds / 1_000)


_shared: "weakref.WeakValueDictionary[str, Patience]" = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_patience(key: str, clock: Clock) -> Patience:
    """The one of a key in this process, for as long as anybody holds it."""
    with _shared_lock:
        found = _shared.get(key)
        if found is None:
            found = _shared[key] = Patience(clock)
        return found
