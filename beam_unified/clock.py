"""Time. The only module that may ask what time it is (the linter sees to it), so that tests can move the clock."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the package asks of a clock. An implementation must be picklable if it travels with a pipeline."""

    def now_ms(self) -> int:
        """Wall clock: milliseconds since the epoch, UTC. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back; only differences mean anything."""
        ...

    def wait(self, seconds: float) -> None:
        """Comes back after so long, at the latest. For `source.patience`, which says who may wait, and how long."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Wall clock: milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Blocks the thread."""
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


def to_ms(instant: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, rounded down. Exact: no float in between."""
    delta = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000 + delta.microseconds // 1_000


def iso(timestamp_ms: int) -> str:
    """`2026-11-16T00:00:00.000Z`, for messages. Falls back to the bare number outside the years 1 to 9999."""
    try:
        instant = datetime.fromtimestamp(timestamp_ms / 1_000, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return f"{timestamp_ms} ms"
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
