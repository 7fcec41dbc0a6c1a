"""What the DoFns of one transform share in a worker process: made by the first that asks, closed by the last.

Runners make many instances of a DoFn, throw them away and make others, in several threads; a connection outlives them. Touches
nothing by itself.
"""

import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from beam_unified.errors import UnifiedLogError

_LOGGER = logging.getLogger(__name__)


class Closes(Protocol):
    """Something that holds connections."""

    def close(self) -> None:
        """Gives them back."""
        ...


_T = TypeVar("_T", bound=Closes)


class Repeating:
    """Does something every so often, in a thread of its own, for as long as that is needed.

    Args:
        lock: Its owner's; `check` and `stop` are called with it held, `act` and `needed` are not and are, respectively.
        interval_s: Seconds between two times.
        act: What is done.
        needed: Whether it is to be done again.
    """

    def __init__(
        self, lock: threading.Lock, interval_s: float, act: Callable[[], object], needed: Callable[[], bool]
    ) -> None:
        self._lock, self._interval_s, self._act, self._needed = lock, interval_s, act, needed
        self._timer: threading.Timer | None = None

    def check(self) -> None:
        """Sees to it that the timer runs while it is needed."""
        if self._timer is None and self._needed():
            self._timer = threading.Timer(self._interval_s, self._run)
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        """Not before the next `check`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        self._act()
        with self._lock:
            self._timer = None
            self.check()


class Shared(Generic[_T]):
    """One object a key, with a count of its users. Thread safe."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._lock = threading.Lock()
        self._used: dict[str, tuple[_T, int]] = {}

    def acquire(self, key: str, make: Callable[[], _T]) -> _T:
        """The object of a transform in this process, made at the first call. Every call needs one `release`."""
        with self._lock:
            found, users = self._used.get(key) or (make(), 0)
            self._used[key] = (found, users + 1)
            return found

    def release(self, key: str) -> None:
        """Gives it back; the last one closes it. What that raises is logged: whoever leaves cannot mend it."""
        with self._lock:
            found, users = self._used.pop(key)
            if users > 1:
                self._used[key] = (found, users - 1)
                return
        try:
            found.close()
        except UnifiedLogError as error:
            _LOGGER.warning("closing what %s held: %s", key, error)

    def all(self) -> list[_T]:
        """Those in use."""
        with self._lock:
            return [found for found, _ in self._used.values()]

    def in_use(self) -> list[str]:
        """Their keys, as they are now."""
        with self._lock:
            return list(self._used)
