"""What the DoFns of one transform share in a worker process: made by the first that asks, closed by the last that leaves.

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
